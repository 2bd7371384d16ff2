package node

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// topic creates one of three replicas and returns its first group.
func (m *movement) topic(name string, partitions uint32, keep client.Retention) raftcore.GroupID {
	m.t.Helper()
	_, ready, err := m.client.CreateTopicWith(m.ctx, name, partitions, 3, keep)
	if err != nil || !ready {
		m.t.Fatalf("topic %s: ready %v, %v", name, ready, err)
	}
	return m.group(name)
}

// leader returns the node that leads a group.
func (m *movement) leader(g raftcore.GroupID) (leader raftcore.NodeID) {
	m.t.Helper()
	m.until(fmt.Sprintf("group %d has a leader", g), func() bool {
		m.look()
		leader = 0
		for id := raftcore.NodeID(1); id <= 3; id++ {
			if st := m.status(id, g); st.Role == raftcore.Leader && st.Failure == "" {
				leader = id
			}
		}
		return leader != 0
	})
	return leader
}

// lead makes a node lead a topic's only partition.
func (m *movement) lead(topic string, id raftcore.NodeID) {
	m.t.Helper()
	g := m.group(topic)
	m.until(fmt.Sprintf("node %d leads %s", id, topic), func() bool {
		if m.leader(g) == id {
			return true
		}
		ctx, cancel := context.WithTimeout(m.ctx, time.Second)
		defer cancel()
		_, _ = m.client.TransferLeader(ctx, topic, 0, uint64(id)) // it is tried until it has worked
		return m.leader(g) == id
	})
}

// traffic appends and reads.
func (m *movement) traffic() {
	m.topic("orders", 6, client.Retention{})
	p, err := m.client.NewProducer(m.ctx, "orders", client.ProducerConfig{BatchBytes: 512})
	must(m.t, err)
	for i := range 3000 {
		_, err := p.Append(m.ctx, i%6, client.Record{Value: value(i, 100)})
		must(m.t, err)
		if i%100 == 0 {
			m.look()
		}
	}
	must(m.t, p.Close(m.ctx))
	for id := raftcore.NodeID(1); id <= 3; id++ {
		_, err := m.at(id).ListTopics(m.ctx)
		must(m.t, err)
	}
	r, err := m.client.NewReader(m.ctx, "orders", client.ReadConfig{})
	must(m.t, err)
	for _, err := range r.All(m.ctx) {
		must(m.t, err)
	}
	must(m.t, r.Close())
}

// awayAndBack has node 3 filled by snapshots, over a wire that is cut and flips bits.
func (m *movement) awayAndBack() {
	m.wire.cuts.Store(2)
	m.wire.flips.Store(2)
	g, _ := m.leftBehind("kept")
	m.look()
	m.start(3, &sync.Mutex{})
	m.look()
	m.until("node 3 is like node 1", func() bool { m.look(); return m.alike(g) })
}

// manyTopics makes the metadata group's log long, and the groups of a node more than have series.
func (m *movement) manyTopics() {
	for i := range 12 {
		m.topic(fmt.Sprint("topic", i), 1, client.Retention{})
	}
	m.look()
	for i := range 12 {
		_, err := m.client.DeleteTopic(m.ctx, fmt.Sprint("topic", i))
		must(m.t, err)
	}
}

// manySnapshots has node 3 need more snapshots than are sent at once, none of which gets through, and stops the node
// that sends them.
func (m *movement) manySnapshots() {
	const topics, recordBytes = 6, 64 << 10
	var groups [topics]raftcore.GroupID
	name := func(i int) string { return fmt.Sprint("slow", i) }
	for i := range groups {
		groups[i] = m.topic(name(i), 1, client.Retention{Bytes: 1 << 20})
	}
	m.stop(3)
	for i := range groups {
		for j := range 15 { // an entry each
			m.append(name(i), 4*j, 4*j+4, recordBytes)
		}
	}
	for i, g := range groups {
		m.lead(name(i), 1)
		m.until("node 1 has discarded the beginning", func() bool { return m.status(1, g).LogStart > 0 && m.status(1, g).FirstIndex > 5 })
	}
	gate := make(chan struct{})
	m.wire.held.Store(&gate)
	m.start(3, &sync.Mutex{})
	m.until("a snapshot is refused", m.hasMoved("transport_snapshots_refused_total"))
	one := m.nodes[1]
	m.stop(1)
	m.lookAt("1", one.metrics())
	m.wire.held.Store(nil)
	close(gate)
	m.start(1, &sync.Mutex{})
	for _, g := range groups {
		m.until("node 3 is like node 1", func() bool { m.look(); return m.alike(g) })
	}
}

