package raftcore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Core is one replica of one group: etcd/raft's RawNode behind the rules that keep it safe.
//
// It is a state machine and nothing else. Messages, ticks, proposals and reads go in; Effects come out when
// the owner asks, which is once per turn: many steps, one Effects. What a caller owes:
//
//   - Everything in Effects.Append is durable before any of its Responses is delivered, in order, none lost;
//     a response addressed to this replica comes back through StepLocal, the others go to their peers.
//   - Effects.Apply is applied in order, ApplyConfChange called for each membership change in it, and its
//     Responses come back through StepLocal.
//   - Effects.Messages may be sent at once, dropped, or repeated.
//
// A Core belongs to one goroutine. After a panic in any method it is of no use: stop the replica.
type Core struct {
	rn      *raft.RawNode
	cfg     Config
	members map[ReplicaID]NodeID
	conf    *raftpb.ConfState

	// handedLast is the last index of the log as it was handed out, and handedCommit the commit index at that
	// moment. Up to there, and only up to there, Storage answers for the log. etcd/raft does not tell its
	// last index, so the core keeps this lower bound, which lastSure turns into one that is always true.
	handedLast, handedCommit Index
	// lastSure is handedLast, lowered by each append or snapshot stepped since that may have cut the log.
	// Invariant: lastSure <= etcd/raft's last index. Checked where it is used (admit.go) and by FuzzStep.
	lastSure Index
	// vote is the term and vote that were handed out last, and synced those that were with Sync; see mustSync.
	vote, synced promise
	// applied is the last entry handed out to be applied. Committed, stored, and never changed again.
	applied Position
	// requests is what those who have asked for votes since the last Effects say to be committed; plain is an index up
	// to which no entry behind the commit index is a membership change. See votes.go.
	requests map[ReplicaID]Position
	plain    Index
	// readRound is the highest context in a heartbeat that this leader has sent in term seen.term.
	readRound uint64
	// seen is what the last Effects told about the leader.
	seen leadership
	// steer is about membership changes; see Steer.
	steer steering
	// ticks counts Tick, and heard is when, by it, a leader last had a message of a member: see active.
	ticks int
	heard map[ReplicaID]int
	// quarantined, once set, stays: see ErrQuarantine.
	quarantined bool
}

type leadership struct {
	term, leader uint64
	role         raft.StateType
}

// promise is what a replica must not forget of a hard state.
type promise struct{ term, vote uint64 }

// Effects are what a turn has caused. Messages for peers go out at once; Append goes to the disk; Apply to the
// state machine.
type Effects struct {
	// Messages are for peers and need not wait for the disk.
	Messages []*raftpb.Message
	// Append is a MsgStorageAppend, or nil; requests for votes are among its Responses.
	Append *raftpb.Message
	// Sync says that Append, and all Appends before it, must be synced before its Responses go out.
	Sync bool
	// Apply is a MsgStorageApply, or nil. Its entries are committed and stored here.
	Apply *raftpb.Message
	// ReadStates are reads that a majority has confirmed.
	ReadStates []ReadState
	// LeaderChanged says that term, leader or role is another than in the Effects before.
	LeaderChanged bool
}

// ReadState answers a ReadIndex: everything acknowledged before it was asked is at or below Index.
type ReadState struct {
	Context uint64
	Index   Index
}

// New makes a replica from what its storage holds.
func New(cfg Config) (*Core, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Core{cfg: cfg.withDefaults()}
	c.members, c.steer.target = c.cfg.Members, c.cfg.FollowedTarget
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("group %d replica %d: %w", cfg.Group, cfg.Self, err)
	}
	return c, nil
}

// load reads the storage. etcd/raft panics on a state that it cannot accept; here that is an error.
func (c *Core) load() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrState, p)
		}
	}()
	hard, conf, err := c.cfg.Storage.InitialState()
	if err != nil {
		return err
	}
	if hard.GetCommit() < uint64(c.cfg.Applied) {
		return fmt.Errorf("%w: applied %d, committed %d", ErrState, c.cfg.Applied, hard.GetCommit())
	}
	last, err := c.cfg.Storage.LastIndex()
	if err != nil {
		return err
	}
	c.applied.Index = c.cfg.Applied
	if c.applied.Term, err = c.cfg.Storage.Term(uint64(c.cfg.Applied)); err != nil {
		return fmt.Errorf("%w: term of applied %d: %w", ErrState, c.cfg.Applied, err)
	}
	c.conf = raftpb.EnsureConfState(conf)
	c.handedLast, c.lastSure, c.handedCommit = Index(last), Index(last), Index(hard.GetCommit())
	c.vote = promise{hard.GetTerm(), hard.GetVote()} // synced is zero: what a process before this one wrote may not be
	if c.rn, err = raft.NewRawNode(c.cfg.raft()); err != nil {
		return err
	}
	c.seen = c.leadership()
	return nil
}

