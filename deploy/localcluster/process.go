package localcluster

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is one run of one server, ours or another.
type Process struct {
	cmd    *exec.Cmd
	killed atomic.Bool   // we ended it
	ended  chan struct{} // closed when it has been waited for; err is set before
	err    error
}

// Launch starts a command with its output appended to the file log.
func Launch(cmd *exec.Cmd, log string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	defer out.Close() // the process has its own descriptor
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.ended)
}

// Kill sends SIGKILL, waits for the end, and returns the time right before the signal.
func (p *Process) Kill() (time.Time, error) { return p.end(syscall.SIGKILL) }

// end sends a signal that ends the process, and waits for that.
func (p *Process) end(signal syscall.Signal) (time.Time, error) {
	p.killed.Store(true)
	at := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		return at, fmt.Errorf("sending %v to process %d: %w", signal, p.cmd.Process.Pid, err)
	}
	<-p.ended
	return at, nil
}

// Running says whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