// fullDisks has the disk of a leader fill up, then that of a follower.
func (m *movement) fullDisks() {
	g := m.topic("full", 1, client.Retention{})
	m.lead("full", 1)
	m.free[1].Store(trapDiskBytes/8 + 1)
	m.until("node 1 refuses appends", func() bool { m.look(); return m.nodes[1].space.Level() != actors.SpaceEnough })
	ctx, cancel := context.WithTimeout(m.ctx, time.Second)
	if _, err := m.client.AppendOnce(ctx, "full", 0, client.Record{Value: []byte("x")}); err == nil {
		m.t.Error("an append to a full disk went through")
	}
	cancel()
	m.stop(3) // to which node 1 cannot say that its disk is full
	m.until("nobody hears that", m.hasMoved("transport_controls_dropped_total"))
	m.start(3, &sync.Mutex{})
	m.free[1].Store(trapDiskBytes)
	m.until("node 1 takes appends", func() bool { m.look(); return m.nodes[1].space.Level() == actors.SpaceEnough })
	m.free[3].Store(1)
	m.until("node 3 takes none", func() bool { return m.nodes[3].space.Level() == actors.SpaceShort })
	m.until("it has not taken one", func() bool {
		m.append("full", 0, 1, 8<<10)
		return m.hasMoved("replica_appends_short_of_space_total")()
	})
	m.free[3].Store(trapDiskBytes)
	m.until("node 3 has all again", func() bool { return m.alike(g) })
}

// slowFollower holds the disk of a follower, to which leadership is then to go.
func (m *movement) slowFollower() {
	g := m.topic("slowly", 1, client.Retention{})
	m.lead("slowly", 1)
	m.append("slowly", 0, 5, 100)
	m.until("node 3 has it", func() bool { return m.alike(g) })
	release := m.traps[3].hold()
	defer release()
	ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
	if to, err := m.client.TransferLeader(ctx, "slowly", 0, 3); err == nil {
		m.t.Errorf("node %d leads, though no vote can be stored on node 3", to)
	}
	cancel()
	m.until("node 3 knows that more is committed than it can apply", func() bool {
		m.append("slowly", 0, 1, 100)
		return m.hasMoved("apply_lag_entries", "group_apply_lag_entries")()
	})
	release()
	m.until("node 3 has all again", func() bool { return m.alike(g) })
}

// slowLeader holds the disk of a leader while something is appended.
func (m *movement) slowLeader() {
	m.topic("stuck", 1, client.Retention{})
	m.lead("stuck", 2)
	release := m.traps[2].hold()
	defer release()
	var appending sync.WaitGroup
	appending.Go(func() {
		p, err := m.client.NewProducer(m.ctx, "stuck", client.ProducerConfig{})
		if err == nil {
			_, err = p.Append(m.ctx, 0, client.Record{Value: []byte("x")})
		}
		if err == nil {
			err = p.Close(m.ctx)
		}
		if err != nil {
			m.t.Error(err)
		}
	})
	m.until("the leader steps aside", m.hasMoved("replica_leader_messages_held_total", "replica_stall_handovers_total"))
	release()
	appending.Wait()
}

// joinAndDrain adds node 4, moves a partition there, led from there, and drains it.
func (m *movement) joinAndDrain() {
	m.topic("moving", 1, client.Retention{})
	m.clients[4] = freeAddr(m.t)
	n, err := Start(m.ctx, m.configOf4())
	must(m.t, err)
	m.mu.Lock()
	m.nodes[4], m.kvs[4] = n, nothing{}
	m.mu.Unlock()
	must(m.t, n.Ready(m.ctx))
	id := uint64(n.ID())
	move, err := m.client.MovePartition(m.ctx, "moving", 0, []uint64{id, 1, 2})
	must(m.t, err)
	m.until("the partition has moved", func() bool {
		m.look()
		p, err := m.client.MoveProgress(m.ctx, "moving", 0, move.GetTargetId())
		must(m.t, err)
		return p.GetDone()
	})
	m.until("node 4 leads it", func() bool {
		ctx, cancel := context.WithTimeout(m.ctx, time.Second)
		defer cancel()
		to, _ := m.client.TransferLeader(ctx, "moving", 0, id) // it is tried until it has worked
		return to == id
	})
	m.until("node 4 is drained", func() bool {
		m.look()
		d, err := m.client.DrainNode(m.ctx, id, false)
		must(m.t, err)
		return d.GetDone()
	})
	m.look()
	must(m.t, m.client.RemoveNode(m.ctx, id, false))
	m.stop(4)
}

func (m *movement) configOf4() Config {
	cfg := Config{DataDir: m.t.TempDir(), Join: []string{m.clients[1]}, ClientAddr: m.clients[4], PeerAddr: freeAddr(m.t), ElectionTimeout: m.silence}
	m.change(&cfg)
	return cfg
}

