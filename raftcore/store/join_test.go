package store

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
)

func TestAJoiningReplicaStartsEmptyAndDoesNotCampaign(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		b := new(Batch)
		PutJoin(b, testGroup, 9)
		must(t, kv.Commit(b, true))
		l := openLog(t, kv, 0)
		first, _ := l.FirstIndex()
		last, _ := l.LastIndex()
		hard, conf, err := l.InitialState()
		must(t, err)
		if first != 1 || last != 0 || l.Replica() != 9 || hard.GetTerm() != 0 || hard.GetCommit() != 0 || len(conf.GetVoters())+len(conf.GetLearners()) != 0 {
			t.Fatalf("entries [%d, %d], replica %d, hard state %v, membership %v", first, last, l.Replica(), hard, conf)
		}
		if _, err := l.Snapshot(); !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
			t.Fatalf("it has nothing to give, and says %v", err)
		}
		core := newCore(t, l)
		for range 50 {
			core.Tick()
		}
		if st := core.Status(); st.Role != raftcore.Follower || st.Term != 0 {
			t.Fatalf("an empty replica has become %+v", st)
		}
		if _, busy := core.Effects(); busy {
			t.Fatal("an empty replica has something to do")
		}
		must(t, kv.Close())
	})
}

func TestAJoiningReplicaRejectsAppendsUntilASnapshotComes(t *testing.T) {
	kv := NewMem()
	b := new(Batch)
	PutJoin(b, testGroup, 9)
	must(t, kv.Commit(b, true))
	l := openLog(t, kv, 0)
	core := newCore(t, l)
	must(t, core.Step(11, &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(9)), Term: new(uint64(5)),
		Index: new(uint64(1)), LogTerm: new(uint64(1)), Commit: new(uint64(2)), Entries: entriesFrom(2, 5, 1, 8)}))
	eff, _ := core.Effects()
	if eff.Append == nil || len(eff.Append.GetEntries()) != 0 || len(eff.Append.GetResponses()) != 1 {
		t.Fatalf("effects %+v", eff)
	}
	if resp := eff.Append.GetResponses()[0]; !resp.GetReject() || resp.GetRejectHint() != 0 {
		t.Fatalf("answered %v, want a rejection that leads the leader to a snapshot", resp)
	}
}

func TestAJoiningReplicaIsDeletedLikeAnyOther(t *testing.T) {
	kv := NewMem()
	b := new(Batch)
	PutJoin(b, testGroup, 9)
	PutTombstone(b, testGroup, 9)
	must(t, kv.Commit(b, true))
	if _, err := OpenLog(kv, testGroup, 0); !errors.Is(err, ErrTombstone) {
		t.Fatalf("got %v, want ErrTombstone", err)
	}
}

// newCore makes the core of an opened log; nodes 11 to 13 may speak for replicas 1 to 3.
func newCore(t rapid.TB, l *Log) *raftcore.Core {
	t.Helper()
	core, err := raftcore.New(raftcore.Config{
		Group: testGroup, Self: l.Replica(), Storage: l, Applied: l.State().Applied, ElectionTicks: 10, HeartbeatTicks: 1,
		Members: l.State().Members,
		Vouch:   func(r raftcore.ReplicaID, n raftcore.NodeID) bool { return testMembers[r] == n },
	})
	must(t, err)
	return core
}
