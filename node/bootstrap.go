package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// DataError says why a node does not start on this data directory. Nothing in it was changed.
type DataError struct{ Reason string }

func (e *DataError) Error() string { return e.Reason }

// founder founds a cluster together with the other nodes of the bootstrap set (rule 26):
//
//	EMPTY ----> FOUNDING ----> FORMED
//	  |  all answer, none is FORMED:  |  all show FOUNDING or FORMED with my UUID and hash:
//	  |  the lowest id draws the UUID |  write FORMED and group 1's first batch together
//	  |  when all are EMPTY, the
//	  |  others adopt a FOUNDING one's
//
// Each step is one synced batch, so that a crash continues where it was. Stricter than the rule in one point:
// EMPTY is left only when every listed node has answered in the same round. Otherwise a wiped member could
// adopt from one that lags in FOUNDING while another, out of reach, is FORMED and counts on what was wiped.
type founder struct {
	self  store.Node
	kv    store.KV
	peers map[raftcore.NodeID]string // the bootstrap set, without this node
	probe func(ctx context.Context, addr string) (*raftv1.ProbeResponse, error)
	uuid  func() string
	// saved is told each state that has become durable, so that Probe shows it.
	saved func(store.Node)
	log   *slog.Logger
}

// probeInterval is the pause between two rounds; probeTimeout bounds one question.
const (
	probeInterval = 100 * time.Millisecond
	probeTimeout  = 2 * time.Second
	reportEvery   = 50 // rounds between two reports of what is missing
)

// run returns when the store is FORMED.
func (f *founder) run(ctx context.Context) error {
	for round := 0; f.self.State != raftv1.StoreState_STORE_STATE_FORMED; round++ {
		waiting, err := f.round(ctx)
		if err != nil {
			return err
		}
		if waiting == "" {
			continue
		}
		if round%reportEvery == 0 {
			f.log.Info("founding the cluster", "waiting", waiting)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("founding the cluster: %s: %w", waiting, ctx.Err())
		case <-time.After(probeInterval):
		}
	}
	return nil
}

// round asks every peer and takes at most one step. waiting says what it could not do without; empty = it
// took a step.
func (f *founder) round(ctx context.Context) (waiting string, err error) {
	answers := map[raftcore.NodeID]*raftv1.ProbeResponse{}
	for _, id := range sortedIDs(f.peers) {
		answer, err := f.ask(ctx, id)
		if err != nil {
			return fmt.Sprintf("node %d at %s does not answer: %v", id, f.peers[id], err), nil
		}
		if err := f.check(id, answer); err != nil {
			return "", err
		}
		answers[id] = answer
	}
	if f.self.State == raftv1.StoreState_STORE_STATE_FOUNDING {
		return f.form(answers)
	}
	return f.found(answers)
}

func (f *founder) ask(ctx context.Context, id raftcore.NodeID) (*raftv1.ProbeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return f.probe(ctx, f.peers[id])
}

// check refuses what can't be right whatever this node's state is.
func (f *founder) check(id raftcore.NodeID, a *raftv1.ProbeResponse) error {
	if a.GetNodeId() != uint64(id) {
		return &DataError{fmt.Sprintf("--bootstrap lists node %d at %s, but node %d answers there", id, f.peers[id], a.GetNodeId())}
	}
	formed := a.GetState() == raftv1.StoreState_STORE_STATE_FORMED
	if formed && f.self.State == raftv1.StoreState_STORE_STATE_EMPTY {
		return &DataError{fmt.Sprintf("cluster %s exists already (node %d is a member) and this data directory is empty: "+
			"a node that has lost its data can't come back as node %d, since it may have acknowledged what it no longer has. "+
			"Put the data of node %d back, or replace it by a new one: mrctl node remove %d --force, then start it with --join %s instead of --node-id and --bootstrap, "+
			"on an empty data directory", a.GetClusterId(), id, f.self.NodeID, f.self.NodeID, f.self.NodeID, f.peers[id])}
	}
	if !formed && !bytes.Equal(a.GetBootstrapHash(), bootstrapHash(f.self.Bootstrap)) {
		return &DataError{fmt.Sprintf("node %d at %s was started with another --bootstrap: all nodes must list the same set, here %s", id, f.peers[id], f.self.Bootstrap)}
	}
	if f.self.Cluster != "" && a.GetClusterId() != "" && a.GetClusterId() != f.self.Cluster {
		return &DataError{fmt.Sprintf("node %d at %s belongs to cluster %s, this node to cluster %s", id, f.peers[id], a.GetClusterId(), f.self.Cluster)}
	}
	return nil
}

// found leaves EMPTY.
func (f *founder) found(answers map[raftcore.NodeID]*raftv1.ProbeResponse) (waiting string, err error) {
	next := f.self
	for _, id := range sortedIDs(f.peers) {
		if uuid := answers[id].GetClusterId(); uuid != "" {
			if next.Cluster != "" && next.Cluster != uuid {
				return "", &DataError{fmt.Sprintf("the listed nodes are founding two clusters, %s and %s: empty the data directories of one", next.Cluster, uuid)}
			}
			next.Cluster = uuid
		}
	}
	if next.Cluster == "" {
		if lowest := sortedIDs(f.peers); len(lowest) > 0 && lowest[0] < f.self.NodeID {
			return fmt.Sprintf("node %d draws the cluster's id", lowest[0]), nil
		}
		next.Cluster = f.uuid()
	}
	next.State = raftv1.StoreState_STORE_STATE_FOUNDING
	b := new(store.Batch)
	return "", f.save(b, next)
}

// form leaves FOUNDING: the state and the metadata group's birth are one batch.
func (f *founder) form(answers map[raftcore.NodeID]*raftv1.ProbeResponse) (waiting string, err error) {
	members := map[raftcore.ReplicaID]raftcore.NodeID{raftcore.ReplicaID(f.self.NodeID): f.self.NodeID}
	for _, id := range sortedIDs(f.peers) {
		if answers[id].GetState() == raftv1.StoreState_STORE_STATE_EMPTY {
			return fmt.Sprintf("node %d has not taken the cluster's id yet", id), nil
		}
		members[raftcore.ReplicaID(id)] = id
	}
	next := f.self
	next.State = raftv1.StoreState_STORE_STATE_FORMED
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: raftcore.MetadataGroup, Replica: raftcore.ReplicaID(f.self.NodeID), Members: members})
	return "", f.save(b, next)
}

func (f *founder) save(b *store.Batch, next store.Node) error {
	store.PutNode(b, next)
	if err := f.kv.Commit(b, true); err != nil {
		return err
	}
	f.self = next
	f.saved(next)
	f.log.Info("founding the cluster", "state", strings.TrimPrefix(next.State.String(), "STORE_STATE_"), "cluster", next.Cluster)
	return nil
}