// lostController has the node that leads the metadata group vanish: first behind a wire that is silent, then for good.
func (m *movement) lostController() {
	m.leadMetadata(3)
	m.wire.silent.Store(true)
	m.wire.cut()
	m.until("reports wait for node 3", m.hasMoved("transport_reports_folded_total"))
	m.wire.silent.Store(false)
	m.wire.cut()
	m.leadMetadata(3)
	m.stop(3)
	m.until("reports find nobody", m.hasMoved("transport_reports_dropped_total", "replica_leaders_gone_total"))
	m.start(3, &sync.Mutex{})
	must(m.t, m.nodes[3].Ready(m.ctx))
}

// leadMetadata makes a node lead the metadata group.
func (m *movement) leadMetadata(id raftcore.NodeID) {
	m.until(fmt.Sprintf("node %d leads the metadata group", id), func() bool {
		if led := m.leader(raftcore.MetadataGroup); led != id {
			m.nodes[led].core.Dispatch(router.Routed{Group: raftcore.MetadataGroup, Msg: &actors.Transfer{To: id}})
		}
		return m.status(id, raftcore.MetadataGroup).Role == raftcore.Leader
	})
}

// brokenReplica has node 2 fail to read what it needs to open a new replica.
func (m *movement) brokenReplica() {
	m.traps[2].spoilt.Store(true)
	defer m.traps[2].spoilt.Store(false)
	_, _, err := m.client.CreateTopic(m.ctx, "broken", 1, 3)
	must(m.t, err)
	m.until("the replica on node 2 has failed", m.hasMoved("router_replicas_failed_total"))
}

// crowd opens more connections to a node's addresses than one host may have.
func (m *movement) crowd() {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close() // nothing was said on it
		}
	}()
	n := m.nodes[1]
	for addr, refused := range map[string]*atomic.Uint64{ // each by itself: the order does not matter
		m.listen[1]: &n.peers.Counters().Shed.Connections, m.clients[1]: &n.counters.router.Shed.Connections,
	} {
		for refused.Load() == 0 && m.ctx.Err() == nil {
			c, err := net.Dial("tcp", addr)
			must(m.t, err)
			conns = append(conns, c)
		}
	}
}

// idleReader asks for more than a connection holds, and takes one record.
func (m *movement) idleReader() {
	r, err := m.client.NewReader(m.ctx, "kept", client.ReadConfig{})
	must(m.t, err)
	_, err = r.Next(m.ctx)
	must(m.t, err)
	m.until("the rest is held for it", m.hasMoved("held_for_clients_bytes"))
	must(m.t, r.Close())
}

// impostor speaks to the others as node 3 after a restart, and says what a node would never say.
func (m *movement) impostor() {
	g := m.topic("victim", 1, client.Retention{})
	m.lead("victim", 1)
	m.append("victim", 0, 3, 100)
	m.until("node 2 has it", func() bool { return m.status(2, g).Applied == m.status(1, g).Applied })
	self := m.nodes[3].self
	m.stop(3)
	identity := transport.Identity{Cluster: self.Cluster, StoreID: self.StoreID, Node: 3, Start: self.LatestStart().Next(make([]byte, lineage.IDBytes))}
	l, err := net.Listen("tcp", m.listen[3])
	must(m.t, err)
	tr, err := transport.Listen(transport.Config{Listener: l, Probe: func() *raftv1.ProbeResponse { return &raftv1.ProbeResponse{} }})
	must(m.t, err)
	must(m.t, tr.Start(identity, deaf{}, nil))
	tr.SetPeers(map[uint64]string{1: m.peers[1], 2: m.peers[2]})
	m.until("it is believed", func() bool { return tr.Connected(1) && tr.Connected(2) })
	two := m.status(2, g)
	tr.Send(1, &raftv1.Envelope{GroupId: uint64(g), FromReplica: 3, ToReplica: 1, Term: 1})
	tr.SendControl(1, &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: uint64(g), ReplicaId: 3})
	m.until("node 1 does not listen", m.hasMoved("raft_messages_refused_total", "router_peer_replica_failed_total"))
	m.callAs(identity, g, two)
	st := m.status(2, g)
	tr.Send(2, &raftv1.Envelope{GroupId: uint64(g), FromReplica: replicaOn(3, st), ToReplica: uint64(st.Replica), Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT,
		Term: st.Term + 5, Commit: uint64(st.Last) + 1000})
	m.until("node 2 takes its replica for one that lost its log", m.hasMoved("raft_quarantines_total"))
	must(m.t, tr.Close())
	m.start(3, &sync.Mutex{}) // its second start since: the impostor had the first
}

