package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

// office makes certificates by `mrctl cert`.
type office struct {
	t   *testing.T
	ctx context.Context
	dir string
}

func newOffice(ctx context.Context, t *testing.T) *office {
	t.Helper()
	o := &office{t, ctx, t.TempDir()}
	o.cert("ca", o.dir)
	return o
}

func (o *office) cert(args ...string) {
	o.t.Helper()
	if out, err := exec.CommandContext(o.ctx, filepath.Join(bin, "mrctl"), append([]string{"cert"}, args...)...).CombinedOutput(); err != nil {
		o.t.Fatalf("mrctl cert %v: %v\n%s", args, err, out)
	}
}

func (o *office) node(id string) { o.t.Helper(); o.cert("node", o.dir, id, "127.0.0.1", "localhost") }

func (o *office) file(name string) string { return filepath.Join(o.dir, name) }

// put writes a file in one step, as who rotates certificates does.
func (o *office) put(name string, content ...[]byte) {
	o.t.Helper()
	must(o.t, os.WriteFile(o.file(name+".new"), bytes.Join(content, nil), 0o600))
	must(o.t, os.Rename(o.file(name+".new"), o.file(name)))
}

func (o *office) content(name string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(o.file(name))
	must(o.t, err)
	return b
}

func (o *office) peerFlags(name string) []string {
	return []string{"--peer-tls-cert", o.file(name + ".crt"), "--peer-tls-key", o.file(name + ".key"), "--peer-tls-ca", o.file("ca.crt")}
}

func (o *office) clientFlags(name string) []string {
	return []string{"--client-tls-cert", o.file(name + ".crt"), "--client-tls-key", o.file(name + ".key"), "--client-tls-ca", o.file("ca.crt")}
}

func (o *office) flags(name string) []string {
	return append(o.peerFlags(name), o.clientFlags(name)...)
}

// asClient lets the tools of this test be a client of a cluster.
func (o *office) asClient(name string) {
	o.t.Helper()
	for k, file := range map[string]string{"CA": "ca.crt", "CERT": name + ".crt", "KEY": name + ".key"} {
		o.t.Setenv("MULTIRAFT_TLS_"+k, o.file(file))
	}
}

// tlsCluster is three nodes with TLS on both addresses, each with a certificate of its own, and one more that may join.
func tlsCluster(t *testing.T) (*localcluster.Cluster, *office, context.Context) {
	t.Helper()
	must(t, buildBinaries())
	ctx, cancel := context.WithTimeout(t.Context(), e2eTimeout)
	t.Cleanup(cancel)
	o := newOffice(ctx, t)
	flags := map[int][]string{}
	for id := 1; id <= 3; id++ {
		o.node(fmt.Sprint(id))
		flags[id] = o.flags(fmt.Sprintf("node-%d", id))
	}
	o.node("any")
	flags[4] = o.flags("node-any")
	o.cert("client", o.dir, "test")
	o.asClient("client-test")
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir(), Joiners: 1, NodeFlags: flags})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))
	return c, o, ctx
}

func (o *office) connect(c *localcluster.Cluster, addr string) *client.Client {
	o.t.Helper()
	cfg, faults := tlsfiles.ForClient(tlsfiles.Paths{Cert: o.file("client-test.crt"), Key: o.file("client-test.key"), CA: o.file("ca.crt")}, "")
	if len(faults) > 0 {
		o.t.Fatal(faults)
	}
	cl, err := client.Open(client.Config{Addrs: strings.Split(addr, ","), TLS: cfg})
	must(o.t, err)
	o.t.Cleanup(func() { must(o.t, cl.Close()) })
	return cl
}

// says runs mrctl with flags, and wants an exit code and words.
func says(ctx context.Context, t *testing.T, code int, words string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "mrctl"), args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(string(out), words) {
		t.Errorf("mrctl %v: %v, want exit status %d and %q in:\n%s", args, err, code, words, out)
	}
}

func TestAClusterWithTLSIsFoundedJoinedAndForwards(t *testing.T) {
	c, o, ctx := tlsCluster(t)
	cl := o.connect(c, c.Addr())
	mustCreate(t, ctx, cl, "t", 1)
	leader := leaderOf(ctx, t, c, "t")
	follower := leader%3 + 1
	l := startLoad(ctx, t, o.connect(c, c.ClientAddr(follower)), "t")
	l.waitFor(ctx, t, 500)
	must(t, c.Start(4))
	waitLog(ctx, t, c, 4, "as node 4")
	waitLog(ctx, t, c, 4, "msg=ready")
	n := l.end(t)
	for id := 1; id <= 4; id++ {
		// Describe goes to the leader, wherever it is asked; node 4 has no replica and forwards all.
		if out := ctl(ctx, t, c, "read", "t", "--from", "start", "--to", "end", "--addr", c.ClientAddr(id)); strings.Count(out, "record ") != n {
			t.Errorf("node %d gives %d records, want %d", id, strings.Count(out, "record "), n)
		}
	}
	must(t, killed(c, leader))
	must(t, c.Start(leader))
	must(t, c.Healthy(ctx))
	wantRecords(ctx, t, cl, "t", n)
}

