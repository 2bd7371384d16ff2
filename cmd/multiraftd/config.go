package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/multiraftd/multiraftd/node"
	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/raftcore"
)

const envPrefix = "MULTIRAFT_"

// envOfClient is read by mrctl, not by the server: it is no unknown key.
const envOfClient = "MULTIRAFT_ADDR"

func defineStartFlags(f *pflag.FlagSet) {
	f.String("data-dir", "", "directory for everything that the node keeps")
	f.String("node-id", "0", "this node's `number` in --bootstrap")
	f.String("client-addr", "", "host:port for clients")
	f.String("peer-addr", "", "host:port for the other nodes")
	f.String("http-addr", "", "host:port for /livez, /readyz, /metrics and /debug")
	f.String("advertise-client", "", "what clients are told instead of --client-addr")
	f.String("advertise-peer", "", "what the other nodes are told instead of --peer-addr")
	f.String("bootstrap", "", "the nodes that found the cluster: 1=host:port,2=host:port,... (peer addresses)")
	f.String("join", "", "members of a cluster to join: host:port,... (peer or client addresses)")
	f.Duration("replace-after", 5*time.Minute, "silence after which a node's replicas are placed elsewhere; 0 = never")
	f.String("rack", "", "where the node stands; replicas are spread over racks")
	f.String("config", "", "YAML file with any of these settings")
	f.Duration("election-timeout", time.Second, "silence after which a follower campaigns")
	f.String("record-bytes-max", "4MiB", "largest record taken")
	f.String("snapshot-rate", "64MiB", "most bytes per second of snapshots sent to, and received from, other nodes")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	f.String("otlp-endpoint", "", "export traces here by OTLP over gRPC, as http://host:port (default: where the OTEL_* variables say, if they do)")
	f.String("trace-ratio", "", "part of the appends without a trace context of their own that is traced, 0 to 1 (default: 0.01 where traces are exported, else 0)")
	f.Bool("insecure", false, "allow --peer-addr beyond loopback, without authentication or encryption")
}

// loadConfig merges defaults, file, environment and flags, in rising order, and reports every unknown key.
func loadConfig(flags *pflag.FlagSet, stderr io.Writer) (node.Config, *slog.Logger, error) {
	k := koanf.New(".")
	values := map[string]any{}
	flags.VisitAll(func(f *pflag.Flag) { values[f.Name] = f.DefValue })
	faults := overlayFile(flags, values)
	faults = append(faults, overlayEnv(values)...)
	flags.Visit(func(f *pflag.Flag) { values[f.Name] = f.Value.String() })
	if err := k.Load(confmap.Provider(values, "\x00"), nil); err != nil {
		return node.Config{}, nil, err
	}
	cfg, logger, more := build(k, stderr)
	if faults = append(faults, more...); len(faults) > 0 {
		return node.Config{}, nil, &node.UsageError{Faults: faults}
	}
	return cfg, logger, nil
}

func overlayFile(flags *pflag.FlagSet, values map[string]any) (faults []string) {
	name := os.Getenv(envPrefix + "CONFIG")
	if f := flags.Lookup("config"); f.Changed {
		name = f.Value.String()
	}
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(name)
	var settings map[string]yaml.Node
	if err == nil {
		err = yaml.Unmarshal(data, &settings)
	}
	if err != nil {
		return []string{fmt.Sprintf("--config %s: %v", name, err)}
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if _, known := values[key]; !known || key == "config" {
			faults = append(faults, fmt.Sprintf("%s: unknown key %q; the keys are the flags of multiraftd start", name, key))
			continue
		}
		n := settings[key]
		if values[key] = textOf(&n); values[key] == nil {
			faults = append(faults, fmt.Sprintf("%s: %s must have one value, in quotes if it is empty", name, key))
		}
	}
	return faults
}

// textOf returns a value as it is written, as the environment and a flag give it: to YAML a rack called 1.10
// is the number 1.1. It returns nil for null and for what is more than one value.
func textOf(n *yaml.Node) any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return nil
	}
	return n.Value
}

func overlayEnv(values map[string]any) (faults []string) {
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envOfClient {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
		if _, known := values[key]; !known {
			faults = append(faults, fmt.Sprintf("environment: unknown setting %s", name))
			continue
		}
		values[key] = value
	}
	return faults
}

// build turns the merged settings into a node.Config and reports every value that does not parse.
func build(k *koanf.Koanf, stderr io.Writer) (cfg node.Config, logger *slog.Logger, faults []string) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	cfg = node.Config{
		DataDir: k.String("data-dir"), ClientAddr: k.String("client-addr"), PeerAddr: k.String("peer-addr"), HTTPAddr: k.String("http-addr"),
		AdvertiseClient: k.String("advertise-client"), AdvertisePeer: k.String("advertise-peer"), Rack: k.String("rack"), Version: version,
	}
	if id, err := strconv.ParseUint(k.String("node-id"), 10, 32); err != nil {
		bad("--node-id %q: want a number", k.String("node-id"))
	} else {
		cfg.ID = raftcore.NodeID(id)
	}
	var err error
	if s := k.String("bootstrap"); s != "" {
		if cfg.Bootstrap, err = node.ParseBootstrap(s); err != nil {
			bad("--bootstrap: %v", err)
		}
	}
	if s := k.String("join"); s != "" {
		for addr := range strings.SplitSeq(s, ",") {
			cfg.Join = append(cfg.Join, strings.TrimSpace(addr))
		}
	}
	if cfg.ReplaceAfter, err = time.ParseDuration(k.String("replace-after")); err != nil || cfg.ReplaceAfter < 0 {
		bad("--replace-after %q: want a duration such as 5m, or 0 for never", k.String("replace-after"))
	} else if cfg.ReplaceAfter == 0 {
		cfg.ReplaceAfter = -1
	}
	if cfg.ElectionTimeout, err = time.ParseDuration(k.String("election-timeout")); err != nil {
		bad("--election-timeout %q: want a duration such as 1s", k.String("election-timeout"))
	}
	if cfg.RecordBytesMax, err = parseBytes(k.String("record-bytes-max")); err != nil {
		bad("--record-bytes-max %q: %v", k.String("record-bytes-max"), err)
	}
	if cfg.SnapshotBytesPerSecond, err = parseBytes(k.String("snapshot-rate")); err != nil {
		bad("--snapshot-rate %q: %v", k.String("snapshot-rate"), err)
	}
	if cfg.Insecure, err = strconv.ParseBool(k.String("insecure")); err != nil {
		bad("--insecure %q: want true or false", k.String("insecure"))
	}
	cfg.Tracing.Endpoint = k.String("otlp-endpoint")
	if cfg.Tracing.Ratio, err = tracing.Ratio(k.String("trace-ratio"), cfg.Tracing.Endpoint); err != nil {
		bad("%v", err)
	}
	if logger, err = newLogger(stderr, k.String("log-level"), k.String("log-format")); err != nil {
		bad("%v", err)
	}
	cfg.Logger = logger
	var usage *node.UsageError
	if err := cfg.Validate(); errors.As(err, &usage) {
		faults = append(faults, usage.Faults...)
	}
	return cfg, logger, faults
}

// parseBytes reads a size such as 4MiB, 512KiB or 1000.
func parseBytes(s string) (int, error) {
	units := []struct {
		suffix string
		factor int
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if !strings.HasSuffix(s, u.suffix) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(s, u.suffix)))
		if err != nil || n <= 0 || n > (1<<40)/u.factor {
			break
		}
		return n * u.factor, nil
	}
	return 0, fmt.Errorf("want a size of at least 1 byte such as 512KiB or 4MiB")
}
