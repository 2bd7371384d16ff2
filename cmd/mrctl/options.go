package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

const (
	addrDefault = "127.0.0.1:7071,127.0.0.1:7072,127.0.0.1:7073"
	addrEnv     = "MULTIRAFT_ADDR"
	tlsEnv      = "MULTIRAFT_TLS_" // CA, CERT, KEY and SERVER_NAME
	// unreachableTimeout is how long a command goes on when no node answers at all: a person is waiting.
	unreachableTimeout = 2 * time.Second
)

// options are the flags of every command.
type options struct {
	addrs string
	tls   tlsfiles.Paths

	tlsServerName string

	timeout time.Duration
	output  string
}

func (o *options) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.addrs, "addr", cmp.Or(os.Getenv(addrEnv), addrDefault), "client addresses of some nodes, separated by commas (environment "+addrEnv+")")
	flags.StringVar(&o.tls.CA, "tls-ca", os.Getenv(tlsEnv+"CA"), "PEM `file` with the CA of the nodes' certificates, where nodes want TLS (environment "+tlsEnv+"CA)")
	flags.StringVar(&o.tls.Cert, "tls-cert", os.Getenv(tlsEnv+"CERT"), "PEM `file` with a certificate to show to nodes that want one (environment "+tlsEnv+"CERT)")
	flags.StringVar(&o.tls.Key, "tls-key", os.Getenv(tlsEnv+"KEY"), "PEM `file` with its private key (environment "+tlsEnv+"KEY)")
	flags.StringVar(&o.tlsServerName, "tls-server-name", os.Getenv(tlsEnv+"SERVER_NAME"), "`name` that the nodes' certificates have, where it is not that in their addresses; alone: TLS by the system's CAs (environment "+tlsEnv+"SERVER_NAME)")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "give up after this long; for append, read, backup and restore: without progress")
	flags.StringVarP(&o.output, "output", "o", "text", "text or json")
}

func (o *options) validate() error {
	if o.output != "text" && o.output != "json" {
		return usage(fmt.Errorf("-o is text or json, not %q", o.output))
	}
	if o.timeout <= 0 {
		return usage(errors.New("--timeout must be positive"))
	}
	return nil
}

func (o *options) open() (*client.Client, error) { return o.openTraced(nil) }

// openTraced is open with a tracer; nil = none.
func (o *options) openTraced(tracer *firstTraces) (*client.Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	var addrs []string
	for a := range strings.SplitSeq(o.addrs, ",") {
		addrs = append(addrs, strings.TrimSpace(a))
	}
	secure, faults := tlsfiles.ForClient(o.tls, o.tlsServerName)
	if len(faults) > 0 {
		return nil, usage(errors.New(strings.Join(faults, "; ")))
	}
	cfg := client.Config{Addrs: addrs, TLS: secure, UnreachableTimeout: min(unreachableTimeout, o.timeout/2)}
	if tracer != nil {
		cfg.Tracer = tracer
	}
	c, err := client.Open(cfg)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// call runs f with a client and the time limit.
func (o *options) call(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	c, err := o.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	return errors.Join(f(ctx, c), c.Close())
}

// print writes v as JSON, or calls text with a writer that aligns columns separated by tabs.
func (o *options) print(out io.Writer, v any, text func(w io.Writer)) error {
	if o.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// orEmpty makes JSON show [] rather than null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// list shows ids as [1 2 3], or - for none.
func list[T any](ids []T) string {
	if len(ids) == 0 {
		return "-"
	}
	return fmt.Sprint(ids)
}
