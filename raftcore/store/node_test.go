package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func TestANodeRecordIsReadAsItWasStored(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		if _, ok, err := loadNode(t, kv); ok || err != nil {
			t.Fatalf("an empty store has a node: %v, %v", ok, err)
		}
		want := Node{
			Format: FormatVersion, Cluster: "c", StoreID: "s", NodeID: 3, Start: 1 << 40,
			State: raftv1.StoreState_STORE_STATE_FOUNDING, Bootstrap: "1=a:1,2=b:2",
		}
		want.SetStart(want.LatestStart().Next(bytes.Repeat([]byte{1}, lineage.IDBytes)).Next(bytes.Repeat([]byte{2}, lineage.IDBytes)))
		b := new(Batch)
		PutNode(b, want)
		must(t, kv.Commit(b, true))
		kv = kv.crash(t)
		if got, ok, err := loadNode(t, kv); !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, %v", got, ok, err)
		}
		must(t, kv.Close())
	})
}

func TestBootIDsOfOtherStartsThanTheLatestAreForgotten(t *testing.T) {
	n, kv := Node{Format: FormatVersion, Cluster: "c", StoreID: "s", NodeID: 3}, NewMem()
	n.SetStart(n.LatestStart().Next(bytes.Repeat([]byte{1}, lineage.IDBytes)))
	b := new(Batch)
	PutNode(b, n)
	older := n
	older.SetStart(lineage.Start{Number: n.Start + 1}) // by a version that keeps no boot ids
	PutNode(b, older)
	must(t, kv.Commit(b, true))
	if got, ok, err := loadNode(t, kv); !ok || err != nil || !reflect.DeepEqual(got, older) {
		t.Fatalf("got %+v, %v, %v", got, ok, err)
	}
	for what, value := range map[string][]byte{
		"no id": appendBytes(binary.AppendUvarint(newValue(9), 2), ""), "a short id": appendBytes(binary.AppendUvarint(newValue(9), 2), "short"),
	} {
		b := new(Batch)
		b.Set(nodeKey(kindStarts), value)
		must(t, kv.Commit(b, true))
		if _, _, err := loadNode(t, kv); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func loadNode(t *testing.T, kv KV) (Node, bool, error) {
	v := viewOf(t, kv)
	defer func() { must(t, v.Close()) }()
	return LoadNode(v)
}

func TestANewerFormatIsRefusedAndBothAreNamed(t *testing.T) {
	fs := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	b := new(Batch)
	PutNode(b, Node{Format: FormatVersion + 6})
	must(t, kv.Commit(b, true))
	if _, _, err := loadNode(t, kv); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("LoadNode: %v", err)
	}
	must(t, kv.Close())
	for range 2 { // refused, released, and refused again
		_, err = OpenPebble(PebbleOptions{Dir: "store", FS: fs})
		if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "format 7") || !strings.Contains(err.Error(), "up to 1") {
			t.Fatalf("OpenPebble: %v", err)
		}
	}
}

func TestKeysWithoutAFormatRecordAreForeign(t *testing.T) {
	fs := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	b := new(Batch)
	b.Delete(nodeKey(kindFormat))
	b.Set([]byte("a"), nil)
	must(t, kv.Commit(b, true))
	must(t, kv.Close())
	if _, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs}); !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v, want ErrForeign", err)
	}
}

func TestADamagedNodeRecordIsNotTakenForAnEmptyStore(t *testing.T) {
	good := new(Batch)
	PutNode(good, Node{Cluster: "c", StoreID: "s", NodeID: 3})
	record := good.Ops()[1].Value
	for cut := range len(record) {
		kv := NewMem()
		b := new(Batch)
		b.Set(nodeKey(kindNode), record[:cut])
		must(t, kv.Commit(b, true))
		if _, _, err := loadNode(t, kv); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}
