package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
)

var errBroken = errors.New("the disk is broken")

// brokenKV fails every commit once broken is closed.
type brokenKV struct {
	store.KV
	broken chan struct{}
}

func (k brokenKV) Commit(b *store.Batch, sync bool) error {
	select {
	case <-k.broken:
		return errBroken
	default:
		return k.KV.Commit(b, sync)
	}
}

func TestNothingOfANodeUsesItsStoreAfterClose(t *testing.T) {
	for name, fails := range map[string]bool{"a store that works": false, "a store that has failed": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			kv := brokenKV{store.NewMem(), make(chan struct{})}
			peer := freeAddr(t)
			n, err := Start(ctx, Config{ID: 1, KV: kv, Bootstrap: map[raftcore.NodeID]string{1: peer}, ClientAddr: freeAddr(t), PeerAddr: peer, ElectionTimeout: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Ready(ctx); err != nil {
				t.Fatal(errors.Join(err, n.Close()))
			}
			if fails {
				close(kv.broken)
				ask(n)
				<-n.Done()
				if !errors.Is(n.Err(), errBroken) {
					t.Errorf("the node says %v", n.Err())
				}
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			// A replica that lived would say that it does not lead, or that the outcome is unknown.
			select {
			case res := <-ask(n):
				if !errors.Is(res.Err, actors.ErrStopped) {
					t.Fatalf("after Close a proposal ends with %+v", res)
				}
			case <-ctx.Done():
				t.Fatal("after Close a proposal does not end")
			}
		})
	}
}

type verdict chan actors.ProposeResult

// Proposed is part of actors.ProposeReply.
func (a verdict) Proposed(r actors.ProposeResult) { a <- r }

func ask(n *Node) verdict {
	a := make(verdict, 1)
	n.core.Dispatch(router.Routed{Group: raftcore.MetadataGroup, Msg: &actors.Propose{Payload: []byte("x"), Reply: a}})
	return a
}
