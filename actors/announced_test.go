package actors

import (
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// announced remembers the snapshots that a replica gave to its node's sender.
type announced []*SnapshotSource

func (a *announced) SendSnapshot(_ raftcore.NodeID, s *SnapshotSource) { *a = append(*a, s) }

// TestASnapshotThatIsAnnouncedWithTheElectionGoesOn: seed 8001558 of the simulator. A voter that is told, late, of the
// candidate's earlier reign acknowledges nothing in the term that it has just voted in, and etcd/raft takes that for a
// log to be filled from its beginning.
func TestASnapshotThatIsAnnouncedWithTheElectionGoesOn(t *testing.T) {
	var sent announced
	r := newRigWith(t, nil, func(c *ReplicaConfig) { c.Snapshots = &sent })
	ask := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, 2)
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE, Term: ask.Term}))
	term := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_VOTE, 2).Term
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE, Term: term}),
		inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: term})) // in one turn
	r.run()
	if st := r.status(); st.Role != raftcore.Leader || len(sent) != 1 {
		t.Fatalf("%d snapshots announced; %+v", len(sent), st)
	}
	if sent[0].cancelled.Load() || len(r.self.sending) != 1 {
		t.Error("it was cancelled by the election that it came with")
	}
	r.tell(inbound(3, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: term + 1}))
	r.run()
	if !sent[0].cancelled.Load() || len(r.self.sending) != 0 {
		t.Error("it goes on though its term is over")
	}
}
