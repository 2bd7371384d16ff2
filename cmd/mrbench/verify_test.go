package main

import (
	"testing"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// stored makes the records that two clients of a run would have stored in one partition.
func stored(p *load.Payload, each uint64) (records []client.Record) {
	for seq := range each {
		for id := range 2 {
			v := p.Value()
			p.Stamp(v, id, seq)
			records = append(records, client.Record{Value: v, Offset: int64(len(records))})
		}
	}
	return records
}

func judge(p *load.Payload, records []client.Record, refused load.Spans) *verdict {
	c := newChecker(p, 2, 1)
	if err := c.take(0, records); err != nil {
		panic(err)
	}
	return c.finish([]load.Outcome{{Client: 0, Appended: 100}, {Client: 1, Appended: 100, Refused: refused}})
}

func TestARunThatIsAllThereIsInOrder(t *testing.T) {
	p := load.NewPayload(1, 40)
	if v := judge(p, stored(p, 100), nil); v.failed() || v.Acknowledged != 200 || v.Example != "" {
		t.Errorf("%+v", v)
	}
}

func TestEveryKindOfDamageIsCounted(t *testing.T) {
	p := load.NewPayload(1, 40)
	flip := func(at int) func([]client.Record) []client.Record {
		return func(rs []client.Record) []client.Record {
			rs[8].Value[at] ^= 1
			return rs
		}
	}
	other := func(run uint32, id int, seq uint64, size int) func([]client.Record) []client.Record {
		return func(rs []client.Record) []client.Record {
			v := make([]byte, size)
			copy(v, p.Value())
			load.NewPayload(run, size).Stamp(v, id, seq)
			return append(rs, client.Record{Value: v})
		}
	}
	for name, c := range map[string]struct {
		damage func([]client.Record) []client.Record
		want   verdict
	}{
		"a lost record":      {func(rs []client.Record) []client.Record { return append(rs[:8:8], rs[9:]...) }, verdict{Missing: 1}},
		"a lost end":         {func(rs []client.Record) []client.Record { return rs[:150] }, verdict{Missing: 50}},
		"nothing":            {func([]client.Record) []client.Record { return nil }, verdict{Missing: 200}},
		"a repeated end":     {func(rs []client.Record) []client.Record { return append(rs, rs[198]) }, verdict{Doubled: 1}},
		"a repeated middle":  {func(rs []client.Record) []client.Record { return append(rs, rs[8]) }, verdict{Doubled: 1, Reordered: 1}},
		"an exchange":        {func(rs []client.Record) []client.Record { rs[4], rs[6] = rs[6], rs[4]; return rs }, verdict{Reordered: 1}},
		"a bit of the name":  {flip(9), verdict{Missing: 1, Changed: 1}},
		"a bit of the value": {flip(39), verdict{Missing: 1, Changed: 1}},
		"a bit of the run":   {flip(0), verdict{Missing: 1, Foreign: 1}},
		"a shorter value": {func(rs []client.Record) []client.Record {
			rs[8].Value = rs[8].Value[:39]
			return rs
		}, verdict{Missing: 1, Changed: 1}},
		"a key": {func(rs []client.Record) []client.Record {
			rs[8].Key = []byte("k")
			return rs
		}, verdict{Missing: 1, Changed: 1}},
		"a record beyond the last": {other(1, 0, 100, 40), verdict{Changed: 1}},
		"a client that is none":    {other(1, 2, 0, 40), verdict{Changed: 1}},
		"another run's record":     {other(2, 0, 0, 40), verdict{Foreign: 1}},
		"another program's record": {func(rs []client.Record) []client.Record { return append(rs, client.Record{Value: []byte("x")}) }, verdict{Foreign: 1}},
	} {
		v := judge(p, c.damage(stored(p, 100)), nil)
		c.want.Acknowledged, c.want.Example = 200, v.Example
		if *v != c.want {
			t.Errorf("%s: %+v, want %+v", name, *v, c.want)
		}
		if v.failed() != (v.Example != "") {
			t.Errorf("%s: failed %v, example %q", name, v.failed(), v.Example)
		}
	}
}

func TestARecordThatWasNotAcknowledgedMayBeThereOrNot(t *testing.T) {
	p := load.NewPayload(1, 16)
	refused := load.Spans{{From: 98, To: 100}}
	v := judge(p, stored(p, 100)[:199], refused) // client 1's record 99 is not there
	if v.failed() || v.Acknowledged != 198 || v.Refused != 1 {
		t.Errorf("%+v", v)
	}
}
