package transport

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

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
	{"another store than registered", hello(identity(3, 9, "b"), func(h *raftv1.Handshake) { h.StoreId = "wiped" }), ErrWrongStore},
	{"lower start than registered", hello(identity(3, 7, "b"), nil), ErrOldIncarnation},
}

func knowNode3(node uint64) (uint64, string, bool) { return 8, "store-3", node == 3 }

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
	for _, h := range []*raftv1.Handshake{hello(identity(2, 5, "b"), nil), hello(identity(2, 6, "c"), nil), hello(identity(3, 8, "b"), nil)} {
		if err := s.admit(h); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	if err := s.admit(hello(identity(2, 5, "b"), nil)); !errors.Is(err, ErrOldIncarnation) {
		t.Errorf("after start 6, start 5 got %v", err)
	}
}

func TestARegisteredStoreDisplacesOneThatMerelyCameFirst(t *testing.T) {
	registered := false
	s := newIncarnations(identity(1, 1, "a"), func(uint64) (uint64, string, bool) { return 1, "store-2", registered }, expectNode2)
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
	header := func(node, start uint64, boot string) *raftv1.Header {
		id := identity(node, start, boot)
		return id.header()
	}
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
