package store

import (
	"bytes"
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
)

var discard = log.New(io.Discard, "", 0)

// logPair is a Log and etcd/raft's own storage, which have been told the same.
type logPair struct {
	kv      *crasher
	log     *Log
	peer    *raft.MemoryStorage
	term    uint64
	applied uint64
}

func newLogPair(t *rapid.T, kv *crasher, cacheBytes int) *logPair {
	birth(t, kv)
	p := &logPair{kv: kv, log: openLog(t, kv, cacheBytes), peer: raft.NewMemoryStorage(), term: 1, applied: 1}
	must(t, p.peer.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}))
	return p
}

func (p *logPair) bounds() (first, last uint64) {
	first, _ = p.peer.FirstIndex()
	last, _ = p.peer.LastIndex()
	return first, last
}

// append adds entries from anywhere above what is applied on: at the end, or over a tail.
func (p *logPair) append(t *rapid.T) {
	_, last := p.bounds()
	at := rapid.Uint64Range(p.applied+1, last+1).Draw(t, "at")
	p.term += rapid.Uint64Range(0, 2).Draw(t, "newer")
	var ents []*raftpb.Entry
	for i := range rapid.Uint64Range(1, 6).Draw(t, "entries") {
		var data []byte // raft's own empty entries have nil
		if n := rapid.IntRange(0, 600).Draw(t, "bytes"); n > 0 {
			data = bytes.Repeat([]byte{byte(at + i)}, n)
		}
		ents = append(ents, newEntry(at+i, p.term, data))
	}
	commitAppend(t, p.kv, p.log, appendMsg(ents...), true)
	must(t, p.peer.Append(ents))
}

func (p *logPair) apply(t *rapid.T) {
	_, last := p.bounds()
	p.applied = rapid.Uint64Range(p.applied, last).Draw(t, "applied")
	commitState(t, p.kv, p.log, func(s *State) { s.Applied = raftcore.Index(p.applied) })
}

func (p *logPair) truncate(t *rapid.T) {
	first, _ := p.bounds()
	if first > p.applied {
		t.Skip()
	}
	at := rapid.Uint64Range(first, p.applied).Draw(t, "truncated")
	term, err := p.peer.Term(at)
	must(t, err)
	commitState(t, p.kv, p.log, func(s *State) { s.Truncated = raftcore.Position{Index: raftcore.Index(at), Term: term} })
	must(t, p.peer.Compact(at))
}

// reopen restarts after a crash that kept all: a state without its truncation would not match the peer's.
func (p *logPair) reopen(t *rapid.T, cacheBytes int) {
	must(t, p.kv.Commit(new(Batch), true))
	if rapid.IntRange(0, 4).Draw(t, "luck") == 0 {
		p.kv = p.kv.crash(t)
	}
	p.log = openLog(t, p.kv, cacheBytes)
}

func (p *logPair) compare(t *rapid.T) {
	first, last := p.bounds()
	if f, _ := p.log.FirstIndex(); f != first {
		t.Fatalf("first %d, want %d", f, first)
	}
	if l, _ := p.log.LastIndex(); l != last {
		t.Fatalf("last %d, want %d", l, last)
	}
	for i := first - min(first, 2); i <= last+1; i++ {
		got, err := p.log.Term(i)
		want, wantErr := p.peer.Term(i)
		if got != want || err != wantErr {
			t.Fatalf("term of %d: %d, %v; want %d, %v", i, got, err, want, wantErr)
		}
	}
	p.compareEntries(t, first, last)
}

func (p *logPair) compareEntries(t *rapid.T, first, last uint64) {
	if last < first {
		return
	}
	lo := rapid.Uint64Range(first-1, last).Draw(t, "lo")
	hi := rapid.Uint64Range(lo+1, last+1).Draw(t, "hi")
	maxSize := rapid.Uint64Range(0, 4000).Draw(t, "maxSize")
	got, err := p.log.Entries(lo, hi, maxSize)
	want, wantErr := p.peer.Entries(lo, hi, maxSize)
	if err != wantErr || len(got) != len(want) {
		t.Fatalf("entries [%d, %d) of %d bytes: %d, %v; want %d, %v", lo, hi, maxSize, len(got), err, len(want), wantErr)
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			t.Fatalf("entry %d: %v, want %v", lo+uint64(i), got[i], want[i])
		}
	}
}

func TestALogAnswersAsMemoryStorageDoes(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		rapid.Check(t, func(t *rapid.T) {
			cacheBytes := rapid.SampledFrom([]int{0, 700, 5000, 1 << 20}).Draw(t, "cacheBytes")
			p := newLogPair(t, open(t), cacheBytes)
			t.Repeat(map[string]func(*rapid.T){
				"append":   p.append,
				"again":    p.append,
				"apply":    p.apply,
				"truncate": p.truncate,
				"reopen":   func(t *rapid.T) { p.reopen(t, cacheBytes) },
				"":         p.compare,
			})
			must(t, p.kv.Close())
		})
	})
}
