package node

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// farAhead is more than a term may be ahead, with room for an election meanwhile.
const farAhead = 1<<32 + 1000

// between makes the header of a message from one node's replica of the partition to another's.
func (s *stranger) between(from, to raftcore.NodeID) *raftv1.Header {
	h := s.header(from)
	h.GroupId, h.FromReplica, h.ToReplica = uint64(hostileGroup), uint64(s.board(from, hostileGroup).Replica), uint64(s.board(to, hostileGroup).Replica)
	return h
}

// headerRows are what is wrong with a header, whichever canonical RPC it comes with.
func (s *stranger) headerRows() []struct {
	input string
	spoil func(*raftv1.Header)
} {
	return []struct {
		input string
		spoil func(*raftv1.Header)
	}{
		{"another cluster", func(h *raftv1.Header) { h.ClusterId = "another" }},
		{"from node 0", func(h *raftv1.Header) { h.FromNode = 0 }},
		{"from the node itself", func(h *raftv1.Header) { h.FromNode = uint64(s.follower) }},
		{"from a node that nobody knows", func(h *raftv1.Header) { h.FromNode, h.FromReplica = 9, 9 }},
		{"from another node than its replica's", func(h *raftv1.Header) {
			o := s.header(s.other)
			h.FromNode, h.StartNumber, h.BootId = o.GetFromNode(), o.GetStartNumber(), o.GetBootId()
		}},
		{"start number 0", func(h *raftv1.Header) { h.StartNumber = 0 }},
		{"a lower start number", func(h *raftv1.Header) { h.FromNode, h.StartNumber = uint64(s.other), 1 }},
		{"the same start number with another boot id", func(h *raftv1.Header) {
			h.FromNode, h.StartNumber, h.BootId = uint64(s.other), s.header(s.other).GetStartNumber(), make([]byte, 16)
		}},
		{"start number 2^64-1 while the node is connected", func(h *raftv1.Header) { h.StartNumber = math.MaxUint64 }},
		{"a boot id of 3 bytes", func(h *raftv1.Header) { h.BootId = []byte("abc") }},
		{"a group that is not here", func(h *raftv1.Header) { h.GroupId = 4711 }},
		{"group 2^64-1", func(h *raftv1.Header) { h.GroupId = math.MaxUint64 }},
		{"to a replica that is not here", func(h *raftv1.Header) { h.ToReplica = 77 }},
		{"from a replica that nobody knows", func(h *raftv1.Header) { h.FromReplica = 77 }},
	}
}

// beat is an AppendEntries of the partition's leader that asks for nothing.
func (s *stranger) beat(from raftcore.NodeID) *raftv1.AppendEntriesRequest {
	h, b := s.between(from, s.follower), s.board(s.follower, hostileGroup)
	return &raftv1.AppendEntriesRequest{Header: h, Term: b.Term, LeaderId: h.GetFromReplica(), PrevLogIndex: uint64(b.Last), PrevLogTerm: b.Term}
}

