package node

import (
	"errors"
	"maps"
	"net"
	"strconv"
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
)

// FuzzParseBootstrap: a set that parses has one canonical text, which parses to the same set: nodes compare
// its hash before they found a cluster. With it, a configuration is valid or says what is wrong.
func FuzzParseBootstrap(f *testing.F) {
	for _, s := range []string{
		"1=127.0.0.1:7081,2=127.0.0.1:7082,3=127.0.0.1:7083", "2=b:1,1=a:1", "1=a:1", "1=[::1]:1", "01=a:1", "", ",", "1=a:1,", "1=a:1,1=b:1", "0=a:1", "1", "=a:1",
		"1=a=b:1", "4294967296=a:1", "4294967295=a:1", "1=a:1, 2=b:1", "-1=a:1", "1=a:70000", "1=:1,2=:1", "1=a:1,2=b:1,3=c:1,4=d:1,5=e:1,6=f:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := ParseBootstrap(s)
		if err != nil {
			if set != nil || err.Error() == "" {
				t.Errorf("%q: %v with %v", s, err, set)
			}
			return
		}
		canonical := FormatBootstrap(set)
		again, err := ParseBootstrap(canonical)
		if err != nil || !maps.Equal(again, set) || FormatBootstrap(again) != canonical {
			t.Errorf("%q is %v, written as %q is %v, %v", s, set, canonical, again, err)
		}
		if len(set) == 0 || set[0] != "" {
			t.Errorf("%q is %v", s, set)
		}
		for id, addr := range set {
			checkFounding(t, Config{ID: id, DataDir: "d", ClientAddr: "127.0.0.1:0", PeerAddr: addr, Insecure: true, Bootstrap: set})
			break
		}
	})
}

// checkFounding: what is valid can be founded with.
func checkFounding(t *testing.T, c Config) {
	if err := c.Validate(); err != nil {
		var usage *UsageError
		if !errors.As(err, &usage) || len(usage.Faults) == 0 {
			t.Errorf("%v: %v", c.Bootstrap, err)
		}
		return
	}
	if len(c.Bootstrap) > bootstrapNodesMax {
		t.Errorf("%d nodes found a cluster", len(c.Bootstrap))
	}
	byAddr := map[string]raftcore.NodeID{}
	for id, addr := range c.Bootstrap {
		_, port, err := net.SplitHostPort(addr)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n > 65535 {
			t.Errorf("node %d is at %q", id, addr)
		}
		if other, twice := byAddr[addr]; twice {
			t.Errorf("nodes %d and %d are at %q", id, other, addr)
		}
		byAddr[addr] = id
	}
}
