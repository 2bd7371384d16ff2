package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
	"github.com/multiraftd/multiraftd/deploy/trial"
)

const serverCount = 3

// servers are the processes of another system, with a folder for their data and two loopback addresses for each.
type servers struct {
	dir       string
	clients   []string // where each takes clients
	peers     []string // where each takes the others
	processes []*localcluster.Process
}

// withServers gives f a new folder and addresses, and ends what it has started.
func withServers(f func(*servers) (trial.Figures, error)) (figures trial.Figures, err error) {
	dir, err := os.MkdirTemp("", "multiraftd-peers-")
	if err != nil {
		return trial.Figures{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	base, err := localcluster.FreePorts(2 * serverCount)
	if err != nil {
		return trial.Figures{}, err
	}
	s := &servers{dir: dir}
	for i := range serverCount {
		s.clients = append(s.clients, fmt.Sprintf("127.0.0.1:%d", base+i))
		s.peers = append(s.peers, fmt.Sprintf("127.0.0.1:%d", base+serverCount+i))
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return f(s)
}

// start starts the next server.
func (s *servers) start(program string, args ...string) error {
	p, err := localcluster.Launch(exec.Command(program, args...), s.log(len(s.processes)))
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

func (s *servers) log(i int) string { return filepath.Join(s.dir, fmt.Sprintf("server%d.log", i+1)) }

func (s *servers) data(i int) string { return filepath.Join(s.dir, fmt.Sprintf("data%d", i+1)) }

// load runs a load program against the servers. That one of them has ended meanwhile is an error, with the end of its log.
func (s *servers) load(ctx context.Context, l load, program string, args ...string) (trial.Figures, error) {
	f, err := trial.Load(exec.CommandContext(ctx, l.peer(program), append(l.flags("-"), args...)...))
	for i, p := range s.processes {
		if !p.Running() {
			err = errors.Join(err, fmt.Errorf("server %d has ended by itself; the end of its log:\n%s", i+1, localcluster.Tail(s.log(i))))
		}
	}
	return f, err
}

func (s *servers) close() error {
	var errs []error
	for _, p := range s.processes {
		if p.Running() {
			_, err := p.Kill()
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// nats runs NATS servers with JetStream. sync is its sync_interval; empty = its default.
func nats(sync string) func(context.Context, load) (trial.Figures, error) {
	return func(ctx context.Context, l load) (trial.Figures, error) {
		return withServers(func(s *servers) (trial.Figures, error) {
			for i := range serverCount {
				file := filepath.Join(s.dir, fmt.Sprintf("server%d.conf", i+1))
				if err := os.WriteFile(file, []byte(natsConfig(s, i, sync)), 0o644); err != nil {
					return trial.Figures{}, err
				}
				if err := s.start(l.peer("nats-server"), "--config", file); err != nil {
					return trial.Figures{}, err
				}
			}
			return s.load(ctx, l, "natsload", "-addr", "nats://"+strings.Join(s.clients, ",nats://"))
		})
	}
}

func natsConfig(s *servers, i int, sync string) string {
	if sync != "" {
		sync = "\n  sync_interval: " + sync
	}
	return fmt.Sprintf(`server_name: server%d
listen: %q
cluster {
  name: compare
  listen: %q
  routes: ["nats-route://%s"]
}
jetstream {
  store_dir: %q%s
}
`, i+1, s.clients[i], s.peers[i], strings.Join(s.peers, `", "nats-route://`), s.data(i), sync)
}

func etcd(ctx context.Context, l load) (trial.Figures, error) {
	return withServers(func(s *servers) (trial.Figures, error) {
		for i := range serverCount {
			if err := s.start(l.peer("etcd"), etcdFlags(s, i)...); err != nil {
				return trial.Figures{}, err
			}
		}
		return s.load(ctx, l, "etcdload", "-addr", strings.Join(s.clients, ","))
	})
}

func etcdFlags(s *servers, i int) []string {
	members := make([]string, serverCount)
	for j, addr := range s.peers {
		members[j] = fmt.Sprintf("server%d=http://%s", j+1, addr)
	}
	client, peer := "http://"+s.clients[i], "http://"+s.peers[i]
	return []string{"--name", fmt.Sprintf("server%d", i+1), "--data-dir", s.data(i),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new",
		"--quota-backend-bytes", fmt.Sprint(8 << 30), "--log-level", "warn"}
}

// dragonboat runs in the process of its load.
func dragonboat(ctx context.Context, l load) (trial.Figures, error) {
	return withServers(func(s *servers) (trial.Figures, error) {
		return s.load(ctx, l, "dragonboatload", "-addr", strings.Join(s.peers, ","), "-dir", s.dir)
	})
}
