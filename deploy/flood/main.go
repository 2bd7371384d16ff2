package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// target is what is flooded, and from where.
type target struct {
	client, peer string // addresses of one node
	from         string // the loopback address that connections come from
	cluster      string // id, for handshakes
	topic, group uint64 // that exist: a topic of some MiB, and the group of one of its partitions
	node         uint64 // id of the node

	did atomic.Uint64 // how often what the kind is named after was done
}

// kind is one way to use up a node: workers at once, each repeating what it does.
type kind struct {
	about   string
	workers int
	once    func(ctx context.Context, t *target) error
}

var kinds = map[string]kind{
	"silence":        {"connections that say nothing, or half of a preface", 200, silence},
	"connections":    {"connections, as many as a host gets and as fast as they are closed", 8, connect},
	"streams":        {"10000 calls on one connection that stay open", 4, streams},
	"resets":         {"calls that are reset as soon as they have begun", 4, resets},
	"unfinished":     {"requests of 15 MiB of which the last byte is missing", 40, unfinished},
	"elements":       {"requests of 14 MiB in empty elements", 16, elements},
	"garbage":        {"small requests that are no message", 16, garbage},
	"headers":        {"calls with 1 MiB of headers", 4, headers},
	"pings":          {"pings", 4, pings},
	"slow-readers":   {"reads whose answers nobody takes", 40, slowReaders},
	"deaf-appends":   {"append streams whose results nobody takes", 40, deafAppends},
	"unknown-groups": {"frames full of heartbeats of groups that are not there", 4, unknownGroups},
	"refused-frames": {"frames full of heartbeats that a group refuses", 4, refusedFrames},
	"empty-frames":   {"frames with nothing in them", 4, emptyFrames},
}

func main() {
	t := new(target)
	name := flag.String("kind", "", "what to do, one of: "+strings.Join(names(), ", "))
	flag.StringVar(&t.client, "client", "", "client address of the node")
	flag.StringVar(&t.peer, "peer", "", "peer address of the node")
	flag.StringVar(&t.from, "from", "127.0.1.1", "loopback address to come from")
	flag.StringVar(&t.cluster, "cluster", "", "id of the cluster")
	flag.Uint64Var(&t.node, "node", 1, "id of the node")
	flag.Uint64Var(&t.topic, "topic", 0, "id of a topic with some MiB to read")
	flag.Uint64Var(&t.group, "group", 0, "id of a group that is there")
	flag.Parse()
	k, ok := kinds[*name]
	if !ok || t.client == "" || t.peer == "" || t.cluster == "" || t.topic == 0 || t.group == 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "flood: -kind, -client, -peer, -cluster, -topic and -group are needed, and nothing else")
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, t, k, os.Stdin)
	stop()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(map[string]any{"kind": *name, "did": t.did.Load()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

func names() []string { return slices.Sorted(maps.Keys(kinds)) }

// run repeats a kind in all its workers until in ends. What the node closes or refuses is no failure: it ends one turn.
func run(ctx context.Context, t *target, k kind, in io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, err := io.Copy(io.Discard, in)
		cancel(errors.Join(errEnded, err))
	}()
	var workers sync.WaitGroup
	for range k.workers {
		workers.Go(func() {
			for ctx.Err() == nil {
				if err := k.once(ctx, t); err != nil && ctx.Err() == nil { // at the end everything fails
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, errEnded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

var errEnded = errors.New("standard input has ended")
