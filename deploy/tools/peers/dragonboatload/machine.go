package main

import (
	"io"

	"github.com/lni/dragonboat/v3/statemachine"
)

// nothing is a state machine that keeps nothing.
type nothing struct{}

func newNothing(uint64, uint64) statemachine.IStateMachine { return nothing{} }

// Update is part of IStateMachine.
func (nothing) Update([]byte) (statemachine.Result, error) { return statemachine.Result{}, nil }

// Lookup is part of IStateMachine.
func (nothing) Lookup(interface{}) (interface{}, error) { return nil, nil }

// SaveSnapshot is part of IStateMachine. Snapshots are off.
func (nothing) SaveSnapshot(io.Writer, statemachine.ISnapshotFileCollection, <-chan struct{}) error {
	return nil
}

// RecoverFromSnapshot is part of IStateMachine.
func (nothing) RecoverFromSnapshot(io.Reader, []statemachine.SnapshotFile, <-chan struct{}) error {
	return nil
}

// Close is part of IStateMachine.
func (nothing) Close() error { return nil }
