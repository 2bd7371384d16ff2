package manifests

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const top = "../../.."

// stages parses the Dockerfile: the build and the image.
func stages(t *testing.T) (build, image instructions.Stage) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docker, "Dockerfile"))
	must(t, err)
	parsed, err := parser.Parse(bytes.NewReader(text))
	must(t, err)
	for _, w := range parsed.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	all, args, err := instructions.Parse(parsed.AST, nil)
	must(t, err)
	if len(all) != 2 || len(args) != 0 || all[0].Name != "build" {
		t.Fatalf("%d stages", len(all))
	}
	return all[0], all[1]
}

func TestTheImageHoldsNoSystemAndRunsAsNobody(t *testing.T) {
	_, image := stages(t)
	if image.BaseName != "scratch" {
		t.Errorf("the image is built on %s", image.BaseName)
	}
	var user, entry string
	for _, cmd := range image.Commands {
		switch c := cmd.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				t.Error("the entry point needs a shell")
			}
		case *instructions.RunCommand:
			t.Errorf("the image has nothing that could run %v", c.CmdLine)
		}
	}
	if user != "65532:65532" || entry != "/multiraftd" {
		t.Errorf("user %q, entry point %q", user, entry)
	}
}

// outside carries out instructions without Docker: what is absolute in a build is below root here.
type outside struct {
	t       *testing.T
	root    string // of the build
	workdir string
	env     []string
}

func (o *outside) at(p string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join(o.workdir, p)
	}
	return filepath.Join(o.root, p)
}

func (o *outside) do(cmd instructions.Command) {
	o.t.Helper()
	switch c := cmd.(type) {
	case *instructions.WorkdirCommand:
		o.workdir = c.Path
		must(o.t, os.MkdirAll(o.at("."), 0o755))
	case *instructions.CopyCommand:
		for _, src := range c.SourcePaths {
			copyContext(o.t, src, o.at(c.DestPath), len(c.SourcePaths) > 1)
		}
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			o.env = append(o.env, a.Key+"="+a.ValueString())
		}
	case *instructions.RunCommand:
		line := strings.ReplaceAll(strings.Join(c.CmdLine, " "), "/out/", o.root+"/out/")
		run := exec.CommandContext(o.t.Context(), "/bin/sh", "-c", line)
		run.Dir, run.Env = o.at("."), append(os.Environ(), o.env...)
		if out, err := run.CombinedOutput(); err != nil {
			o.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	default:
		o.t.Fatalf("nobody has said how to do %s", cmd.Name())
	}
}

// copyContext copies a file or folder of the tree, without what Dockerfile.dockerignore names.
func copyContext(t *testing.T, src, dst string, into bool) {
	t.Helper()
	list, err := os.Open(filepath.Join(docker, "Dockerfile.dockerignore"))
	must(t, err)
	defer list.Close()
	patterns, err := ignorefile.ReadAll(list)
	must(t, err)
	ignored, err := patternmatcher.New(patterns)
	must(t, err)
	must(t, filepath.WalkDir(filepath.Join(top, src), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(rel)
		switch {
		case err != nil:
			return err
		case skip && d.IsDir():
			return fs.SkipDir
		case skip, d.IsDir():
			return nil
		}
		to := filepath.Join(dst, strings.TrimPrefix(rel, src+"/"))
		if into || src == rel {
			to = filepath.Join(dst, filepath.Base(rel))
		}
		return copyFile(p, to)
	}))
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// imageRoot carries out the Dockerfile and returns the image's root directory.
func imageRoot(t *testing.T) string {
	t.Helper()
	build, image := stages(t)
	o := &outside{t: t, root: t.TempDir(), workdir: "/"}
	for _, cmd := range build.Commands {
		o.do(cmd)
	}
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	for _, cmd := range image.Commands {
		c, ok := cmd.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		for _, src := range c.SourcePaths {
			from := filepath.Join(o.root, src)
			if !strings.HasPrefix(src, "/out/") { // of the image that the build runs in: here, of this machine
				from = src
			}
			info, err := os.Stat(from)
			must(t, err)
			to := filepath.Join(root, c.DestPath)
			if strings.HasSuffix(c.DestPath, "/") {
				to = filepath.Join(to, filepath.Base(src))
			}
			if !info.IsDir() {
				must(t, copyFile(from, to))
				continue
			}
			must(t, os.MkdirAll(to, 0o755))
			if c.Chown != "65532:65532" {
				t.Errorf("%s belongs to %q", to, c.Chown)
			}
			must(t, os.Chown(to, nobody, nobody))
		}
	}
	return root
}

const nobody = 65532

// inImage is a program of the image, run as the image says: with nothing but what the image holds, as nobody.
func inImage(ctx context.Context, root string, line ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func TestTheDockerfileBuildsWhatRunsInAnEmptyRootAsNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root directory")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	root := imageRoot(t)
	for _, program := range []string{"/multiraftd", "/mrctl"} {
		out, err := inImage(ctx, root, program, "version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), program[1:]+" unknown ") {
			t.Errorf("%s version: %v: %s", program, err, out)
		}
	}
	addrs := freeAddrs(t, 3)
	var stderr bytes.Buffer
	node := inImage(ctx, root, "/multiraftd", "start", "--data-dir=/data", "--node-id=1", "--bootstrap=1="+addrs[0], "--peer-addr="+addrs[0], "--client-addr="+addrs[1], "--http-addr="+addrs[2])
	node.Stderr = &stderr
	must(t, node.Start())
	ready := untilReady(ctx, "http://"+addrs[2]+"/readyz")
	if ready == nil {
		out, err := inImage(ctx, root, "/mrctl", "--addr", addrs[1], "cluster", "health").CombinedOutput()
		if err != nil {
			t.Errorf("mrctl cluster health: %v: %s", err, out)
		}
	}
	must(t, node.Process.Signal(syscall.SIGTERM))
	if err := node.Wait(); err != nil || ready != nil {
		t.Fatalf("%v, %v:\n%s", ready, err, stderr.String())
	}
	if entries, err := os.ReadDir(filepath.Join(root, "data")); err != nil || !slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		t.Errorf("the data are elsewhere: %v %v", entries, err)
	}
}

// freeAddrs are below the range from which outgoing connections get their ports (see deploy/localcluster).
func freeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for tries := 0; len(addrs) < n; tries++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000)))
		if err != nil {
			if tries > 100 {
				t.Fatal(err)
			}
			continue
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func untilReady(ctx context.Context, url string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := fmt.Errorf("%s does not answer", url)
		if resp, err := http.Get(url); err == nil {
			if resp.Body.Close(); resp.StatusCode == http.StatusOK {
				return nil
			}
			last = fmt.Errorf("%s: %s", url, resp.Status)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last
		}
	}
}
