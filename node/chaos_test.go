package node

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/transport"
)

// chaosSeeds is how many seeds a plain run takes; CHAOS_SEEDS and CHAOS_FROM in the environment ask for others.
const chaosSeeds = 6

// chaos is half a simulated minute of lost, doubled and delayed frames, one-way cuts, and crashes of one node
// or of all, drawn from the seed, then peace.
type chaos struct {
	*world
	end     time.Duration
	crashes int
	cuts    int
}

func runChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{world: newWorld(t, seed, nil)}
	c.createTopic()
	c.net.SetFaults(transport.Faults{
		LossPerMille: c.rnd.Uint64N(200), DuplicatePerMille: c.rnd.Uint64N(100), Reorder: c.rnd.IntN(2) == 0,
		DelayMin: time.Millisecond, DelayMax: c.upTo(100 * time.Millisecond),
	})
	c.end = c.now + 30*time.Second
	c.load(c.end)
	c.strike()
	c.run(31 * time.Second)
	c.net.SetFaults(transport.Faults{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})
	c.run(5 * time.Second) // the last cuts heal, the last nodes start
	c.check()
	return c
}

func (c *chaos) upTo(d time.Duration) time.Duration {
	return 2*time.Millisecond + time.Duration(c.rnd.Int64N(int64(d)))
}

// strike does one thing now, and the next one later.
func (c *chaos) strike() {
	if c.now > c.end {
		return
	}
	switch c.rnd.IntN(5) {
	case 0, 1:
		c.crashAndStart(c.nodes[1+c.rnd.Uint64N(3)], 1500*time.Millisecond)
	case 2, 3:
		c.cut(1+c.rnd.Uint64N(3), 1+c.rnd.Uint64N(3))
	case 4:
		for id := uint64(1); id <= 3; id++ {
			c.crashAndStart(c.nodes[id], 400*time.Millisecond)
		}
	}
	c.after(200*time.Millisecond+c.upTo(2*time.Second), c.strike)
}

func (c *chaos) crashAndStart(n *simNode, within time.Duration) {
	if !n.up {
		return
	}
	c.crashes++
	n.crash()
	c.after(c.upTo(within), n.start)
}

func (c *chaos) cut(from, to uint64) {
	if from == to {
		return
	}
	c.cuts++
	c.net.Cut(from, to)
	c.after(c.upTo(4*time.Second), func() { c.net.Heal(from, to) })
}

func TestNoFaultOfNetworkOrPowerLosesAnAcknowledgedRecord(t *testing.T) {
	from, seeds := env(t, "CHAOS_FROM", 1), env(t, "CHAOS_SEEDS", chaosSeeds)
	acked, crashes, cuts, lost := 0, 0, 0, uint64(0)
	for seed := from; seed < from+seeds; seed++ {
		c := runChaos(t, seed)
		if c.fault != "" {
			t.Errorf("seed %d: %s (%d records acknowledged)", seed, c.fault, len(c.acked))
		}
		acked, crashes, cuts = acked+len(c.acked), crashes+c.crashes, cuts+c.cuts
		lost += c.net.Counters().FramesLost.Load()
	}
	if acked == 0 || crashes == 0 || cuts == 0 || lost == 0 {
		t.Errorf("nothing was tested: %d acknowledged, %d crashes, %d cuts, %d frames lost", acked, crashes, cuts, lost)
	}
	t.Logf("%d seeds: %d records acknowledged through %d crashes, %d cuts, %d lost frames", seeds, acked, crashes, cuts, lost)
}

func env(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
