package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"

	"golang.org/x/net/http2/hpack"
)

const (
	cutBytesMin = 64 << 10 // a chunk has 256 KiB
	proxyBytes  = 32 << 10 // read at once
	// flipBytes lie between two flips: more than is under way before the first has been noticed.
	flipBytes = 8 << 20
)

// proxy stands between a node and its peers. It passes everything on, but for connections that carry a snapshot to
// the node: those it cuts, or flips bits in, as often as it is told.
type proxy struct {
	listener net.Listener
	to       string
	mark     []byte // in it a bit may be flipped
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool
	cutsLeft int
	cutMax   int // bytes of a snapshot after which a connection is cut at the latest
	flipLeft int
	cuts     int
	flips    int
	calm     int // bytes until the next flip
}

// installPath is how a client names the stream of a snapshot in the headers of a new HTTP/2 connection.
var installPath = hpack.AppendHuffmanString(nil, "/multiraft.raft.v1.RaftService/InstallSnapshot")

// newProxy listens in the place of the address to. The mark is what the payload consists of.
func newProxy(to string, mark []byte) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	p := &proxy{listener: l, to: to, mark: mark, conns: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// spoil orders cuts, and flips after them, of a snapshot of some bytes, and forgets those before. All cuts together
// fall into its first half.
func (p *proxy) spoil(bytes, cuts, flips int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutMax = bytes / 2 / max(cuts, 1)
	p.cutsLeft, p.flipLeft, p.cuts, p.flips, p.calm = cuts, flips, 0, 0, 0
}

// done returns how many cuts and flips there were.
func (p *proxy) done() (cuts, flips int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts, p.flips
}

// close ends all connections and waits for the goroutines.
func (p *proxy) close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close() // the other end of its goroutine may have done so
	}
	p.mu.Unlock()
	p.running.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = in.Close() // the node is down: so is its address
			continue
		}
		if p.keep(in, out) {
			p.running.Go(func() { p.forward(in, out) })
		}
	}
}

// keep notes connections for close; no means that it is too late.
func (p *proxy) keep(in, out net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_, _ = in.Close(), out.Close() // nobody uses them
		return false
	}
	p.conns[in], p.conns[out] = true, true
	return true
}

// forward copies both ways until one of them ends.
func (p *proxy) forward(in, out net.Conn) {
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out) // its end is what counts
		_ = in.Close()          // so that inward ends too, which may have closed it already
	})
	p.inward(in, out)
	_, _ = in.Close(), out.Close() // also when they are closed already
	back.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// inward copies what peers send to the node.
func (p *proxy) inward(in io.Reader, out io.Writer) {
	buf := make([]byte, proxyBytes)
	snapshot, budget := false, p.budget()
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if snapshot = snapshot || bytes.Contains(buf[:n], installPath); snapshot {
				if budget -= n; p.touch(buf[:n], budget) {
					return
				}
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// budget is after how many bytes a new connection is cut, if it carries a snapshot and there are cuts left.
func (p *proxy) budget() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cutBytesMin + rand.IntN(max(p.cutMax-cutBytesMin, 1))
}

// touch flips a bit of data if one is due, and says whether to cut. What is flipped is not cut off: it has to arrive.
func (p *proxy) touch(data []byte, budget int) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutsLeft > 0 {
		if budget > 0 {
			return false
		}
		p.cutsLeft--
		p.cuts++
		return true
	}
	p.calm -= len(data)
	if at := bytes.Index(data, p.mark); p.flipLeft > 0 && p.calm <= 0 && at >= 0 {
		data[at+rand.IntN(len(p.mark))] ^= 1 << rand.IntN(8)
		p.flipLeft--
		p.flips++
		p.calm = flipBytes
	}
	return false
}
