package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// runTimeout ends what hangs; no measure of speed.
const runTimeout = 3 * time.Minute

func TestTheContainersOfTheComposeFileFormACluster(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	text, err := os.ReadFile("../docker/compose.yaml")
	must(t, err)
	must(t, yaml.Unmarshal(text, &file))
	names := []string{"node1", "node2", "node3"}
	p := newPods(t, names, func(name string) []string { return []string{name} })
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	for _, name := range names {
		s := file.Services[name]
		p.start(name, container{args: s.Command, env: s.Environment})
	}
	p.healthy(ctx)
	p.mustCtl(ctx, "topic", "create", "hello", "--partitions", "3", "--replicas", "3")
	p.mustCtl(ctx, "append", "hello", "--partition", "1")
	if got := p.mustCtl(ctx, "read", "hello", "--from", "start", "--to", "end"); got != "one\ntwo\n" {
		t.Errorf("read %q", got)
	}
	for i, name := range names {
		if id := p.node(ctx, name); id != uint64(i+1) {
			t.Errorf("%s is node %d", name, id)
		}
	}
	for _, name := range names {
		p.stop(name)
	}
}

// set is what is needed here of a StatefulSet.
type set struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Replicas int
		Ordinals struct{ Start int }
		Template struct {
			Spec struct {
				Containers []struct {
					Args []string
					Env  []struct {
						Name, Value string
						ValueFrom   struct {
							FieldRef struct {
								FieldPath string `yaml:"fieldPath"`
							} `yaml:"fieldRef"`
						} `yaml:"valueFrom"`
					}
				}
			}
		}
	}
	Data map[string]string // of a ConfigMap
}

func load(t *testing.T, file string) (s set) {
	t.Helper()
	text, err := os.ReadFile("../kubernetes/" + file)
	must(t, err)
	d := yaml.NewDecoder(bytes.NewReader(text))
	must(t, d.Decode(&s))
	if err := d.Decode(&set{}); !errors.Is(err, io.EOF) {
		t.Fatalf("%s has more than one object", file)
	}
	return s
}

// pod is the container of one pod of the set, as kubelet starts it.
func (s *set) pod(t *testing.T, config string, ordinal int) (name string, c container) {
	t.Helper()
	name = fmt.Sprintf("%s-%d", s.Metadata.Name, ordinal)
	fields := map[string]string{"metadata.name": name, "metadata.namespace": "logs", "metadata.labels['apps.kubernetes.io/pod-index']": fmt.Sprint(ordinal)}
	in := s.Spec.Template.Spec.Containers[0]
	c = container{env: map[string]string{}, config: config}
	var expand []string
	for _, e := range in.Env {
		value := e.Value
		if path := e.ValueFrom.FieldRef.FieldPath; path != "" {
			v, ok := fields[path]
			if !ok {
				t.Fatalf("%s: field %s", name, path)
			}
			value = v
		}
		c.env[e.Name] = value
		expand = append(expand, "$("+e.Name+")", value)
	}
	for _, arg := range in.Args {
		c.args = append(c.args, strings.NewReplacer(expand...).Replace(arg))
	}
	return name, c
}

func TestThePodsOfKubernetesFormAClusterThatGrowsShrinksAndOutlivesALostVolume(t *testing.T) {
	founders, joiners, settings := load(t, "founders.yaml"), load(t, "joiners.yaml"), load(t, "config.yaml")
	config := settings.Data["multiraftd.yaml"]
	names := []string{"multiraftd-1", "multiraftd-2", "multiraftd-3", "multiraftd-more-0"}
	p := newPods(t, names, func(name string) []string {
		return []string{name + ".multiraftd-peers.logs.svc", name + ".multiraftd-peers"}
	}, "multiraftd:7070")
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	for i := range founders.Spec.Replicas {
		p.start(founders.pod(t, config, founders.Spec.Ordinals.Start+i))
	}
	p.healthy(ctx)
	p.mustCtl(ctx, "topic", "create", "hello", "--partitions", "3", "--replicas", "3")
	p.mustCtl(ctx, "append", "hello", "--partition", "1")

	// One more node, and one less: as docs/operations.md says.
	p.start(joiners.pod(t, config, 0))
	p.until(ctx, "the node has joined", func() error {
		if p.node(ctx, "multiraftd-more-0") == 0 {
			return errors.New("it is not in the list")
		}
		return nil
	})
	id := fmt.Sprint(p.node(ctx, "multiraftd-more-0"))
	p.mustCtl(ctx, "node", "drain", id, "--timeout", "2m")
	p.stop("multiraftd-more-0")
	p.mustCtl(ctx, "node", "remove", id)
	p.healthy(ctx)

	// The volume of a founder is lost. Its own command line refuses to found a second cluster; that of a joiner is taken.
	p.stop("multiraftd-2")
	must(t, os.RemoveAll(p.dataDir("multiraftd-2")))
	name, asFounder := founders.pod(t, config, 2)
	p.start(name, asFounder)
	if err := p.running[name].Wait(); p.running[name].ProcessState.ExitCode() != 3 {
		t.Fatalf("a wiped founder ends with %v:\n%s", err, p.said(name))
	}
	delete(p.running, name)
	p.mustCtl(ctx, "node", "remove", "2", "--force")
	_, asJoiner := joiners.pod(t, config, 0)
	for i := range asJoiner.args {
		asJoiner.args[i] = strings.ReplaceAll(asJoiner.args[i], "multiraftd-more-0", name)
	}
	p.start(name, asJoiner)
	p.until(ctx, "the founder is back under another id", func() error {
		if id := p.node(ctx, name); id <= 3 {
			return fmt.Errorf("it is node %d", id)
		}
		return nil
	})
	p.healthy(ctx)
	if got := p.mustCtl(ctx, "read", "hello", "--from", "start", "--to", "end"); got != "one\ntwo\n" {
		t.Errorf("read %q", got)
	}
	for _, name := range []string{"multiraftd-1", "multiraftd-2", "multiraftd-3"} {
		p.stop(name)
	}
}
