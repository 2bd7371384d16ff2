package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
	"github.com/multiraftd/multiraftd/deploy/tools/peers/driver"
)

// busyPause is before a call that was refused as one too many is made again.
const busyPause = 10 * time.Millisecond

func main() { driver.Main(open) }

type cluster struct {
	options driver.Options
	conns   []*clientv3.Client
}

// open waits until every server takes a record: then all have joined.
func open(ctx context.Context, o driver.Options) (driver.System, error) {
	c := &cluster{options: o}
	for _, addr := range o.Addrs {
		conn, err := c.connect(addr)
		if err != nil {
			return nil, err
		}
		if err := driver.Until(ctx, func() error {
			_, err := conn.Put(ctx, "ready", addr)
			return err
		}); err != nil {
			return nil, fmt.Errorf("server %s: %w", addr, err)
		}
	}
	return c, nil
}

func (c *cluster) connect(addrs ...string) (*clientv3.Client, error) {
	conn, err := clientv3.New(clientv3.Config{Endpoints: addrs, DialTimeout: c.options.Timeout, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", strings.Join(addrs, ","), err)
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// Producer is part of driver.System.
func (c *cluster) Producer(_ context.Context, client int, to *load.Generator) (load.Producer, error) {
	conn, err := c.connect(c.options.Addrs...)
	if err != nil {
		return nil, err
	}
	return driver.NewCallers(c.options.PerClient(), to, c.options.Timeout, func(partition int, sequence uint64, value []byte) error {
		return c.put(conn, fmt.Sprintf("p%02d/%04x/%012x", partition, client, sequence), string(value))
	}), nil
}

// put returns when the record is applied. A server that is 5,000 entries behind in applying refuses what comes in; nothing
// is wrong then, and the client tries again.
func (c *cluster) put(conn *clientv3.Client, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	for {
		_, err := conn.Put(ctx, key, value)
		if !errors.Is(err, rpctypes.ErrTooManyRequests) {
			return err
		}
		time.Sleep(busyPause)
	}
}

// Close is part of driver.System.
func (c *cluster) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