func (s *stranger) appendEntries() (all []hostileCase) {
	add := func(input string, from func() raftcore.NodeID, spoil func(*raftv1.AppendEntriesRequest)) {
		all = append(all, hostileCase{"RaftService.AppendEntries", input, s.toFollower, func() error {
			req := s.beat(from())
			spoil(req)
			resp, err := s.peer(s.follower).AppendEntries(s.ctx, req)
			if err == nil && resp.GetSuccess() {
				return errors.New("it succeeded")
			}
			return err
		}})
	}
	add("no header", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Header = nil })
	for _, row := range s.headerRows() {
		add(row.input, s.toLeader, func(r *raftv1.AppendEntriesRequest) {
			row.spoil(r.GetHeader())
			r.LeaderId = r.GetHeader().GetFromReplica()
		})
	}
	add("a leader that is not the sender", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.LeaderId++ })
	add("term 0", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Term = 0 })
	add("term 2^64-1", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Term = math.MaxUint64 })
	add("a term 2^32+1 ahead", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Term += farAhead })
	add("an earlier term", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Term, r.PrevLogTerm = r.GetTerm()-1, 1 })
	add("index 2^64-1", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.PrevLogIndex = math.MaxUint64 })
	add("an index without a term", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.PrevLogTerm = 0 })
	add("a log term above the term", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.PrevLogTerm++ })
	add("an index beyond the log", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.PrevLogIndex += 10 })
	add("a log that contradicts what is applied", s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.PrevLogTerm-- })
	add("commit 2^64-1", s.toLeader, func(r *raftv1.AppendEntriesRequest) {
		r.PrevLogIndex, r.LeaderCommit = r.GetPrevLogIndex()+10, math.MaxUint64
	})
	add("another leader of this term", func() raftcore.NodeID { return s.other }, func(*raftv1.AppendEntriesRequest) {})
	entries := func(input string, es func(next, term uint64) []*raftv1.LogEntry) {
		add(input, s.toLeader, func(r *raftv1.AppendEntriesRequest) { r.Entries = es(r.GetPrevLogIndex()+1, r.GetTerm()) })
	}
	entries("entries with a gap", func(next, term uint64) []*raftv1.LogEntry {
		return []*raftv1.LogEntry{{Term: term, Index: next}, {Term: term, Index: next + 2}}
	})
	entries("entries of falling terms", func(_, term uint64) []*raftv1.LogEntry { return []*raftv1.LogEntry{{Term: term}, {Term: term - 1}} })
	entries("entries above the term", func(_, term uint64) []*raftv1.LogEntry { return []*raftv1.LogEntry{{Term: term + 1}} })
	entries("an entry that is empty", func(_, _ uint64) []*raftv1.LogEntry { return []*raftv1.LogEntry{{}} })
	entries("an entry of unknown type", func(_, term uint64) []*raftv1.LogEntry { return []*raftv1.LogEntry{{Term: term, Type: 99}} })
	entries("a membership change that can't be decoded", func(_, term uint64) []*raftv1.LogEntry {
		return []*raftv1.LogEntry{{Term: term, Type: raftv1.EntryType_ENTRY_TYPE_CONF_CHANGE_V2, Data: []byte{0xff}}}
	})
	entries("entries above the limit", func(_, term uint64) []*raftv1.LogEntry {
		return []*raftv1.LogEntry{{Term: term, Data: make([]byte, 15<<20)}}
	})
	entries("100000 empty entries", func(_, _ uint64) []*raftv1.LogEntry { return emptyEntries(100_000) })
	return all
}

func emptyEntries(n int) []*raftv1.LogEntry {
	es := make([]*raftv1.LogEntry, n)
	for i := range es {
		es[i] = &raftv1.LogEntry{}
	}
	return es
}

func (s *stranger) requestVotes() (all []hostileCase) {
	add := func(input string, spoil func(*raftv1.RequestVoteRequest)) {
		all = append(all, hostileCase{"RaftService.RequestVote", input, s.toFollower, func() error {
			b := s.beat(s.leader)
			req := &raftv1.RequestVoteRequest{Header: b.GetHeader(), Term: b.GetTerm() + 1, CandidateId: b.GetLeaderId(), LastLogIndex: b.GetPrevLogIndex(), LastLogTerm: b.GetPrevLogTerm()}
			spoil(req)
			resp, err := s.peer(s.follower).RequestVote(s.ctx, req)
			if err == nil && resp.GetVoteGranted() {
				return errors.New("the vote was granted")
			}
			return err
		}})
	}
	add("no header", func(r *raftv1.RequestVoteRequest) { r.Header = nil })
	for _, row := range s.headerRows() {
		add(row.input, func(r *raftv1.RequestVoteRequest) {
			row.spoil(r.GetHeader())
			r.CandidateId = r.GetHeader().GetFromReplica()
		})
	}
	add("a candidate that is not the sender", func(r *raftv1.RequestVoteRequest) { r.CandidateId++ })
	add("term 0", func(r *raftv1.RequestVoteRequest) { r.Term = 0 })
	add("term 2^64-1, by transfer", func(r *raftv1.RequestVoteRequest) {
		r.Term, r.LastLogIndex, r.LastLogTerm, r.LeadershipTransfer = math.MaxUint64, math.MaxUint64, math.MaxUint64, true
	})
	add("a term 2^32+1 ahead", func(r *raftv1.RequestVoteRequest) { r.Term += farAhead })
	add("an earlier term", func(r *raftv1.RequestVoteRequest) { r.Term, r.LastLogTerm = r.GetTerm()-2, 1 })
	add("index 2^64-1", func(r *raftv1.RequestVoteRequest) { r.LastLogIndex = math.MaxUint64 })
	add("an index without a term", func(r *raftv1.RequestVoteRequest) { r.LastLogTerm = 0 })
	add("a log term above the term", func(r *raftv1.RequestVoteRequest) { r.LastLogTerm = r.GetTerm() + 1 })
	add("a committed entry without a term", func(r *raftv1.RequestVoteRequest) { r.CommitIndex = 1 })
	add("a committed entry at index 2^64-1", func(r *raftv1.RequestVoteRequest) { r.CommitIndex, r.CommitTerm = math.MaxUint64, 1 })
	add("a committed entry above the term", func(r *raftv1.RequestVoteRequest) { r.CommitIndex, r.CommitTerm = 1, r.GetTerm()+1 })
	add("a committed entry that is another one here", func(r *raftv1.RequestVoteRequest) { r.CommitIndex, r.CommitTerm = r.GetLastLogIndex(), r.GetTerm() })
	add("a committed entry that is not here, an older log, by transfer", func(r *raftv1.RequestVoteRequest) {
		r.Term, r.CommitIndex, r.CommitTerm, r.LastLogIndex, r.LastLogTerm, r.LeadershipTransfer = r.GetTerm()-1, r.GetLastLogIndex()+1000, r.GetTerm()-1, 1, 1, true
	})
	add("a pre-vote by transfer", func(r *raftv1.RequestVoteRequest) { r.PreVote, r.LeadershipTransfer = true, true })
	add("an older log, by transfer", func(r *raftv1.RequestVoteRequest) {
		r.Term, r.LastLogIndex, r.LastLogTerm, r.LeadershipTransfer = r.GetTerm()-1, 1, 1, true
	})
	return all
}

