package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/multiraftd/multiraftd/node"
)

// supervisor tells systemd how far the daemon is (Type=notify). Where no one has given it a socket, it says nothing.
type supervisor struct {
	log *slog.Logger
	say func(state string) (sent bool, err error)
}

func newSupervisor(log *slog.Logger) *supervisor {
	return &supervisor{log, func(state string) (bool, error) { return daemon.SdNotify(false, state) }}
}

func (s *supervisor) notify(state string) {
	if _, err := s.say(state); err != nil {
		s.log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

func (s *supervisor) starting() {
	s.notify("STATUS=starting: on an empty directory it waits for the nodes of --bootstrap, or to join")
}

func (s *supervisor) ready() { s.notify(daemon.SdNotifyReady + "\nSTATUS=ready") }

func (s *supervisor) waiting(why error) { s.notify("STATUS=not ready yet: " + oneLine(why)) }

func (s *supervisor) stopping() { s.notify(daemon.SdNotifyStopping) }

// oneLine keeps a state from being taken for two.
func oneLine(err error) string {
	b := []byte(err.Error())
	for i, c := range b {
		if c == '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}

// watchdogShare is how often the watchdog is fed in the time that it has patience for.
const watchdogShare = 3

// watch feeds systemd's watchdog, if there is one, until ctx or the node ends.
func (s *supervisor) watch(ctx context.Context, n *node.Node) {
	patience, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("no watchdog", "err", err)
	}
	if err != nil || patience == 0 {
		return
	}
	t := time.NewTicker(patience / watchdogShare)
	defer t.Stop()
	s.feed(ctx, t.C, n.Done(), n.Ticks)
}

// feed says that the process is alive only when the Router has taken a tick since it last said so: a goroutine of
// ours that runs would prove nothing about actors that hang. A stalled disk is not the watchdog's business: the
// node hands its leaderships over, and killing it would help nobody.
func (s *supervisor) feed(ctx context.Context, look <-chan time.Time, failed <-chan struct{}, ticks func() uint64) {
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			return
		case <-look:
		}
		if now := ticks(); now != last {
			last = now
			s.notify(daemon.SdNotifyWatchdog)
		}
	}
}