// replicaOn is the id of the replica on a node: of a group that was never changed they are given in the order of the nodes.
func replicaOn(id raftcore.NodeID, st *actors.Status) uint64 {
	for i, n := range st.Voters {
		if n == id {
			return uint64(st.VoterIDs[i])
		}
	}
	return 0
}

// callAs gives node 2 an entry as the leader of a later term, committed, that nobody can decode; and then a snapshot
// that is none.
func (m *movement) callAs(id transport.Identity, g raftcore.GroupID, st *actors.Status) {
	conn, err := grpc.NewClient(m.peers[2], grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(m.t, err)
	rpc := raftv1.NewRaftServiceClient(conn)
	h := &raftv1.Header{ClusterId: id.Cluster, FromNode: 3, StartNumber: id.Start.Number, BootId: id.Start.ID, GroupId: uint64(g), FromReplica: replicaOn(3, st), ToReplica: uint64(st.Replica)}
	var prev uint64
	m.until("node 2 has followed", func() bool {
		now := m.status(2, g)
		prev = uint64(now.Last)
		resp, err := rpc.AppendEntries(m.ctx, &raftv1.AppendEntriesRequest{Header: h, Term: now.Term + 1, LeaderId: h.GetFromReplica(), PrevLogIndex: prev, PrevLogTerm: now.Term,
			Entries: []*raftv1.LogEntry{{Index: prev + 1, Term: now.Term + 1, Data: []byte("no entry")}}, LeaderCommit: prev + 1})
		must(m.t, err)
		return resp.GetSuccess()
	})
	m.until("the entry is refused", m.hasMoved("replica_entries_undecodable_total"))
	stream, err := rpc.InstallSnapshot(m.ctx)
	must(m.t, err)
	now, data := m.status(2, g), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	must(m.t, stream.Send(&raftv1.InstallSnapshotRequest{Header: h, Term: now.Term + 1, LeaderId: h.GetFromReplica(), LastIncludedIndex: uint64(now.Last) + 100,
		LastIncludedTerm: now.Term, Data: data, Done: true, Checksum: actors.SnapshotChecksum(data), SnapshotId: 7,
		ConfState: &raftv1.ConfState{Voters: []uint64{uint64(st.VoterIDs[0]), uint64(st.VoterIDs[1]), uint64(st.VoterIDs[2])}}}))
	if _, err := stream.CloseAndRecv(); err == nil {
		m.t.Error("what is no snapshot was taken for one")
	}
	must(m.t, conn.Close())
}

// stoppedWhileStalled closes a node whose disk does not move, with an append under way.
func (m *movement) stoppedWhileStalled() {
	g := m.topic("last", 1, client.Retention{})
	m.lead("last", 1)
	h, _ := m.nodes[1].core.Table().Hosted(g)
	releases := []func(){m.traps[1].hold(), m.traps[2].hold(), m.traps[3].hold()}
	ctx, cancel := context.WithCancel(m.ctx)
	var proposing, closing sync.WaitGroup
	proposing.Go(func() {
		_, _ = m.client.AppendOnce(ctx, "last", 0, client.Record{Value: []byte("x")}) // its end is what the node counts
	})
	m.until("it is admitted", func() bool { items, _ := m.nodes[1].services.Admitted(); return items > 0 && h.Board.Load().Last > 2 })
	n := m.nodes[1]
	closing.Go(func() {
		if err := n.Close(); err != nil {
			m.t.Error(err)
		}
	})
	m.until("it is given up", m.hasMoved("router_proposals_abandoned_total"))
	for _, release := range releases {
		release()
	}
	closing.Wait()
	cancel()
	proposing.Wait()
	m.stop(1)
	m.start(1, &sync.Mutex{})
}

// failingDisk has a commit fail, which ends the node.
func (m *movement) failingDisk() {
	n := m.nodes[1]
	m.traps[1].failing.Store(true)
	m.until("node 1 has ended", func() bool {
		ctx, cancel := context.WithTimeout(m.ctx, 100*time.Millisecond)
		defer cancel()
		_, _, _ = m.client.CreateTopic(ctx, "never mind", 1, 3) // so that there is something to commit
		return n.Err() != nil
	})
	m.look()
}

// deaf takes what a transport hands over, and does nothing.
type deaf struct{}

func (deaf) Frame(uint64, *raftv1.Frame) {}
func (deaf) Lost(uint64, []uint64)       {}
func (deaf) Gone(uint64)                 {}

// nothing is the store of a node that has one of its own.
type nothing struct{ store.KV }

func (nothing) Close() error { return nil }
