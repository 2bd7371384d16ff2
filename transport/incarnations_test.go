package transport

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// hello is a handshake of the identity to node 1, changed by edit.
func hello(id Identity, edit func(*raftv1.Handshake)) *raftv1.Handshake {
	h := id.handshake(1)
	if edit != nil {
		edit(h)
	}
	return h
}

// refusedHandshakes are judged after node 2 has shaken hands as start 5, boot "b", store-2, and with node 3
// registered as start 8, store-3.
var refusedHandshakes = []struct {
	name string
	h    *raftv1.Handshake
	want error
}{
	{"no handshake", nil, ErrMalformed},
	{"no header", &raftv1.Handshake{StoreId: "s", ToNode: 1}, ErrMalformed},
	{"another cluster", hello(identity(2, 5, "b"), func(h *raftv1.Handshake) { h.Header.ClusterId = "cluster-b" }), ErrWrongCluster},
	{"no node", hello(identity(0, 5, "b"), nil), ErrMalformed},
	{"this very node", hello(identity(1, 5, "b"), nil), ErrWrongNode},
	{"meant for another node", hello(identity(2, 5, "b"), func(h *raftv1.Handshake) { h.ToNode = 4 }), ErrWrongNode},
	{"no start number", hello(identity(2, 0, "b"), nil), ErrMalformed},
	{"short boot id", hello(identity(2, 5, "b"), func(h *raftv1.Handshake) { h.Header.BootId = []byte("b") }), ErrMalformed},
	{"no store", hello(identity(2, 5, "b"), func(h *raftv1.Handshake) { h.StoreId = "" }), ErrMalformed},
	{"a store id of many bytes", hello(identity(2, 6, "c"), func(h *raftv1.Handshake) { h.StoreId = strings.Repeat("s", handshakeBytesMax) }), ErrMalformed},
	{"many bytes of unknown fields", hello(identity(2, 6, "c"), func(h *raftv1.Handshake) {
		h.Header.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), make([]byte, handshakeBytesMax)))
	}), ErrMalformed},
	{"another store than seen", hello(identity(2, 6, "c"), func(h *raftv1.Handshake) { h.StoreId = "wiped" }), ErrWrongStore},
	{"lower start than seen", hello(identity(2, 4, "a"), nil), ErrOldIncarnation},
	{"equal start with another boot id", hello(identity(2, 5, "c"), nil), ErrCopiedStore},
	{"a later start that does not come from the one seen", after(hello(identity(2, 6, "c"), nil), "x"), ErrCopiedStore},
	{"two starts later", after(hello(identity(2, 7, "d"), nil), "c", "x"), ErrCopiedStore},
	{"an earlier boot id that is short", hello(identity(2, 6, "c"), func(h *raftv1.Handshake) { h.EarlierBootIds = [][]byte{[]byte("b")} }), ErrMalformed},
	{"many earlier boot ids", hello(identity(2, 99, "c"), func(h *raftv1.Handshake) {
		h.EarlierBootIds = slices.Repeat([][]byte{h.GetHeader().GetBootId()}, lineage.EarlierMax+1)
	}), ErrMalformed},
	{"the start registered with another boot id", hello(identity(3, 8, "c"), nil), ErrCopiedStore},
	{"a later start that does not come from the one registered", after(hello(identity(3, 10, "d"), nil), "c", "x"), ErrCopiedStore},
	{"another store than registered", hello(identity(3, 9, "b"), func(h *raftv1.Handshake) { h.StoreId = "wiped" }), ErrWrongStore},
	{"lower start than registered", hello(identity(3, 7, "b"), nil), ErrOldIncarnation},
}

func knowNode3(node uint64) (Registered, bool) {
	return Registered{identity(3, 8, "b").Start, "store-3"}, node == 3
}

// after is a handshake after starts with these boot ids, the latest first.
func after(h *raftv1.Handshake, boots ...string) *raftv1.Handshake {
	for _, boot := range boots {
		h.EarlierBootIds = append(h.EarlierBootIds, identity(0, 0, boot).Start.ID)
	}
	return h
}

func expectNode2(node uint64) bool { return node == 2 }