// casesWithoutOther are those of a node that is down: nobody holds an Exchange for it, or takes it back before a
// large frame has arrived.
func (s *stranger) casesWithoutOther() (all []hostileCase) {
	h := s.between(s.leader, s.follower)
	e := &raftv1.Envelope{GroupId: h.GetGroupId(), FromReplica: s.goneReplica, ToReplica: h.GetToReplica(), Term: s.board(s.follower, hostileGroup).Term}
	s.entriesAt(e, &raftv1.LogEntry{Term: e.GetTerm(), Data: make([]byte, 15<<20)})
	e.Entries[0].Index = e.GetIndex() + 1
	all = append(all, hostileCase{"RaftService.Exchange", "entries above the limit", s.toFollower, func() error {
		return s.frame(s.other, s.follower, &raftv1.Frame{Envelopes: []*raftv1.Envelope{e}})
	}})
	for _, row := range []struct {
		input string
		spoil func(*raftv1.Header)
	}{
		{"a lower start number of a node that is down", func(h *raftv1.Header) { h.StartNumber = 1 }},
		{"the same start number with another boot id, of a node that is down", func(h *raftv1.Header) { h.BootId = bytes.Repeat([]byte{7}, 16) }},
	} {
		header := func() *raftv1.Header {
			h := s.between(s.leader, s.follower)
			h.FromNode, h.StartNumber, h.BootId = s.gone.GetFromNode(), s.gone.GetStartNumber(), s.gone.GetBootId()
			row.spoil(h)
			return h
		}
		all = append(all,
			hostileCase{"RaftService.AppendEntries", row.input, s.toFollower, func() error {
				_, err := s.peer(s.follower).AppendEntries(s.ctx, &raftv1.AppendEntriesRequest{Header: header(), Term: 5})
				return err
			}},
			hostileCase{"RaftService.RequestVote", row.input, s.toFollower, func() error {
				_, err := s.peer(s.follower).RequestVote(s.ctx, &raftv1.RequestVoteRequest{Header: header(), Term: 5})
				return err
			}},
			hostileCase{"RaftService.InstallSnapshot", row.input, s.toFollower, func() error {
				return s.install(&raftv1.InstallSnapshotRequest{Header: header(), Term: 5})
			}},
			hostileCase{"RaftService.Exchange", row.input, s.toFollower, func() error {
				return s.shake(s.follower, &raftv1.Handshake{Header: frameHeader(header()), StoreId: s.storeOf(s.other), ToNode: uint64(s.follower)})
			}})
	}
	return all
}

// frameHeader is a header as frames and handshakes have it.
func frameHeader(h *raftv1.Header) *raftv1.Header {
	return &raftv1.Header{ClusterId: h.GetClusterId(), FromNode: h.GetFromNode(), StartNumber: h.GetStartNumber(), BootId: h.GetBootId()}
}

// storeOf is the UUID of a node's store, which Probe tells anybody.
func (s *stranger) storeOf(id raftcore.NodeID) string {
	for _, n := range s.nodes {
		if rec, ok := n.core.Table().Meta.Node(id); ok {
			return rec.GetStoreId()
		}
	}
	return fmt.Sprintf("nobody knows node %d", id)
}
