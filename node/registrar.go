package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// registerInterval is the pause between two looks at the metadata, and between two attempts to register.
const registerInterval = 50 * time.Millisecond

// Ready waits until this node knows a metadata leader, is registered there, and its replicas have started.
func (n *Node) Ready(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	case <-n.done:
		return n.Err()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), n.unready())
	}
}

// Ticks counts the ticks of its clock that the node's Router has taken. While it grows, messages pass through it;
// the clock ticks ten times in an election timeout.
func (n *Node) Ticks() uint64 {
	if !n.started.Load() {
		return 0
	}
	return uint64(n.core.Liveness().Tick())
}

// unready says what this node, as it is now, lacks to serve; nil = nothing.
func (n *Node) unready() error {
	if err := n.Err(); err != nil {
		return err
	}
	if !n.started.Load() {
		return errors.New("the cluster is being founded: not all nodes of --bootstrap have answered yet")
	}
	t := n.core.Table()
	h, ok := t.Hosted(raftcore.MetadataGroup)
	if !ok {
		return errors.New("the metadata replica has not started")
	}
	if s := h.Board.Load(); s == nil || s.Leader == 0 {
		return errors.New("no leader of the metadata group is known here")
	}
	if !n.registered(t.Meta) {
		return errors.New("this node is not registered in the metadata yet")
	}
	for _, g := range t.Groups() {
		if h, _ := t.Hosted(g); h.Board.Load() == nil {
			return errors.New("replicas are still starting")
		}
	}
	return nil
}

