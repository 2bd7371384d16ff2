package partition

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Limits that apply checks, whatever a node's configuration says; like those of sessions, part of the state
// machine. Configured limits must not exceed them.
const (
	BatchBytesMax   = 64 << 20
	BatchRecordsMax = BatchBytesMax / 7 // 7 bytes is the smallest record
)

// Machine is the state of one partition.
//
// Invariant: the rows in the store cover [log start, next) without a gap or overlap. Checked when a machine
// opens (the first and the last row) and when rows are read.
type Machine struct {
	prefix    []byte
	recordKey []byte
	bounds    bounds
	sessions  sessions
	refused   []uint64 // of the entry being applied: payloads that are not accepted batches; kept for its memory
}

// Open loads the machine from what its Apply calls have stored under prefix.
func Open(v store.View, prefix []byte) (*Machine, error) {
	m := &Machine{prefix: slices.Clone(prefix), recordKey: recordKey(prefix)}
	var err error
	if m.bounds, err = loadBounds(v, prefix); err != nil {
		return nil, err
	}
	if err := m.checkFirstRow(v); err != nil {
		return nil, err
	}
	if err := m.checkLastRow(v); err != nil {
		return nil, err
	}
	return m, m.loadSessions(v)
}

func (m *Machine) checkFirstRow(v store.View) error {
	if m.bounds.logStart == m.bounds.next {
		return nil
	}
	first, err := rowAt(v, m.prefix, m.bounds.logStart, m.bounds.next)
	if err != nil {
		return err
	}
	if first.startBytes != m.bounds.startBytes || first.index <= m.bounds.discarded {
		return corrupt("the index begins with entry %d after %d bytes, the machine record says after entry %d and %d bytes",
			first.index, first.startBytes, m.bounds.discarded, m.bounds.startBytes)
	}
	return nil
}

func (m *Machine) checkLastRow(v store.View) error {
	end := m.bounds.logStart
	var undecodable error
	err := v.Scan(rowKey(m.prefix, 0), rowKey(m.prefix, -1), true, func(key, value []byte) bool {
		var last row
		last, undecodable = decodeRow(m.prefix, key, value)
		end = last.end()
		return false
	})
	if err != nil {
		return fmt.Errorf("partition: last index row: %w", err)
	}
	if undecodable != nil {
		return undecodable
	}
	if end != m.bounds.next {
		return corrupt("index ends at offset %d, the machine record says %d", end, m.bounds.next)
	}
	return nil
}

// loadSessions brings them into the order in which they were last used.
func (m *Machine) loadSessions(v store.View) error {
	var loaded []*session
	var undecodable error
	lo, hi := append(slices.Clone(m.prefix), sessionSpace), append(slices.Clone(m.prefix), sessionSpace+1)
	err := v.Scan(lo, hi, false, func(key, value []byte) bool {
		var s *session
		s, undecodable = decodeSession(m.prefix, key, value)
		loaded = append(loaded, s)
		return undecodable == nil
	})
	if err != nil {
		return fmt.Errorf("partition: sessions: %w", err)
	}
	if undecodable != nil {
		return undecodable
	}
	slices.SortFunc(loaded, func(a, b *session) int { return cmp.Compare(a.last().offset, b.last().offset) })
	end := raftcore.Offset(0) // of the records of the sessions so far
	for _, s := range loaded {
		// Else the order would change with the next batch, or with the next restart.
		if s.last().offset < end {
			return corrupt("two producers, one of them %d, wrote offset %d", s.id, s.last().offset)
		}
		end = s.last().offset + raftcore.Offset(s.last().count)
		m.sessions.use(s)
	}
	if end > m.bounds.next {
		return corrupt("a producer wrote up to offset %d, the machine record says %d", end, m.bounds.next)
	}
	return nil
}

// Bounds returns the first offset still stored and the first not yet given out.
func (m *Machine) Bounds() (logStart, highWatermark raftcore.Offset) {
	return m.bounds.logStart, m.bounds.next
}

// Bytes returns the size of the record batches that are stored.
func (m *Machine) Bytes() int64 { return m.bounds.bytes() }

// Discarded returns the last entry that holds no record any more, by truncation; 0 = none does. Entries up to
// it may leave the Raft log.
func (m *Machine) Discarded() raftcore.Index { return m.bounds.discarded }

