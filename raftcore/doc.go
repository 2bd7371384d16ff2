// Package raftcore is the pure core of one Raft group's replica: etcd/raft's RawNode, the rules that keep it
// safe, and the conversions between its messages and the peer protocol.
//
// It does not know a clock, goroutine, lock, socket, file, logger, context or actor; it does not wait and does
// not draw random numbers (etcd/raft itself draws election timeouts from crypto/rand). The same calls give the
// same effects. Telemetry is a set of counters that the owner passes in.
//
// # One turn
//
//	          Step (peers, through the allow-list)
//	          StepLocal (own disk and state machine)          +--> Messages   to peers, at once
//	owner --> Tick, Propose, ReadIndex, Campaign ...  --> Core --> Append     to the disk; its Responses
//	          many of them, then once: Effects                |               when it is durable
//	                                                          +--> Apply      to the state machine
//	                                                          +--> ReadStates reads that may be served
//
// Who owns what: a Core belongs to one goroutine, its replica's. Messages are not changed by anyone once they
// have been stepped or handed out; the data of entries are shared between etcd/raft, the store's cache and the
// envelopes under way, never copied. Storage is the owner's, and shows each Append before the next call.
//
// # States
//
//	                 election timeout, Campaign            majority of pre-votes
//	    +----------+ ------------------------> +---------------+ ----------> +-----------+
//	    | follower |                           | pre-candidate |             | candidate |
//	    +----------+ <------------------------ +---------------+             +-----------+
//	      ^      ^    a leader, a higher term,                                  |     |
//	      |      |    a majority against it                                     |     | majority of votes
//	      |      +--------------------------------------------------------------+     v
//	      |            a higher term, an election timeout without a majority    +--------+
//	      +-------------------------------------------------------------------- | leader |
//	                                                                            +--------+
//	TimeoutNow from the leader makes a follower a candidate without a pre-vote. From any state: a heartbeat that
//	commits beyond the log quarantines the replica, and no call does anything any more.
//
// # The allow-list
//
// etcd/raft trusts its input. admit.go checks every message from the wire (rules 16 to 18 of the design): who
// sends it, its shape, its entries, and what it claims about this replica's log. A refused message changes
// nothing, not even a term, and is counted by its Reason. It goes further than the rules where etcd/raft would
// panic, adopt a wrong leader or search the whole log: a second leader in one term, TimeoutNow from another
// than the leader, acknowledgements of what was never sent, read rounds that were never started, and appends
// that contradict what is applied are refused as well. A lying majority is beyond any such list.
//
// Where the core has to know the end of the log it keeps a bound of its own, since etcd/raft does not tell: see
// Core.lastSure.
//
// # Files
//
// core.go, status.go: the core. admit.go, refusal.go: the allow-list and its counters. membership.go: membership
// changes, checked on a copy before etcd/raft, which panics on one that does not fit. steer.go, steering.go: the
// next change towards the members that metadata want. envelope.go, canonical.go: the two forms of the peer
// protocol. entry.go: the content of a normal entry, and the hash chain. The conversations in testdata/scenarios
// show it at work; `go test -run Conversations -rewrite` writes them anew.
package raftcore