// Propose appends entries to the leader's log, all or none. On an error none of them is anywhere.
func (c *Core) Propose(entries [][]byte) error {
	if err := c.needLeader(); err != nil || len(entries) == 0 {
		return err
	}
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(c.cfg.Self)), Entries: make([]*raftpb.Entry, len(entries))}
	for i, data := range entries {
		if len(data) > c.cfg.EntryBytesMax {
			return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), c.cfg.EntryBytesMax)
		}
		m.Entries[i] = &raftpb.Entry{Data: data}
	}
	err := c.rn.Step(m)
	if errors.Is(err, raft.ErrProposalDropped) {
		return ErrDropped
	}
	return err
}

// ReadIndex asks a majority whether this replica still leads. The context must be a fresh one each time; it
// comes back in Effects.ReadStates, or never when leadership is lost first.
func (c *Core) ReadIndex(context uint64) error {
	if err := c.needLeader(); err != nil {
		return err
	}
	c.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, context))
	return nil
}

// Step admits a message that came from a peer on node from, and steps it. The error is a *Refusal, and
// nothing has changed; or ErrQuarantine, and this replica is of no use any more; or nil.
func (c *Core) Step(from NodeID, m *raftpb.Message) error {
	if c.quarantined {
		c.cfg.Counters.Refuse(ReasonQuarantine)
		return ErrQuarantine
	}
	st := c.rn.BasicStatus()
	reason := c.admit(from, m, st)
	if reason == ReasonQuarantine {
		c.quarantined = true
		c.cfg.Counters.Quarantines.Add(1)
		return ErrQuarantine
	}
	if reason != admitted {
		c.cfg.Counters.Refuse(reason)
		return refuse(reason)
	}
	c.mayCut(m, st)
	err := c.rn.Step(m)
	if errors.Is(err, raft.ErrStepPeerNotFound) { // a snapshot has removed the sender, Members do not say so yet
		c.cfg.Counters.Refuse(ReasonNotMember)
		return refuse(ReasonNotMember)
	}
	c.cfg.Counters.Stepped.Add(1)
	c.hear(ReplicaID(m.GetFrom()))
	c.noteVote(m, st.RaftState)
	return err
}

// StepLocal takes back a response of this replica's own storage. It is trusted, and must not be lost.
func (c *Core) StepLocal(m *raftpb.Message) error {
	if c.quarantined {
		return ErrQuarantine
	}
	from := ReplicaID(m.GetFrom())
	if m.GetTo() != uint64(c.cfg.Self) || from != c.cfg.Self && from != reservedAppend && from != reservedApply {
		return ErrNotLocal
	}
	err := c.rn.Step(m)
	if errors.Is(err, raft.ErrStepPeerNotFound) {
		return nil // acknowledged to itself by a replica that has been removed since
	}
	return err
}

// Tick lets one tick of time pass.
func (c *Core) Tick() {
	if !c.quarantined {
		c.ticks++
		c.rn.Tick()
	}
}

// Campaign starts an election with a pre-vote. A leader ignores it, and so does who may not vote.
func (c *Core) Campaign() error {
	if c.quarantined {
		return ErrQuarantine
	}
	return c.rn.Campaign()
}

// TransferLeader hands leadership to a voter that was heard from lately and has caught up. Proposals are
// dropped until it has succeeded, which LeaderChanged tells, or an election timeout has passed.
func (c *Core) TransferLeader(to ReplicaID) error {
	if err := c.needLeader(); err != nil {
		return err
	}
	if now := c.situation(); to == noReplica || now.fittest(onlyVoter(c.conf, to)) != to {
		return ErrNoSuccessor
	}
	c.rn.TransferLeader(uint64(to))
	return nil
}

// ReportUnreachable tells a leader that an append message to r was lost. Never call it for another kind of
// message: it makes the leader probe one message at a time.
func (c *Core) ReportUnreachable(r ReplicaID) {
	if !c.quarantined {
		c.rn.ReportUnreachable(uint64(r))
	}
}

// ReportSnapshot tells a leader how the snapshot that a MsgSnap announced to r has ended. Exactly once each.
func (c *Core) ReportSnapshot(r ReplicaID, done bool) {
	if c.quarantined {
		return
	}
	status := raft.SnapshotFailure
	if done {
		status = raft.SnapshotFinish
	}
	c.rn.ReportSnapshot(uint64(r), status)
}

// Effects takes what has gathered since the last call. It returns false when there is nothing.
func (c *Core) Effects() (Effects, bool) {
	if c.quarantined || !c.rn.HasReady() {
		clear(c.requests)
		return Effects{}, false
	}
	rd := c.rn.Ready()
	var e Effects
	now := c.leadership()
	if e.LeaderChanged = now != c.seen; now.term != c.seen.term {
		c.readRound = 0
	}
	c.seen = now
	e.Messages = c.holdVotes(c.split(rd.Messages, &e), &e)
	for _, r := range rd.ReadStates {
		e.ReadStates = append(e.ReadStates, ReadState{binary.BigEndian.Uint64(r.RequestCtx), Index(r.Index)})
	}
	e.Sync = c.mustSync(e.Append)
	refused := c.sayCommitted(&e)
	c.handedOut(&e)
	for _, at := range refused {
		c.learnCommitted(at)
	}
	return e, true
}

