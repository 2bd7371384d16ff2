package router

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// awaited carries the end of a proposal to the call that waits for it.
type awaited chan actors.ProposeResult

func (a awaited) ended(res actors.ProposeResult) { a <- res }

// propose admits one payload to a replica here and waits for its end. When ctx ends first, the payload may
// still be stored; its admission is given back when its replica is done with it.
func (s *Services) propose(ctx context.Context, h *Hosted, payload []byte) (actors.ProposeResult, error) {
	end := make(awaited, 1)
	p := &proposal{to: end, hosted: h, node: &s.admitted, bytes: int64(len(payload)),
		msg: actors.Propose{Payload: payload, Since: s.cfg.Counters.now(), Wait: s.startDispatch(spanOf(ctx))}}
	p.msg.Reply = p
	if err := p.admit(time.Now()); err != nil {
		return actors.ProposeResult{}, err
	}
	s.core.Dispatch(Routed{h.Group, &p.msg})
	select {
	case res := <-end:
		return res, res.Err
	case <-ctx.Done():
		return actors.ProposeResult{}, ctx.Err()
	case <-s.closed.Done():
		return actors.ProposeResult{}, actors.ErrOutcomeUnknown
	}
}

// roomFor refuses what clients append when this node's disk is low, or those of so many followers that the rest
// is no majority. Commands go through: they are small, and some free space.
func (s *Services) roomFor(t *Table, h *Hosted) error {
	if level := s.cfg.Space.Level(); level != actors.SpaceEnough {
		return fail(diskFull, "the disk of node %d is nearly full (%v): appends are refused until there is room", s.core.Node(), level)
	}
	if st := h.Board.Load(); !t.QuorumHasRoom(st.Voters) {
		return fail(diskFull, "the disks of nodes %v are nearly full, which leaves no majority of %v: appends are refused until there is room", t.full, st.Voters)
	}
	return nil
}

// command proposes a command to the metadata replica here and returns what the machine made of it.
func (s *Services) command(ctx context.Context, h *Hosted, c *metav1.Command) (raftcore.Outcome, error) {
	payload, err := proto.Marshal(c)
	if err != nil {
		return raftcore.Outcome{}, badField("request", "%v", err)
	}
	res, err := s.propose(ctx, h, payload)
	if err != nil {
		return raftcore.Outcome{}, err
	}
	if v := res.Outcome.Verdict; v != raftcore.Accepted && v != raftcore.Duplicate {
		return raftcore.Outcome{}, judged(res.Outcome)
	}
	return res.Outcome, nil
}

// bounds is the end of a ReadEnd.
type bounds struct {
	start, high raftcore.Offset
	term        uint64
	err         error
}

// endAnswer carries it to the call that waits.
type endAnswer chan bounds

// ReadEnd is part of actors.ReadEndReply.
func (a endAnswer) ReadEnd(start, high raftcore.Offset, term uint64, err error) {
	select {
	case a <- bounds{start, high, term, err}:
	default: // a second answer has nobody to go to
	}
}

// readEnds asks the leaders here for the linearizable bounds of their logs, all in one message, and returns
// the answers in the order of the groups.
func (s *Services) readEnds(ctx context.Context, groups ...raftcore.GroupID) ([]bounds, error) {
	began := time.Now()
	items := make([]Routed, len(groups))
	answers := make([]endAnswer, len(groups))
	for i, g := range groups {
		answers[i] = make(endAnswer, 1)
		items[i] = Routed{g, &actors.ReadEnd{Reply: answers[i]}}
	}
	s.core.Dispatch(items...)
	all := make([]bounds, len(groups))
	for i, a := range answers {
		select {
		case all[i] = <-a:
			if all[i].err != nil {
				return nil, all[i].err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.closed.Done():
			return nil, errStopping()
		}
	}
	s.cfg.Counters.ReadEnd.Observe(time.Since(began).Nanoseconds())
	return all, nil
}
