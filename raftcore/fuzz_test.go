package raftcore

import (
	"math/rand/v2"
	"testing"
)

// FuzzStep: no sequence of messages that passes the allow-list makes etcd/raft panic, whatever the replica
// does in between; a refused one changes nothing; term, commit and applied never go back; a vote is given once
// a term, across restarts too; what a canonical RPC is told to be stored, is.
func FuzzStep(f *testing.F) {
	fixedElectionTimeouts(f)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		f.Add(randomProgram(random, 800))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		newHostility(t, program[:min(len(program), programBytesMax)]).run()
	})
}

// programBytesMax keeps the time of one program far from what fuzzing takes for a hang.
const programBytesMax = 4 << 10

func randomProgram(random *rand.Rand, n int) []byte {
	program := make([]byte, n)
	for i := range program {
		program[i] = byte(random.Uint32())
	}
	return program
}

func TestNoSequenceOfHostileMessagesPanics(t *testing.T) {
	fixedElectionTimeouts(t)
	const programs = 2000
	random := rand.New(rand.NewPCG(5, 6))
	var sum hostility
	refused := [reasonCount]int{ReasonQuarantine: 1} // ends a program
	quarantined := 0
	for range programs {
		h := newHostility(t, randomProgram(random, 3000))
		h.run()
		sum.stepped += h.stepped
		sum.led += h.led
		sum.reconfigured += h.reconfigured
		sum.restored += h.restored
		sum.restarted += h.restarted
		sum.answered += h.answered
		for r := range reasonCount {
			refused[r] += h.refusals[r]
		}
		if h.core().Status().Quarantined {
			quarantined++
		}
	}
	t.Logf("%d messages admitted, %d terms led, %d memberships applied, %d snapshots restored, %d restarts, %d unary answers, %d replicas quarantined",
		sum.stepped, sum.led, sum.reconfigured, sum.restored, sum.restarted, sum.answered, quarantined)
	if sum.stepped < programs*10 || min(sum.led, sum.reconfigured, sum.restored, sum.restarted, sum.answered, quarantined) < programs/50 {
		t.Error("the programs no longer reach what they should")
	}
	for r := admitted + 1; r < reasonCount; r++ {
		if refused[r] == 0 {
			t.Errorf("no message was refused for %s", r)
		}
	}
}
