package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

const (
	addrDefault     = "127.0.0.1:7071,127.0.0.1:7072,127.0.0.1:7073"
	addrEnv         = "MULTIRAFT_ADDR"
	tlsEnv          = "MULTIRAFT_TLS_" // CA, CERT, KEY and SERVER_NAME
	durationDefault = 10 * time.Second // when neither --records nor --duration is given
	sizeMax         = 64 << 20
	windowMax       = 1 << 24
	// unreachableTimeout is how long to look for the cluster when no node answers at all.
	unreachableTimeout = 2 * time.Second
)

// options are the flags. All commands have all of them, so that one line needs only its first word changed;
// read has no use for those that are about appending.
type options struct {
	addrs, tlsServerName string
	tls                  tlsfiles.Paths
	topic                string
	create               bool
	partitions, replicas uint32
	records              uint64
	duration             time.Duration
	untilEOF             bool
	size                 int
	clients, window      int
	send                 string
	rate                 float64
	verify               bool
	batchBytes           int
	linger, timeout      time.Duration
	output               string
}

func (o *options) bind(f *pflag.FlagSet) {
	f.StringVar(&o.addrs, "addr", cmp.Or(os.Getenv(addrEnv), addrDefault), "client addresses of some nodes, separated by commas (environment "+addrEnv+")")
	f.StringVar(&o.tls.CA, "tls-ca", os.Getenv(tlsEnv+"CA"), "PEM `file` with the CA of the nodes' certificates, where nodes want TLS (environment "+tlsEnv+"CA)")
	f.StringVar(&o.tls.Cert, "tls-cert", os.Getenv(tlsEnv+"CERT"), "PEM `file` with a certificate to show to nodes that want one (environment "+tlsEnv+"CERT)")
	f.StringVar(&o.tls.Key, "tls-key", os.Getenv(tlsEnv+"KEY"), "PEM `file` with its private key (environment "+tlsEnv+"KEY)")
	f.StringVar(&o.tlsServerName, "tls-server-name", os.Getenv(tlsEnv+"SERVER_NAME"), "`name` that the nodes' certificates have, where it is not that in their addresses; alone: TLS by the system's CAs (environment "+tlsEnv+"SERVER_NAME)")
	f.StringVar(&o.topic, "topic", "", "topic (required)")
	f.BoolVar(&o.create, "create", false, "create the topic, unless it exists with as many partitions; append and mixed")
	f.Uint32Var(&o.partitions, "partitions", 0, "partitions that the topic shall have; 0 = what it has")
	f.Uint32Var(&o.replicas, "replicas", 3, "replicas of each, for --create")
	f.Uint64Var(&o.records, "records", 0, "end after so many records, of all clients")
	f.DurationVar(&o.duration, "duration", 0, "end after this time; append and mixed without --records: 10s")
	f.BoolVar(&o.untilEOF, "until-eof", false, "end when standard input does; append and mixed")
	f.IntVar(&o.size, "size", 128, "bytes of a record's value")
	f.IntVar(&o.clients, "clients", 16, "clients, each a producer of its own; read: partitions read at a time")
	f.IntVar(&o.window, "window", 16384, "records in flight at most, all clients together")
	f.StringVar(&o.send, "mode", "stream", "stream, or unary: a call for each batch")
	f.Float64Var(&o.rate, "rate", 0, "records per second, all clients together; 0 = as many as the window allows")
	f.BoolVar(&o.verify, "verify", false, "read back and count missing, doubled and changed records; exits with 1 if there are any")
	f.IntVar(&o.batchBytes, "batch-bytes", 256<<10, "size at which a client closes a batch")
	f.DurationVar(&o.linger, "linger", 2*time.Millisecond, "how long a batch waits for company")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "give up after this long without success")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
}

// validate reports every fault of the flags. appends says that the command appends.
func (o *options) validate(appends bool) error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.topic == "", "--topic is required")
	refuse(o.output != "text" && o.output != "json", "-o is text or json, not %q", o.output)
	refuse(o.send != "stream" && o.send != "unary", "--mode is stream or unary, not %q", o.send)
	refuse(o.clients < 1 || o.clients > load.ClientsMax, "--clients is 1 to %d, not %d", load.ClientsMax, o.clients)
	refuse(o.duration < 0 || o.linger < 0 || o.rate < 0, "--duration, --linger and --rate cannot be negative")
	refuse(o.timeout <= 0, "--timeout must be positive")
	if appends {
		refuse(o.create && (o.partitions == 0 || o.replicas == 0), "--create needs --partitions and --replicas")
		refuse(o.size < 0 || o.size > sizeMax, "--size is 0 to %d, not %d", sizeMax, o.size)
		refuse(o.window < o.clients || o.window > windowMax, "--window is at least one record per client (%d) and at most %d, not %d", o.clients, windowMax, o.window)
		refuse(o.batchBytes < 1, "--batch-bytes must be positive")
		refuse(o.verify && o.size < load.StampBytes, "--verify needs --size %d at least", load.StampBytes)
		if o.records == 0 && o.duration == 0 && !o.untilEOF {
			o.duration = durationDefault
		}
	} else {
		refuse(o.create, "there is nothing to read in a topic that --create makes")
	}
	return usage(errors.Join(errs...))
}

// open returns a client. Each has its own connections.
func (o *options) open() (*client.Client, error) {
	var addrs []string
	for a := range strings.SplitSeq(o.addrs, ",") {
		addrs = append(addrs, strings.TrimSpace(a))
	}
	secure, faults := tlsfiles.ForClient(o.tls, o.tlsServerName)
	if len(faults) > 0 {
		return nil, usage(errors.New(strings.Join(faults, "; ")))
	}
	c, err := client.Open(client.Config{Addrs: addrs, TLS: secure, UnreachableTimeout: min(unreachableTimeout, o.timeout/2)})
	return c, usage(err)
}

// producerConfig makes the producer's buffer large enough that the window alone holds a client back.
func (o *options) producerConfig(onAck func(client.Ack)) client.ProducerConfig {
	linger := o.linger
	if linger == 0 {
		linger = -1 // the library's none
	}
	return client.ProducerConfig{BatchBytes: o.batchBytes, Linger: linger, DeliveryTimeout: o.timeout, Unary: o.send == "unary", OnAck: onAck,
		BufferBytes: max(bufferBytesMin, o.window/o.clients*(o.size+recordSlackBytes))}
}
