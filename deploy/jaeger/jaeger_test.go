package jaeger

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// rig is a Jaeger and a cluster of three processes that export to it.
type rig struct {
	t       *testing.T
	ctx     context.Context
	jaeger  *Server
	cluster *localcluster.Cluster
}

func newRig(t *testing.T, flags ...string) *rig { return newRigWithJoiners(t, 0, flags...) }

func newRigWithJoiners(t *testing.T, joiners int, flags ...string) *rig {
	t.Helper()
	bin := os.Getenv("JAEGER_TEST_BIN")
	if bin == "" {
		t.Skip("make test-jaeger builds a Jaeger, and says where it is")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx}
	var err error
	if r.jaeger, err = Start(ctx, filepath.Join(bin, "jaeger"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.jaeger.Close)
	if r.cluster, err = localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir(), Joiners: joiners, Flags: append([]string{"--otlp-endpoint", r.jaeger.OTLP}, flags...)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.cluster.StartAll(); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.Healthy(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) ctl(args ...string) string {
	r.t.Helper()
	out, err := r.cluster.Ctl(r.ctx, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("mrctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

var traceLine = regexp.MustCompile(`(?m)^trace ([0-9a-f]{32})$`)

// append appends one record with mrctl, traced, and returns the trace id that it prints.
func (r *rig) append(topic, value string) string {
	r.t.Helper()
	cmd := r.cluster.Ctl(r.ctx, "append", topic, "--partition", "0", "--trace", "--otlp-endpoint", r.jaeger.OTLP)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(value+"\n"), &stderr
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("mrctl append: %v\n%s", err, &stderr)
	}
	id := traceLine.FindStringSubmatch(stderr.String())
	if id == nil {
		r.t.Fatalf("mrctl append --trace prints no trace id:\n%s", &stderr)
	}
	return id[1]
}

// oneAppend is how many spans of each name the trace of an append through its leader has in a group of three. The
// fsyncs are apart: writes of several traces share them.
var oneAppend = map[string]int{
	"append": 1, "append receive": 1, "router dispatch": 1, "mailbox wait": 3, "propose": 1, "replicate": 2, "send": 2, "receive": 2,
	"log write": 3, "answer": 2, "commit": 1, "apply": 1, "reply": 1,
}

// again are the spans of a message that may be sent more than once: Raft does so to a follower of which it does not
// know how far it is.
var again = map[string]bool{"send": true, "receive": true, "mailbox wait": true}

// parents says below what each span stands.
var parents = map[string][]string{
	"append": {""}, "append receive": {"append"}, "router dispatch": {"append receive"}, "propose": {"append receive"}, "commit": {"append receive"},
	"apply": {"append receive"}, "reply": {"append receive"}, "replicate": {"append receive"}, "send": {"replicate"}, "receive": {"replicate"},
	"answer": {"replicate"}, "mailbox wait": {"append receive", "replicate"}, "log write": {"append receive", "replicate"}, "fsync": {"append receive", "replicate"},
}

func count(spans []Span, name string) (n int) {
	for _, s := range spans {
		if s.Name == name {
			n++
		}
	}
	return n
}

// missing says what a trace lacks, or has too much of; empty = nothing.
func missing(spans []Span, want map[string]int) string {
	var parts []string
	for name, n := range want {
		if got := count(spans, name); got < n || got > n && !again[name] {
			parts = append(parts, fmt.Sprintf("%d of %q, want %d", got, name, n))
		}
	}
	return strings.Join(parts, ", ")
}

// whole waits until Jaeger has every span of a trace.
func (r *rig) whole(id string, want map[string]int) []Span {
	r.t.Helper()
	var spans []Span
	var err error
	r.until(func() string {
		if spans, err = r.jaeger.Trace(r.ctx, id); err != nil {
			return err.Error()
		}
		return missing(spans, want)
	}, func() string { return "the trace " + id + " is not whole; it has\n" + tree(spans) })
	return spans
}

// until looks again until nothing is missing any more.
func (r *rig) until(missing func() string, say func() string) {
	r.t.Helper()
	look := time.NewTicker(pollInterval)
	defer look.Stop()
	for what := missing(); what != ""; what = missing() {
		select {
		case <-look.C:
		case <-r.ctx.Done():
			r.t.Fatalf("%s: %s", what, say())
		}
	}
}

// check holds the trace of one append against what is promised.
func (r *rig) check(spans []Span) {
	t := r.t
	t.Helper()
	byID, processes := map[string]Span{}, map[string]bool{}
	for _, s := range spans {
		byID[s.ID] = s
		if s.Service == "multiraftd" {
			processes[s.Process] = true
		}
	}
	if len(processes) != 3 {
		t.Errorf("spans from the node processes %v, want three", processes)
	}
	for _, s := range spans {
		parent, ok := byID[s.Parent]
		switch {
		case s.Parent != "" && !ok:
			t.Errorf("%q is an orphan", s.Name)
		case !slices.Contains(parents[s.Name], parent.Name):
			t.Errorf("%q stands below %q", s.Name, parent.Name)
		case s.Start < parent.Start:
			t.Errorf("%q begins before %q, below which it stands", s.Name, parent.Name)
		}
		for _, w := range s.Warnings {
			// It says so of each child that goes on after its parent: the last replica's is heard of after the reply.
			if !strings.HasPrefix(w, "clock skew adjustment disabled") {
				t.Errorf("%q: Jaeger warns: %s", s.Name, w)
			}
		}
		if s.Tags["error"] == "true" {
			t.Errorf("%q failed: %s", s.Name, s.Tags["otel.status_description"])
		}
		if s.Name == "log write" {
			r.checkFsync(s)
		}
	}
	one := func(name string) Span {
		return spans[slices.IndexFunc(spans, func(s Span) bool { return s.Name == name })]
	}
	for _, order := range [][]string{
		{"append", "append receive", "router dispatch", "propose", "replicate", "send", "receive"}, {"propose", "commit", "apply", "reply"},
	} {
		for i, name := range order[1:] {
			if one(name).Start < one(order[i]).Start {
				t.Errorf("%q begins before %q", name, order[i])
			}
		}
	}
	if quorum := strings.Split(one("commit").Tags["multiraft.quorum"], ","); len(quorum) != 2 || quorum[0] == quorum[1] {
		t.Errorf("quorum %v", quorum)
	}
	if t.Failed() {
		t.Logf("the trace has\n%s", tree(spans))
	}
}

// checkFsync follows a write's link to the fsync that made it durable, which links back; it may stand in the trace of
// another write.
func (r *rig) checkFsync(write Span) {
	r.t.Helper()
	if len(write.Links) != 1 {
		r.t.Errorf("a write links to %v, want one fsync", write.Links)
		return
	}
	to := write.Links[0]
	r.until(func() string {
		spans, err := r.jaeger.Trace(r.ctx, to.Trace)
		if err != nil {
			return err.Error()
		}
		i := slices.IndexFunc(spans, func(s Span) bool { return s.ID == to.Span })
		if i < 0 {
			return "no span " + to.Span
		}
		if f := spans[i]; f.Name != "fsync" || f.Process != write.Process || !slices.Contains(f.Links, Link{write.Trace, write.ID}) {
			r.t.Errorf("the write of %s links to %q of %s, which links to %v", write.Process, f.Name, f.Process, f.Links)
		}
		return ""
	}, func() string { return "the fsync of a write is not there" })
}

// orphans are the names of spans whose parents are not there.
func orphans(spans []Span) (names []string) {
	for _, s := range spans {
		if s.Parent != "" && !slices.ContainsFunc(spans, func(p Span) bool { return p.ID == s.Parent }) {
			names = append(names, s.Name)
		}
	}
	return names
}

// tree draws a trace.
func tree(spans []Span) string {
	var b strings.Builder
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	var below func(parent string, depth int)
	line := func(s Span, depth int) {
		name := strings.Repeat("  ", depth) + s.Name
		fmt.Fprintf(&b, "%-28s %-8s node %-2s +%6d us %7d us", name, s.Service[:min(8, len(s.Service))], s.Node, s.Start-spans[0].Start, s.Duration)
		for _, key := range []string{"multiraft.index", "multiraft.appends_merged", "multiraft.to_node", "multiraft.quorum", "multiraft.fsync.writes", "multiraft.pre_vote", "multiraft.result", "otel.status_description"} {
			if v := s.Tags[key]; v != "" {
				fmt.Fprintf(&b, " %s=%s", strings.TrimPrefix(key, "multiraft."), v)
			}
		}
		b.WriteByte('\n')
	}
	below = func(parent string, depth int) {
		for _, s := range spans {
			if s.Parent == parent && s.Parent != s.ID && depth < 16 {
				line(s, depth)
				below(s.ID, depth+1)
			}
		}
	}
	below("", 0)
	for _, s := range spans {
		if s.Parent != "" && !known[s.Parent] {
			line(s, 0)
			below(s.ID, 1)
		}
	}
	return b.String()
}

func TestOneAppendIsOneTraceOverThreeProcesses(t *testing.T) {
	r := newRig(t)
	r.ctl("topic", "create", "orders", "--partitions", "1", "--replicas", "3")
	r.append("orders", "the first finds followers that have not caught up with the leader's first entry")
	spans := r.whole(r.append("orders", "hello"), oneAppend)
	r.check(spans)
	if n := count(spans, "fsync"); n != 3 {
		t.Errorf("%d fsyncs, want each node's: nothing else is written", n)
	}
	t.Logf("the append:\n%s", tree(spans))
	drawn := r.ctl("trace", spans[0].Trace)
	for _, name := range []string{"append receive", "log write", "fsync", "commit"} {
		if !strings.Contains(drawn, name) {
			t.Errorf("mrctl trace draws no %q:\n%s", name, drawn)
		}
	}
	t.Logf("mrctl trace:\n%s\nmrctl trace --jaeger:\n%s", drawn, r.ctl("trace", spans[0].Trace, "--jaeger", r.jaeger.Base))
	out, err := r.cluster.Ctl(r.ctx, "trace", strings.Repeat("1", 32), "--jaeger", r.jaeger.Base).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has no trace") {
		t.Errorf("a trace that Jaeger does not have: %v\n%s", err, out)
	}
}

func TestAnAppendHasItsWholeTreeWhileAThousandOthersASecondGoOn(t *testing.T) {
	r := newRig(t)
	r.ctl("topic", "create", "orders", "--partitions", "1", "--replicas", "3")
	load := r.cluster.Command(r.ctx, "mrbench", "append", "--addr", r.cluster.Addr(), "--topic", "orders", "--partitions", "1", "--replicas", "3",
		"--rate", "1000", "--duration", "8s", "--size", "100", "--clients", "4", "--mode", "unary")
	var said bytes.Buffer
	load.Stdout, load.Stderr = &said, &said
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	before := r.highWatermark()
	for i := range 5 {
		r.until(func() string { // the load has gone on
			if now := r.highWatermark(); now < before+200 {
				return fmt.Sprintf("%d appended", now-before)
			}
			return ""
		}, func() string { return "the load does not go on:\n" + said.String() })
		before = r.highWatermark()
		spans := r.whole(r.append("orders", fmt.Sprint("among others ", i)), oneAppend)
		r.check(spans)
		t.Logf("\n%s", tree(spans))
	}
	if err := load.Wait(); err != nil {
		t.Fatalf("mrbench: %v\n%s", err, &said)
	}
	t.Logf("the load:\n%s", &said)
}

var watermark = regexp.MustCompile(`"high_watermark":(\d+)`)

func (r *rig) highWatermark() (n int) {
	r.t.Helper()
	m := watermark.FindStringSubmatch(r.ctl("topic", "describe", "orders", "-o", "json"))
	if m == nil {
		r.t.Fatal("no high watermark")
	}
	if _, err := fmt.Sscan(m[1], &n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestAChangeOfLeaderIsATraceWithTheVotesAndTheNewLeadersFirstEntry(t *testing.T) {
	r := newRig(t, "--election-timeout", "500ms")
	r.ctl("topic", "create", "orders", "--partitions", "1", "--replicas", "3")
	r.append("orders", "before")
	old, term, err := r.cluster.Leader(r.ctx, "orders", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.cluster.Kill(old); err != nil {
		t.Fatal(err)
	}
	var found []Span
	r.until(func() string {
		traces, err := r.jaeger.Find(r.ctx, "multiraftd", "election")
		if err != nil {
			return err.Error()
		}
		for _, spans := range traces {
			e := spans[slices.IndexFunc(spans, func(s Span) bool { return s.Name == "election" })]
			if e.Tags["multiraft.result"] != "won" || e.Tags["multiraft.term"] <= fmt.Sprint(term) || e.Tags["multiraft.group"] != "2" {
				continue
			}
			found = spans
			if count(spans, "commit") == 1 && count(spans, "apply") == 1 && orphans(spans) == nil { // the member that is gone is waited for a while
				return ""
			}
			return fmt.Sprintf("not whole: orphans %v", orphans(spans))
		}
		return "no election of a later term"
	}, func() string { return "the leader was killed; there is\n" + tree(found) })
	nodes, granted := map[string]bool{}, map[string]bool{}
	for _, s := range found {
		nodes[s.Node] = true
		if s.Name == "vote" && s.Tags["multiraft.result"] == "granted" {
			granted[s.Tags["multiraft.pre_vote"]] = true
		}
	}
	if len(nodes) != 2 || nodes[fmt.Sprint(old)] || !granted["true"] || !granted["false"] {
		t.Errorf("spans of nodes %v, granted pre-votes and votes %v; node %d was killed", nodes, granted, old)
	}
	t.Logf("the change of leader:\n%s", tree(found))
}

func TestAMoveIsATraceWithItsMembershipChanges(t *testing.T) {
	r := newRigWithJoiners(t, 1)
	r.ctl("topic", "create", "orders", "--partitions", "1", "--replicas", "3")
	if err := r.cluster.Start(4); err != nil {
		t.Fatal(err)
	}
	r.until(func() string {
		if out := r.ctl("node", "list", "-o", "json"); !strings.Contains(out, `"id":4`) {
			return "node 4 is no member: " + out
		}
		return ""
	}, func() string { return r.cluster.Tail(4) })
	leader, _, err := r.cluster.Leader(r.ctx, "orders", 0)
	if err != nil {
		t.Fatal(err)
	}
	to := []string{"4"} // in the place of a follower
	for id := 1; id <= 3; id++ {
		if id == leader || len(to) < 2 {
			to = append(to, fmt.Sprint(id))
		}
	}
	for id := 3; len(to) < 3; id-- {
		if !slices.Contains(to, fmt.Sprint(id)) {
			to = append(to, fmt.Sprint(id))
		}
	}
	r.ctl("partition", "move", "orders", "0", "--to", strings.Join(to, ","))
	var found []Span
	r.until(func() string {
		traces, err := r.jaeger.Find(r.ctx, "multiraftd", "move")
		if err != nil {
			return err.Error()
		}
		for _, spans := range traces {
			found = spans
			if spans[0].Tags["multiraft.group"] == "2" && count(spans, "membership change") >= 3 && orphans(spans) == nil {
				return ""
			}
		}
		return fmt.Sprintf("no whole trace of a move; of the latest: orphans %v", orphans(found))
	}, func() string { return "the partition has been moved; there is\n" + tree(found) })
	nodes := map[string]bool{}
	for _, s := range found {
		nodes[s.Node] = true
	}
	if !nodes["4"] {
		t.Errorf("nothing of node 4, only of %v", nodes)
	}
	t.Logf("the move:\n%s", tree(found))
}
