package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// tracedCluster is three real nodes in this process and a client, all of which export to memory.
type tracedCluster struct {
	t        *testing.T
	ctx      context.Context
	exporter *memory
	nodes    []*Node
	client   *client.Client
	tracer   *tracing.Tracer
}

// memory keeps what is exported when a tracer closes too.
type memory struct{ *tracetest.InMemoryExporter }

func (memory) Shutdown(context.Context) error { return nil }

func startTraced(t *testing.T, ratio float64) *tracedCluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c := &tracedCluster{t: t, ctx: ctx, exporter: &memory{tracetest.NewInMemoryExporter()}, nodes: make([]*Node, 3)}
	peers := map[raftcore.NodeID]string{1: freeAddr(t), 2: freeAddr(t), 3: freeAddr(t)}
	started := make(chan error, len(peers))
	for id, addr := range peers {
		go func() {
			n, err := Start(ctx, Config{ID: id, DataDir: t.TempDir(), Bootstrap: peers, ClientAddr: "127.0.0.1:0", PeerAddr: addr,
				Tracing: tracing.Config{Ratio: ratio, Exporter: c.exporter}})
			c.nodes[id-1] = n
			started <- err
		}()
	}
	for range peers {
		must(t, <-started)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			must(t, n.Close())
		}
	})
	var err error
	c.tracer, err = tracing.New(ctx, tracing.Config{Service: "client", Ratio: 1, Exporter: c.exporter})
	must(t, err)
	addrs := []string{}
	for _, n := range c.nodes {
		must(t, n.Ready(ctx))
		addrs = append(addrs, n.ClientAddr())
	}
	c.client, err = client.Open(client.Config{Addrs: addrs, Tracer: c.tracer})
	must(t, err)
	t.Cleanup(func() { must(t, c.client.Close()); must(t, c.tracer.Close(context.Background())) })
	_, _, err = c.client.CreateTopic(ctx, "traced", 1, 3)
	must(t, err)
	return c
}

// spans waits until every span of a trace has ended and was exported: a tree that is whole has so many.
func (c *tracedCluster) spans(id string, want map[string]int) *spanTree {
	c.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		tree := newSpanTree(id, c.exporter.GetSpans().Snapshots())
		if missing := tree.missing(want); missing == "" {
			return tree
		} else if c.ctx.Err() != nil {
			c.t.Fatalf("the trace %s is not whole: %s; it has\n%s", id, missing, tree)
		}
		select {
		case <-look.C:
		case <-c.ctx.Done():
		}
	}
}

// spanTree is the spans of one trace, by id.
type spanTree struct {
	id   string
	all  []sdktrace.ReadOnlySpan // by start
	byID map[oteltrace.SpanID]sdktrace.ReadOnlySpan
}

