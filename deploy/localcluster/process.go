package localcluster

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one run of one node.
type process struct {
	cmd    *exec.Cmd
	killed atomic.Bool   // we ended it
	ended  chan struct{} // closed when it has been waited for; err is set before
	err    error
}

// launch starts a command with its output appended to the file log.
func launch(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a node's log: %w", err)
	}
	defer out.Close() // the process has its own descriptor
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a node: %w", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.ended)
}

// kill sends SIGKILL, waits for the end, and returns the time right before the signal.
func (p *process) kill() (time.Time, error) { return p.end(syscall.SIGKILL) }

// end sends a signal that ends the process, and waits for that.
func (p *process) end(signal syscall.Signal) (time.Time, error) {
	p.killed.Store(true)
	at := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		return at, fmt.Errorf("sending %v to process %d: %w", signal, p.cmd.Process.Pid, err)
	}
	<-p.ended
	return at, nil
}

// running says whether it has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
