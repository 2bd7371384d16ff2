package raftcore

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
)

// EncodeMembership encodes members as a membership change carries them in its context, ascending by replica.
func EncodeMembership(members map[ReplicaID]NodeID) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&metav1.Membership{Replicas: replicasOf(members)})
}

// DecodeMembership is the inverse of EncodeMembership.
func DecodeMembership(data []byte) (map[ReplicaID]NodeID, error) {
	members, _, err := decodeContext(data)
	return members, err
}

func decodeContext(data []byte) (_ map[ReplicaID]NodeID, target uint64, err error) {
	var m metav1.Membership
	if err := proto.Unmarshal(data, &m); err != nil {
		return nil, 0, err
	}
	members := make(map[ReplicaID]NodeID, len(m.GetReplicas()))
	for _, r := range m.GetReplicas() {
		if r.GetReplicaId() == 0 || r.GetNodeId() == 0 {
			return nil, 0, fmt.Errorf("replica %d on node %d", r.GetReplicaId(), r.GetNodeId())
		}
		members[ReplicaID(r.GetReplicaId())] = NodeID(r.GetNodeId())
	}
	return members, m.GetTargetId(), nil
}

// changeContext encodes what a change carries beside itself. The members are few and valid.
func changeContext(target uint64, added map[ReplicaID]NodeID) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&metav1.Membership{Replicas: replicasOf(added), TargetId: target})
	if err != nil {
		panic(fmt.Sprintf("raftcore: membership cannot be encoded: %v", err))
	}
	return data
}

func replicasOf(members map[ReplicaID]NodeID) (all []*metav1.Replica) {
	for _, r := range slices.Sorted(maps.Keys(members)) {
		all = append(all, &metav1.Replica{ReplicaId: uint64(r), NodeId: uint64(members[r])})
	}
	return all
}

// ApplyConfChange applies a committed membership change, before its MsgStorageApplyResp is stepped, and
// returns the membership in force after it. The change's context names the nodes of the replicas it adds.
// A change that is not applicable returns an error that wraps ErrConfChange together with the unchanged
// membership: every replica refuses it alike and goes on.
func (c *Core) ApplyConfChange(e *raftpb.Entry) (*raftpb.ConfState, map[ReplicaID]NodeID, error) {
	change, err := decodeConfChange(e)
	if err != nil {
		return c.conf, maps.Clone(c.members), err
	}
	next, err := confAfter(c.conf, change)
	if err != nil {
		return c.conf, maps.Clone(c.members), err
	}
	members, target, err := membersAfter(c.members, next, change.GetContext())
	if err != nil {
		return c.conf, maps.Clone(c.members), err
	}
	c.steer.target, c.steer.fresh = max(c.steer.target, target), true
	c.conf, c.members = c.rn.ApplyConfChange(change), members
	return c.conf, maps.Clone(members), nil
}

// SetMembers replaces the members after a snapshot has been activated: they are part of its machine state.
func (c *Core) SetMembers(members map[ReplicaID]NodeID) { c.members = maps.Clone(members) }

// SetFollowedTarget does so for FollowedTarget.
func (c *Core) SetFollowedTarget(id uint64) { c.steer.target = id }

// Members returns a copy of the replicas and their nodes.
func (c *Core) Members() map[ReplicaID]NodeID { return maps.Clone(c.members) }

// ConfState returns the membership in force. The caller must not change it.
func (c *Core) ConfState() *raftpb.ConfState { return c.conf }

func decodeConfChange(e *raftpb.Entry) (*raftpb.ConfChangeV2, error) {
	v2 := new(raftpb.ConfChangeV2)
	switch e.GetType() {
	case raftpb.EntryConfChangeV2:
		if err := proto.Unmarshal(e.GetData(), v2); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfChange, err)
		}
		return v2, nil
	case raftpb.EntryConfChange:
		v1 := new(raftpb.ConfChange)
		if err := proto.Unmarshal(e.GetData(), v1); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfChange, err)
		}
		return v1.AsV2(), nil
	default:
		return nil, fmt.Errorf("%w: entry %d is of type %s", ErrConfChange, e.GetIndex(), e.GetType())
	}
}

// confAfter works out on a copy what etcd/raft would do, because etcd/raft itself panics on a change that does
// not fit.
func confAfter(conf *raftpb.ConfState, change *raftpb.ConfChangeV2) (*raftpb.ConfState, error) {
	changer, err := changerOf(conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfChange, err)
	}
	for _, one := range change.GetChanges() {
		if reserved(ReplicaID(one.GetNodeId())) {
			return nil, fmt.Errorf("%w: replica id %d", ErrConfChange, one.GetNodeId())
		}
	}
	if t := change.GetTransition(); t < raftpb.ConfChangeTransitionAuto || t > raftpb.ConfChangeTransitionJointExplicit {
		return nil, fmt.Errorf("%w: transition %d", ErrConfChange, t)
	}
	t := changer.Tracker
	if change.LeaveJoint() {
		t.Config, t.Progress, err = changer.LeaveJoint()
	} else if auto, joint := change.EnterJoint(); joint {
		t.Config, t.Progress, err = changer.EnterJoint(auto, change.GetChanges()...)
	} else {
		t.Config, t.Progress, err = changer.Simple(change.GetChanges()...)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfChange, err)
	}
	return t.ConfState(), nil
}

// changerOf restores conf into a scratch tracker, the way etcd/raft does at start and for a snapshot.
func changerOf(conf *raftpb.ConfState) (confchange.Changer, error) {
	changer := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 1}
	var err error
	changer.Tracker.Config, changer.Tracker.Progress, err = confchange.Restore(changer, conf)
	return changer, err
}

// confStateValid says whether etcd/raft can restore conf and gets the same back; it panics otherwise.
func confStateValid(conf *raftpb.ConfState) bool {
	all := [][]uint64{conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing(), conf.GetLearnersNext()}
	n := 0
	for _, ids := range all {
		n += len(ids)
		if slices.ContainsFunc(ids, func(id uint64) bool { return reserved(ReplicaID(id)) }) {
			return false
		}
	}
	if n > replicasMax || len(conf.GetVoters()) == 0 {
		return false
	}
	changer, err := changerOf(conf)
	return err == nil && conf.Equivalent(changer.Tracker.ConfState()) == nil
}

// membersAfter keeps the nodes of the replicas in conf, taking those of new ones from the change's context.
func membersAfter(old map[ReplicaID]NodeID, conf *raftpb.ConfState, context []byte) (_ map[ReplicaID]NodeID, target uint64, err error) {
	added, target, err := decodeContext(context)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: context: %w", ErrConfChange, err)
	}
	members := make(map[ReplicaID]NodeID)
	for _, ids := range [][]uint64{conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing(), conf.GetLearnersNext()} {
		for _, id := range ids {
			r := ReplicaID(id)
			node, known := old[r]
			if !known {
				node, known = added[r]
			}
			if !known {
				return nil, 0, fmt.Errorf("%w: no node for replica %d", ErrConfChange, r)
			}
			members[r] = node
		}
	}
	return members, target, nil
}
