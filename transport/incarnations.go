package transport

import (
	"bytes"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// incarnations remembers, per node, the highest incarnation that has shaken hands, and judges by it and by
// what is registered (rule 19).
//
// A unary call is judged but not remembered: a conformance client that calls itself node 2 once must not
// lock the real node 2 out.
//
// A node that is neither registered nor expected is a stranger: it may be about to join. Strangers are remembered
// while they are connected, and only so many of them; so they lock nobody out.
type incarnations struct {
	self     Identity
	known    KnownFunc
	expected func(node uint64) bool // its address is known: it is a peer, whatever metadata say yet

	mu   sync.Mutex
	seen map[uint64]incarnation
}

type incarnation struct {
	start lineage.Start
	store string
}

func newIncarnations(self Identity, known KnownFunc, expected func(uint64) bool) *incarnations {
	return &incarnations{self: self, known: known, expected: expected, seen: make(map[uint64]incarnation)}
}

func (s *incarnations) stranger(node uint64) bool {
	_, registered := s.known(node)
	return !registered && !s.expected(node)
}

// forget drops what is remembered of a stranger. Of the others it is what rule 19 rests on.
func (s *incarnations) forget(node uint64) {
	if !s.stranger(node) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, node)
}

// admit judges a handshake and remembers it.
func (s *incarnations) admit(h *raftv1.Handshake) error {
	if err := s.checkHandshake(h); err != nil {
		return err
	}
	node, claim := h.GetHeader().GetFromNode(), claimOf(h.GetHeader(), h.GetStoreId())
	claim.start.Earlier = h.GetEarlierBootIds()
	registered, err := s.checkRegistered(node, claim)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.seen[node]
	if !ok && len(s.seen) >= nodesSeenMax && s.stranger(node) {
		return fmt.Errorf("%w: %d", ErrTooManyNodes, nodesSeenMax)
	}
	// Metadata outranks memory: a store that is registered displaces one that merely came first, and so does a start.
	if ok && registered != theStart && !(registered == theStore && seen.store != claim.store) {
		if err := checkSeen(node, seen, claim); err != nil {
			return err
		}
	}
	claim.start.Earlier = nil // only of use to judge with
	s.seen[node] = claim
	return nil
}

// checkHeader judges the header of a unary call.
func (s *incarnations) checkHeader(h *raftv1.Header) error {
	if err := s.checkSender(h); err != nil {
		return err
	}
	node, claim := h.GetFromNode(), claimOf(h, "")
	registered, err := s.checkRegistered(node, claim)
	if err != nil {
		return err
	}
	s.mu.Lock()
	seen, ok := s.seen[node]
	s.mu.Unlock()
	if !ok || registered == theStart {
		return nil
	}
	return checkSeen(node, seen, claim)
}

func (s *incarnations) checkHandshake(h *raftv1.Handshake) error {
	if err := s.checkSender(h.GetHeader()); err != nil {
		return err
	}
	if h.GetStoreId() == "" {
		return fmt.Errorf("%w: store_id is empty", ErrMalformed)
	}
	if n := proto.Size(h); n > handshakeBytesMax {
		return fmt.Errorf("%w: handshake of %d bytes, want at most %d", ErrMalformed, n, handshakeBytesMax)
	}
	if !(lineage.Start{Earlier: h.GetEarlierBootIds()}).Valid() {
		return fmt.Errorf("%w: earlier_boot_ids: want at most %d, of %d bytes each", ErrMalformed, lineage.EarlierMax, bootIDBytes)
	}
	if h.GetToNode() != s.self.Node {
		return fmt.Errorf("%w: to_node is %d, this is node %d", ErrWrongNode, h.GetToNode(), s.self.Node)
	}
	return nil
}

func (s *incarnations) checkSender(h *raftv1.Header) error {
	switch {
	case h == nil:
		return fmt.Errorf("%w: header is missing", ErrMalformed)
	case h.GetClusterId() != s.self.Cluster:
		return fmt.Errorf("%w: header.cluster_id is %.40q, this is %q", ErrWrongCluster, h.GetClusterId(), s.self.Cluster)
	case h.GetFromNode() == 0:
		return fmt.Errorf("%w: header.from_node is 0", ErrMalformed)
	case h.GetStartNumber() == 0:
		return fmt.Errorf("%w: header.start_number is 0", ErrMalformed)
	case len(h.GetBootId()) != bootIDBytes:
		return fmt.Errorf("%w: header.boot_id has %d bytes, want %d", ErrMalformed, len(h.GetBootId()), bootIDBytes)
	case h.GetFromNode() == s.self.Node:
		return fmt.Errorf("%w: header.from_node is %d, and so is this node", ErrWrongNode, s.self.Node)
	}
	return nil
}

// registration says how much of a claim is registered.
type registration int

const (
	nothing  registration = iota
	theStore              // the store, and an earlier start on it, or none
	theStart              // the store, and this very start
)

// checkRegistered reports how much of the claim is registered.
func (s *incarnations) checkRegistered(node uint64, claim incarnation) (registration, error) {
	r, ok := s.known(node)
	switch {
	case !ok:
		return nothing, nil
	case r.StoreID != "" && claim.store != "" && claim.store != r.StoreID:
		return nothing, fmt.Errorf("%w: node %d is registered with store %s, not %.40q", ErrWrongStore, node, r.StoreID, claim.store)
	case claim.start.Number < r.Start.Number:
		return nothing, fmt.Errorf("%w: node %d is registered with start number %d, not %d", ErrOldIncarnation, node, r.Start.Number, claim.start.Number)
	case claim.store != "" && !claim.start.Follows(r.Start), claim.start.ForkedFrom(r.Start):
		return nothing, copied(node, r.Start, claim.start)
	case r.StoreID == "":
		return nothing, nil
	case len(r.Start.ID) > 0 && claim.start.Number == r.Start.Number: // with the same id, or it would be a copy
		return theStart, nil
	}
	return theStore, nil
}

func copied(node uint64, known, claim lineage.Start) error {
	return fmt.Errorf("%w: start number %d of node %d was another one than start number %d follows from", ErrCopiedStore, known.Number, node, claim.Number)
}

func checkSeen(node uint64, seen, claim incarnation) error {
	switch {
	case claim.store != "" && claim.store != seen.store:
		return fmt.Errorf("%w: node %d spoke from store %s before, now from %.40q", ErrWrongStore, node, seen.store, claim.store)
	case claim.start.Number < seen.start.Number:
		return fmt.Errorf("%w: node %d has start number %d, not %d", ErrOldIncarnation, node, seen.start.Number, claim.start.Number)
	case claim.start.ForkedFrom(seen.start):
		return copied(node, seen.start, claim.start)
	}
	return nil
}

func claimOf(h *raftv1.Header, store string) incarnation {
	return incarnation{lineage.Start{Number: h.GetStartNumber(), ID: h.GetBootId()}, store}
}

func (i incarnation) same(h *raftv1.Header) bool {
	return i.start.Number == h.GetStartNumber() && bytes.Equal(i.start.ID, h.GetBootId())
}

func sameHeader(a, b *raftv1.Header) bool {
	return a.GetFromNode() == b.GetFromNode() && a.GetStartNumber() == b.GetStartNumber() &&
		a.GetClusterId() == b.GetClusterId() && bytes.Equal(a.GetBootId(), b.GetBootId())
}
