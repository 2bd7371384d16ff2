package node

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// hostileRow is a row of docs/hostile.md: what a node does about something that a stranger sends.
type hostileRow struct {
	code, reason   string // of the answer; no code: it is dropped without one
	counter, label string // that goes up; no counter: none is promised
	entry          bool   // it reaches a log, and is refused there by the state machine
}

// hostileCase sends it. at is the node that gets it.
type hostileCase struct {
	rpc, input string
	at         func() raftcore.NodeID
	send       func() error
}

func (c hostileCase) name() string { return c.rpc + ": " + c.input }

var (
	hostileLine = regexp.MustCompile("^\\| `([A-Za-z]+\\.[A-Za-z]+)` \\| (.+) \\| (.+) \\| (.+) \\|$")
	quoted      = regexp.MustCompile("`([^`]+)`")
)

// hostileRows reads the committed table, by RPC and input.
func hostileRows(t *testing.T) map[string]hostileRow {
	t.Helper()
	page, err := os.ReadFile("../docs/hostile.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]hostileRow{}
	for line := range strings.Lines(string(page)) {
		cells := hostileLine.FindStringSubmatch(strings.TrimSpace(line))
		if cells == nil {
			continue
		}
		name := cells[1] + ": " + cells[2]
		if _, twice := rows[name]; twice {
			t.Errorf("docs/hostile.md has two rows for %s", name)
		}
		answer, counted, _ := strings.Cut(cells[3], "counted as")
		row := hostileRow{entry: cells[4] != "-"}
		row.code, row.reason = twoOf(answer)
		row.counter, row.label = twoOf(counted)
		rows[name] = row
	}
	return rows
}

func twoOf(s string) (first, second string) {
	found := quoted.FindAllStringSubmatch(s, 2)
	if len(found) > 0 {
		first = found[0][1]
	}
	if len(found) > 1 {
		second = found[1][1]
	}
	return first, second
}

// answered says what came of a call: its code as docs have it, and its reason.
func answered(err error) (code, reason string) {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	return st.Code().String(), reason
}

// run does what the case says, and wants what its row says.
func (l *live) run(c hostileCase, row hostileRow) {
	l.t.Helper()
	at, counted := c.at(), uint64(0)
	if row.counter != "" {
		counted = l.counter(at, row.counter, row.label)
	}
	goesUp := func() bool { return row.counter == "" || l.counter(at, row.counter, row.label) > counted }
	if row.code != "" {
		err := c.send()
		code, reason := answered(err)
		if !strings.EqualFold(strings.ReplaceAll(row.code, "_", ""), code) || reason != row.reason {
			l.t.Fatalf("%s %s (%v), want %s %s", code, reason, err, row.code, row.reason)
		}
		l.until("it is counted", goesUp)
		return
	}
	if row.counter == "" {
		l.t.Fatal("the row promises nothing")
	}
	// A frame may be lost with its Exchange, which the node that it claims to come from takes back.
	for !goesUp() {
		l.must(c.send())
		tries := 0
		l.until("it is counted, or gone", func() bool { tries++; return goesUp() || tries > 100 })
	}
}

// runAll runs cases, each between two looks at every hash chain and before an append of somebody who means well.
func (l *live) runAll(t *testing.T, cases []hostileCase, rows map[string]hostileRow) (refused, unchanged int) {
	before := l.settled()
	for _, c := range cases {
		row, ok := rows[c.name()]
		if !ok {
			counted := l.refusals(c.at())
			err := c.send()
			code, reason := answered(err)
			t.Errorf("docs/hostile.md has no row for %s, which was answered %s %s (%v), and counted as %s", c.name(), code, reason, err, l.refusalsSince(c.at(), counted))
			continue
		}
		delete(rows, c.name())
		t.Run(c.name(), func(t *testing.T) {
			outer := l.t
			l.t = t
			defer func() { l.t = outer }()
			l.run(c, row)
			refused++
			after := l.settled()
			if !row.entry {
				l.wantUnchanged(before, after)
				unchanged++
			}
			l.append()
			before = l.settled()
		})
	}
	return refused, unchanged
}

// refusals are a node's counters of what was refused.
func (l *live) refusals(id raftcore.NodeID) map[string]uint64 {
	all := map[string]uint64{}
	for _, s := range l.nodes[id].counterSources() {
		s.Each(func(name, _, value, _ string, count uint64) {
			if strings.HasSuffix(name, "_refused_total") {
				all[fmt.Sprintf("`%s` `%s`", name, value)] = count
			}
		})
	}
	return all
}

func (l *live) refusalsSince(id raftcore.NodeID, before map[string]uint64) (up []string) {
	for name, count := range l.refusals(id) {
		if count > before[name] {
			up = append(up, name)
		}
	}
	slices.Sort(up)
	return up
}

// services are those that a node serves to anybody.
var services = []struct {
	name string
	desc grpc.ServiceDesc
	peer bool
}{
	{"RaftService", raftv1.RaftService_ServiceDesc, true},
	{"LogService", multiraftv1.LogService_ServiceDesc, false},
	{"AdminService", multiraftv1.AdminService_ServiceDesc, false},
}

func TestEveryRPCHasItsRowsInTheCommittedTable(t *testing.T) {
	rows := hostileRows(t)
	for _, s := range services {
		var methods []string
		for _, m := range s.desc.Methods {
			methods = append(methods, m.MethodName)
		}
		for _, m := range s.desc.Streams {
			methods = append(methods, m.StreamName)
		}
		for _, m := range methods {
			for _, input := range []string{notAMessage, tooLong, compressed} {
				if _, ok := rows[fmt.Sprintf("%s.%s: %s", s.name, m, input)]; !ok {
					t.Errorf("docs/hostile.md does not say what %s.%s does about %s", s.name, m, input)
				}
			}
		}
	}
}

func TestWhatStrangersSendIsAnsweredAsTheCommittedTableSaysAndChangesNothing(t *testing.T) {
	rows := hostileRows(t)
	total := len(rows)
	l := startLive(t)
	s := newStranger(l)
	refused, unchanged := l.runAll(t, s.cases(), rows)
	// The rest needs a node that is down: while it is up, only its own incarnation may speak for it.
	s.otherGoes()
	more, moreUnchanged := l.runAll(t, s.casesWithoutOther(), rows)
	l.start(s.other)
	for name := range rows {
		t.Errorf("nothing tests the row %q of docs/hostile.md", name)
	}
	l.wantAll()
	for id := range l.nodes {
		if n := l.counter(id, "router_replicas_failed_total", "") + l.counter(id, "raft_quarantines_total", ""); n != 0 {
			t.Errorf("node %d: %d replicas have failed", id, n)
		}
	}
	t.Logf("%d rows, %d answered as they say, the hash chains unchanged after %d", total, refused+more, unchanged+moreUnchanged)
}