func newSpanTree(id string, all []sdktrace.ReadOnlySpan) *spanTree {
	tree := &spanTree{id: id, byID: map[oteltrace.SpanID]sdktrace.ReadOnlySpan{}}
	for _, s := range all {
		if s.SpanContext().TraceID().String() == id {
			tree.all = append(tree.all, s)
			tree.byID[s.SpanContext().SpanID()] = s
		}
	}
	slices.SortStableFunc(tree.all, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return tree
}

func (tree *spanTree) named(name string) (found []sdktrace.ReadOnlySpan) {
	for _, s := range tree.all {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// resent are the spans of a message that may be sent more than once: Raft does so to a follower of which it does not
// know how far it is.
var resent = map[string]bool{trace.SpanSend: true, trace.SpanReceive: true, trace.SpanMailbox: true}

func (tree *spanTree) missing(want map[string]int) string {
	var parts []string
	for name, n := range want {
		if got := len(tree.named(name)); got < n || got > n && !resent[name] {
			parts = append(parts, fmt.Sprintf("%d of %q, want %d", got, name, n))
		}
	}
	return strings.Join(parts, ", ")
}

func (tree *spanTree) String() string {
	var b strings.Builder
	for _, s := range tree.all {
		fmt.Fprintf(&b, "%s %q below %s %v %v %v\n", s.SpanContext().SpanID(), s.Name(), s.Parent().SpanID(), node(s), s.EndTime().Sub(s.StartTime()), s.Status())
	}
	return b.String()
}

func node(s sdktrace.ReadOnlySpan) int64 {
	v, _ := s.Resource().Set().Value(trace.AttrNode)
	return v.AsInt64()
}

func attr(s sdktrace.ReadOnlySpan, key string) string {
	for _, a := range s.Attributes() {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// oneAppend is the tree of one append to the leader's node in a group of three.
var oneAppend = map[string]int{
	trace.SpanClientAppend: 1, trace.SpanAppend: 1, trace.SpanDispatch: 1, trace.SpanPropose: 1, trace.SpanMailbox: 3, trace.SpanReplicate: 2,
	trace.SpanSend: 2, trace.SpanReceive: 2, trace.SpanWrite: 3, trace.SpanFsync: 3, trace.SpanAnswer: 2, trace.SpanCommit: 1, trace.SpanApply: 1, trace.SpanReply: 1,
}

// parents says below what each span stands.
var parents = map[string][]string{
	trace.SpanAppend: {trace.SpanClientAppend, trace.SpanForward}, trace.SpanForward: {trace.SpanAppend}, trace.SpanDispatch: {trace.SpanAppend}, trace.SpanPropose: {trace.SpanAppend},
	trace.SpanMailbox: {trace.SpanAppend, trace.SpanReplicate}, trace.SpanReplicate: {trace.SpanAppend}, trace.SpanSend: {trace.SpanReplicate}, trace.SpanReceive: {trace.SpanReplicate},
	trace.SpanWrite: {trace.SpanAppend, trace.SpanReplicate}, trace.SpanAnswer: {trace.SpanReplicate}, trace.SpanCommit: {trace.SpanAppend}, trace.SpanApply: {trace.SpanAppend},
	trace.SpanReply: {trace.SpanAppend}, trace.SpanFsync: {trace.SpanAppend, trace.SpanReplicate},
}

// check holds a tree against what every append's is like.
func (tree *spanTree) check(t *testing.T) {
	t.Helper()
	roots := 0
	for _, s := range tree.all {
		parent, ok := tree.byID[s.Parent().SpanID()]
		switch {
		case !s.Parent().SpanID().IsValid():
			roots++
		case !ok:
			t.Errorf("%q has a parent that is not there", s.Name())
		case !slices.Contains(parents[s.Name()], parent.Name()):
			t.Errorf("%q stands below %q", s.Name(), parent.Name())
		case s.StartTime().Before(parent.StartTime()):
			t.Errorf("%q begins before %q, below which it stands", s.Name(), parent.Name())
		}
		if s.EndTime().Before(s.StartTime()) {
			t.Errorf("%q ends before it begins", s.Name())
		}
		if s.Status().Description != "" {
			t.Errorf("%q failed: %s", s.Name(), s.Status().Description)
		}
	}
	if roots != 1 {
		t.Errorf("%d roots", roots)
	}
	for _, w := range tree.named(trace.SpanWrite) {
		if len(w.Links()) != 1 {
			t.Errorf("a write has %d links, want the fsync's", len(w.Links()))
			continue
		}
		if f, own := tree.byID[w.Links()[0].SpanContext.SpanID()]; own && !linksTo(f, w) {
			t.Error("a write links to an fsync that does not link to it")
		}
	}
	if t.Failed() {
		t.Logf("the trace has\n%s", tree)
	}
}

// chain checks that spans begin one after the other.
func chain(t *testing.T, spans ...sdktrace.ReadOnlySpan) {
	t.Helper()
	for i, s := range spans[1:] {
		if s.StartTime().Before(spans[i].StartTime()) {
			t.Errorf("%q begins before %q", s.Name(), spans[i].Name())
		}
	}
}

func TestASampledAppendIsOneTraceFromTheClientThroughAllReplicas(t *testing.T) {
	c := startTraced(t, 0)
	p, err := c.client.NewProducer(c.ctx, "traced", client.ProducerConfig{OnAck: func(a client.Ack) {}})
	must(t, err)
	ticket, err := p.Append(c.ctx, 0, client.Record{Value: []byte("traced")})
	must(t, err)
	_, err = ticket.Wait(c.ctx)
	must(t, err)
	must(t, p.Close(c.ctx))
	tree := c.spans(c.traces(trace.SpanClientAppend, 1)[0], oneAppend)
	tree.check(t)
	one := func(name string) sdktrace.ReadOnlySpan { return tree.named(name)[0] }
	chain(t, one(trace.SpanClientAppend), one(trace.SpanAppend), one(trace.SpanDispatch), one(trace.SpanPropose), one(trace.SpanReplicate), one(trace.SpanSend), one(trace.SpanReceive))
	chain(t, one(trace.SpanPropose), one(trace.SpanCommit), one(trace.SpanApply), one(trace.SpanReply))
	leader, seen := node(one(trace.SpanAppend)), map[int64]bool{}
	for _, w := range tree.named(trace.SpanWrite) {
		seen[node(w)] = true
		if on := tree.byID[w.Parent().SpanID()]; node(w) == leader != (on.Name() == trace.SpanAppend) {
			t.Errorf("the write of node %d stands below %q; node %d leads", node(w), on.Name(), leader)
		}
	}
	if len(seen) != 3 {
		t.Errorf("writes on %d nodes", len(seen))
	}
	if q := strings.Split(attr(one(trace.SpanCommit), trace.AttrQuorum), ","); len(q) != 2 || q[0] == q[1] {
		t.Errorf("quorum %v", q)
	}
	if merged := attr(one(trace.SpanPropose), trace.AttrMerged); merged != "1" {
		t.Errorf("%s appends merged", merged)
	}
}

func linksTo(from, to sdktrace.ReadOnlySpan) bool {
	return slices.ContainsFunc(from.Links(), func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == to.SpanContext().SpanID() })
}

func TestAppendsThatWereMergedIntoOneEntryHaveEachItsWholeTreeAndShareFsyncsByLinks(t *testing.T) {
	c := startTraced(t, 0)
	const together = 16
	once := map[string]int{}
	for name, n := range oneAppend {
		once[name] = n
	}
	delete(once, trace.SpanReply) // a unary append's answer is the call's
	delete(once, trace.SpanFsync) // in one trace of those that share it
	for merged := false; !merged; {
		if c.ctx.Err() != nil {
			t.Fatal("no two appends were ever merged")
		}
		c.exporter.Reset()
		var all sync.WaitGroup
		for range together {
			all.Go(func() {
				if _, err := c.client.AppendOnce(c.ctx, "traced", 0, client.Record{Value: []byte("v")}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, id := range c.traces(trace.SpanClientAppend, together) {
			tree := c.spans(id, once)
			tree.check(t)
			merged = merged || attr(tree.named(trace.SpanPropose)[0], trace.AttrMerged) != "1"
		}
	}
	c.until("a link from every write to an fsync that links to it", func() bool { // which other nodes may export later
		spans := c.exporter.GetSpans().Snapshots()
		return !slices.ContainsFunc(spans, func(w sdktrace.ReadOnlySpan) bool {
			return w.Name() == trace.SpanWrite && !slices.ContainsFunc(spans, func(f sdktrace.ReadOnlySpan) bool {
				return f.Name() == trace.SpanFsync && linksTo(f, w) && linksTo(w, f)
			})
		})
	})
}

// traces waits for n traces that have a span of this name.
func (c *tracedCluster) traces(name string, n int) []string {
	c.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		ids := map[string]bool{}
		for _, s := range c.exporter.GetSpans().Snapshots() {
			if s.Name() == name {
				ids[s.SpanContext().TraceID().String()] = true
			}
		}
		if len(ids) >= n {
			return slices.Sorted(maps.Keys(ids))
		}
		select {
		case <-look.C:
		case <-c.ctx.Done():
			c.t.Fatalf("%d traces with %q, want %d", len(ids), name, n)
		}
	}
}

func TestAnElectionIsATraceOverTheCandidateAndItsVotersUntilTheGroupHasALeaderThatServes(t *testing.T) {
	c := startTraced(t, 0)
	_, _, err := c.client.CreateTopic(c.ctx, "elects", 1, 3)
	must(t, err)
	desc, err := c.client.Describe(c.ctx, "elects", true)
	must(t, err)
	part := desc.GetPartitions()[0]
	won := func() string {
		for _, s := range c.exporter.GetSpans().Snapshots() {
			if s.Name() == trace.SpanElection && attr(s, trace.AttrGroup) == fmt.Sprint(part.GetGroupId()) && attr(s, trace.AttrResult) == "won" {
				return s.SpanContext().TraceID().String()
			}
		}
		return ""
	}
	c.until("an election of the group", func() bool { return won() != "" })
	var tree *spanTree
	c.until("a whole trace of the election", func() bool {
		tree = newSpanTree(won(), c.exporter.GetSpans().Snapshots())
		return tree.missing(map[string]int{trace.SpanElection: 1, trace.SpanCommit: 1, trace.SpanApply: 1, trace.SpanReplicate: 2}) == "" && !tree.orphaned() &&
			len(tree.named(trace.SpanAnswer)) > 3 // to pre-votes and votes, and of the first entry, on the other nodes
	})
	leader, granted := node(tree.named(trace.SpanElection)[0]), map[string]bool{}
	for _, v := range tree.named(trace.SpanVote) {
		if attr(v, trace.AttrResult) == "granted" {
			granted[attr(v, trace.AttrPreVote)] = true
		}
	}
	for _, s := range tree.named(trace.SpanReceive) {
		if node(s) == leader {
			t.Error("the leader was asked by itself")
		}
	}
	if leader != int64(part.GetLeader()) || !granted["true"] || !granted["false"] {
		t.Errorf("node %d has won with pre-votes and votes %v; node %d leads", leader, granted, part.GetLeader())
	}
	if t.Failed() {
		t.Logf("the trace has\n%s", tree)
	}
}

// orphaned says whether a parent is missing.
func (tree *spanTree) orphaned() bool {
	return slices.ContainsFunc(tree.all, func(s sdktrace.ReadOnlySpan) bool {
		return s.Parent().SpanID().IsValid() && tree.byID[s.Parent().SpanID()] == nil
	})
}

func (c *tracedCluster) until(what string, done func() bool) {
	c.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-c.ctx.Done():
			c.t.Fatalf("there was not %s", what)
		}
	}
}

func TestASnapshotIsATraceOverItsSenderAndItsReceiver(t *testing.T) {
	exporter := &memory{tracetest.NewInMemoryExporter()}
	a := newAway(t, func(a *away) { a.change = func(c *Config) { c.Tracing = tracing.Config{Exporter: exporter} } })
	g, _ := a.leftBehind("t")
	a.wantBack(g)
	var tree *spanTree
	a.until("a whole trace of the snapshot", func() bool {
		for _, s := range exporter.GetSpans().Snapshots() {
			if s.Name() == trace.SpanSnapshot && s.Status().Description == "" && attr(s, trace.AttrGroup) == fmt.Sprint(g) {
				tree = newSpanTree(s.SpanContext().TraceID().String(), exporter.GetSpans().Snapshots())
				if tree.missing(map[string]int{trace.SpanSnapshot: 1, trace.SpanSnapshotIn: 1, trace.SpanInstall: 1}) == "" {
					return true
				} // one that came to nothing may be before it, which nobody put in force
			}
		}
		return false
	})
	out, in, install := tree.named(trace.SpanSnapshot)[0], tree.named(trace.SpanSnapshotIn)[0], tree.named(trace.SpanInstall)[0]
	chain(t, out, in, install)
	if node(in) != 3 || node(install) != 3 || node(out) == 3 || in.Parent().SpanID() != out.SpanContext().SpanID() || install.Parent().SpanID() != out.SpanContext().SpanID() {
		t.Errorf("the trace is\n%s", tree)
	}
	if n := attr(out, trace.AttrChunks); n == "" || n == "0" {
		t.Errorf("%q chunks", n)
	}
}