// registrar records this start of the node and its addresses in the metadata, follows the addresses of the
// others there, and says how far replicas are that come here. A node that hears of no metadata leader for long
// asks whether it is still a member: one that was removed is told nothing more.
func (n *Node) registrar(ctx context.Context) {
	t := time.NewTicker(registerInterval)
	defer t.Stop()
	var seen *metadata.State
	ready := false
	coming := newProgress(n.sayProgress)
	led := time.Now()
	for {
		if meta := n.core.Table().Meta; meta != seen {
			seen = meta
			n.setPeers()
		}
		coming.look(n.core.Table())
		if n.metadataLed() {
			led = time.Now()
		}
		if lonely := time.Since(led) > lonelyElectionTimeouts*n.cfg.ElectionTimeout; lonely || !n.registered(seen) {
			n.register(ctx)
		} else if !ready && n.unready() == nil {
			ready = true
			n.readyOnce.Do(func() { close(n.ready) })
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// lonelyElectionTimeouts is how long a node without a metadata leader waits before it asks whether it is a member.
const lonelyElectionTimeouts = 10

func (n *Node) metadataLed() bool {
	h, ok := n.core.Table().Hosted(raftcore.MetadataGroup)
	if !ok {
		return false
	}
	st := h.Board.Load()
	return st != nil && st.Leader != 0
}

func (n *Node) sayProgress(stage string, g raftcore.GroupID) {
	if topic, partition, ok := n.core.Table().Meta.Partition(g); ok {
		n.cfg.Logger.Info(stage, "node", n.self.NodeID, "group", g, "topic", topic.GetName(), "partition", partition)
		return
	}
	n.cfg.Logger.Info(stage, "node", n.self.NodeID, "group", g)
}

func (n *Node) registered(m *metadata.State) bool {
	rec, ok := m.Node(n.self.NodeID)
	return ok && rec.GetStoreId() == n.self.StoreID && rec.GetStartNumber() == n.self.Start && bytes.Equal(rec.GetBootId(), n.self.BootID) &&
		rec.GetClientAddr() == n.cfg.AdvertiseClient && rec.GetPeerAddr() == n.cfg.AdvertisePeer && rec.GetRack() == n.cfg.Rack
}

// register records this start with the metadata group. A node that comes back with another address knows no leader,
// since nobody can reach it: it asks the others where they serve clients, and registers there.
func (n *Node) register(ctx context.Context) {
	req := &multiraftv1.RegisterNodeRequest{
		NodeId: uint64(n.self.NodeID), StoreId: n.self.StoreID, StartNumber: n.self.Start,
		ClientAddr: n.cfg.AdvertiseClient, PeerAddr: n.cfg.AdvertisePeer, Rack: n.cfg.Rack,
		BootId: n.self.BootID, EarlierBootIds: n.self.EarlierBootIDs,
	}
	here, cancel := context.WithTimeout(ctx, n.cfg.ElectionTimeout)
	_, err := n.services.RegisterNode(here, req)
	cancel()
	if err != nil && router.IsRetriable(err) && !n.metadataLed() {
		err = n.registerElsewhere(ctx, req)
	}
	if err == nil || router.IsRetriable(err) || status.Code(err) == codes.Unimplemented {
		return // Unimplemented: the address that was probed, or the one it gave, is of something else now
	}
	n.fail(&DataError{fmt.Sprintf("the cluster refuses this node: %v. It can't come back as node %d: mrctl node remove %d --force (unless it is removed already), "+
		"then start it with --join on an empty data directory", err, n.self.NodeID, n.self.NodeID)})
}

func (n *Node) registerElsewhere(ctx context.Context, req *multiraftv1.RegisterNodeRequest) (err error) {
	peers := n.peerAddrs()
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		if err = n.registerAt(ctx, peers[id], req); err == nil || !router.IsRetriable(err) {
			return err
		}
	}
	return err
}

// registerAt registers with the node at a peer address.
func (n *Node) registerAt(ctx context.Context, addr string, req *multiraftv1.RegisterNodeRequest) (err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answer, err := n.probePeer(ctx, addr)
	if err != nil {
		return err
	}
	if answer.GetClusterId() != n.self.Cluster || answer.GetClientAddr() == "" {
		return status.Errorf(codes.Unavailable, "node %d at %s cannot register others", answer.GetNodeId(), addr)
	}
	return n.callAdmin(answer.GetClientAddr(), func(a multiraftv1.AdminServiceClient) error {
		_, err := a.RegisterNode(ctx, req)
		return err
	})
}

// setPeers tells the transport where the other nodes are: as metadata says, or, where it does not know yet,
// as the node was told when it founded or joined the cluster.
func (n *Node) setPeers() { n.peers.SetPeers(n.peerAddrs()) }

func (n *Node) peerAddrs() map[uint64]string {
	peers := map[uint64]string{}
	meta := n.core.Table().Meta
	for _, set := range []string{n.self.Bootstrap, n.self.Contacts} {
		known, err := parseContacts(set)
		if err != nil { // it was parsed when it was stored
			n.cfg.Logger.Error("the stored addresses of other nodes can't be read", "stored", set, "err", err)
		}
		for id, addr := range known {
			if _, removed := meta.Removed(id); !removed {
				peers[uint64(id)] = addr
			}
		}
	}
	for _, rec := range meta.Nodes() {
		peers[rec.GetNodeId()] = rec.GetPeerAddr()
	}
	delete(peers, uint64(n.self.NodeID))
	return peers
}

// known is what the metadata says about a peer's store and start (rule 19).
func (n *Node) known(id uint64) (r transport.Registered, ok bool) {
	if !n.started.Load() {
		return r, false
	}
	meta := n.core.Table().Meta
	if _, removed := meta.Removed(raftcore.NodeID(id)); removed {
		return transport.Registered{StoreID: removedStore}, true
	}
	rec, ok := meta.Node(raftcore.NodeID(id))
	return transport.Registered{Start: lineage.Start{Number: rec.GetStartNumber(), ID: rec.GetBootId()}, StoreID: rec.GetStoreId()}, ok
}

// removedStore is what the transport compares the store id of a removed node with: no store has it.
const removedStore = "none: the node was removed from the cluster"

func (n *Node) probe() *raftv1.ProbeResponse {
	id := n.identity()
	return &raftv1.ProbeResponse{
		State: id.State, ClusterId: id.Cluster, StoreId: id.StoreID, NodeId: uint64(id.NodeID), BootstrapHash: bootstrapHash(id.Bootstrap),
		ClientAddr: n.cfg.AdvertiseClient,
	}
}

// ID returns the node's id.
func (n *Node) ID() raftcore.NodeID { return n.self.NodeID }

// Cluster returns the cluster's UUID.
func (n *Node) Cluster() string { return n.self.Cluster }

// ClientAddr returns where the node serves clients; HTTPAddr where it serves HTTP, or "".
func (n *Node) ClientAddr() string { return n.cfg.AdvertiseClient }

// HTTPAddr returns where the node serves HTTP; empty = nowhere.
func (n *Node) HTTPAddr() string { return addrOf(n.httpLis) }

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

var _ transport.Receiver = (*intake)(nil)
