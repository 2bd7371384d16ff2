package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// setting is one thing that can be configured: by a flag, in the environment, and in the file of --config.
type setting struct {
	name, value string // value is the default
	usage       string // one line, as the flags' help shows it
	// about is the rest of what there is to know: units, bounds, and what a change costs.
	about string
	isSet bool // a flag without a value means true
}

// allSettings is the one table of them. Flags, the check of keys, `config show` and docs/configuration.md are made from
// it.
var allSettings = []setting{
	{name: "data-dir", usage: "directory for everything that the node keeps",
		about: "Required. It belongs to one node for good: another node's, or one of another cluster, is refused. Put it on a disk whose fsync means it."},
	{name: "node-id", value: "0", usage: "this node's `number` in --bootstrap",
		about: "Required with `bootstrap` on an empty data directory. 0 = what the data directory says, or what the cluster gives a node that joins."},
	{name: "client-addr", usage: "host:port for clients", about: "Required. What it listens on; port 0 = any free one."},
	{name: "peer-addr", usage: "host:port for the other nodes", about: "Required. Beyond loopback only with `peer-tls-cert` and its like, or with `insecure`."},
	{name: "http-addr", usage: "host:port for /livez, /readyz, /metrics and /debug", about: "Empty = no HTTP. Always plaintext. Whoever reaches it can take profiles and read which topics there are."},
	{name: "advertise-client", usage: "what clients are told instead of --client-addr", about: "For a node behind a name or an address translation. Empty = what it listens on."},
	{name: "advertise-peer", usage: "what the other nodes are told instead of --peer-addr", about: "As `advertise-client`; it must be what `bootstrap` lists for this node."},
	{name: "bootstrap", usage: "the nodes that found the cluster: 1=host:port,2=host:port,... (peer addresses)",
		about: "At most 5, the same on all of them. Needed on an empty data directory only, where it or `join` is required; later it may stay or go."},
	{name: "join", usage: "members of a cluster to join: host:port,... (peer or client addresses)", about: "At most 16. Looked at on an empty data directory only; excludes `bootstrap`."},
	{name: "replace-after", value: "5m0s", usage: "silence after which a node's replicas are placed elsewhere; 0 = never",
		about: "Shorter restores the number of replicas sooner, and copies data for nodes that would have come back."},
	{name: "rack", usage: "where the node stands; replicas are spread over racks", about: "Any text. Empty = not told: all such nodes count as one rack."},
	{name: "config", usage: "YAML file with any of these settings", about: "Keys are the names on this page. A key that is not here is an error. It cannot stand in the file itself."},
	{name: "election-timeout", value: "1s", usage: "silence after which a follower campaigns",
		about: "50ms to 1m, and up to twice that by lot. Shorter finds dead leaders sooner and takes slow ones for dead. A tenth of it is the heartbeat; give all nodes the same."},
	{name: "record-bytes-max", value: "4MiB", usage: "largest record taken", about: "Of key, value and headers together; at most 7 MiB. Give all nodes the same: a partition moves between them."},
	{name: "snapshot-rate", value: "64MiB", usage: "most bytes per second of snapshots sent to, and received from, other nodes",
		about: "Higher fills new replicas sooner and leaves less of disk and network to clients."},
	{name: "log-level", value: "info", usage: "debug, info, warn or error", about: "Of what the node says on stderr."},
	{name: "log-format", value: "text", usage: "text or json", about: "Of the same."},
	{name: "otlp-endpoint", usage: "export traces here by OTLP over gRPC, as http://host:port",
		about: "Empty = where the OTEL_* variables say, if they do. Nothing is exported without either; what is sampled stays in the node's own ring for `mrctl trace`."},
	{name: "trace-ratio", usage: "part of the appends without a trace context of their own that is traced, 0 to 1",
		about: "Empty = what OTEL_TRACES_SAMPLER says, else 0.01 where traces are exported, else 0. An append that brings a context is sampled as its sender says."},
	{name: "client-tls-cert", usage: "PEM file with the certificate for --client-addr; empty = plaintext",
		about: "With `client-tls-key`. TLS 1.3. It is shown to clients, and to the client addresses of other nodes: all nodes have TLS there or none. The certificate, then those between it and the CA. All six files are looked at again at each handshake, so that new ones need no restart."},
	{name: "client-tls-key", usage: "PEM file with its private key", about: "Readable for the node alone."},
	{name: "client-tls-ca", usage: "PEM file with the CAs of which clients must show a certificate",
		about: "Empty = clients need none. The other nodes' client addresses are verified by it too, or by the system's CAs."},
	{name: "peer-tls-cert", usage: "PEM file with the certificate for --peer-addr; empty = plaintext",
		about: "With `peer-tls-key` and `peer-tls-ca`. TLS 1.3, and each side verifies the other, host name included: it must be one for servers and for clients. A URI `multiraftd://node/3` among its names binds it to node 3; without such a one it speaks for every node."},
	{name: "peer-tls-key", usage: "PEM file with its private key", about: "Readable for the node alone."},
	{name: "peer-tls-ca", usage: "PEM file with the CAs that sign nodes' certificates", about: "Whoever holds a certificate of these for servers and clients may be a node."},
	{name: "insecure", value: "false", usage: "allow --peer-addr beyond loopback, without authentication or encryption", isSet: true,
		about: "Anybody who reaches the peer address can then speak as a node. Only on a network that you trust. With `peer-tls-cert` it is not needed."},
}

func defineStartFlags(f *pflag.FlagSet) {
	for _, s := range allSettings {
		if s.isSet {
			f.Bool(s.name, false, s.usage)
			continue
		}
		f.String(s.name, s.value, s.usage)
	}
}

// value is a setting as it counts, and who said so.
type value struct{ text, from string }

const fromDefault = "default"

// effective are all settings as they count.
type effective map[string]value

// String returns a setting's text.
func (e effective) String(key string) string { return e[key].text }

// at names a setting and where its value comes from, as faults begin.
func (e effective) at(key string) string { return "--" + key + e.source(key) }

// source is where a setting's value comes from, in parentheses; nothing for one on the command line, or by default.
func (e effective) source(key string) string {
	if from := e[key].from; from != fromDefault && from != fromFlag(key) {
		return fmt.Sprintf(" (%s)", from)
	}
	return ""
}

// locate adds to a fault that begins with a setting where its value comes from.
func (e effective) locate(fault string) string {
	for _, s := range allSettings {
		rest, ok := strings.CutPrefix(fault, "--"+s.name)
		if ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, ":")) {
			return e.at(s.name) + rest
		}
	}
	return fault
}

func fromFlag(key string) string { return "flag --" + key }

func isSetting(key string) bool {
	return slices.ContainsFunc(allSettings, func(s setting) bool { return s.name == key })
}
