package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/multiraftd/multiraftd/client"
)

// recordWriter prints one record and the "\n" after it.
type recordWriter func(out *bufio.Writer, partition uint32, r *client.Record) error

// fieldWriter prints one field of a record.
type fieldWriter func(out *bufio.Writer, partition uint32, r *client.Record)

// fields are what --print can list. An absent key or value prints like an empty one: JSON tells them apart.
// The writers drop errors because a bufio.Writer keeps its first one for the write that ends the record.
var fields = map[string]fieldWriter{
	"partition": func(out *bufio.Writer, partition uint32, _ *client.Record) { writeInt(out, int64(partition)) },
	"offset":    func(out *bufio.Writer, _ uint32, r *client.Record) { writeInt(out, r.Offset) },
	"timestamp": func(out *bufio.Writer, _ uint32, r *client.Record) { writeInt(out, r.TimestampMillis) },
	"key":       func(out *bufio.Writer, _ uint32, r *client.Record) { _, _ = out.Write(r.Key) },
	"value":     func(out *bufio.Writer, _ uint32, r *client.Record) { _, _ = out.Write(r.Value) },
}

func writeInt(out *bufio.Writer, n int64) {
	_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), n, 10)) // see fields
}

// parseFormat understands --print.
func parseFormat(format string) (recordWriter, error) {
	if format == "json" {
		return writeJSON, nil
	}
	var writers []fieldWriter
	for name := range strings.SplitSeq(format, ",") {
		w, ok := fields[name]
		if !ok {
			return nil, fmt.Errorf("--print is json or a list of partition, offset, timestamp, key, value; not %q", format)
		}
		writers = append(writers, w)
	}
	return func(out *bufio.Writer, partition uint32, r *client.Record) error {
		for i, w := range writers {
			if i > 0 {
				_ = out.WriteByte('\t') // see fields
			}
			w(out, partition, r)
		}
		return out.WriteByte('\n')
	}, nil
}

// jsonRecord is one line of --print json. A key or value, of a header too, that is not UTF-8 is in the field with "_base64",
// and the plain field is left out; null = absent.
type jsonRecord struct {
	Partition   uint32       `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   int64        `json:"timestamp_ms"`
	Key         *jsonBytes   `json:"key,omitempty"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *jsonBytes   `json:"value,omitempty"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         *jsonBytes `json:"key,omitempty"`
	KeyBase64   string     `json:"key_base64,omitempty"`
	Value       *jsonBytes `json:"value,omitempty"`
	ValueBase64 string     `json:"value_base64,omitempty"`
}

// jsonBytes is a string or null; as a pointer it can also be left out.
type jsonBytes struct{ text []byte }

func (b *jsonBytes) MarshalJSON() ([]byte, error) {
	if b.text == nil {
		return []byte("null"), nil
	}
	return json.Marshal(string(b.text))
}

func jsonField(b []byte) (*jsonBytes, string) {
	if utf8.Valid(b) {
		return &jsonBytes{b}, ""
	}
	return nil, base64.StdEncoding.EncodeToString(b)
}

func writeJSON(out *bufio.Writer, partition uint32, r *client.Record) error {
	j := jsonRecord{Partition: partition, Offset: r.Offset, Timestamp: r.TimestampMillis}
	j.Key, j.KeyBase64 = jsonField(r.Key)
	j.Value, j.ValueBase64 = jsonField(r.Value)
	for _, h := range r.Headers {
		var jh jsonHeader
		jh.Key, jh.KeyBase64 = jsonField([]byte(h.Key))
		jh.Value, jh.ValueBase64 = jsonField(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	line, err := json.Marshal(&j)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}
