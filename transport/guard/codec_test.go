package guard

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// list is a field that repeats content n times.
func list(field protowire.Number, n int, content []byte) []byte {
	one := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
	return bytes.Repeat(one, n)
}

func in(field protowire.Number, content []byte) []byte { return list(field, 1, content) }

func unpack(b []byte, m proto.Message) error {
	return Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, m)
}

func TestAMessageOfEmptyElementsIsNotUnpacked(t *testing.T) {
	const many = 1 << 20
	for name, row := range map[string]struct {
		b []byte
		m proto.Message
	}{
		"items":                     {list(1, many, nil), new(multiraftv1.AppendRequest)},
		"records":                   {in(1, in(5, list(1, many, nil))), new(multiraftv1.AppendOnceRequest)},
		"headers of one record":     {in(1, in(5, in(1, list(3, many, nil)))), new(multiraftv1.AppendOnceRequest)},
		"envelopes":                 {in(2, list(3, many, nil)), new(raftv1.ExchangeRequest)},
		"heartbeats":                {in(2, list(2, many, nil)), new(raftv1.ExchangeRequest)},
		"entries":                   {list(6, many, nil), new(raftv1.AppendEntriesRequest)},
		"traces":                    {in(2, list(5, many, nil)), new(raftv1.ExchangeRequest)},
		"one field again and again": {list(1, many, nil), new(raftv1.AppendEntriesRequest)},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := unpack(row.b, row.m)
			runtime.ReadMemStats(&after)
			var many *TooManyElementsError
			if !errors.As(err, &many) || many.Bytes != len(row.b) || many.ElementsMax != elementsMax {
				t.Fatalf("got %v", err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
				t.Errorf("refusing %d bytes took %d", len(row.b), took)
			}
		})
	}
}

func TestWhatAClientMaySendIsUnpacked(t *testing.T) {
	items := &multiraftv1.AppendRequest{}
	for i := range uint64(8192) {
		items.Items = append(items.Items, &multiraftv1.AppendItem{RequestId: i})
	}
	frame := &raftv1.Frame{}
	for i := range uint64(80_000) { // heartbeats of so many groups make 1 MiB
		frame.Heartbeats = append(frame.Heartbeats, &raftv1.GroupHeartbeat{GroupId: i + 200, FromReplica: 1, ToReplica: 2, Term: 1, Commit: 1})
	}
	for i := range uint64(1 << 14) {
		frame.Envelopes = append(frame.Envelopes, &raftv1.Envelope{GroupId: i, FromReplica: 1, ToReplica: 2, Type: 1, Entries: []*raftv1.LogEntry{{Term: 1, Index: i, Data: make([]byte, 20)}}})
	}
	for name, m := range map[string]proto.Message{
		"items":      items,
		"records":    &multiraftv1.AppendItem{Content: &multiraftv1.AppendItem_Records{Records: &multiraftv1.RecordList{Records: make([]*multiraftv1.Record, 8000)}}},
		"a frame":    &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: frame}},
		"one batch":  &multiraftv1.AppendItem{Content: &multiraftv1.AppendItem_Batch{Batch: make([]byte, 8<<20)}},
		"groups":     &multiraftv1.NodeStatusRequest{GroupIds: make([]uint64, 100_000)},
		"no content": &multiraftv1.AppendRequest{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		if err := unpack(b, got); err != nil || proto.Size(got) != len(b) {
			t.Errorf("%s: %v, %d of %d bytes", name, err, proto.Size(got), len(b))
		}
	}
}

func TestWhatIsNoMessageIsNotUnpackedEither(t *testing.T) {
	long := bytes.Repeat([]byte{0xff}, elementsMin+1)
	for name, b := range map[string][]byte{"short": {0xff}, "long": long, "cut off": append(list(1, 5000, nil), 0x0a, 0xff, 0xff, 0xff, 0x7f)} {
		if err := unpack(b, new(multiraftv1.AppendRequest)); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if err := Codec().Unmarshal(nil, "text"); err == nil {
		t.Error("a string was taken for a message")
	}
}

// FuzzElements: whatever is unpacked takes memory in proportion to its size.
func FuzzElements(f *testing.F) {
	f.Add(list(1, 10_000, nil))
	f.Add(in(2, list(3, 10_000, in(8, nil))))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{new(multiraftv1.AppendRequest), new(raftv1.ExchangeRequest), new(raftv1.AppendEntriesRequest), new(multiraftv1.NodeStatusRequest)} {
			limit := min(elementsMin+len(b)/elementBytesMin, elementsMax)
			left := shapeOf(m.ProtoReflect().Descriptor()).count(b, len(b)+1)
			if err := unpack(b, m); err == nil && len(b) > elementsMin && len(b)+1-left > limit {
				t.Errorf("%T: %d elements in %d bytes were unpacked", m, len(b)+1-left, len(b))
			}
		}
	})
}

func BenchmarkUnmarshalFrame(b *testing.B) {
	frame := &raftv1.Frame{}
	for i := range uint64(300) {
		frame.Envelopes = append(frame.Envelopes, &raftv1.Envelope{GroupId: i, FromReplica: 1, ToReplica: 2, Type: 1, Term: 7, LogTerm: 7, Index: 1 << 20, Commit: 1 << 20,
			Entries: []*raftv1.LogEntry{{Term: 7, Index: 1<<20 + 1, Data: make([]byte, 200)}}})
	}
	wire, err := proto.Marshal(&raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: frame}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("counting", func(b *testing.B) {
		for b.Loop() {
			if err := checkElements(wire, new(raftv1.ExchangeRequest).ProtoReflect().Descriptor()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unpacking", func(b *testing.B) {
		for b.Loop() {
			if err := proto.Unmarshal(wire, new(raftv1.ExchangeRequest)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
