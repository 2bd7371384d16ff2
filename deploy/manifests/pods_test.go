package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// container is what a file says of one that runs a node.
type container struct {
	args   []string
	env    map[string]string
	config string // text of the file that --config names; empty = none
}

// pods are containers that run as processes.
type pods struct {
	t     *testing.T
	bin   string
	dir   string
	names []string // of the pods: each has the same ports, at a name of its own
	base  int
	// replaces puts loopback addresses in the place of names.
	replaces *strings.Replacer
	running  map[string]*exec.Cmd
}

// ports of a container, in the order of those on loopback.
var ports = []string{"7070", "7080", "7090"}

var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "multiraftd-manifests-")
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/multiraftd", "../../cmd/mrctl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); os.Getenv("TEST_DEPLOY") != "" && err == nil {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newPods makes room for pods. hosts says under which names a pod's ports are known; service is an address under which
// the first pod is known as well.
func newPods(t *testing.T, names []string, hosts func(name string) []string, service ...string) *pods {
	t.Helper()
	if os.Getenv("TEST_DEPLOY") == "" {
		t.Skip("make test-deploy runs this")
	}
	bin, err := binaries()
	must(t, err)
	base, err := localcluster.FreePorts(len(names) * len(ports))
	must(t, err)
	p := &pods{t: t, bin: bin, dir: t.TempDir(), names: names, base: base, running: map[string]*exec.Cmd{}}
	var pairs []string
	for _, name := range names {
		for _, host := range hosts(name) {
			for _, port := range ports {
				pairs = append(pairs, host+":"+port, p.addr(name, port))
			}
		}
	}
	for _, s := range service {
		pairs = append(pairs, s, p.addr(names[0], "7070"))
	}
	p.replaces = strings.NewReplacer(pairs...)
	t.Cleanup(func() {
		for _, cmd := range p.running {
			must(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
		}
	})
	return p
}

func (p *pods) addr(name, port string) string {
	for i, n := range p.names {
		for j, q := range ports {
			if n == name && q == port {
				return fmt.Sprintf("127.0.0.1:%d", p.base+i*len(ports)+j)
			}
		}
	}
	p.t.Fatalf("no pod %s with port %s", name, port)
	return ""
}

// everywhere is what a node that has the network for itself listens on.
var everywhere = regexp.MustCompile(`(^|")(:\d+)("|$)`)

// here puts what there is on loopback in the place of what a container would find.
func (p *pods) here(name, s string) string {
	s = p.replaces.Replace(s)
	s = everywhere.ReplaceAllStringFunc(s, func(m string) string {
		parts := everywhere.FindStringSubmatch(m)
		return parts[1] + p.addr(name, parts[2][1:]) + parts[3]
	})
	return regexp.MustCompile(`(^|data-dir: )/data\b`).ReplaceAllString(s, "${1}"+p.dataDir(name))
}

func (p *pods) dataDir(name string) string { return filepath.Join(p.dir, name) }

func (p *pods) log(name string) string { return filepath.Join(p.dir, name+".log") }

func (p *pods) start(name string, c container) {
	p.t.Helper()
	args := make([]string, len(c.args))
	for i, arg := range c.args {
		if strings.HasPrefix(arg, "--config=") {
			file := filepath.Join(p.dir, name+".yaml")
			must(p.t, os.WriteFile(file, []byte(p.here(name, c.config)), 0o644))
			arg = "--config=" + file
		}
		args[i] = p.here(name, arg)
	}
	cmd := exec.Command(filepath.Join(p.bin, "multiraftd"), args...)
	for k, v := range c.env {
		cmd.Env = append(cmd.Env, k+"="+p.here(name, v))
	}
	out, err := os.OpenFile(p.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(p.t, err)
	defer out.Close() // the process has its own descriptor
	cmd.Stderr = out
	must(p.t, cmd.Start())
	p.running[name] = cmd
}

// stop ends a pod as its runtime does, and wants a clean end.
func (p *pods) stop(name string) {
	p.t.Helper()
	cmd := p.running[name]
	delete(p.running, name)
	must(p.t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v\n%s", name, err, p.said(name))
	}
}

func (p *pods) said(name string) string {
	text, err := os.ReadFile(p.log(name))
	must(p.t, err)
	return string(text)
}

// ctl runs mrctl at the pods that run.
func (p *pods) ctl(ctx context.Context, args ...string) (string, error) {
	var addrs []string
	for _, name := range p.names {
		if p.running[name] != nil {
			addrs = append(addrs, p.addr(name, "7070"))
		}
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "mrctl"), append([]string{"--addr", strings.Join(addrs, ",")}, args...)...)
	cmd.Stderr, cmd.Stdin = &stderr, strings.NewReader("one\ntwo\n")
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("mrctl %v: %w: %s%s", args, err, out, stderr.String())
	}
	return string(out), err
}

func (p *pods) mustCtl(ctx context.Context, args ...string) string {
	p.t.Helper()
	out, err := p.ctl(ctx, args...)
	if err != nil {
		for name := range p.running {
			p.t.Logf("%s:\n%s", name, p.said(name))
		}
		p.t.Fatal(err)
	}
	return out
}

// until asks until it is so.
func (p *pods) until(ctx context.Context, what string, is func() error) {
	p.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for name := range p.running {
				p.t.Logf("%s:\n%s", name, p.said(name))
			}
			p.t.Fatalf("not so: %s: %v", what, err)
		}
	}
}

func (p *pods) healthy(ctx context.Context) {
	p.t.Helper()
	p.until(ctx, "the cluster is healthy", func() error {
		_, err := p.ctl(ctx, "cluster", "health", "--timeout", "3s")
		return err
	})
}

// node is the id of the pod's node; 0 = it is none.
func (p *pods) node(ctx context.Context, name string) uint64 {
	p.t.Helper()
	var nodes []struct {
		ID   uint64
		Addr string `json:"client_addr"`
	}
	must(p.t, json.Unmarshal([]byte(p.mustCtl(ctx, "node", "list", "-o", "json")), &nodes))
	for _, n := range nodes {
		if n.Addr == p.addr(name, "7070") {
			return n.ID
		}
	}
	return 0
}
