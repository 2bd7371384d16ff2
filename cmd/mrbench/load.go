package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

const (
	producersPerClient = 64      // share one set of connections: nodes limit the streams of each
	recordSlackBytes   = 256     // what a record may cost a producer's buffer beyond its value
	bufferBytesMin     = 1 << 20 // of a producer
)

// clusterLoad is a load and the connections that it goes through.
type clusterLoad struct {
	*load.Load
	producers []load.Producer
	clients   []*client.Client // for the producers only
}

// producer is a client.Producer as the load wants it; OnAck tells the fate of records.
type producer struct{ *client.Producer }

// Append is part of load.Producer. The ticket is not needed: OnAck tells.
func (p producer) Append(ctx context.Context, partition int, _ uint64, value []byte) error {
	_, err := p.Producer.Append(ctx, partition, client.Record{Value: value})
	return err
}

func newLoad(ctx context.Context, o *options, partitions int, p *load.Payload) (*clusterLoad, error) {
	l := &clusterLoad{Load: load.New(load.Config{Partitions: partitions, Clients: o.clients, Window: o.window, Records: o.records, Rate: o.rate,
		BatchBytes: o.batchBytes, Linger: o.linger}, p)}
	for id, g := range l.Clients() {
		if id%producersPerClient == 0 {
			c, err := o.open()
			if err != nil {
				return nil, errors.Join(err, l.close())
			}
			l.clients = append(l.clients, c)
		}
		onAck := func(a client.Ack) { g.Acked(int(a.Partition), a.Records, a.Err) }
		one, err := l.clients[len(l.clients)-1].NewProducer(ctx, o.topic, o.producerConfig(onAck))
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.producers = append(l.producers, producer{one})
		if limit := one.RecordBytesMax(); o.size > limit {
			return nil, errors.Join(fmt.Errorf("--size %d: the cluster takes records of at most %d bytes", o.size, limit), l.close())
		}
	}
	return l, nil
}

// close gives up; after the run there is nothing left to give up.
func (l *clusterLoad) close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, p := range l.producers {
		_ = p.Close(ended) // that nothing was flushed is known
	}
	for _, c := range l.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// run runs the load, and says what it cost this process.
func (l *clusterLoad) run(ctx context.Context, j *job) (res *load.Result, cpu time.Duration, err error) {
	before, err := cpuTime()
	if err != nil {
		return nil, 0, err
	}
	res = l.Run(ctx, l.producers, j.duration, j.input(), j.stderr)
	after, err := cpuTime()
	return res, after - before, err
}
