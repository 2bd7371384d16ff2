package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v3"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
	"github.com/multiraftd/multiraftd/deploy/tools/peers/driver"
)

// busyPause is before a proposal that was not taken in is made again.
const busyPause = time.Millisecond

// proposal is one record in flight.
type proposal struct {
	sequence uint64
	value    []byte
	state    *dragonboat.RequestState
}

// producer is one client. It proposes from the load's goroutine, and waits for the results of each group in their order.
type producer struct {
	cluster *cluster
	to      *load.Generator
	groups  []chan proposal // by partition; each has a goroutine to the end of Close
	flight  driver.Flight
}

// Producer is part of driver.System.
func (c *cluster) Producer(_ context.Context, _ int, to *load.Generator) (load.Producer, error) {
	p := &producer{cluster: c, to: to}
	for partition := range c.options.Partitions {
		group := make(chan proposal, c.options.PerClient())
		p.groups = append(p.groups, group)
		go func() {
			for one := range group {
				p.to.AckedOne(partition, one.sequence, p.result(partition, one))
				p.flight.Done()
			}
		}()
	}
	return p, nil
}

// Append is part of load.Producer.
func (p *producer) Append(_ context.Context, partition int, sequence uint64, value []byte) error {
	state, err := p.propose(partition, value)
	if err != nil {
		return err
	}
	p.flight.Add()
	p.groups[partition] <- proposal{sequence, bytes.Clone(value), state}
	return nil
}

// propose proposes a record to its group's leader. A full queue of the library's is no failure: as its documentation says,
// the proposal is made again.
func (p *producer) propose(partition int, value []byte) (*dragonboat.RequestState, error) {
	for {
		state, err := p.cluster.leaders[partition].Propose(p.cluster.sessions[partition], value, p.cluster.options.Timeout)
		if !errors.Is(err, dragonboat.ErrSystemBusy) {
			return state, err
		}
		time.Sleep(busyPause)
	}
}

// result returns when the record is applied at its leader. A proposal that was dropped has appended nothing: it is made
// again.
func (p *producer) result(partition int, one proposal) error {
	for {
		r := <-one.state.ResultC()
		one.state.Release()
		if r.Completed() {
			return nil
		}
		if !r.Dropped() {
			return fmt.Errorf("a proposal to group %d: timeout %v, rejected %v, terminated %v", partition+1, r.Timeout(), r.Rejected(), r.Terminated())
		}
		time.Sleep(busyPause)
		var err error
		if one.state, err = p.propose(partition, one.value); err != nil {
			return err
		}
	}
}

// Close is part of load.Producer.
func (p *producer) Close(context.Context) error {
	for _, group := range p.groups {
		close(group)
	}
	return p.flight.Wait(p.cluster.options.Timeout)
}
