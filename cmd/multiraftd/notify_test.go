package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notices is the socket on which systemd would listen. Each element is what one datagram said.
func notices(t *testing.T) (socket string, said <-chan string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	all, ended := make(chan string, 1000), make(chan struct{})
	t.Cleanup(func() {
		must(t, conn.Close())
		<-ended
	})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			all <- string(buf[:n])
		}
	}()
	return socket, all
}

// heard returns what was said up to the first notice with a prefix, that one included.
func heard(ctx context.Context, t *testing.T, said <-chan string, prefix string) (all []string) {
	t.Helper()
	for {
		select {
		case s := <-said:
			if all = append(all, s); strings.HasPrefix(s, prefix) {
				return all
			}
		case <-ctx.Done():
			t.Fatalf("%q was not said, but %q", prefix, all)
		}
	}
}

func TestSystemdHearsReadyOnlyWhenThereIsALeaderThenLifeThenTheStop(t *testing.T) {
	c, ctx := startCluster(t)
	for id := 1; id <= 3; id++ {
		_, err := c.Stop(id)
		must(t, err)
	}
	socket, said := notices(t)
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "600000")
	must(t, c.Start(1))
	heard(ctx, t, said, "STATUS=starting")
	for _, s := range heard(ctx, t, said, "STATUS=not ready yet: ") {
		if strings.HasPrefix(s, "READY=1") {
			t.Fatal("ready without a leader")
		}
	}
	must(t, os.Unsetenv("NOTIFY_SOCKET")) // of the other node nothing is heard
	must(t, c.Start(2))
	heard(ctx, t, said, "READY=1")
	heard(ctx, t, said, "WATCHDOG=1")
	heard(ctx, t, said, "WATCHDOG=1")
	code, err := c.Stop(1)
	must(t, err)
	if code != exitOK {
		t.Errorf("ended with %d:\n%s", code, c.Tail(1))
	}
	heard(ctx, t, said, "STOPPING=1")
}

func TestTheWatchdogIsFedOnlyWhileTheRouterTakesTicks(t *testing.T) {
	var fed int
	s := &supervisor{slog.New(slog.DiscardHandler), func(string) (bool, error) { fed++; return true, nil }}
	look, failed := make(chan time.Time), make(chan struct{})
	ticks := make(chan uint64, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.feed(t.Context(), look, failed, func() uint64 { return <-ticks })
	}()
	for _, n := range []uint64{0, 1, 2, 2, 2, 3} {
		look <- time.Time{}
		ticks <- n
	}
	close(failed)
	<-ended
	if fed != 3 {
		t.Errorf("fed %d times, want 3", fed)
	}
}

func TestWhatIsSaidOfSeveralFaultsIsOneLine(t *testing.T) {
	var got string
	s := &supervisor{slog.New(slog.DiscardHandler), func(state string) (bool, error) { got = state; return true, nil }}
	s.waiting(errors.Join(context.DeadlineExceeded, errors.New("READY=1")))
	if want := "STATUS=not ready yet: context deadline exceeded READY=1"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