func TestWhoHasNotTheRightCertificateIsRefusedAndToldWhy(t *testing.T) {
	c, o, ctx := tlsCluster(t)
	cl := o.connect(c, c.Addr())
	mustCreate(t, ctx, cl, "t", 1)
	l := startLoad(ctx, t, cl, "t")
	foreign := newOffice(ctx, t)
	foreign.node("3")
	foreign.cert("client", foreign.dir, "test")
	ca, err := issue.OpenAuthority(o.file("ca.crt"), o.file("ca.key"))
	must(t, err)
	old, err := ca.Node(3, []string{"127.0.0.1"}, time.Now().Add(-time.Hour))
	must(t, err)
	must(t, old.Write(o.file("old.crt"), o.file("old.key")))

	status := []string{"cluster", "status", "--addr", c.ClientAddr(1)}
	none := []string{"--tls-cert", "", "--tls-key", ""}
	says(ctx, t, 4, "wants TLS", append(append(status, none...), "--tls-ca", "")...)
	says(ctx, t, 4, "wants a certificate of the client", append(status, none...)...)
	says(ctx, t, 4, "not trust the CA that signed the client's", append(status, "--tls-cert", foreign.file("client-test.crt"), "--tls-key", foreign.file("client-test.key"))...)
	says(ctx, t, 4, "not signed by a CA in --tls-ca", append(status, "--tls-ca", foreign.file("ca.crt"))...)
	says(ctx, t, 4, "give one that it has as --tls-server-name", append(status, "--tls-server-name", "elsewhere")...)
	says(ctx, t, 2, "--tls-key is missing", append(status, "--tls-key", "")...)
	says(ctx, t, 1, "is there already", "cert", "node", o.dir, "1", "127.0.0.1")

	for _, tc := range []struct {
		name  string
		flags []string
		code  int // 0 = it runs, and is kept out
		words string
	}{
		{"an expired certificate", o.flags("old"), exitUsage, "--peer-tls-cert " + o.file("old.crt") + ": the certificate has expired at"},
		{"another node's certificate", append(o.clientFlags("node-3"), o.peerFlags("node-2")...), exitUsage, "certificate is bound to another node: it is for [2], not for 3"},
		{"a client's certificate", append(o.clientFlags("node-3"), o.peerFlags("client-test")...), exitUsage, "the certificate is not one for servers"},
		{"half of the settings", append(o.clientFlags("node-3"), o.peerFlags("node-3")[:2]...), exitUsage, "--peer-tls-key is missing"},
		{"a certificate of another CA", append(o.clientFlags("node-3"), foreign.peerFlags("node-3")...), 0, "certificate signed by unknown authority"},
		{"plaintext between nodes", o.clientFlags("node-3"), 0, "wants TLS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, killed(c, 3))
			c.SetNodeFlags(3, tc.flags)
			must(t, c.Start(3))
			if tc.code != 0 {
				code, err := c.Wait(ctx, 3)
				must(t, err)
				if code != tc.code || !strings.Contains(c.Tail(3), tc.words) {
					t.Errorf("it ended with %d, want %d and %q:\n%s", code, tc.code, tc.words, c.Tail(3))
				}
			} else {
				waitLog(ctx, t, c, 3, tc.words)
			}
			l.waitFor(ctx, t, 200) // the others go on
			c.SetNodeFlags(3, o.flags("node-3"))
			if tc.code == 0 {
				must(t, killed(c, 3))
			}
			must(t, c.Start(3))
			must(t, c.Healthy(ctx))
		})
	}
	wantRecords(ctx, t, cl, "t", l.end(t))
}

func TestCertificatesAndTheCAAreReplacedWithoutARestart(t *testing.T) {
	c, o, ctx := tlsCluster(t)
	cl := o.connect(c, c.Addr())
	mustCreate(t, ctx, cl, "t", 1)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 200)
	next := newOffice(ctx, t)
	next.cert("client", next.dir, "test")
	before := o.content("ca.crt")
	o.put("ca.crt", before, next.content("ca.crt")) // both are trusted
	for id := 1; id <= 3; id++ {
		name := fmt.Sprintf("node-%d", id)
		next.node(fmt.Sprint(id))
		o.put(name+".crt", next.content(name+".crt")) // for a moment it does not belong to the key
		o.put(name+".key", next.content(name+".key"))
	}
	old := newOffice(ctx, t) // a client that knows the old CA only, and has its certificate
	old.put("ca.crt", before)
	status := []string{"cluster", "status", "--addr", c.ClientAddr(1), "--timeout", "4s"}
	must(t, exec.CommandContext(ctx, filepath.Join(bin, "mrctl"), append(status, "--tls-ca", next.file("ca.crt"))...).Run())
	says(ctx, t, 4, "not signed by a CA in --tls-ca", append(status, "--tls-ca", old.file("ca.crt"))...)

	o.put("ca.crt", next.content("ca.crt")) // the old one is trusted no more
	says(ctx, t, 4, "not trust the CA that signed the client's", append(status, "--tls-ca", next.file("ca.crt"))...)
	next.t = t
	next.asClient("client-test")
	must(t, killed(c, 2)) // it comes back with connections in both directions that are new
	must(t, c.Start(2))
	must(t, c.Healthy(ctx))
	l.waitFor(ctx, t, 200) // connections from before go on
	for _, id := range []int{1, 3} {
		if out := scrape(ctx, t, c, id); !strings.Contains(out, `multiraft_tls_reloads_total{address="peer"}`) || strings.Contains(out, `multiraft_tls_reloads_total{address="peer"} 0`) {
			t.Errorf("node %d has noticed nothing:\n%s", id, c.Tail(id))
		}
	}
	// What does not load changes nothing, and is said once.
	o.put("node-1.crt", []byte("rubbish"))
	for range 3 {
		ctl(ctx, t, c, "cluster", "status", "--addr", c.ClientAddr(1))
	}
	if n := strings.Count(c.Tail(1), "node-1.crt: no certificate is in it"); n < 1 || n > 2 { // for each address once
		t.Errorf("said %d times:\n%s", n, c.Tail(1))
	}
	l.end(t)
}

func scrape(ctx context.Context, t *testing.T, c *localcluster.Cluster, id int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTPAddr(id)+"/metrics", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	b, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	return string(b)
}