// Apply judges the record batches and truncations of a committed entry in order, each on its own, gives
// accepted batches their offsets, and adds to b what must be stored. The state in memory moves now.
func (m *Machine) Apply(at raftcore.Position, e *raftcore.Entry, b *store.Batch) []raftcore.Outcome {
	before := m.bounds
	m.bounds.timeMillis = max(m.bounds.timeMillis, e.Time)
	m.dropSessions(b)
	m.refused = m.refused[:0]
	outcomes := make([]raftcore.Outcome, len(e.Payloads))
	for i, payload := range e.Payloads {
		if t, ok := decodeTruncation(payload); ok {
			outcomes[i] = m.truncate(t, at.Index, before.next)
			m.refused = append(m.refused, uint64(i))
			continue
		}
		outcomes[i] = m.judge(payload)
		if outcomes[i].Verdict != raftcore.Accepted {
			m.refused = append(m.refused, uint64(i))
			continue
		}
		m.bounds.endBytes += uint64(len(payload))
	}
	if m.bounds != before {
		m.store(at, before, b)
	}
	return outcomes
}

func (m *Machine) judge(payload []byte) raftcore.Outcome {
	if len(payload) > BatchBytesMax {
		return raftcore.Outcome{Verdict: raftcore.TooLarge, Offset: -1}
	}
	info, err := recordbatch.ParseHeader(payload)
	if err != nil { // why, was for the node that let it in to find out
		return raftcore.Outcome{Verdict: raftcore.Invalid, Offset: -1}
	}
	o := raftcore.Outcome{Offset: -1, Count: uint32(info.Count)}
	if info.Count > BatchRecordsMax {
		o.Verdict = raftcore.TooLarge
		return o
	}
	var s *session
	if info.ProducerID >= 0 {
		s = m.sessions.byID[info.ProducerID]
		o.Verdict, o.Offset = s.judge(info.Epoch, info.BaseSequence, info.Count)
	}
	if o.Verdict == raftcore.Accepted {
		o.Offset = m.accept(&info, s)
	}
	return o
}

func (m *Machine) accept(info *recordbatch.Info, s *session) raftcore.Offset {
	offset := m.bounds.next
	m.bounds.next += raftcore.Offset(info.Count)
	if info.ProducerID < 0 {
		return offset
	}
	if s == nil {
		s = &session{id: info.ProducerID, epoch: info.Epoch}
	}
	s.accept(info.Epoch, batch{info.BaseSequence, int32(info.Count), offset}, m.bounds.timeMillis)
	m.sessions.use(s)
	m.sessions.markChanged(s)
	return offset
}

// dropSessions removes sessions before anything of the entry is judged. What it does for the sake of time is
// bounded per entry; what it does for the sake of number is bounded by what earlier entries added.
func (m *Machine) dropSessions(b *store.Batch) {
	for n := 0; ; n++ {
		id, ok := m.sessions.dropOldest(m.bounds.timeMillis, n < expiredPerApplyMax)
		if !ok {
			return
		}
		b.Delete(appendID(nil, m.prefix, sessionSpace, uint64(id)))
	}
}

// store adds the row of the entry, the sessions that changed and the machine record to b, and deletes the rows
// before a log start that has moved. All keys and values of one call share one piece of memory.
func (m *Machine) store(at raftcore.Position, before bounds, b *store.Batch) {
	if m.bounds.logStart != before.logStart {
		b.DeleteRange(rowKey(m.prefix, 0), rowKey(m.prefix, m.bounds.logStart))
	}
	first := before.next
	changed := m.sessions.changed
	key := len(m.prefix) + idBytes
	buf := make([]byte, 0, recordBytesMax+key+rowBytesMax+len(m.refused)*binary.MaxVarintLen32+len(changed)*(key+sessionBytesMax))
	if first != m.bounds.next {
		r := row{first, at.Index, m.bounds.timeMillis, int64(m.bounds.next - first), before.endBytes, m.refused}
		buf = appendID(buf, m.prefix, rowSpace, uint64(first))
		buf = appendRow(buf, &r)
		buf = set(b, buf, key)
	}
	for i, s := range changed {
		buf = appendID(buf, m.prefix, sessionSpace, uint64(s.id))
		buf = appendSession(buf, s)
		buf = set(b, buf, key)
		s.changed, changed[i] = false, nil
	}
	m.sessions.changed = changed[:0]
	b.Set(m.recordKey, appendRecord(buf, m.bounds))
}

// set hands a key of the given size and the value after it to b, and returns the memory behind them.
func set(b *store.Batch, buf []byte, key int) []byte {
	b.Set(buf[:key:key], buf[key:len(buf):len(buf)])
	return buf[len(buf):]
}
