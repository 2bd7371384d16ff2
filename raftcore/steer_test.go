package raftcore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// The scripts in testdata/steer ask for one step:
//
//	next leader=ID voters=(...) [learners=(...)] [outgoing=(...)] commit=I [behind=(ID:I,...)] [silent=(ID,...)] [followed=T] [handovers=N]
//	target=T want=(ID,...) [want-learners=(...)]
//
// Members have everything and are heard of, but for those behind and silent. Replica i is on node i.
func TestTheNextStepIsAsTheScriptsSay(t *testing.T) {
	datadriven.Walk(t, "testdata/steer", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s, target := situationOf(t, d)
			return describeStep(t, s.Next(target)) + "\n"
		})
	})
}

func situationOf(t *testing.T, d *datadriven.TestData) (*Situation, Target) {
	var leader, commit, followed, targetID uint64
	s := &Situation{Conf: &raftpb.ConfState{}}
	d.ScanArgs(t, "leader", &leader)
	d.ScanArgs(t, "commit", &commit)
	d.MaybeScanArgs(t, "followed", &followed)
	d.MaybeScanArgs(t, "handovers", &s.Handovers)
	d.MaybeScanArgs(t, "target", &targetID)
	s.Self, s.Commit, s.Target = ReplicaID(leader), Index(commit), followed
	s.Conf.Voters, s.Conf.Learners, s.Conf.VotersOutgoing = listArg(t, d, "voters"), listArg(t, d, "learners"), listArg(t, d, "outgoing")
	behind := map[uint64]uint64{}
	for _, pair := range valuesOf(d, "behind") {
		var id, match uint64
		if _, err := fmt.Sscanf(pair, "%d:%d", &id, &match); err != nil {
			t.Fatal(err)
		}
		behind[id] = match
	}
	silent := listArg(t, d, "silent")
	all := slices.Concat(s.Conf.Voters, s.Conf.Learners, s.Conf.VotersOutgoing)
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		match, late := behind[id]
		if !late {
			match = commit
		}
		s.Progress = append(s.Progress, Progress{
			Replica: ReplicaID(id), Node: NodeID(id), Match: Index(match), Active: !slices.Contains(silent, id),
			Voter: !slices.Contains(s.Conf.Learners, id),
		})
	}
	return s, Target{ID: targetID, Voters: onOwnNodes(listArg(t, d, "want")), Learners: onOwnNodes(listArg(t, d, "want-learners"))}
}

func onOwnNodes(ids []uint64) map[ReplicaID]NodeID {
	members := map[ReplicaID]NodeID{}
	for _, id := range ids {
		members[ReplicaID(id)] = NodeID(id)
	}
	return members
}

func valuesOf(d *datadriven.TestData, key string) []string {
	for _, arg := range d.CmdArgs {
		if arg.Key == key {
			return arg.Vals
		}
	}
	return nil
}

func listArg(t *testing.T, d *datadriven.TestData, key string) (ids []uint64) {
	for _, v := range valuesOf(d, key) {
		var id uint64
		if _, err := fmt.Sscan(v, &id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func describeStep(t rapid.TB, s Step) string {
	switch {
	case s.Handover != 0:
		return fmt.Sprintf("hand over to %d", s.Handover)
	case s.Change != nil:
		return describeChange(t, s.Change)
	case s.Wait == WaitLearner:
		return fmt.Sprintf("wait for a learner to catch up: %d", s.For)
	case s.Wait != WaitNothing:
		return "wait for " + s.Wait.String()
	default:
		return "nothing to do"
	}
}

func describeChange(t rapid.TB, c *raftpb.ConfChangeV2) string {
	if c.LeaveJoint() {
		return "leave the joint configuration"
	}
	added, target, err := decodeContext(c.GetContext())
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"change"}
	if _, joint := c.EnterJoint(); joint {
		words[0] = "joint change"
	}
	for _, one := range c.GetChanges() {
		what := map[raftpb.ConfChangeType]string{
			raftpb.ConfChangeAddNode: "voter", raftpb.ConfChangeAddLearnerNode: "learner",
			raftpb.ConfChangeRemoveNode: "without", raftpb.ConfChangeUpdateNode: "same",
		}[one.GetType()]
		words = append(words, fmt.Sprintf("%s %d", what, one.GetNodeId()))
	}
	for _, r := range slices.Sorted(maps.Keys(added)) {
		words = append(words, fmt.Sprintf("(%d is on node %d)", r, added[r]))
	}
	return strings.Join(words, " ") + fmt.Sprintf(" for target %d", target)
}
