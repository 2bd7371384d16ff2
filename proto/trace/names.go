package trace

// Name is the name of a span or attribute, and what it stands for.
type Name struct{ Name, Means string }

// Names of spans; Spans says what they stand for.
const (
	SpanClientAppend = "append"
	SpanAppend       = "append receive"
	SpanForward      = "append forward"
	SpanDispatch     = "router dispatch"
	SpanMailbox      = "mailbox wait"
	SpanPropose      = "propose"
	SpanReplicate    = "replicate"
	SpanSend         = "send"
	SpanReceive      = "receive"
	SpanWrite        = "log write"
	SpanFsync        = "fsync"
	SpanAnswer       = "answer"
	SpanCommit       = "commit"
	SpanApply        = "apply"
	SpanReply        = "reply"
	SpanElection     = "election"
	SpanVote         = "vote"
	SpanMembership   = "membership change"
	SpanMove         = "move"
	SpanSnapshot     = "snapshot"
	SpanSnapshotIn   = "snapshot receive"
	SpanInstall      = "snapshot install"
	SpanTransfer     = "leadership transfer"
)

// Names of attributes; Attributes says what they stand for. Those with a prefix of their own are OpenTelemetry's.
const (
	AttrNode               = "multiraft.node"
	AttrGroup              = "multiraft.group"
	AttrTerm               = "multiraft.term"
	AttrIndex              = "multiraft.index"
	AttrOffset             = "multiraft.offset"
	AttrFsynced            = "multiraft.fsynced_replicas"
	AttrDuplicate          = "multiraft.duplicate"
	AttrMerged             = "multiraft.appends_merged"
	AttrTo                 = "multiraft.to_node"
	AttrFrom               = "multiraft.from_node"
	AttrQuorum             = "multiraft.quorum"
	AttrSharedWrites       = "multiraft.fsync.writes"
	AttrSharedAppends      = "multiraft.fsync.appends"
	AttrTarget             = "multiraft.target"
	AttrChange             = "multiraft.change"
	AttrResult             = "multiraft.result"
	AttrPreVote            = "multiraft.pre_vote"
	AttrSnapshot           = "multiraft.snapshot"
	AttrChunks             = "multiraft.snapshot.chunks"
	AttrMessagingSystem    = "messaging.system"
	AttrMessagingOperation = "messaging.operation.name"
	AttrMessagingType      = "messaging.operation.type"
	AttrDestination        = "messaging.destination.name"
	AttrPartition          = "messaging.destination.partition.id"
	AttrBatchCount         = "messaging.batch.message_count"
	AttrBodyBytes          = "messaging.message.body.size"
	AttrRPCSystem          = "rpc.system"
	AttrRPCService         = "rpc.service"
	AttrRPCMethod          = "rpc.method"
)

// Spans are all spans. docs/traces.md has this table.
var Spans = []Name{
	{SpanClientAppend, "A batch in the client, from its first sending to its acknowledgement, with all that is tried in between."},
	{SpanAppend, "A batch in a node, from its arrival until its answer is on the client's stream."},
	{SpanForward, "A batch on its way to the leader's node and back, at a node that does not lead."},
	{SpanDispatch, "From the service through the router to the replica's mailbox."},
	{SpanMailbox, "A proposal, or a message of a peer, in a replica's mailbox."},
	{SpanPropose, "From the mailbox until the entry is handed to peers and disk: waits for the turn, merges, steps."},
	{SpanReplicate, "To one member: from the first sending until the leader steps its acknowledgement. What the member does stands below."},
	{SpanSend, "A message in the queue for a peer, until it is in a frame."},
	{SpanReceive, "From the arrival of a frame until the message is in the replica's mailbox."},
	{SpanWrite, "An entry, or a vote, with the log writer: queued, written, durable. It links to its fsync."},
	{SpanFsync, "One commit of the log writer, for all that it holds, of all groups. It links to every sampled write in it, and stands beside the first of them."},
	{SpanAnswer, "An acknowledgement or vote in the queue for the peer that asked, until it is in a frame."},
	{SpanCommit, "From the proposal until the leader applies the entry, with the majority that had it first."},
	{SpanApply, "The state machine's part, and the release of the answers."},
	{SpanReply, "An answer on its way to the client's stream: behind the earlier ones of its partition, then sent."},
	{SpanElection, "A replica's candidacy, from its first pre-vote until it leads or follows; then, if it leads, its first entry."},
	{SpanVote, "A vote or pre-vote asked of one member, until it answers."},
	{SpanMembership, "A membership change, from the proposal until it is applied at the leader."},
	{SpanMove, "A group on its way to the members that metadata want. All leaders on the way work on one trace; the one that ends it has the root."},
	{SpanSnapshot, "A snapshot on its way to a member, from the announcement to the answer."},
	{SpanSnapshotIn, "The same at the receiver, until all of it is staged."},
	{SpanInstall, "From there until the state machine has been loaded from it."},
	{SpanTransfer, "Leadership handed to another replica, until that leads or it is given up."},
}

// Attributes are all attributes. docs/traces.md has this table.
var Attributes = []Name{
	{AttrNode, "The node; of the process, not of a span."},
	{AttrGroup, "The Raft group."},
	{AttrTerm, "The term."},
	{AttrIndex, "The entry's Raft index; no offset."},
	{AttrOffset, "Offset of the first record."},
	{AttrFsynced, "Replicas known to have fsynced the entry when it was answered."},
	{AttrDuplicate, "`true`: the batch had been stored before."},
	{AttrMerged, "Appends merged into the entry, sampled or not."},
	{AttrTo, "The node that something goes to."},
	{AttrFrom, "The node that something comes from."},
	{AttrQuorum, "The nodes whose fsync made the majority, in the order in which the leader heard of them."},
	{AttrSharedWrites, "Writes, of all groups, in one commit."},
	{AttrSharedAppends, "Those of them that are Raft appends."},
	{AttrTarget, "Id of the membership that metadata want."},
	{AttrChange, "A membership change, as etcd/raft writes it."},
	{AttrResult, "What came of it: `won`, `lost`, `granted`, `refused`, or the membership."},
	{AttrPreVote, "`true`: only asks whether a vote would be granted."},
	{AttrSnapshot, "Tells the snapshots of one node apart."},
	{AttrChunks, "Chunks read to be sent."},
	{AttrMessagingSystem, "`multiraft`."},
	{AttrMessagingOperation, "`append`."},
	{AttrMessagingType, "`send`."},
	{AttrDestination, "The topic."},
	{AttrPartition, "The partition."},
	{AttrBatchCount, "Records in the batch."},
	{AttrBodyBytes, "Bytes of the encoded batch."},
	{AttrRPCSystem, "`grpc`."},
	{AttrRPCService, "The service, such as `multiraft.v1.LogService`."},
	{AttrRPCMethod, "The method."},
}
