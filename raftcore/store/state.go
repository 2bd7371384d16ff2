package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/raftcore"
)

// State is what a group has applied, apart from what its machine keeps itself. It is stored with the
// machine's operations, so that they cannot disagree.
type State struct {
	Applied     raftcore.Index
	AppliedTerm uint64
	Hash        uint64            // raftcore.Chain at Applied
	Truncated   raftcore.Position // last entry that is no longer in the log; Truncated.Index <= Applied
	ConfState   *raftpb.ConfState
	Members     map[raftcore.ReplicaID]raftcore.NodeID
	// FollowedTarget is the id of the latest target that a membership change was applied for; 0 = none.
	FollowedTarget uint64
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() State {
	c := *s
	c.Members = maps.Clone(s.Members)
	if s.ConfState != nil {
		c.ConfState = proto.Clone(s.ConfState).(*raftpb.ConfState)
	}
	return c
}

// encode writes the fields in their order; ConfState as a flag and its four lists; members in ascending order;
// the followed target if there is one, as in records of before there were targets.
func (s *State) encode() []byte {
	ids := make([]raftcore.ReplicaID, 0, 8)
	for id := range s.Members { // sorted below: the order of the map must not show
		ids = append(ids, id)
	}
	slices.Sort(ids)
	v := newValue(64 + 16*len(ids))
	v = binary.AppendUvarint(v, uint64(s.Applied))
	v = binary.AppendUvarint(v, s.AppliedTerm)
	v = binary.BigEndian.AppendUint64(v, s.Hash)
	v = binary.AppendUvarint(v, uint64(s.Truncated.Index))
	v = binary.AppendUvarint(v, s.Truncated.Term)
	v = appendConfState(v, s.ConfState)
	v = binary.AppendUvarint(v, uint64(len(ids)))
	for _, id := range ids {
		v = binary.AppendUvarint(v, uint64(id))
		v = binary.AppendUvarint(v, uint64(s.Members[id]))
	}
	if s.FollowedTarget != 0 {
		v = binary.AppendUvarint(v, s.FollowedTarget)
	}
	return v
}

func appendConfState(v []byte, cs *raftpb.ConfState) []byte {
	autoLeave := byte(0)
	if cs.GetAutoLeave() {
		autoLeave = 1
	}
	v = append(v, autoLeave)
	for _, list := range [...][]uint64{cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext()} {
		v = binary.AppendUvarint(v, uint64(len(list)))
		for _, id := range list {
			v = binary.AppendUvarint(v, id)
		}
	}
	return v
}

func decodeState(value []byte) (State, error) {
	d := decode("applied state", value)
	s := State{Applied: raftcore.Index(d.upTo(indexMax)), AppliedTerm: d.uvarint(), Hash: d.uint64()}
	s.Truncated = raftcore.Position{Index: raftcore.Index(d.uvarint()), Term: d.uvarint()}
	s.ConfState = d.confState()
	s.Members = d.members()
	if !d.bad && len(d.rest) > 0 {
		s.FollowedTarget = d.uvarint()
		d.bad = d.bad || s.FollowedTarget == 0 // absent then
	}
	if err := d.err(); err != nil {
		return State{}, err
	}
	if s.Truncated.Index > s.Applied {
		return State{}, fmt.Errorf("%w: truncated to %d, applied %d", ErrDamaged, s.Truncated.Index, s.Applied)
	}
	return s, nil
}

// members takes replicas, which ascend, and their nodes.
func (d *decoder) members() map[raftcore.ReplicaID]raftcore.NodeID {
	n := d.count()
	members, last := make(map[raftcore.ReplicaID]raftcore.NodeID, n), raftcore.ReplicaID(0)
	for i := range n {
		id := raftcore.ReplicaID(d.uvarint())
		d.bad = d.bad || i > 0 && id <= last
		members[id], last = raftcore.NodeID(d.uvarint()), id
	}
	return members
}

func (d *decoder) confState() *raftpb.ConfState {
	cs := &raftpb.ConfState{AutoLeave: new(d.flag())}
	cs.Voters = d.ids()
	cs.Learners = d.ids()
	cs.VotersOutgoing = d.ids()
	cs.LearnersNext = d.ids()
	return cs
}

func (d *decoder) ids() []uint64 {
	n := d.count()
	if n == 0 {
		return nil
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = d.uvarint()
	}
	return list
}

// LoadState reads what g has applied.
func LoadState(v View, g raftcore.GroupID, gen uint64) (State, error) {
	value, err := v.Get(dataKey(g, gen, kindApplied))
	if errors.Is(err, ErrNotFound) {
		return State{}, fmt.Errorf("%w: group %d has no applied state", ErrDamaged, g)
	}
	if err != nil {
		return State{}, err
	}
	return decodeState(value)
}
