package node

import (
	"cmp"
	"runtime"
	"strconv"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/router"
)

// groupSeriesMax is of how many groups a node shows series of their own: those with the lowest ids, so that a
// series stays. /debug/groups shows all of them.
const groupSeriesMax = 256

func (n *Node) groupSeries() int { return cmp.Or(n.cfg.groupSeries, groupSeriesMax) }

// gaugeMetric is one row of gauges: what it is called, and what it shows of what a scrape sees.
type gaugeMetric struct {
	name, help string
	labels     []string
	show       func(s *sight, f func(v float64, values ...string))
}

// sight is what the gauges of one scrape look at.
type sight struct {
	n      *Node
	table  *router.Table // nil = the node is not that far
	groups []groupSight

	leading, leaderless, failed, quiet, underReplicated int
	replicationLag, applyLag                            raftcore.Index
	mailbox                                             int
}

// groupSight is one replica here.
type groupSight struct {
	id      raftcore.GroupID
	status  *actors.Status // nil = it has not opened
	waiting int            // messages
}

func (n *Node) sight() *sight {
	s := &sight{n: n}
	if !n.started.Load() {
		return s
	}
	s.table = n.core.Table()
	for _, g := range s.table.Groups() {
		h, _ := s.table.Hosted(g)
		s.groups = append(s.groups, groupSight{g, h.Board.Load(), h.Board.Waiting()})
		s.count(&s.groups[len(s.groups)-1])
	}
	return s
}

// count adds one replica to what the node's gauges say of all.
func (s *sight) count(g *groupSight) {
	s.mailbox += g.waiting
	st := g.status
	switch {
	case st == nil:
		s.leaderless++
		return
	case st.Failure != "":
		s.failed++
		return
	case st.Leader == 0:
		s.leaderless++
	case st.Role == raftcore.Leader:
		s.leading++
		s.replicationLag = max(s.replicationLag, st.Lag())
		if st.UnderReplicated() {
			s.underReplicated++
		}
	}
	if st.Quiet {
		s.quiet++
	}
	s.applyLag = max(s.applyLag, st.Commit-st.Applied)
}

// addGauges adds all gauges, those that have nothing to show yet without points.
func (n *Node) addGauges(set *metricSet) {
	s := n.sight()
	for _, g := range gauges {
		set.declare(gauge, g.name, g.help, g.labels)
		g.show(s, func(v float64, values ...string) {
			set.add(gauge, g.name, g.help, g.labels, point{values: values, value: v})
		})
	}
}

type shows = func(v float64, values ...string)

// always is for a gauge that has one value from the start of the replicas on.
func always(value func(s *sight) float64) func(*sight, shows) {
	return func(s *sight, f shows) {
		if s.table != nil {
			f(value(s))
		}
	}
}

// perGroup is for a gauge with one value per replica, of the first groupSeriesMax.
func perGroup(value func(g *groupSight) float64) func(*sight, shows) {
	return func(s *sight, f shows) {
		for i := range s.groups[:min(len(s.groups), s.n.groupSeries())] {
			g := &s.groups[i]
			if g.status == nil {
				continue
			}
			topic, partition := "", ""
			if t, p, ok := s.table.Meta.Partition(g.id); ok {
				topic, partition = t.GetName(), strconv.Itoa(int(p))
			}
			f(value(g), strconv.FormatUint(uint64(g.id), 10), topic, partition)
		}
	}
}

