package node

import (
	"context"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// certs are a node's certificates, by address; nil Files = plaintext.
type certs struct{ client, peer *tlsfiles.Files }

// certCounters count what became of certificate files that changed.
type certCounters struct{ client, peer tlsfiles.Counters }

// Each is part of counterSource.
func (c *certCounters) Each(f func(name, label, value, help string, v uint64)) {
	c.client.Each("client", f)
	c.peer.Each("peer", f)
}

// loadCerts reads all certificates, or reports every fault.
func (c *Config) loadCerts(counters *certCounters) (all certs, faults []string) {
	var more []string
	all.client, faults = tlsfiles.Load(tlsfiles.Config{Paths: c.ClientTLS, Name: "client-tls", Logger: c.Logger, Counters: &counters.client})
	all.peer, more = tlsfiles.Load(tlsfiles.Config{Paths: c.PeerTLS, Name: "peer-tls", Mutual: true, Logger: c.Logger, Counters: &counters.peer})
	return all, append(faults, more...)
}

func (c *Config) validateTLS(bad func(string, ...any)) {
	all, faults := c.loadCerts(new(certCounters))
	if c.ID > 0 && all.peer != nil {
		if err := all.peer.Own(uint64(c.ID)); err != nil {
			faults = append(faults, err.Error())
		}
	}
	for _, f := range faults {
		bad("%s", f)
	}
}

// loadCerts is a step of Start.
func (n *Node) loadCerts(context.Context) error {
	all, faults := n.cfg.loadCerts(&n.counters.certs)
	if len(faults) > 0 { // they have changed since Validate
		return &UsageError{faults}
	}
	n.certs = all
	return nil
}

// ownCert refuses to be a node that this one's certificate does not speak for: the others would. 0 = not known yet.
func (n *Node) ownCert(context.Context) error {
	id := n.identity().NodeID
	if id == 0 {
		return nil
	}
	if err := n.certs.peer.Own(uint64(id)); err != nil {
		return &UsageError{[]string{err.Error()}}
	}
	return nil
}

func (n *Node) probePeer(ctx context.Context, addr string) (*raftv1.ProbeResponse, error) {
	return transport.Probe(ctx, addr, n.certs.peer)
}
