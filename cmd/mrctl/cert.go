package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

const (
	caDays   = 3650
	leafDays = 365
	daysMax  = 36500
	day      = 24 * time.Hour
	anyNode  = "any" // in place of an id
)

// clientName is what a client may be called: it becomes part of a file's name.
var clientName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

func newCert(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make a CA, and certificates for nodes and clients",
		Long: "Make a CA, and certificates for nodes and clients. No cluster is needed, and none is asked. Keys are ECDSA P-256,\n" +
			"files PEM. No file is ever overwritten. Whoever has ca.key can be anybody: keep it away from the nodes.",
		Args: cobra.NoArgs, RunE: needCommand,
	}
	cmd.AddCommand(newCertCA(o), newCertNode(o), newCertClient(o))
	return cmd
}

func newCertCA(o *options) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "ca DIR", Short: "Make a CA: DIR/ca.crt and DIR/ca.key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := ends(o, days)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o700); err != nil {
				return err
			}
			_, pair, err := issue.NewAuthority(until)
			return o.written(cmd, args[0], "ca", pair, until, err)
		},
	}
	bindDays(cmd, &days, caDays)
	return cmd
}

func newCertNode(o *options) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "node DIR ID|any HOST...", Short: "Make a node's certificate: DIR/node-ID.crt and .key, signed by the CA in DIR", Args: cobra.MinimumNArgs(3),
		Long: "Make a node's certificate, signed by the CA in DIR, for client address and peer address alike. HOST is a name or IP\n" +
			"address by which others reach the node. ID binds the certificate to that node; with \"any\" it speaks for whichever\n" +
			"node holds it, such as one that joins and learns its id from the cluster.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var id uint64
			if args[1] != anyNode {
				var err error
				if id, err = strconv.ParseUint(args[1], 10, 32); err != nil || id == 0 || strconv.FormatUint(id, 10) != args[1] {
					return usage(fmt.Errorf("%q is not a node's id: want a number of at least 1, or %s", args[1], anyNode))
				}
			}
			return o.issued(cmd, args[0], "node-"+args[1], days, func(ca *issue.Authority, until time.Time) (issue.Pair, error) { return ca.Node(id, args[2:], until) })
		},
	}
	bindDays(cmd, &days, leafDays)
	return cmd
}

func newCertClient(o *options) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "client DIR NAME", Short: "Make a client's certificate: DIR/client-NAME.crt and .key, signed by the CA in DIR", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !clientName.MatchString(args[1]) {
				return usage(fmt.Errorf("%q cannot be part of a file's name: want letters, digits, and any of ._-", args[1]))
			}
			return o.issued(cmd, args[0], "client-"+args[1], days, func(ca *issue.Authority, until time.Time) (issue.Pair, error) { return ca.Client(args[1], until) })
		},
	}
	bindDays(cmd, &days, leafDays)
	return cmd
}

func bindDays(cmd *cobra.Command, days *int, fallback int) {
	cmd.Flags().IntVar(days, "days", fallback, "how long it is valid")
}

// ends is when a certificate of so many days ends.
func ends(o *options, days int) (time.Time, error) {
	if err := o.validate(); err != nil {
		return time.Time{}, err
	}
	if days < 1 || days > daysMax {
		return time.Time{}, usage(fmt.Errorf("--days %d: want 1 to %d", days, daysMax))
	}
	return time.Now().Add(time.Duration(days) * day), nil
}

// issued has the CA in a directory sign something.
func (o *options) issued(cmd *cobra.Command, dir, name string, days int, sign func(*issue.Authority, time.Time) (issue.Pair, error)) error {
	until, err := ends(o, days)
	if err != nil {
		return err
	}
	ca, err := issue.OpenAuthority(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: make it with mrctl cert ca %s", err, dir)
	}
	if err != nil {
		return err
	}
	pair, err := sign(ca, until)
	return o.written(cmd, dir, name, pair, until, err)
}

// written writes a pair and says where.
func (o *options) written(cmd *cobra.Command, dir, name string, pair issue.Pair, until time.Time, err error) error {
	cert, key := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if err == nil {
		err = pair.Write(cert, key)
	}
	if err != nil {
		return err
	}
	made := struct {
		Cert  string    `json:"cert"`
		Key   string    `json:"key"`
		Until time.Time `json:"until"`
	}{cert, key, until.UTC().Truncate(time.Second)}
	return o.print(cmd.OutOrStdout(), made, func(w io.Writer) {
		fmt.Fprintf(w, "%s\t%s\tuntil %s\n", made.Cert, made.Key, made.Until.Format(time.DateOnly))
	})
}
