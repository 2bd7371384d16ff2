package guard

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Codec is gRPC's protobuf codec for a server, which unpacks no message with too many elements for its size.
// Message fields and strings count, on all levels.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Unmarshal is part of encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("guard: %T is no protobuf message", v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	b := buf.ReadOnlyData()
	if err := checkElements(b, m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	return proto.Unmarshal(b, m)
}

// TooManyElementsError says that a message would take far more memory than it has bytes.
type TooManyElementsError struct{ Bytes, ElementsMax int }

func (e *TooManyElementsError) Error() string {
	return fmt.Sprintf("a message of %d bytes may hold at most %d elements", e.Bytes, e.ElementsMax)
}

func checkElements(b []byte, d protoreflect.MessageDescriptor) error {
	if len(b) <= elementsMin { // an element takes at least two bytes, its share of the limit even less
		return nil
	}
	limit := min(elementsMin+len(b)/elementBytesMin, elementsMax)
	if left := shapeOf(d).count(b, limit); left < 0 {
		return &TooManyElementsError{len(b), limit}
	}
	return nil
}

// shape says which fields of a message type are elements: by field number, nil for those that are none.
type shape struct{ fields []*element }

type element struct {
	d      protoreflect.MessageDescriptor // nil for strings and bytes
	lookup sync.Once
	shape  *shape
}

func (e *element) content() *shape {
	e.lookup.Do(func() {
		if e.d != nil {
			e.shape = shapeOf(e.d)
		}
	})
	return e.shape
}

// fieldNumberMax is the highest field number looked at: what is above it are no elements that anybody defined.
const fieldNumberMax = 255

var shapes sync.Map // protoreflect.FullName -> *shape

func shapeOf(d protoreflect.MessageDescriptor) *shape {
	if s, ok := shapes.Load(d.FullName()); ok {
		return s.(*shape)
	}
	s := &shape{}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		n := int(f.Number())
		if n > fieldNumberMax || f.Message() == nil && f.Cardinality() != protoreflect.Repeated {
			continue
		}
		if f.Message() == nil && f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.BytesKind {
			continue // numbers: at most eight bytes for one
		}
		for len(s.fields) <= n {
			s.fields = append(s.fields, nil)
		}
		s.fields[n] = &element{d: f.Message()}
	}
	kept, _ := shapes.LoadOrStore(d.FullName(), s)
	return kept.(*shape)
}

// count takes the elements of b, which may be no message at all, from left; below zero there are too many. It
// looks at every field of every message that comes, and so has paths of its own for what is common.
func (s *shape) count(b []byte, left int) int {
	for len(b) > 0 && left >= 0 {
		number, kind, n := protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
		if b[0] >= 0x80 {
			number, kind, n = protowire.ConsumeTag(b)
		}
		if n < 0 {
			return left // it is no message: unpacking it says so
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = skip(number, kind, b); n < 0 {
				return left
			}
			b = b[n:]
			continue
		}
		var content []byte
		if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) {
			content, n = b[1:1+int(b[0])], 1+int(b[0])
		} else if content, n = protowire.ConsumeBytes(b); n < 0 {
			return left
		}
		b = b[n:]
		if int(number) >= len(s.fields) || s.fields[number] == nil {
			continue
		}
		left--
		if inner := s.fields[number].content(); inner != nil {
			left = inner.count(content, left)
		}
	}
	return left
}

// skip returns how long a value is; below zero, it is none.
func skip(number protowire.Number, kind protowire.Type, b []byte) int {
	if kind == protowire.VarintType {
		for i := range b {
			if b[i] < 0x80 {
				return i + 1
			}
		}
		return -1
	}
	return protowire.ConsumeFieldValue(number, kind, b)
}
