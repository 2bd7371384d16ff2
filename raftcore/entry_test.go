package raftcore

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
)

func sampleEntries() []Entry {
	return []Entry{
		{Origin: Origin{3, 7}, FirstSeq: 100, Time: 1_700_000_000_000, Payloads: [][]byte{[]byte("one"), {}, []byte("three")}},
		{Origin: Origin{math.MaxUint64, math.MaxUint64}, FirstSeq: math.MaxUint64, Time: -1, Payloads: [][]byte{{0}}},
		{Payloads: [][]byte{}},
	}
}

func TestAnEntrySurvivesItsEncoding(t *testing.T) {
	for _, want := range sampleEntries() {
		data := want.AppendTo([]byte("before"))[len("before"):]
		got, err := DecodeEntry(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		size := 0
		for _, p := range want.Payloads {
			size += len(p)
		}
		if over := len(data) - size; over > EntryOverheadMax(len(want.Payloads)) {
			t.Errorf("%d bytes of overhead", over)
		}
	}
}

func TestAPayloadCannotGrowIntoTheNextOne(t *testing.T) {
	e := sampleEntries()[0]
	got, err := DecodeEntry(e.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Payloads[0], "overwritten"...) // must reallocate
	if string(got.Payloads[2]) != "three" {
		t.Errorf("got %q", got.Payloads[2])
	}
}

func TestEveryDamagedEntryIsUndecodable(t *testing.T) {
	e := sampleEntries()[0]
	whole := e.AppendTo(nil)
	for n := range whole {
		if _, err := DecodeEntry(whole[:n]); !errors.Is(err, ErrUndecodable) {
			t.Errorf("cut to %d bytes: got %v", n, err)
		}
	}
	for name, data := range map[string][]byte{
		"another version":       append([]byte{2}, whole[1:]...),
		"something behind":      append(bytes.Clone(whole), 0),
		"more payloads claimed": {entryVersion, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a payload too long":    {entryVersion, 1, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a number in two bytes": append([]byte{entryVersion, 0x83, 0}, whole[2:]...),
		"an endless number":     bytes.Repeat([]byte{entryVersion, 0xff}, 20),
	} {
		if _, err := DecodeEntry(data); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheChainDependsOnEverythingInOrder(t *testing.T) {
	at := Position{5, 2}
	seen := map[uint64]string{}
	for name, hash := range map[string]uint64{
		"base":          Chain(1, at, 0, []byte("x")),
		"other hash":    Chain(2, at, 0, []byte("x")),
		"other index":   Chain(1, Position{6, 2}, 0, []byte("x")),
		"other term":    Chain(1, Position{5, 3}, 0, []byte("x")),
		"other kind":    Chain(1, at, 2, []byte("x")),
		"other content": Chain(1, at, 0, []byte("y")),
		"no content":    Chain(1, at, 0, nil),
	} {
		if other, twice := seen[hash]; twice {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[hash] = name
	}
	// Written down, because the hash is stored: another value is another format.
	if got := Chain(1, at, 0, []byte("x")); got != 0x202142337fd45c9e {
		t.Errorf("got %#x", got)
	}
}

func TestEveryVerdictHasAName(t *testing.T) {
	for v := Accepted; v <= Refused; v++ {
		if v.String() == "" {
			t.Errorf("verdict %d has none", v)
		}
	}
}