func TestHandshakesAreJudgedByMemoryAndRegistry(t *testing.T) {
	s := newIncarnations(identity(1, 1, "a"), knowNode3, expectNode2)
	if err := s.admit(hello(identity(2, 5, "b"), nil)); err != nil {
		t.Fatal(err)
	}
	for _, c := range refusedHandshakes {
		t.Run(c.name, func(t *testing.T) {
			if err := s.admit(c.h); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	for _, h := range []*raftv1.Handshake{
		hello(identity(2, 5, "b"), nil), after(hello(identity(2, 6, "c"), nil), "b", "a"), hello(identity(3, 8, "b"), nil),
		after(hello(identity(3, 10, "d"), nil), "c", "b"),
		hello(identity(2, 7, "x"), nil), // which says nothing of where it comes from
	} {
		if err := s.admit(h); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	if err := s.admit(hello(identity(2, 5, "b"), nil)); !errors.Is(err, ErrOldIncarnation) {
		t.Errorf("after start 7, start 5 got %v", err)
	}
}

func TestAStartThatIsRegisteredIsBelievedWhateverCameBeforeIt(t *testing.T) {
	real := after(hello(identity(2, 8, "e"), nil), "d", "c", "b")
	known := Registered{identity(2, 5, "b").Start, "store-2"}
	s := newIncarnations(identity(1, 1, "a"), func(uint64) (Registered, bool) { return known, true }, expectNode2)
	if err := s.admit(after(hello(identity(2, 7, "x"), nil), "c", "b")); err != nil { // by somebody who has heard of the others
		t.Fatal(err)
	}
	if err := s.admit(real); !errors.Is(err, ErrCopiedStore) {
		t.Fatalf("before it is registered: %v", err)
	}
	if err := s.checkHeader(identityHeader(2, 6, "c")); !errors.Is(err, ErrOldIncarnation) {
		t.Fatalf("a unary call: %v", err)
	}
	known = Registered{identity(2, 8, "e").Start, "store-2"}
	if err := errors.Join(s.checkHeader(identityHeader(2, 8, "e")), s.admit(real)); err != nil {
		t.Errorf("when it is registered: %v", err)
	}
	if err := s.admit(hello(identity(2, 9, "x"), nil)); !errors.Is(err, ErrCopiedStore) {
		t.Errorf("a start that says nothing of the one registered: %v", err)
	}
}

func identityHeader(node, start uint64, boot string) *raftv1.Header {
	id := identity(node, start, boot)
	return id.header()
}

func TestARegisteredStoreDisplacesOneThatMerelyCameFirst(t *testing.T) {
	registered := false
	s := newIncarnations(identity(1, 1, "a"), func(uint64) (Registered, bool) { return Registered{lineage.Start{Number: 1}, "store-2"}, registered }, expectNode2)
	impostor := hello(identity(2, 99, "x"), func(h *raftv1.Handshake) { h.StoreId = "elsewhere" })
	if err := s.admit(impostor); err != nil {
		t.Fatal(err)
	}
	real := hello(identity(2, 3, "b"), nil)
	if err := s.admit(real); !errors.Is(err, ErrWrongStore) {
		t.Fatalf("before registration: %v", err)
	}
	registered = true
	if err := s.admit(real); err != nil {
		t.Fatal(err)
	}
	if err := s.admit(impostor); !errors.Is(err, ErrWrongStore) {
		t.Fatalf("the impostor: %v", err)
	}
}

func TestUnaryHeadersAreJudgedButNotRemembered(t *testing.T) {
	s := newIncarnations(identity(1, 1, "a"), knowNode3, expectNode2)
	header := identityHeader
	if err := s.checkHeader(header(2, 50, "x")); err != nil {
		t.Fatal(err)
	}
	if err := s.admit(hello(identity(2, 5, "b"), nil)); err != nil {
		t.Fatalf("a unary call locked the node out: %v", err)
	}
	for _, c := range []struct {
		h    *raftv1.Header
		want error
	}{
		{nil, ErrMalformed},
		{header(2, 5, "b"), nil},
		{header(2, 5, "c"), ErrCopiedStore},
		{header(2, 4, "b"), ErrOldIncarnation},
		{header(3, 7, "b"), ErrOldIncarnation},
		{header(1, 5, "b"), ErrWrongNode},
	} {
		if err := s.checkHeader(c.h); !errors.Is(err, c.want) {
			t.Errorf("%v: got %v, want %v", c.h, err, c.want)
		}
	}
}

func TestTheNumberOfRememberedStrangersIsBoundedAndLocksNobodyElseOut(t *testing.T) {
	s := newIncarnations(identity(1, 1, "a"), knowNode3, expectNode2)
	for node := uint64(100); node < 100+nodesSeenMax; node++ {
		if err := s.admit(hello(identity(node, 1, "b"), nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.admit(hello(identity(99, 1, "b"), nil)); !errors.Is(err, ErrTooManyNodes) {
		t.Fatalf("got %v", err)
	}
	for _, h := range []*raftv1.Handshake{hello(identity(100, 2, "c"), nil), hello(identity(2, 1, "b"), nil), hello(identity(3, 8, "b"), nil)} {
		if err := s.admit(h); err != nil {
			t.Errorf("node %d: %v", h.GetHeader().GetFromNode(), err)
		}
	}
	for node := uint64(100); node < 110; node++ {
		s.forget(node)
	}
	s.forget(2)
	s.forget(3)
	for h, want := range map[*raftv1.Handshake]error{
		hello(identity(99, 1, "b"), nil):  nil,
		hello(identity(100, 1, "b"), nil): nil, // no longer known to have come as start 2
		hello(identity(2, 0, "b"), nil):   ErrMalformed,
		hello(identity(2, 1, "x"), nil):   ErrCopiedStore,
		hello(identity(3, 8, "x"), nil):   ErrCopiedStore,
	} {
		if err := s.admit(h); !errors.Is(err, want) {
			t.Errorf("node %d: got %v, want %v", h.GetHeader().GetFromNode(), err, want)
		}
	}
}
