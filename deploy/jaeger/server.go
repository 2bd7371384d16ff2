package jaeger

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// pollInterval is how often something is looked for again that takes its time.
const pollInterval = 50 * time.Millisecond

// Server is a Jaeger process on loopback, with everything in memory.
type Server struct {
	Query
	OTLP string // where spans are exported to
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
}

// Start starts the binary, on free ports, and waits until it answers. Its output goes to a file in dir.
func Start(ctx context.Context, binary, dir string) (*Server, error) {
	base, err := localcluster.FreePorts(7)
	if err != nil {
		return nil, err
	}
	port := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", base+i) }
	log, err := os.Create(filepath.Join(dir, "jaeger.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own descriptor
	s := &Server{Query: Query{"http://" + port(0)}, OTLP: "http://" + port(1), done: make(chan struct{})}
	s.cmd = exec.Command(binary, "--memory.max-traces", "20000",
		"--query.http-server.host-port", port(0), "--collector.otlp.grpc.host-port", port(1), "--collector.otlp.http.host-port", port(2),
		"--collector.grpc-server.host-port", port(3), "--collector.http-server.host-port", port(4), "--query.grpc-server.host-port", port(5),
		"--admin.http.host-port", port(6))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting Jaeger: %w", err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // it is killed
	}()
	if err := s.ready(ctx, port(6), port(1)); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ready waits until the admin address says so and the collector takes connections.
func (s *Server) ready(ctx context.Context, admin, otlp string) error {
	look := time.NewTicker(pollInterval)
	defer look.Stop()
	for {
		if resp, err := http.Get("http://" + admin + "/"); err == nil {
			ok := resp.StatusCode == http.StatusOK
			resp.Body.Close() // nothing is read from it
			if ok {
				conn, err := net.Dial("tcp", otlp)
				if err == nil {
					return conn.Close()
				}
			}
		}
		select {
		case <-look.C:
		case <-s.done:
			return fmt.Errorf("jaeger has ended: %v; see its log", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("jaeger is not ready: %w", ctx.Err())
		}
	}
}

// Close kills the process and waits for its end.
func (s *Server) Close() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}