// ofDisk is for a gauge of the data directory's disk, where one is watched.
func ofDisk(value func(free, total uint64, level actors.SpaceLevel) float64) func(*sight, shows) {
	return func(s *sight, f shows) {
		if free, total := s.n.space.Bytes(); total > 0 {
			f(value(free, total, s.n.space.Level()))
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var groupLabels = []string{"group", "topic", "partition"}

// gauges is the table of all gauges.
var gauges = []gaugeMetric{
	{"build_info", "1, with the version of multiraftd and of Go that it was built with.", []string{"version", "go"}, func(s *sight, f shows) { f(1, s.n.cfg.Version, runtime.Version()) }},
	{"tls_certificate_expires_timestamp_seconds", "When the certificate in use on an address ends, in seconds since 1970; 0 without TLS.", []string{"address"}, func(s *sight, f shows) {
		f(float64(s.n.certs.client.Expires()), "client")
		f(float64(s.n.certs.peer.Expires()), "peer")
	}},
	{"node_ready", "1 = the node has a metadata leader and its replicas have started, as /readyz says.", nil, func(s *sight, f shows) { f(oneIf(s.n.unready() == nil)) }},
	{"node_start_number", "How often this node has started on its store.", nil, always(func(s *sight) float64 { return float64(s.n.self.Start) })},
	{"nodes", "Nodes in the metadata that this node has applied.", nil, always(func(s *sight) float64 { return float64(len(s.table.Meta.Nodes())) })},
	{"topics", "Topics in the metadata that this node has applied.", nil, always(func(s *sight) float64 { return float64(len(s.table.Meta.Topics())) })},

	{"replicas", "Replicas on this node.", nil, always(func(s *sight) float64 { return float64(len(s.groups)) })},
	{"replicas_leading", "Groups that this node leads.", nil, always(func(s *sight) float64 { return float64(s.leading) })},
	{"replicas_without_leader", "Replicas here that know no leader.", nil, always(func(s *sight) float64 { return float64(s.leaderless) })},
	{"replicas_failed", "Replicas here that have failed.", nil, always(func(s *sight) float64 { return float64(s.failed) })},
	{"replicas_quiet", "Replicas here that take no ticks and send no heartbeats, because nothing has been under way for a while: no append, read, change, transfer or snapshot, and no member behind.", nil, always(func(s *sight) float64 { return float64(s.quiet) })},
	{"groups_under_replicated", "Groups led here with a member that was not heard of lately or lacks committed entries.", nil, always(func(s *sight) float64 { return float64(s.underReplicated) })},
	{"groups_without_series", "Replicas here that have no group_ series of their own: a node shows those of 256.", nil, always(func(s *sight) float64 { return float64(max(0, len(s.groups)-s.n.groupSeries())) })},
	{"replication_lag_entries", "Entries that the member furthest behind lacks, of all groups led here.", nil, always(func(s *sight) float64 { return float64(s.replicationLag) })},
	{"apply_lag_entries", "Entries committed and not applied, of the replica here furthest behind.", nil, always(func(s *sight) float64 { return float64(s.applyLag) })},

	{"admitted_appends", "Appends and commands admitted here and not ended.", nil, always(func(s *sight) float64 { return float64(admittedItems(s.n)) })},
	{"admitted_bytes", "Bytes of appends and commands admitted here and not ended.", nil, always(func(s *sight) float64 { return float64(admittedBytes(s.n)) })},
	{"held_for_clients_bytes", "Records and results made for clients that have not taken them.", nil, always(func(s *sight) float64 { return float64(s.n.services.HeldBytes()) })},
	{"mailbox_messages", "Messages that wait in the mailboxes of the replicas here.", nil, always(func(s *sight) float64 { return float64(s.mailbox) })},
	{"log_queue_writes", "Writes handed to the log and not finished.", nil, always(func(s *sight) float64 { return float64(s.n.counters.actors.QueueWrites.Load()) })},
	{"log_queue_bytes", "Bytes of writes handed to the log and not finished.", nil, always(func(s *sight) float64 { return float64(s.n.counters.actors.QueueBytes.Load()) })},
	{"transport_peer_connected", "1 = this node's Exchange to the peer is open.", []string{"peer"}, showPeersConnected},
	{"transport_queue_bytes", "Bytes of messages that wait to be sent to the peer.", []string{"peer"}, showPeersQueued},

	{"disk_bytes", "Bytes of the data directory's disk.", nil, ofDisk(func(_, total uint64, _ actors.SpaceLevel) float64 { return float64(total) })},
	{"disk_free_bytes", "Bytes free for the node on the data directory's disk.", nil, ofDisk(func(free, _ uint64, _ actors.SpaceLevel) float64 { return float64(free) })},
	{"disk_space_level", "How full the data directory's disk is: 0 = enough room, 1 = low: appends are refused, 2 = short: appends of leaders are not taken either.", nil, ofDisk(func(_, _ uint64, l actors.SpaceLevel) float64 { return float64(l) })},
	{"store_disk_bytes", "Bytes that the store takes up on its disk.", nil, showStoreBytes},

	{"group_leading", "1 = this node leads the group.", groupLabels, perGroup(func(g *groupSight) float64 { return oneIf(g.status.Role == raftcore.Leader && g.status.Failure == "") })},
	{"group_term", "The group's term, as the replica here knows it.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.status.Term) })},
	{"group_high_watermark", "First offset of the partition that the replica here has not applied.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.status.HighWatermark) })},
	{"group_replication_lag_entries", "Entries that the member furthest behind lacks, as the leader knows; 0 elsewhere.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.status.Lag()) })},
	{"group_apply_lag_entries", "Entries committed and not applied by the replica here.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.status.Commit - g.status.Applied) })},
	{"group_records_bytes", "Bytes of records stored by the replica here.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.status.Bytes) })},
	{"group_mailbox_messages", "Messages that wait in the replica's mailbox.", groupLabels, perGroup(func(g *groupSight) float64 { return float64(g.waiting) })},
}

func admittedItems(n *Node) int64 {
	items, _ := n.services.Admitted()
	return items
}

func admittedBytes(n *Node) int64 {
	_, bytes := n.services.Admitted()
	return bytes
}

func showPeersConnected(s *sight, f shows) {
	s.n.peers.EachPeer(func(node uint64, connected bool, _ int) { f(oneIf(connected), strconv.FormatUint(node, 10)) })
}

func showPeersQueued(s *sight, f shows) {
	s.n.peers.EachPeer(func(node uint64, _ bool, bytes int) { f(float64(bytes), strconv.FormatUint(node, 10)) })
}

// showStoreBytes asks a store that knows: one in memory takes up no disk.
func showStoreBytes(s *sight, f shows) {
	if kv, ok := s.n.kv.(interface{ DiskBytes() uint64 }); ok {
		f(float64(kv.DiskBytes()))
	}
}
