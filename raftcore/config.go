package raftcore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"

	"go.etcd.io/raft/v3"
)

// Limits of one group, all in force at once. Those of a node are the router's.
const (
	entryBytesMax       = 8 << 20  // one proposed entry, unless Config says otherwise
	appendBytesMax      = 1 << 20  // entries of one append message; a larger entry goes alone
	appendsInFlightMax  = 256      // append messages to one peer without answer
	inFlightBytesMax    = 32 << 20 // entries to one peer without answer
	uncommittedBytesMax = 32 << 20 // proposed and not committed; above it proposals are dropped
	applyingBytesMax    = 16 << 20 // handed out to be applied and not acknowledged
	electionTicksMin    = 10       // election timeout in heartbeats, design section 7
)

// What a message from the wire may hold at most; see admit.go.
const (
	termJumpMax    = 1 << 32 // how far a message's term may be ahead
	indexMax       = 1 << 62 // keeps index + count from overflowing
	termMax        = 1 << 62 // termJumpMax alone lets one peer lead the others to the last term, where a campaign panics
	entriesMax     = 1 << 16 // entries in one message
	contextBytes   = 8       // a read round in a heartbeat
	replicasMax    = 64      // in one snapshot's membership
	transferMark   = "CampaignTransfer"
	noReplica      = ReplicaID(raft.None)
	reservedAppend = ReplicaID(raft.LocalAppendThread)
	reservedApply  = ReplicaID(raft.LocalApplyThread)
)

// Config is what one replica is made of. Zero limits mean the defaults above.
type Config struct {
	// Group and Self name the replica. Required.
	Group GroupID
	Self  ReplicaID
	// Storage is the replica's log. Required. The owner puts each Effects.Append into it before the next
	// call of the Core, durable or not: what it answers must be the log as handed out.
	Storage raft.Storage
	// Applied is the last index that the state machine contains. Entries up to it are not handed out again.
	Applied Index
	// ElectionTicks is how many ticks without a leader start an election (at least, at most twice as many);
	// HeartbeatTicks how many lie between heartbeats. Required; at least ten heartbeats per election.
	ElectionTicks, HeartbeatTicks int
	// Members are the group's replicas and the nodes that host them, learners included. Required, but for a
	// replica that a snapshot has yet to fill: it has applied nothing.
	Members map[ReplicaID]NodeID
	// FollowedTarget is what Core.FollowedTarget returned when the membership was stored.
	FollowedTarget uint64
	// Vouch says whether the cluster's metadata know r as a replica of this group on node n. It is asked
	// only for requests of replicas that are not in Members: a later leader may be unknown here.
	// nil = nobody is vouched for.
	Vouch func(r ReplicaID, n NodeID) bool
	// Staged says whether the data of the snapshot at p have been received and wait to be activated
	// (rule 14). nil = no; a snapshot message that is not staged is refused.
	Staged func(p Position) bool
	// Counters are shared by any number of cores. nil = counted nowhere.
	Counters *Counters
	// Logger receives what etcd/raft has to say. nil = silence. Its Panic and Fatal must panic.
	Logger raft.Logger
	// EntryBytesMax bounds a proposed entry, and with it what a peer may send; default 8 MiB.
	EntryBytesMax int
	// UncommittedBytesMax bounds what is proposed and not committed; default 32 MiB. Higher values hide a
	// slow disk for longer.
	UncommittedBytesMax uint64
	// ApplyingBytesMax bounds what is handed out to be applied and not acknowledged; default 16 MiB.
	ApplyingBytesMax uint64
}

// Validate returns every fault, not only the first, wrapped in ErrConfig.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, what string) {
		if bad {
			faults = append(faults, fmt.Errorf("%w: %s", ErrConfig, what))
		}
	}
	fault(c.Group == 0, "no group")
	fault(reserved(c.Self), "no replica id, or a reserved one")
	fault(c.Storage == nil, "no storage")
	fault(c.HeartbeatTicks <= 0, "no heartbeat ticks")
	fault(c.ElectionTicks < electionTicksMin*c.HeartbeatTicks, "election timeout below ten heartbeats")
	fault(len(c.Members) == 0 && c.Applied != 0, "no members")
	fault(c.EntryBytesMax < 0, "negative entry size")
	return errors.Join(faults...)
}

func (c *Config) withDefaults() Config {
	out := *c
	out.Members = maps.Clone(c.Members)
	out.EntryBytesMax = cmp.Or(c.EntryBytesMax, entryBytesMax)
	out.UncommittedBytesMax = cmp.Or(c.UncommittedBytesMax, uncommittedBytesMax)
	out.ApplyingBytesMax = cmp.Or(c.ApplyingBytesMax, applyingBytesMax)
	if c.Counters == nil {
		out.Counters = new(Counters)
	}
	if c.Logger == nil {
		out.Logger = silent{}
	}
	return out
}

func (c *Config) raft() *raft.Config {
	return &raft.Config{
		ID:                        uint64(c.Self),
		ElectionTick:              c.ElectionTicks,
		HeartbeatTick:             c.HeartbeatTicks,
		Storage:                   c.Storage,
		Applied:                   uint64(c.Applied),
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             appendBytesMax,
		MaxCommittedSizePerReady:  c.ApplyingBytesMax,
		MaxUncommittedEntriesSize: c.UncommittedBytesMax,
		MaxInflightMsgs:           appendsInFlightMax,
		MaxInflightBytes:          inFlightBytesMax,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    c.Logger,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	}
}

// reserved says whether r names nobody, or one of etcd/raft's local threads.
func reserved(r ReplicaID) bool { return r == noReplica || r == reservedAppend || r == reservedApply }

// silent drops what etcd/raft logs. A broken invariant panics: whoever supervises the replica contains it.
type silent struct{}

func (silent) Debug(...any)            {}
func (silent) Debugf(string, ...any)   {}
func (silent) Info(...any)             {}
func (silent) Infof(string, ...any)    {}
func (silent) Warning(...any)          {}
func (silent) Warningf(string, ...any) {}
func (silent) Error(...any)            {}
func (silent) Errorf(string, ...any)   {}
func (silent) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (silent) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (silent) Panic(v ...any) { panic(fmt.Sprint(v...)) }
func (silent) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
