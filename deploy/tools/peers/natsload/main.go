package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
	"github.com/multiraftd/multiraftd/deploy/tools/peers/driver"
)

const (
	replicas      = 3
	answerMax     = 200 * time.Millisecond // for servers that have found each other
	createMax     = 10 * time.Second       // for a stream; then it is asked for again
	subjectPrefix = "p."
)

func main() { driver.Main(open) }

type cluster struct {
	options  driver.Options
	subjects []string // by partition
	conns    []*nats.Conn
}

// open creates the streams, and waits until each takes records through every server.
func open(ctx context.Context, o driver.Options) (driver.System, error) {
	c := &cluster{options: o}
	for p := range o.Partitions {
		c.subjects = append(c.subjects, subjectPrefix+strconv.Itoa(p))
	}
	var through []jetstream.JetStream // by server
	for server := range o.Addrs {
		conn, err := c.connect(ctx, server)
		if err != nil {
			return nil, err
		}
		js, err := jetstream.New(conn)
		if err != nil {
			return nil, err
		}
		// A request that comes before the servers have found each other is never answered.
		if err := driver.Until(ctx, func() error {
			ctx, cancel := context.WithTimeout(ctx, answerMax)
			defer cancel()
			_, err := js.AccountInfo(ctx)
			return err
		}); err != nil {
			return nil, fmt.Errorf("JetStream of %s: %w", o.Addrs[server], err)
		}
		through = append(through, js)
	}
	return c, c.create(ctx, through)
}

// create creates all streams.
func (c *cluster) create(ctx context.Context, through []jetstream.JetStream) error {
	errs := make([]error, len(c.subjects))
	var creating sync.WaitGroup
	for p, subject := range c.subjects {
		config := jetstream.StreamConfig{Name: fmt.Sprintf("stream%d", p), Subjects: []string{subject}, Replicas: replicas, Storage: jetstream.FileStorage}
		creating.Go(func() {
			err := driver.Until(ctx, func() error { return created(ctx, through[0], config) })
			for _, js := range through { // a server may hear of the stream later than the others
				err = cmp.Or(err, driver.Until(ctx, func() error { return publish(ctx, js, subject) }))
			}
			if err != nil {
				errs[p] = fmt.Errorf("stream %d: %w", p, err)
			}
		})
	}
	creating.Wait()
	return errors.Join(errs...)
}

func publish(ctx context.Context, js jetstream.JetStream, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, createMax)
	defer cancel()
	_, err := js.Publish(ctx, subject, []byte("ready"))
	return err
}

// created makes a stream, or finds it made, and asks whether all of it is there.
func created(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, createMax)
	defer cancel()
	s, err := js.CreateOrUpdateStream(ctx, config)
	if err != nil {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if c := info.Cluster; c == nil || c.Leader == "" || len(c.Replicas) != replicas-1 {
		return fmt.Errorf("its replicas are %+v", c)
	}
	return nil
}

// connect spreads the clients over the servers: client n tries server n first.
func (c *cluster) connect(ctx context.Context, client int) (conn *nats.Conn, err error) {
	n := client % len(c.options.Addrs)
	urls := strings.Join(slices.Concat(c.options.Addrs[n:], c.options.Addrs[:n]), ",")
	err = driver.Until(ctx, func() (err error) {
		conn, err = nats.Connect(urls, nats.DontRandomize(), nats.Timeout(c.options.Timeout))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", urls, err)
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// Producer is part of driver.System.
func (c *cluster) Producer(ctx context.Context, client int, to *load.Generator) (load.Producer, error) {
	conn, err := c.connect(ctx, client)
	if err != nil {
		return nil, err
	}
	p := &producer{to: to, subjects: c.subjects, limit: c.options.Timeout}
	// The window of the load alone holds a client back: the library's own limit is never reached.
	p.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(2*c.options.PerClient()),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { p.settled(m, nil) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { p.settled(m, err) }))
	return p, err
}

// Close is part of driver.System.
func (c *cluster) Close() error {
	for _, conn := range c.conns {
		conn.Close()
	}
	return nil
}

// producer is one client.
type producer struct {
	js       jetstream.JetStream
	to       *load.Generator
	subjects []string
	flight   driver.Flight
	limit    time.Duration
}

// Append is part of load.Producer.
func (p *producer) Append(_ context.Context, partition int, _ uint64, value []byte) error {
	p.flight.Add()
	_, err := p.js.PublishMsgAsync(&nats.Msg{Subject: p.subjects[partition], Data: bytes.Clone(value)})
	if err != nil {
		p.flight.Done()
	}
	return err
}

// settled hears what became of a message. The library hands it back as it was published.
func (p *producer) settled(m *nats.Msg, err error) {
	defer p.flight.Done()
	partition, bad := strconv.Atoi(strings.TrimPrefix(m.Subject, subjectPrefix))
	if bad != nil {
		panic(bad) // it is ours
	}
	p.to.AckedOne(partition, load.Sequence(m.Data), err)
}

// Close is part of load.Producer.
func (p *producer) Close(context.Context) error { return p.flight.Wait(p.limit) }
