package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// power is what all nodes of a test hang on. When it is off, no commit is reported as done any more, though
// one may be under way: what it has written without an fsync is on no disk.
type power struct {
	mu  sync.RWMutex
	off bool
}

// poweredKV reports a commit only while there is power: nothing that a node promises rests on a write after
// the moment in which all lost it.
type poweredKV struct {
	store.KV
	power *power
}

func (k poweredKV) Commit(b *store.Batch, sync bool) error {
	err := k.KV.Commit(b, sync)
	k.power.mu.RLock()
	defer k.power.mu.RUnlock()
	if k.power.off {
		return errPower
	}
	return err
}

// powerCluster is three nodes in this process on Pebble over filesystems in memory that keep what was synced
// and nothing else.
type powerCluster struct {
	t       *testing.T
	power   *power
	disks   [3]*vfs.MemFS
	kvs     [3]store.KV
	nodes   [3]*Node
	clients [3]string
	peers   map[raftcore.NodeID]string
}

func newPowerCluster(t *testing.T) *powerCluster {
	c := &powerCluster{t: t, peers: map[raftcore.NodeID]string{}}
	for i := range c.disks {
		c.disks[i] = vfs.NewCrashableMem()
		c.clients[i], c.peers[raftcore.NodeID(i+1)] = freeAddr(t), freeAddr(t)
	}
	return c
}

// freeAddr returns an address that stays free until it is listened on, and that nobody else has got: on a loopback address
// of this process's own, which no other test listens on, and no connection comes from.
func freeAddr(t testing.TB) string {
	pid := os.Getpid()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, taken := given.LoadOrStore(l.Addr().String(), true); !taken {
			return l.Addr().String()
		}
	}
}

var given sync.Map // what freeAddr has returned

func (c *powerCluster) start(ctx context.Context) {
	c.t.Helper()
	c.power = &power{}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i := range c.nodes {
		kv, err := store.OpenPebble(store.PebbleOptions{Dir: "store", FS: c.disks[i], OnFatal: func(error) {}})
		if err != nil {
			c.t.Fatalf("node %d does not open its store: %v", i+1, err)
		}
		c.kvs[i] = kv
		wg.Go(func() {
			c.nodes[i], errs[i] = Start(ctx, Config{
				ID: raftcore.NodeID(i + 1), KV: poweredKV{kv, c.power}, Bootstrap: c.peers, ElectionTimeout: 200 * time.Millisecond,
				ClientAddr: c.clients[i], PeerAddr: c.peers[raftcore.NodeID(i+1)],
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// lose takes the power from all nodes at once. What was on the disks then is all that there is afterwards.
func (c *powerCluster) lose() {
	c.t.Helper()
	c.power.mu.Lock()
	c.power.off = true
	c.power.mu.Unlock()
	for i := range c.disks {
		c.disks[i] = c.disks[i].CrashClone(vfs.CrashCloneCfg{})
	}
	c.stop()
}

func (c *powerCluster) stop() {
	c.t.Helper()
	for i, n := range c.nodes {
		if err := errors.Join(n.Close(), c.kvs[i].Close()); err != nil {
			c.t.Fatalf("node %d: %v", i+1, err)
		}
	}
}

// TestNothingAcknowledgedIsLostWhenAllNodesLosePowerAtOnce shows what kill -9 can't: the page cache is lost
// as well.
func TestNothingAcknowledgedIsLostWhenAllNodesLosePowerAtOnce(t *testing.T) {
	const rounds, perRound = 100, 20
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := newPowerCluster(t)
	c.start(ctx)
	for _, n := range c.nodes {
		if err := n.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := client.Open(client.Config{Addrs: c.clients[:]})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, _, err := cl.CreateTopic(ctx, "t", 1, 3); err != nil {
		t.Fatal(err)
	}
	acked := make(chan int64, 1<<16)
	p, err := cl.NewProducer(ctx, "t", client.ProducerConfig{BatchBytes: 512, BufferBytes: 64 << 10, OnAck: func(a client.Ack) {
		if a.Err != nil {
			t.Error(a.Err)
		}
		acked <- a.Receipt.Offset + int64(a.Records)
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait() // also when the test fails half way, and then after endAppends
	appending, endAppends := context.WithCancel(ctx)
	defer endAppends()
	wg.Go(func() {
		for i := 0; ; i++ {
			if _, err := p.Append(appending, 0, client.Record{Value: fmt.Appendf(nil, "record %d", i)}); err != nil {
				if appending.Err() == nil {
					t.Error(err)
				}
				return
			}
		}
	})
	high := int64(0)
	for range rounds {
		for n := 0; n < perRound; n++ {
			select {
			case high = <-acked:
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
		}
		c.lose()
		c.start(ctx)
	}
	endAppends()
	wg.Wait()
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for len(acked) > 0 {
		high = <-acked
	}
	t.Logf("%d records acknowledged in %d rounds", high, rounds)
	wantAll(ctx, t, cl, high)
	c.stop()
}

func wantAll(ctx context.Context, t *testing.T, cl *client.Client, n int64) {
	t.Helper()
	r, err := cl.NewReader(ctx, "t", client.ReadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := int64(0); ; i++ {
		rec, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			if i != n {
				t.Fatalf("%d records, %d were acknowledged", i, n)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("record %d", i); string(rec.Value) != want {
			t.Fatalf("offset %d holds %q, want %q", i, rec.Value, want)
		}
	}
}
