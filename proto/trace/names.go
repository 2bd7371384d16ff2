package trace

// Name is a span's or attribute's name and what it stands for, as docs/traces.md has it.
type Name struct{ Name, Means string }

// Names of spans.
const (
	SpanClientAppend = "append"          // in the client
	SpanAppend       = "append receive"  // in a node
	SpanForward      = "append forward"  // to the leader's node
	SpanDispatch     = "router dispatch" // from the service to the mailbox
	SpanMailbox      = "mailbox wait"    // of a proposal or message
	SpanPropose      = "propose"         // merge, step, hand out
	SpanReplicate    = "replicate"       // to one member, until it has acknowledged
	SpanSend         = "send"            // in the peer's queue, until it is in a frame
	SpanReceive      = "receive"         // from the frame to the mailbox
	SpanWrite        = "log write"       // in the LogWriter, until durable
	SpanFsync        = "fsync"           // shared by all writes in it
	SpanAnswer       = "answer"          // a follower's acknowledgement, until it is in a frame
	SpanCommit       = "commit"          // from the proposal until a majority has it
	SpanApply        = "apply"           // by the state machine
	SpanReply        = "reply"           // until it is on the client's stream
	SpanElection     = "election"        // from candidacy to its end
	SpanVote         = "vote"            // asked of one member
	SpanMembership   = "membership change"
	SpanMove         = "move"
	SpanSnapshot     = "snapshot"
	SpanSnapshotIn   = "snapshot receive"
	SpanInstall      = "snapshot install"
	SpanTransfer     = "leadership transfer"
)

// Names of attributes.
const (
	AttrNode          = "multiraft.node"
	AttrGroup         = "multiraft.group"
	AttrTerm          = "multiraft.term"
	AttrIndex         = "multiraft.index"
	AttrOffset        = "multiraft.offset"
	AttrFsynced       = "multiraft.fsynced_replicas"
	AttrDuplicate     = "multiraft.duplicate"
	AttrMerged        = "multiraft.appends_merged"
	AttrTo            = "multiraft.to_node"
	AttrFrom          = "multiraft.from_node"
	AttrQuorum        = "multiraft.quorum"
	AttrSharedWrites  = "multiraft.fsync.writes"
	AttrSharedAppends = "multiraft.fsync.appends"
	AttrTarget        = "multiraft.target"
	AttrChange        = "multiraft.change"
	AttrResult        = "multiraft.result"
	AttrPreVote       = "multiraft.pre_vote"
	AttrChunks        = "multiraft.snapshot.chunks"
	AttrSnapshot      = "multiraft.snapshot"

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
