package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// Election timeouts of the real node. Patient, it never campaigns unless it is told to, and a leader's lease
// never ends within a test; eager, both happen at once.
const (
	patient = "1m"
	eager   = "250ms"
)

// The roles, shorter.
const (
	follower  = multiraftv1.ReplicaRole_REPLICA_ROLE_FOLLOWER
	candidate = multiraftv1.ReplicaRole_REPLICA_ROLE_CANDIDATE
	leader    = multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER
)

// state is what figure 2 calls State, as far as it can be seen from outside: which way a vote went, only
// another vote tells.
type state struct {
	role         multiraftv1.ReplicaRole
	term, leader uint64
	last, commit uint64
}

// realNode is node 1, a multiraftd process, and the peers that it believes to be nodes 2 and 3.
type realNode struct {
	t          *testing.T
	ctx        context.Context
	cluster    *localcluster.Cluster
	config     string // its --config, read at each start
	client     rpcs
	two, three *fakePeer
}

// startReal founds a cluster. The real node follows nobody, in term 1, with a log of one entry; it is patient.
func startReal(t *testing.T) *realNode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), e2eTimeout)
	t.Cleanup(cancel)
	config := filepath.Join(t.TempDir(), "config.yaml")
	must(t, buildBinaries())
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir(), Flags: []string{"--config", config}})
	must(t, err)
	set := fmt.Sprintf("1=%s,2=%s,3=%s", c.PeerAddr(1), c.PeerAddr(2), c.PeerAddr(3))
	n := &realNode{t: t, ctx: ctx, cluster: c, config: config}
	n.setElectionTimeout(patient)
	n.two = serveFake(ctx, t, 2, c.PeerAddr(2), set)
	n.three = serveFake(ctx, t, 3, c.PeerAddr(3), set)
	t.Cleanup(func() {
		must(t, c.Close())
		n.testify()
	})
	n.start()
	n.wants(state{role: follower, term: 1, last: 1, commit: 1})
	return n
}

// row runs a row of a table as a subtest.
func (n *realNode) row(name string, f func()) {
	all := []**testing.T{&n.t, &n.two.t, &n.three.t}
	n.t.Run(name, func(t *testing.T) {
		outer := n.t
		for _, at := range all {
			*at = t
		}
		defer func() {
			for _, at := range all {
				*at = outer
			}
		}()
		f()
	})
}

// start starts the process, with the same command line each time, and waits until its replica runs.
func (n *realNode) start() {
	n.t.Helper()
	for _, p := range []*fakePeer{n.two, n.three} {
		p.meets(n.dial(n.cluster.PeerAddr(1)))
	}
	must(n.t, n.cluster.Start(1))
	conn := n.dial(n.cluster.ClientAddr(1))
	n.client = rpcs{multiraftv1.NewLogServiceClient(conn), multiraftv1.NewAdminServiceClient(conn)}
	n.until("the replica runs", func() bool {
		must(n.t, n.cluster.Err())
		ctx, cancel := context.WithTimeout(n.ctx, time.Second) // a process that has ended answers never
		defer cancel()
		st, err := n.client.admin.NodeStatus(ctx, &multiraftv1.NodeStatusRequest{})
		return err == nil && len(st.GetReplicas()) == 1 && st.GetReplicas()[0].GetTerm() > 0
	})
}

func (n *realNode) dial(addr string) *grpc.ClientConn {
	n.t.Helper()
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: time.Second}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(quick), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	must(n.t, err)
	n.t.Cleanup(func() { must(n.t, conn.Close()) })
	return conn
}

// killsAndRestarts is kill -9.
func (n *realNode) killsAndRestarts() {
	n.t.Helper()
	must(n.t, killed(n.cluster, 1))
	n.start()
}

// setElectionTimeout is in force from the next start on.
func (n *realNode) setElectionTimeout(d string) {
	n.t.Helper()
	must(n.t, os.WriteFile(n.config, []byte("election-timeout: "+d+"\n"), 0o644))
}

// until polls. It is for what the real node does by itself; what it was told to do has been done when settle returns.
func (n *realNode) until(what string, done func() bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			n.t.Fatalf("it was never so that %s; the end of node 1's log:\n%s", what, n.cluster.Tail(1))
		}
	}
}

// settle waits until the replica has stepped everything that was sent to it before. A pre-vote changes nothing
// and is answered in its order, on each of the ways.
func (n *realNode) settle() {
	n.t.Helper()
	for _, p := range []*fakePeer{n.two, n.three} {
		if p.stream != nil {
			p.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, Term: 1, Index: born.index, LogTerm: born.term})
			p.awaits("the answer to its pre-vote", func(e *raftv1.Envelope) bool {
				return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE
			})
		}
	}
	_, err := n.three.votes(requestVote{term: 1, last: born, preVote: true})
	must(n.t, err)
}

