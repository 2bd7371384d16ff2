package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/router"
)

// transfersMax bounds how many groups are handed over at the same time.
const transfersMax = 256

// HandoverError says which groups this node still leads, and why the last try to hand one over failed.
type HandoverError struct {
	Groups []raftcore.GroupID
	Err    error
}

func (e *HandoverError) Error() string {
	return fmt.Sprintf("%d groups are still led here: %v", len(e.Groups), e.Err)
}

// Unwrap returns why the last try failed.
func (e *HandoverError) Unwrap() error { return e.Err }

// Handover hands every group that this node leads to another of its voters, so that what follows, a Close, stops
// no append for as long as an election takes. It tries until ctx ends, and returns a *HandoverError when groups
// are left then. Groups without another voter do not count. The node serves on meanwhile.
func (n *Node) Handover(ctx context.Context) error {
	if !n.started.Load() {
		return nil
	}
	begin, moved := time.Now(), 0
	var last error
	for {
		led := n.led()
		if len(led) == 0 {
			n.cfg.Logger.Info("leadership handed over", "node", n.ID(), "groups", moved, "took", time.Since(begin).Round(time.Millisecond))
			return nil
		}
		for len(led) > 0 && ctx.Err() == nil {
			part := led[:min(len(led), transfersMax)]
			led = led[len(part):]
			ok, err := n.transfer(ctx, part)
			if moved += ok; err != nil {
				last = err
			}
		}
		select { // followers that lag may have caught up with the next heartbeat
		case <-ctx.Done():
			return &HandoverError{n.led(), errors.Join(last, ctx.Err())}
		case <-n.done:
			return n.Err()
		case <-time.After(n.cfg.ElectionTimeout / electionTicks):
		}
	}
}

// led returns the groups that this node leads and that have another voter.
func (n *Node) led() (led []raftcore.GroupID) {
	t := n.core.Table()
	for _, g := range t.Groups() {
		h, _ := t.Hosted(g)
		if s := h.Board.Load(); s != nil && s.Failure == "" && s.Role == raftcore.Leader && len(s.Voters) > 1 {
			led = append(led, g)
		}
	}
	return led
}

// transfer hands groups over and waits for the end of each. It returns how many are led elsewhere, and one of the
// reasons why others are not.
func (n *Node) transfer(ctx context.Context, groups []raftcore.GroupID) (moved int, last error) {
	ends := make(transferEnds, len(groups))
	for _, g := range groups {
		n.core.Dispatch(router.Routed{Group: g, Msg: &actors.Transfer{Reply: ends}})
	}
	for range groups {
		select {
		case err := <-ends:
			if err == nil {
				moved++
			} else {
				last = err
			}
		case <-ctx.Done():
			return moved, last
		}
	}
	return moved, last
}

// transferEnds has a slot for the end of each transfer.
type transferEnds chan error

// Transferred is part of actors.TransferReply.
func (e transferEnds) Transferred(_ raftcore.NodeID, err error) { e <- err }
