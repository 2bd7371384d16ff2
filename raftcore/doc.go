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
// # What is synced
//
// The design's rule 3 says that an append is synced if it has responses. Some of them promise nothing that could be
// forgotten: when a follower hears that an entry is committed, etcd/raft answers, and the append holds that commit index
// and nothing else. Nobody counts on a commit index to be there after a crash; so such an append is not synced, unless
// a term or vote was written before it that is not synced yet (Core.mustSync). It halves the fsyncs of a follower that
// gets one entry at a time. After a start the first append with responses is synced in any case.
//
// # Elections while the members change
//
// etcd/raft counts votes by the membership that a replica has applied, where the Raft paper goes by the last one in
// its log. A replica that has a membership change in its log, and has not heard that it is committed, asks for votes
// by the old membership; one that has heard so need not be a voter any more, or the first is not one yet by its own
// knowledge. If the log of the one who can't be elected is the longer one it refuses its vote, and a group can be
// without a leader though a majority is there. So requests for votes say what their sender knows to be committed, and
// refusals likewise (votes.go); TiKV's raft-rs closes the gap in the same way. Who is told so commits up to there,
// applies the change, and campaigns anew or can be elected at last.
//
// Why that is safe. What is committed anywhere is committed for ever, and whoever has the entry of that index and term
// has all entries before it (log matching): committing up to it is what any later leader would tell. It makes neither
// term, vote nor log another, and a replica that knows more of what is committed counts its votes by a membership that
// is in force. That the two are the same entry is compared by etcd/raft itself, in the log as it is, by an append
// without entries that the replica addresses to itself (learnCommitted); no other way to raise the commit index keeps
// the RawNode: a heartbeat does not compare, and a new RawNode would need all writes to have come back first.
//
// Why that is enough, where a majority is there of each membership that the living know of. Of all that they know to
// be committed, let k be the last; each majority of the membership after it contains somebody who has k. So of the
// living voters of that membership the one whose log is furthest, M, has k. A leader proposes a change only when it
// has applied the one before, and says so with it: M does not know of the last change at most. If M is a voter without
// it, M campaigns, and only somebody who leaves can have a longer log and refuse; who either knows of the change and
// tells M, or does not, and is a candidate that nobody refuses. If M is no voter without it, those who are elect one of
// them and do not ask M; unless one of them knows of the change, who asks M, and so tells it.
//
// Who has left, and may be the only one to know so beside the leader, is there to tell it for as long as it is not
// deleted. So a target is settled only when the leader has committed an entry that it proposed after the change: each
// who stores that knows of the change, and they are a majority (Core.Told).
//
// What a lying peer can do with it: have a replica commit entries of its own log that are not committed, and give up
// a campaign for that, as often as there are changes in its tail. Either is what a peer can do who claims to lead a
// later term; so nothing new is lost. Lies about entries that are not in the log do nothing, and those that
// contradict what is committed are refused.
//
// # Files
//
// core.go, status.go: the core. admit.go, refusal.go: the allow-list and its counters. votes.go: what votes say of
// commits. membership.go: membership
// changes, checked on a copy before etcd/raft, which panics on one that does not fit. steer.go, steering.go: the
// next change towards the members that metadata want. envelope.go, canonical.go: the two forms of the peer
// protocol. entry.go: the content of a normal entry, and the hash chain. The conversations in testdata/scenarios
// show it at work; `go test -run Conversations -rewrite` writes them anew.
package raftcore
