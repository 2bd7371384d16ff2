package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/multiraftd/multiraftd/deploy/trial"
)

// callersMax is how many calls of one record each are in flight at most, for systems that answer record by record: etcd
// refuses more than 5,000 that are committed and not applied.
const callersMax = 4096

// system is one way to store records.
type system struct {
	name string
	// fsync is what the disks hold when a record is acknowledged.
	fsync string
	// notes are the settings, how its client batches, and what else is to be known of its figures.
	notes string
	// adapt is what the system gets of a workload; nil = all of it. With not it is left out.
	adapt func(workload) (adapted workload, not bool)
	run   func(context.Context, load) (trial.Figures, error)
	// programs of the others' folder that it needs, whose modules' versions are told; none = multiraftd's own.
	programs []string
}

func (s system) called() string { return s.name }

// load is one run of a workload.
type load struct {
	workload
	bin      string
	duration time.Duration
}

// load returns what the system gets of a workload.
func (s system) load(o options, w workload) load {
	if s.adapt != nil {
		w, _ = s.adapt(w)
	}
	return load{workload: w, bin: o.bin, duration: o.duration}
}

const (
	majority = "on a majority"
	notYet   = "none yet"
)

var systems = []system{
	{name: "multiraftd", fsync: majority, run: multiraftd(stream),
		notes: "Default settings; mrbench, batches of the client up to 256 KiB with a linger of 2 ms; none with one record in flight."},
	{name: "multiraftd-single", fsync: majority, run: multiraftd(single), adapt: notAlone,
		notes: "The same without batches of the client: every record is a batch of its own on the stream, as NATS's are. A client has 5 of them in flight per partition at most."},
	{name: "multiraftd-unary", fsync: majority, run: multiraftd(unary), adapt: oneCallEach,
		notes: "The same, every record in a unary call of its own, as etcd's are: at most 4,096 callers, one call at a time each."},
	{name: "nats-always", fsync: majority, run: nats("always"), programs: natsPrograms,
		notes: "JetStream, a file stream with 3 replicas per partition, sync_interval: always, otherwise default; asynchronous publish, a connection per client. Its client has no batches."},
	{name: "nats-default", fsync: notYet, run: nats(""), programs: natsPrograms,
		notes: "The same with the default sync_interval of 2 minutes: a majority has written the record and not fsynced it; power loss can take what was acknowledged."},
	{name: "etcd", fsync: majority, run: etcd, adapt: asCallers, programs: []string{"etcd", "etcdload"},
		notes: "Default settings but for a quota of 8 GiB. One Raft group: partitions are prefixes of keys, a record is a Put of a new key. At most 4,096 concurrent calls; its client has no batches."},
	{name: "dragonboat", fsync: majority, run: dragonboat, programs: []string{"dragonboatload"},
		notes: "Default log store. A library: three NodeHosts and the clients in one process, who propose at the leader without a connection; the state machine does nothing. Both are in its favour."},
}

var natsPrograms = []string{"nats-server", "natsload"}

// notAlone leaves a system out where there is nothing to batch.
func notAlone(w workload) (workload, bool) { return w, w.window == 1 }

func asCallers(w workload) (workload, bool) {
	w.window = min(w.window, callersMax)
	return w, false
}

func oneCallEach(w workload) (workload, bool) {
	w, _ = asCallers(w)
	w.clients = w.window
	return w, false
}

// mode says how mrbench sends.
type mode int

const (
	stream mode = iota
	single      // a record per batch
	unary       // a record per batch and call
)

func multiraftd(m mode) func(context.Context, load) (trial.Figures, error) {
	return func(ctx context.Context, l load) (trial.Figures, error) {
		return trial.Multiraftd(ctx, trial.Config{Bin: l.bin, LoadBin: l.bin, Load: append(l.flags("--"), m.flags(l)...)})
	}
}

func (m mode) flags(l load) []string {
	f := []string{"--topic", "compare", "--create", "--replicas", fmt.Sprint(replicas)}
	if m != stream {
		f = append(f, "--batch-bytes", "1")
	}
	if m != stream || l.window == 1 {
		f = append(f, "--linger", "0")
	}
	if m == unary {
		f = append(f, "--mode", "unary")
	}
	return f
}

// flags are those that mrbench and the load programs of the others have in common.
func (l load) flags(dashes string) []string {
	var f []string
	for _, one := range []struct {
		name  string
		value any
	}{{"partitions", l.partitions}, {"clients", l.clients}, {"window", l.window}, {"size", l.size}, {"duration", l.duration}} {
		f = append(f, dashes+one.name, fmt.Sprint(one.value))
	}
	return f
}

// peersFolder of bin/ holds the other systems and their load programs.
const peersFolder = "peers"

func (l load) peer(program string) string { return filepath.Join(l.bin, peersFolder, program) }
