package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/multiraftd/multiraftd/node"
	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

const envPrefix = "MULTIRAFT_"

// envOfClients are read by mrctl and mrbench, not by the server: they are no unknown keys.
var envOfClients = []string{"MULTIRAFT_ADDR", "MULTIRAFT_TLS_CA", "MULTIRAFT_TLS_CERT", "MULTIRAFT_TLS_KEY", "MULTIRAFT_TLS_SERVER_NAME"}

// loadConfig merges defaults, file, environment and flags, in rising order, and reports every fault at once.
func loadConfig(flags *pflag.FlagSet, stderr io.Writer) (node.Config, *slog.Logger, error) {
	e, faults := gather(flags)
	cfg, logger, more := build(e, stderr)
	if faults = append(faults, more...); len(faults) > 0 {
		return node.Config{}, nil, &node.UsageError{Faults: faults}
	}
	return cfg, logger, nil
}

// gather finds out what each setting is and who says so, without looking at what the values mean.
func gather(flags *pflag.FlagSet) (e effective, faults []string) {
	e = effective{}
	for _, s := range allSettings {
		e[s.name] = value{s.value, fromDefault}
	}
	file := os.Getenv(envPrefix + "CONFIG")
	if f := flags.Lookup("config"); f.Changed {
		file = f.Value.String()
	}
	if file != "" {
		faults = e.overlayFile(file)
	}
	faults = append(faults, e.overlayEnv()...)
	flags.Visit(func(f *pflag.Flag) {
		if isSetting(f.Name) {
			e[f.Name] = value{f.Value.String(), fromFlag(f.Name)}
		}
	})
	return e, faults
}

func (e effective) overlayFile(name string) (faults []string) {
	bad := func(line int, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s:%d: ", name, line)+fmt.Sprintf(format, args...))
	}
	data, err := os.ReadFile(name)
	var doc yaml.Node
	if err == nil {
		err = yaml.Unmarshal(data, &doc)
	}
	if err != nil {
		return []string{fmt.Sprintf("--config %s: %v", name, err)}
	}
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		bad(root.Line, "want one setting per line, such as rack: r1")
		return faults
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, n := root.Content[i], root.Content[i+1]
		if key.Kind != yaml.ScalarNode || !isSetting(key.Value) || key.Value == "config" {
			bad(key.Line, "unknown key %q; the keys are the flags of multiraftd start", key.Value)
			continue
		}
		if before, twice := lines[key.Value]; twice {
			bad(key.Line, "%s is set in line %d already", key.Value, before)
			continue
		}
		lines[key.Value] = key.Line
		text, ok := textOf(n)
		if !ok {
			bad(key.Line, "%s must have one value, in quotes if it is empty", key.Value)
			continue
		}
		e[key.Value] = value{text, fmt.Sprintf("%s:%d", name, key.Line)}
	}
	return faults
}

// textOf returns a value as it is written, as the environment and a flag give it: to YAML a rack called 1.10
// is the number 1.1. It is false for null and for what is more than one value.
func textOf(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return "", false
	}
	return n.Value, true
}

func (e effective) overlayEnv() (faults []string) {
	for _, kv := range os.Environ() {
		name, text, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(envOfClients, name) {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
		if !isSetting(key) {
			faults = append(faults, fmt.Sprintf("environment: unknown setting %s", name))
			continue
		}
		e[key] = value{text, "environment " + name}
	}
	return faults
}

// tlsPaths are the files of one address.
func (e effective) tlsPaths(name string) tlsfiles.Paths {
	return tlsfiles.Paths{Cert: e.String(name + "-cert"), Key: e.String(name + "-key"), CA: e.String(name + "-ca")}
}

// build turns the merged settings into a node.Config and reports every value that does not parse.
func build(k effective, stderr io.Writer) (cfg node.Config, logger *slog.Logger, faults []string) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	cfg = node.Config{
		DataDir: k.String("data-dir"), ClientAddr: k.String("client-addr"), PeerAddr: k.String("peer-addr"), HTTPAddr: k.String("http-addr"),
		AdvertiseClient: k.String("advertise-client"), AdvertisePeer: k.String("advertise-peer"), Rack: k.String("rack"), Version: version,
		ClientTLS: k.tlsPaths("client-tls"), PeerTLS: k.tlsPaths("peer-tls"),
	}
	if id, err := strconv.ParseUint(k.String("node-id"), 10, 32); err != nil {
		bad("%s %q: want a number", k.at("node-id"), k.String("node-id"))
	} else {
		cfg.ID = raftcore.NodeID(id)
	}
	var err error
	if s := k.String("bootstrap"); s != "" {
		if cfg.Bootstrap, err = node.ParseBootstrap(s); err != nil {
			bad("%s: %v", k.at("bootstrap"), err)
		}
	}
	if s := k.String("join"); s != "" {
		for addr := range strings.SplitSeq(s, ",") {
			cfg.Join = append(cfg.Join, strings.TrimSpace(addr))
		}
	}
	if cfg.ReplaceAfter, err = time.ParseDuration(k.String("replace-after")); err != nil || cfg.ReplaceAfter < 0 {
		bad("%s %q: want a duration such as 5m, or 0 for never", k.at("replace-after"), k.String("replace-after"))
	} else if cfg.ReplaceAfter == 0 {
		cfg.ReplaceAfter = -1
	}
	if cfg.ElectionTimeout, err = time.ParseDuration(k.String("election-timeout")); err != nil {
		bad("%s %q: want a duration such as 1s", k.at("election-timeout"), k.String("election-timeout"))
	}
	if cfg.RecordBytesMax, err = parseBytes(k.String("record-bytes-max")); err != nil {
		bad("%s %q: %v", k.at("record-bytes-max"), k.String("record-bytes-max"), err)
	}
	if cfg.SnapshotBytesPerSecond, err = parseBytes(k.String("snapshot-rate")); err != nil {
		bad("%s %q: %v", k.at("snapshot-rate"), k.String("snapshot-rate"), err)
	}
	if cfg.Insecure, err = strconv.ParseBool(k.String("insecure")); err != nil {
		bad("%s %q: want true or false", k.at("insecure"), k.String("insecure"))
	}
	cfg.Tracing.Endpoint = k.String("otlp-endpoint")
	if cfg.Tracing.Ratio, err = tracing.Ratio(k.String("trace-ratio"), cfg.Tracing.Endpoint); err != nil {
		bad("%s", k.locate(err.Error()))
	}
	logger, more := newLogger(stderr, k.String("log-level"), k.String("log-format"))
	for _, f := range more {
		faults = append(faults, k.locate(f))
	}
	cfg.Logger = logger
	var usage *node.UsageError
	if err := cfg.Validate(); errors.As(err, &usage) {
		for _, f := range usage.Faults {
			faults = append(faults, k.locate(f))
		}
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
