package tlsfiles_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk makes certificates in a directory.
type desk struct {
	*issue.Authority
	t   *testing.T
	dir string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	var p issue.Pair
	var err error
	d.Authority, p, err = issue.NewAuthority(time.Now().Add(time.Hour))
	d.write("ca", p, err)
	return d
}

func (d *desk) file(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) write(name string, p issue.Pair, err error) {
	d.t.Helper()
	if err == nil {
		err = p.Write(d.file(name+".crt"), d.file(name+".key"))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) node(name string, id uint64, until time.Time) {
	d.t.Helper()
	p, err := d.Node(id, []string{"localhost", "127.0.0.1"}, until)
	d.write(name, p, err)
}

func (d *desk) paths(name string) tlsfiles.Paths {
	return tlsfiles.Paths{Cert: d.file(name + ".crt"), Key: d.file(name + ".key"), CA: d.file("ca.crt")}
}

func (d *desk) put(name, content string) string {
	d.t.Helper()
	if err := os.WriteFile(d.file(name), []byte(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d.file(name)
}

func TestWhatCannotBeUsedIsNamedWithItsSettingAndFile(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	d.node("good", 1, d.Until())
	d.node("old", 1, time.Now().Add(-time.Hour))
	other.node("foreign", 1, other.Until())
	p, err := d.Client("somebody", d.Until())
	d.write("client", p, err)
	garbage := d.put("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	large := d.put("large.pem", strings.Repeat("x", 1<<20+1))
	change := func(f func(*tlsfiles.Paths)) tlsfiles.Paths {
		p := d.paths("good")
		f(&p)
		return p
	}
	for name, tc := range map[string]struct {
		paths tlsfiles.Paths
		want  []string
	}{
		"no key":           {change(func(p *tlsfiles.Paths) { p.Key = "" }), []string{"--peer-tls-key is missing: "}},
		"no certificate":   {change(func(p *tlsfiles.Paths) { p.Cert = "" }), []string{"--peer-tls-cert is missing: "}},
		"a CA alone":       {tlsfiles.Paths{CA: d.file("ca.crt")}, []string{"--peer-tls-cert is missing: "}},
		"no CA":            {change(func(p *tlsfiles.Paths) { p.CA = "" }), []string{"--peer-tls-ca is missing: "}},
		"no such files":    {tlsfiles.Paths{Cert: "/no/c", Key: "/no/k", CA: "/no/ca"}, []string{"--peer-tls-ca /no/ca: no such file", "--peer-tls-cert /no/c: no such file", "--peer-tls-key /no/k: no such file"}},
		"a directory":      {change(func(p *tlsfiles.Paths) { p.Key = d.dir }), []string{"--peer-tls-key " + d.dir + ": it is not a file"}},
		"no PEM":           {change(func(p *tlsfiles.Paths) { p.Cert = p.Key }), []string{"good.key: no certificate is in it"}},
		"a broken one":     {change(func(p *tlsfiles.Paths) { p.CA = garbage }), []string{"--peer-tls-ca " + garbage + ": x509: "}},
		"a large one":      {change(func(p *tlsfiles.Paths) { p.CA = large }), []string{"--peer-tls-ca " + large + ": it is larger than"}},
		"another's key":    {change(func(p *tlsfiles.Paths) { p.Key = d.file("old.key") }), []string{"--peer-tls-key " + d.file("old.key") + ": it is not the key of the certificate in " + d.file("good.crt")}},
		"expired":          {d.paths("old"), []string{"--peer-tls-cert " + d.file("old.crt") + ": the certificate has expired at "}},
		"of another CA":    {change(func(p *tlsfiles.Paths) { *p = other.paths("foreign"); p.CA = d.file("ca.crt") }), []string{"foreign.crt: it does not lead to a certificate in --peer-tls-ca " + d.file("ca.crt")}},
		"a client's":       {d.paths("client"), []string{"client.crt: the certificate names no host", "client.crt: the certificate is not one for servers"}},
		"all that is good": {d.paths("good"), nil},
		"none":             {tlsfiles.Paths{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, faults := tlsfiles.Load(tlsfiles.Config{Paths: tc.paths, Name: "peer-tls", Mutual: true})
			if len(faults) != len(tc.want) || (f != nil) != (tc.want == nil && tc.paths.Set()) {
				t.Fatalf("got %q, want %q", faults, tc.want)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(faults[i], "--peer-tls-") || !strings.Contains(faults[i], want) {
					t.Errorf("got %q, want %q", faults[i], want)
				}
			}
		})
	}
}

func TestACAIsOptionalWhereNotBothSidesAreNodes(t *testing.T) {
	d := newDesk(t)
	d.node("n", 1, d.Until())
	p := d.paths("n")
	p.CA = ""
	f, faults := tlsfiles.Load(tlsfiles.Config{Paths: p, Name: "client-tls"})
	if len(faults) > 0 || f.Server().ClientCAs != nil || f.Server().ClientAuth != 0 {
		t.Errorf("got %v", faults)
	}
}

func TestNewFilesAreUsedAtTheNextHandshakeAndBadOnesAreNot(t *testing.T) {
	d := newDesk(t)
	d.node("n", 1, d.Until())
	d.node("next", 2, d.Until())
	d.node("third", 3, d.Until())
	log, counters := new(bytes.Buffer), new(tlsfiles.Counters)
	f, faults := tlsfiles.Load(tlsfiles.Config{Paths: d.paths("n"), Name: "peer-tls", Mutual: true, Counters: counters, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	wants := func(id uint64, reloads, failures uint64) {
		t.Helper()
		leaf := f.Server().Certificates[0].Leaf
		if err := tlsfiles.CheckNode(leaf, id); err != nil {
			t.Error(err)
		}
		if r, e := counters.Reloads.Load(), counters.ReloadFailures.Load(); r != reloads || e != failures {
			t.Errorf("%d reloads and %d failures, want %d and %d", r, e, reloads, failures)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(d.file(from), d.file(to)); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.Expires(); got != d.Until().Unix() || (*tlsfiles.Files)(nil).Expires() != 0 {
		t.Errorf("it expires at %d, want %d", got, d.Until().Unix())
	}
	first := f.Server()
	if f.Server() != first {
		t.Error("what has not changed is made anew")
	}
	wants(1, 0, 0)
	move("next.crt", "n.crt") // between the two the pair does not match
	wants(1, 0, 1)
	wants(1, 0, 1) // once for a change
	move("next.key", "n.key")
	wants(2, 1, 1)
	d.put("n.crt", "")
	wants(2, 1, 2)
	if err := os.Remove(d.file("n.crt")); err != nil {
		t.Fatal(err)
	}
	wants(2, 1, 3)
	move("third.crt", "n.crt")
	move("third.key", "n.key")
	wants(3, 2, 3)
	if n := strings.Count(log.String(), "level=WARN"); n != 3 || !strings.Contains(log.String(), "--peer-tls-cert "+d.file("n.crt")) {
		t.Errorf("%d warnings, want 3:\n%s", n, log)
	}
	moved := map[string]uint64{}
	counters.Each("peer", func(name, label, value, help string, v uint64) {
		if label != "address" || value != "peer" || help == "" {
			t.Errorf("%s has %s=%s, %q", name, label, value, help)
		}
		moved[name] = v
	})
	if len(moved) != 2 || moved["tls_reloads_total"] != 2 || moved["tls_reload_failures_total"] != 3 {
		t.Errorf("got %v", moved)
	}
}

func TestACertificateIsBoundToTheNodesThatItsURIsName(t *testing.T) {
	for uri, bound := range map[string]bool{
		"multiraftd://node/7": true, "MULTIRAFTD://node/7": true, "spiffe://x/y": false,
	} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{URIs: []*url.URL{u}}
		if err := tlsfiles.CheckNode(c, 7); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		if err := tlsfiles.CheckNode(c, 8); errors.Is(err, tlsfiles.ErrOtherNode) != bound {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{"multiraftd://node/0", "multiraftd://node/07", "multiraftd://node/+7", "multiraftd://node/", "multiraftd://node", "multiraftd://nodes/7", "multiraftd:7",
		"multiraftd://node/7/8", "multiraftd://node//7", "multiraftd://node/7?x", "multiraftd://node/7#x", "multiraftd://a@node/7", "multiraftd://node:1/7", "multiraftd://node/%37", "multiraftd://node/18446744073709551616"} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlsfiles.CheckNode(&x509.Certificate{URIs: []*url.URL{u}}, 7); !errors.Is(err, tlsfiles.ErrOtherNode) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if err := tlsfiles.CheckNode(&x509.Certificate{URIs: []*url.URL{tlsfiles.NodeURI(1), tlsfiles.NodeURI(2)}}, 2); err != nil {
		t.Error(err)
	}
}

func TestClientsNeedAsLittleAsServersAllow(t *testing.T) {
	d := newDesk(t)
	p, err := d.Client("somebody", d.Until())
	d.write("c", p, err)
	all := d.paths("c")
	for name, tc := range map[string]struct {
		paths      tlsfiles.Paths
		serverName string
		want       string
		none       bool
	}{
		"nothing":          {none: true},
		"a CA":             {paths: tlsfiles.Paths{CA: all.CA}},
		"a name":           {serverName: "x"},
		"all":              {paths: all, serverName: "x"},
		"half a pair":      {paths: tlsfiles.Paths{Cert: all.Cert}, want: "--tls-key is missing: "},
		"the other half":   {paths: tlsfiles.Paths{Key: all.Key}, want: "--tls-cert is missing: "},
		"no such CA":       {paths: tlsfiles.Paths{CA: "/no/ca"}, want: "--tls-ca /no/ca: no such file"},
		"the CA's own key": {paths: tlsfiles.Paths{Cert: all.Cert, Key: d.file("ca.key")}, want: "--tls-key " + d.file("ca.key") + ": it is not the key"},
	} {
		cfg, faults := tlsfiles.ForClient(tc.paths, tc.serverName)
		got := strings.Join(faults, "; ")
		if !strings.HasPrefix(got, tc.want) || (tc.want == "") != (got == "") || (cfg == nil) != (tc.none || tc.want != "") {
			t.Errorf("%s: got %v, %q, want %q", name, cfg, got, tc.want)
		}
	}
}

func TestComplaintsAreOneLineASecond(t *testing.T) {
	d := newDesk(t)
	d.node("n", 1, d.Until())
	log := new(bytes.Buffer)
	f, faults := tlsfiles.Load(tlsfiles.Config{Paths: d.paths("n"), Name: "client-tls", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, who := range []string{"a", "a", "b", "c"} {
		f.Complain(who, errors.New("no"))
	}
	if n := strings.Count(log.String(), "TLS handshake failed"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}
