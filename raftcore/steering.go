package raftcore

import (
	"errors"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// steering is what a core remembers of the changes that it proposes. All else is in the log.
type steering struct {
	// target is the id of the latest target that an applied change was made for.
	target uint64
	// until is the index that must be applied before another change may be proposed: etcd/raft turns one that
	// comes earlier into an empty entry without a word. proposed says that it is not known yet.
	until     Index
	proposed  bool
	handovers int // tried in this term, see Situation.Handovers
	// told is the end of the log when this replica had applied the last change, or began to lead after that; fresh says
	// that it is not known yet. See Told.
	told  Index
	fresh bool
}

// Steer takes at most one step towards t: it proposes a membership change, or says that leadership has to go
// elsewhere first, which is the caller's to do. To be called again and again while the replica leads: what was
// asked for and did not come to be is asked for again.
func (c *Core) Steer(t Target) (Step, error) {
	if err := c.needLeader(); err != nil {
		return Step{}, err
	}
	if c.steer.proposed || c.leadership() != c.seen || c.Status().Applied < c.steer.until {
		return Step{Wait: WaitApply}, nil
	}
	now := c.situation()
	step := now.Next(t)
	if step.Handover != noReplica {
		c.steer.handovers++
	}
	if step.Change == nil {
		if step == (Step{}) && len(t.Voters) > 0 && !c.Told() {
			return Step{Wait: WaitTold}, c.tell()
		}
		return step, nil
	}
	return step, c.proposeChange(step.Change)
}

// Told says that a majority of the members in force know, durably, that they are in force. Until then nobody who has
// left may be deleted: without this leader, nobody else could tell those who stay that it has left (see votes.go). An
// entry that is proposed when the change is applied says so to each who stores it.
func (c *Core) Told() bool {
	return c.needLeader() == nil && !c.steer.fresh && c.seen.role == raft.StateLeader && c.Status().Commit > c.steer.told
}

// tell proposes an entry without content, unless there is one already that says it.
func (c *Core) tell() error {
	if !c.steer.fresh && c.handedLast > c.steer.told {
		return nil
	}
	return c.Propose([][]byte{nil})
}

func (c *Core) situation() Situation {
	return Situation{
		Self: c.cfg.Self, Conf: c.conf, Progress: c.Progress(), Commit: c.Status().Commit,
		Target: c.steer.target, Handovers: c.steer.handovers,
	}
}

// proposeChange proposes what would be applied as things are.
func (c *Core) proposeChange(change *raftpb.ConfChangeV2) error {
	next, err := confAfter(c.conf, change)
	if err != nil {
		return err
	}
	if _, _, err := membersAfter(c.members, next, change.GetContext()); err != nil {
		return err
	}
	err = c.rn.ProposeConfChange(change)
	if errors.Is(err, raft.ErrProposalDropped) {
		return ErrDropped
	}
	c.steer.proposed = err == nil
	return err
}

// noteSteering follows leadership and the log: a new leader may not propose a change before all that it
// inherited is applied, and one change must be applied before the next.
func (c *Core) noteSteering(changed bool) {
	if changed {
		c.steer.handovers = 0
	}
	if changed && c.seen.role == raft.StateLeader || c.steer.proposed {
		c.steer.until = c.handedLast
	}
	if changed && c.seen.role == raft.StateLeader || c.steer.fresh {
		c.steer.told = c.handedLast
	}
	c.steer.proposed, c.steer.fresh = false, false
}

// FollowedTarget returns the id of the latest target that an applied membership change was made for. It is
// part of the group's state, beside ConfState and members.
func (c *Core) FollowedTarget() uint64 { return c.steer.target }