// mustSync says whether what waits for an append waits for the disk. It does, unless all that the append could lose is a
// commit index, and whatever Appends before it could lose more has been synced: then it promises nothing that could
// be forgotten. So a follower syncs once for an entry, and not again when it hears that the entry is committed.
func (c *Core) mustSync(m *raftpb.Message) bool {
	if m.GetTerm() != 0 { // else there is no hard state in it
		c.vote = promise{m.GetTerm(), m.GetVote()}
	}
	if len(m.GetResponses()) == 0 || len(m.GetEntries()) == 0 && m.GetSnapshot() == nil && c.vote == c.synced {
		return false
	}
	c.synced = c.vote
	return true
}

// split keeps the messages for peers, in place, and puts the two for local storage where they belong.
func (c *Core) split(all []*raftpb.Message, e *Effects) []*raftpb.Message {
	peers := all[:0]
	for _, m := range all {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			e.Append = m
		case raft.LocalApplyThread:
			e.Apply = m
		default:
			if m.GetType() == raftpb.MsgHeartbeat && len(m.GetContext()) == contextBytes {
				c.readRound = max(c.readRound, binary.LittleEndian.Uint64(m.GetContext()))
			}
			peers = append(peers, m)
		}
	}
	return peers
}

// holdVotes makes requests for votes wait for the disk, which etcd/raft does not ask for: with the votes of the
// others a candidate can lead before its own term and vote are synced. If it then crashes it knows nothing of
// that term, and those who voted for it vote for it again: one term has two leaders, with different entries at
// the same index, and neither log matching nor what was committed is safe any more. In the Raft paper a
// candidate has stored its term and vote when it asks. Pre-votes promise nothing and go at once.
func (c *Core) holdVotes(all []*raftpb.Message, e *Effects) []*raftpb.Message {
	peers := all[:0]
	var asks []*raftpb.Message
	for _, m := range all {
		if m.GetType() == raftpb.MsgVote {
			asks = append(asks, m)
		} else {
			peers = append(peers, m)
		}
	}
	if len(asks) == 0 {
		return peers
	}
	if e.Append == nil { // behind the append that holds the term
		e.Append = &raftpb.Message{Type: raftpb.MsgStorageAppend.Enum(), To: new(uint64(reservedAppend)), From: new(uint64(c.cfg.Self))}
	}
	e.Append.Responses = append(asks, e.Append.Responses...)
	return peers
}

// handedOut moves the bounds to the log as the caller will have it. A Ready holds every entry that no
// earlier one held, so what it holds last is the end of the log.
func (c *Core) handedOut(e *Effects) {
	if s := e.Append.GetSnapshot(); s != nil {
		at := Position{Index(s.GetMetadata().GetIndex()), s.GetMetadata().GetTerm()}
		c.handedLast, c.applied = at.Index, at
		c.conf = s.GetMetadata().GetConfState()
	}
	if n := len(e.Append.GetEntries()); n > 0 {
		c.handedLast = Index(e.Append.GetEntries()[n-1].GetIndex())
		c.plain = min(c.plain, Index(e.Append.GetEntries()[0].GetIndex())-1)
	}
	if e.LeaderChanged {
		c.plain = 0
	}
	if n := len(e.Apply.GetEntries()); n > 0 {
		last := e.Apply.GetEntries()[n-1]
		c.applied = Position{Index(last.GetIndex()), last.GetTerm()}
	}
	c.lastSure = c.handedLast
	c.noteSteering(e.LeaderChanged)
	c.handedCommit = Index(c.rn.BasicStatus().GetCommit())
}

// mayCut lowers lastSure before an admitted append or snapshot is stepped.
func (c *Core) mayCut(m *raftpb.Message, st raft.BasicStatus) {
	if m.GetTerm() < st.GetTerm() {
		return
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		if n := uint64(len(m.GetEntries())); n > 0 && m.GetIndex() >= st.GetCommit() {
			c.lastSure = min(c.lastSure, Index(m.GetIndex()+n))
		}
	case raftpb.MsgSnap:
		c.lastSure = min(c.lastSure, Index(m.GetSnapshot().GetMetadata().GetIndex()))
	}
}

func (c *Core) needLeader() error {
	if c.quarantined {
		return ErrQuarantine
	}
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	return nil
}

func (c *Core) leadership() leadership {
	st := c.rn.BasicStatus()
	return leadership{st.GetTerm(), st.Lead, st.RaftState}
}