// state is the replica's after everything that was sent to it.
func (n *realNode) state() state {
	n.t.Helper()
	n.settle()
	r := n.status()
	return state{r.GetRole(), r.GetTerm(), r.GetLeader(), r.GetLastIndex(), r.GetCommit()}
}

func (n *realNode) status() *multiraftv1.ReplicaStatus {
	n.t.Helper()
	st, err := n.client.admin.NodeStatus(n.ctx, &multiraftv1.NodeStatusRequest{GroupIds: []uint64{1}})
	must(n.t, err)
	if len(st.GetReplicas()) != 1 || st.GetReplicas()[0].GetFailure() != "" {
		n.t.Fatalf("status %v", st)
	}
	return st.GetReplicas()[0]
}

func (n *realNode) wants(want state) {
	n.t.Helper()
	if got := n.state(); got != want {
		n.t.Fatalf("the real node is %+v,\n              want %+v", got, want)
	}
}

// given makes the real node's log that of these terms, from index 2, and leaves it a follower without a leader
// in the last of them. The entries are not committed. They came from node 3, the leader of that term.
func (n *realNode) given(terms ...uint64) {
	n.t.Helper()
	term := terms[len(terms)-1]
	n.three.wantAppend(appendEntries{term: term, prev: born, entries: terms, commit: 1}, accepted(term))
	n.killsAndRestarts()
	n.wants(state{role: follower, term: term, last: uint64(len(terms)) + 1, commit: 1})
}

// campaigns makes the real node a candidate, at once: node 2 leads its term, or the next, and tells it to. It
// returns the term of the election.
func (n *realNode) campaigns() uint64 {
	n.t.Helper()
	s := n.state()
	term := s.term
	if s.leader != 2 {
		term++
	}
	reply, err := n.two.appends(appendEntries{term: term, prev: born, commit: 1})
	if err != nil || reply != accepted(term) {
		n.t.Fatalf("node 2 is not taken for the leader of term %d: %+v, %v", term, reply, err)
	}
	n.two.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW, Term: term})
	return term + 1
}

// leads makes the real node the leader, by the vote of node 2. It returns the term.
func (n *realNode) leads() uint64 {
	n.t.Helper()
	term := n.campaigns()
	n.two.grants(n.two.awaitsVote(term))
	n.until("the real node leads", func() bool { return n.status().GetRole() == leader })
	return term
}

// log reads the real node's log, from index 2, as a leader's log can be read: it leads, and node 3 has nothing.
// The last entry is that of its new term.
func (n *realNode) log() []*raftv1.LogEntry {
	n.t.Helper()
	// Where the log ends is only known from the first append of the new term: until then it may lead, and append.
	term := n.leads()
	n.three.lacks(n.three.awaitsFirstAppend(term), born.index)
	return n.three.awaitsAppend(term, born.index).GetEntries()
}

// wantLog reads the log and compares it, entry by entry, with one of these terms from index 2.
func (n *realNode) wantLog(terms ...uint64) {
	n.t.Helper()
	log := n.log()
	if len(log) < len(terms)+1 {
		n.t.Fatalf("%d entries %v, want the %d of terms %v", len(log), log, len(terms), terms)
	}
	for i, e := range log[:len(terms)] {
		if want := content(uint64(i)+2, terms[i]); e.GetIndex() != uint64(i)+2 || e.GetTerm() != terms[i] || string(e.GetData()) != string(want) {
			n.t.Fatalf("entry %v, want %q", e, want)
		}
	}
	if own := log[len(terms)]; own.GetTerm() <= terms[len(terms)-1] || len(own.GetData()) > 0 {
		n.t.Fatalf("after the log comes %v, want the empty entry of a new term", own)
	}
}

// testify says what the real node has said, when the test has failed; and holds it against two properties of
// figure 3 in any case: what it has ever sent of an index and a term is one and the same entry (Log Matching),
// and no term is older than one before.
func (n *realNode) testify() {
	entries := map[at]string{}
	for _, p := range []*fakePeer{n.two, n.three} {
		term := uint64(0)
		for _, e := range p.all() {
			if n.t.Failed() {
				n.t.Logf("to node %d: %v", p.id, e)
			}
			switch e.GetType() {
			case raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE:
				continue // of a term that need not come
			}
			if e.GetTerm() < term {
				n.t.Errorf("term %d after term %d: %v", e.GetTerm(), term, e)
			}
			term = e.GetTerm()
			for _, entry := range e.GetEntries() {
				where := at{entry.GetIndex(), entry.GetTerm()}
				if first, ok := entries[where]; ok && first != string(entry.GetData()) {
					n.t.Errorf("two entries at %+v: %q and %q", where, first, entry.GetData())
				}
				entries[where] = string(entry.GetData())
			}
		}
	}
	if n.t.Failed() {
		n.t.Logf("the end of node 1's log:\n%s", n.cluster.Tail(1))
	}
}
