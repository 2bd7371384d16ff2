package raftcore

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"
)

// The scripts in testdata are conversations of one group. Commands:
//
//	group size=N [leader=ID]  N replicas, one of them leading (elected in term 2, unless logs are set); each input
//	                          line sets a log from index 2: "ID term=T commit=C TERM:DATA ..."
//	campaign ID | tick ID n=N | propose ID DATA ... | read ID CONTEXT | transfer ID to=ID | unreachable ID peer=ID
//	steer ID target=N want=(ID,...) [want-learners=(ID,...)]   the next change towards these members
//	inject TYPE from=ID to=ID term=T [index=I log-term=T] [reject] [commit=I commit-term=T]   a message from nowhere
//	take ID ...             take the effects once: send, hand to the disk, apply
//	sync ID ...             the disk has finished what it was handed
//	deliver [to=ID] [type=T]  hand over the messages under way
//	drop [to=ID] [type=T] [quiet]   lose them
//	run                     all of that until nothing is left
//	cut ID ... | heal | crash ID | restart ID
//	show                    where every replica stands
//
// etcd/raft draws election timeouts from crypto/rand; here every draw is 9, which makes it 19 ticks.
func TestConversationsFollowTheScripts(t *testing.T) {
	fixedElectionTimeouts(t)
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(d)
		})
	})
}

func fixedElectionTimeouts(t testing.TB) {
	real := rand.Reader
	rand.Reader = nines{}
	t.Cleanup(func() { rand.Reader = real })
}

type nines struct{}

func (nines) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 9
	}
	return len(p), nil
}

type scenario struct {
	t   *testing.T
	net *testNetwork
}

func (s *scenario) run(d *datadriven.TestData) string {
	if d.Cmd == "group" {
		s.group(d)
		return "ok"
	}
	s.net.trace.Reset()
	if err := s.command(d); err != nil {
		s.net.say("error: %v", err)
	}
	if out := s.net.trace.String(); out != "" {
		return out
	}
	return "ok"
}

func (s *scenario) group(d *datadriven.TestData) {
	var size int
	d.ScanArgs(s.t, "size", &size)
	s.net = newTestNetwork(s.t, size)
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		if line != "" {
			s.presetLog(strings.Fields(line))
		}
	}
	for _, id := range s.net.ids() {
		s.net.start(id)
	}
	if d.HasArg("leader") {
		if err := s.net.core(s.replica(d, "leader")).Campaign(); err != nil {
			s.t.Fatal(err)
		}
		s.net.run()
	}
}

func (s *scenario) presetLog(words []string) {
	disk := s.net.nodes[ReplicaID(s.number(words[0]))].disk
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "term":
			disk.hard.Term = new(s.number(value))
		case "commit":
			disk.hard.Commit = new(s.number(value))
		default:
			term, data, _ := strings.Cut(w, ":")
			index := uint64(disk.cut.Index) + uint64(len(disk.entries)) + 1
			disk.entries = append(disk.entries, &raftpb.Entry{Index: new(index), Term: new(s.number(term)), Data: []byte(data)})
		}
	}
}

func (s *scenario) command(d *datadriven.TestData) error {
	switch d.Cmd {
	case "run":
		s.net.run()
	case "deliver":
		s.net.deliver(s.selection(d))
	case "drop":
		s.drop(s.selection(d))
		if d.HasArg("quiet") {
			s.net.trace.Reset()
		}
	case "inject":
		s.inject(d)
	case "heal":
		clear(s.net.cut)
	case "show":
		s.show()
	case "take", "sync", "cut", "crash", "restart":
		for _, id := range s.replicas(d) {
			s.lifecycle(d.Cmd, id)
		}
	default:
		return s.request(d, s.net.core(s.replicas(d)[0]))
	}
	return nil
}

func (s *scenario) lifecycle(cmd string, id ReplicaID) {
	switch cmd {
	case "take":
		s.net.take(id)
	case "sync":
		s.net.sync(id)
	case "cut":
		s.net.cut[id] = true
	case "crash":
		s.net.crash(id)
	case "restart":
		s.net.start(id)
	}
}

func (s *scenario) request(d *datadriven.TestData, c *Core) error {
	switch d.Cmd {
	case "campaign":
		return c.Campaign()
	case "tick":
		var n int
		for d.ScanArgs(s.t, "n", &n); n > 0; n-- {
			c.Tick()
		}
	case "propose":
		var data [][]byte
		for _, arg := range d.CmdArgs[1:] {
			data = append(data, []byte(arg.Key))
		}
		return c.Propose(data)
	case "read":
		return c.ReadIndex(s.number(d.CmdArgs[1].Key))
	case "transfer":
		return c.TransferLeader(s.replica(d, "to"))
	case "steer":
		var target uint64
		d.ScanArgs(s.t, "target", &target)
		_, err := c.Steer(Target{ID: target, Voters: onOwnNodes(listArg(s.t, d, "want")), Learners: onOwnNodes(listArg(s.t, d, "want-learners"))})
		return err
	case "unreachable":
		c.ReportUnreachable(s.replica(d, "peer"))
	default:
		return fmt.Errorf("unknown command %q", d.Cmd)
	}
	return nil
}

// replicas are the arguments that are plain numbers.
func (s *scenario) replicas(d *datadriven.TestData) (ids []ReplicaID) {
	for _, arg := range d.CmdArgs {
		if id, err := strconv.ParseUint(arg.Key, 10, 64); err == nil && len(arg.Vals) == 0 {
			ids = append(ids, ReplicaID(id))
		}
	}
	return ids
}

func (s *scenario) replica(d *datadriven.TestData, key string) ReplicaID {
	var id uint64
	d.ScanArgs(s.t, key, &id)
	return ReplicaID(id)
}

func (s *scenario) selection(d *datadriven.TestData) func(*raftpb.Message) bool {
	var to uint64
	var kind string
	d.MaybeScanArgs(s.t, "to", &to)
	d.MaybeScanArgs(s.t, "type", &kind)
	return func(m *raftpb.Message) bool {
		return (to == 0 || m.GetTo() == to) && (kind == "" || m.GetType().String() == "Msg"+kind)
	}
}

func (s *scenario) inject(d *datadriven.TestData) {
	kind := raftpb.MessageType(raftpb.MessageType_value["Msg"+d.CmdArgs[0].Key])
	var m scalars
	m.kind = kind
	m.reject = d.HasArg("reject")
	for key, field := range map[string]*uint64{
		"from": &m.from, "to": &m.to, "term": &m.term, "index": &m.index, "log-term": &m.logTerm, "commit": &m.commit, "commit-term": &m.rejectHint,
	} {
		d.MaybeScanArgs(s.t, key, field)
	}
	s.net.queue = append(s.net.queue, newMessage(m))
}

func (s *scenario) drop(gone func(*raftpb.Message) bool) {
	var kept []*raftpb.Message
	for _, m := range s.net.queue {
		if gone(m) {
			s.net.say("%s  (lost)", describe(m))
		} else {
			kept = append(kept, m)
		}
	}
	s.net.queue = kept
}

func (s *scenario) show() {
	for _, id := range s.net.ids() {
		node := s.net.nodes[id]
		if node.core == nil {
			s.net.say("%d: down; disk %s", id, describeEntries(node.disk.entries))
			continue
		}
		st := node.core.Status()
		s.net.say("%d: %s, term %d, leader %d, commit %d, log %s", id, st.Role, st.Term, st.Leader, st.Commit, describeEntries(node.log.entries))
	}
}

func (s *scenario) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
