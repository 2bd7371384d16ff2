package node

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// installPath is how gRPC writes /multiraft.raft.v1.RaftService/InstallSnapshot into the headers of a connection's
// first call: Huffman-coded, by RFC 7541.
var installPath = []byte("\x62\x9b\x68\x49\xac\x1c\xa9\x5e\xc1\xca\x95\xfb\x85\x7d\xa3\x95\x3b\x8b\x67\x73\x10\xac\x64\xa9\x09\x1d\x14\x6e\xa8\x75\xa2\x73\xa7")

// wire passes connections on. It strikes at those that carry snapshots, after some hundred KiB each time: it cuts
// all, or flips a bit in the middle of a large piece, as often as it is told to.
type wire struct {
	t      *testing.T
	l      net.Listener
	to     string
	cuts   atomic.Int32
	flips  atomic.Int32
	silent atomic.Bool                   // new connections are taken and led nowhere
	held   atomic.Pointer[chan struct{}] // snapshots wait until it is closed
	all    sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]bool
	random *rand.Rand
	left   int // bytes until the next cut or flip
}

func newWire(t *testing.T, to string) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{t: t, l: l, to: to, open: map[net.Conn]bool{}, random: rand.New(rand.NewPCG(1, 2)), left: 600 << 10}
	w.all.Go(w.accept)
	t.Cleanup(func() {
		must(t, l.Close())
		w.cut()
		w.all.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.l.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.l.Accept()
		if err != nil {
			return
		}
		if w.silent.Load() {
			w.mu.Lock()
			w.open[near] = true
			w.mu.Unlock()
			continue
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = near.Close() // as a node that is down
			continue
		}
		w.mu.Lock()
		w.open[near], w.open[far] = true, true
		w.mu.Unlock()
		w.all.Go(func() { w.pass(far, near, true) })
		w.all.Go(func() { w.pass(near, far, false) })
	}
}

func (w *wire) pass(to, from net.Conn, spoils bool) {
	defer w.forget(to, from)
	buf, snapshot := make([]byte, 64<<10), false
	for {
		n, err := from.Read(buf)
		snapshot = snapshot || spoils && bytes.Contains(buf[:n], installPath)
		if held := w.held.Load(); snapshot && held != nil {
			<-*held
		}
		if snapshot && !w.strike(buf[:n]) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				return // reset by a node that was stopped
			}
			return
		}
	}
}

func (w *wire) forget(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // twice, by either direction
		delete(w.open, c)
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.Close() // on purpose
		delete(w.open, c)
	}
}

// strike says whether the connections live on.
func (w *wire) strike(b []byte) bool {
	w.mu.Lock()
	if w.left -= len(b); w.left > 0 || len(b) < 16<<10 {
		w.mu.Unlock()
		return true
	}
	w.left = 300<<10 + w.random.IntN(400<<10)
	flips, cuts := w.flips.Load() > 0, w.cuts.Load() > 0
	w.mu.Unlock()
	switch {
	case flips:
		w.flips.Add(-1)
		b[len(b)/2] ^= 8
	case cuts:
		w.cuts.Add(-1)
		w.cut()
		return false
	}
	return true
}
