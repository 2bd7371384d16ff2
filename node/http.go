package node

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"
)

// httpHeaderTimeout bounds how long a client may take over its request's header.
const httpHeaderTimeout = 5 * time.Second

// httpServer serves what operators and their tools ask for.
func (n *Node) httpServer() (*http.Server, error) {
	metrics, err := n.metricsHandler()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, n.Err()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, n.unready()) })
	mux.Handle("GET /metrics", metrics)
	n.debugGroups(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{Handler: mux, ReadHeaderTimeout: httpHeaderTimeout}, nil
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
