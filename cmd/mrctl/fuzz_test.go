package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
)

// FuzzPositions: --from and --to are a position, an offset or a time, and mean what they say; or are refused.
func FuzzPositions(f *testing.F) {
	for _, s := range []string{
		"start", "end", "0", "7", "-1", "+5", "007", "9223372036854775807", "9223372036854775808", "@2026-01-31T12:00:00Z", "@2026-01-31T12:00:00.5+02:00",
		"@9999-12-31T23:59:59Z", "@0000-01-01T00:00:00Z", "@", "@2026-01-31", "", "START", "0x1", "1e3",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, errFrom := parseFrom(s)
		to, errTo := parseTo(s)
		n, errNumber := strconv.ParseInt(s, 10, 64)
		at, errTime := time.Parse(time.RFC3339, strings.TrimPrefix(s, "@"))
		switch {
		case s == "start":
			want(t, s, from, errFrom, client.Start())
			if errTo == nil {
				t.Error("--to start")
			}
		case s == "end":
			want(t, s, from, errFrom, client.End())
			want(t, s, to, errTo, client.End())
		case errNumber == nil && n >= 0:
			want(t, s, from, errFrom, client.Offset(n))
			want(t, s, to, errTo, client.Offset(n))
		case strings.HasPrefix(s, "@") && errTime == nil:
			want(t, s, from, errFrom, client.Time(at))
			if errTo == nil {
				t.Errorf("--to %q", s)
			}
		case errFrom == nil || errTo == nil || !strings.HasPrefix(errFrom.Error(), "--from") || !strings.HasPrefix(errTo.Error(), "--to"):
			t.Errorf("%q: %v, %v", s, errFrom, errTo)
		}
	})
}

func want(t *testing.T, s string, got client.Position, err error, want client.Position) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("%q is %+v, %v, want %+v", s, got, err, want)
	}
}

// FuzzLines: stdin is split at line ends and nowhere else, however it arrives, and a line beyond the limit is
// the end. A key and its value are the line, without the separator.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n\x00\xff\nlast"), uint16(100), "\r", byte(1))
	f.Add([]byte("key:value\n:\nno\n"), uint16(9), ":", byte(255))
	f.Add([]byte("\n"), uint16(0), "", byte(3))
	f.Add(bytes.Repeat([]byte("x"), 3000), uint16(2999), "x", byte(7))
	f.Fuzz(func(t *testing.T, input []byte, bytesMax uint16, separator string, chunk byte) {
		in := newLines(&chopped{input, 1 + int(chunk)}, int(bytesMax))
		if chunk%2 == 0 { // a line that is longer than the buffer takes another way
			in.in = bufio.NewReaderSize(&chopped{input, 1 + int(chunk)}, 16)
		}
		parts := bytes.Split(input, []byte("\n"))
		if last := len(parts) - 1; len(parts[last]) == 0 {
			parts = parts[:last]
		}
		for i, part := range parts {
			line, err := in.next()
			if len(part) > int(bytesMax) {
				if err == nil || !strings.HasPrefix(err.Error(), "line "+strconv.Itoa(i+1)+" has") {
					t.Fatalf("line %d of %d bytes: %v", i+1, len(part), err)
				}
				return
			}
			if err != nil || !bytes.Equal(line, part) {
				t.Fatalf("line %d is %q, %v, want %q", i+1, line, err, part)
			}
			checkKey(t, line, separator)
		}
		if _, err := in.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("behind the last line: %v", err)
		}
	})
}

// chopped is a reader that gives a few bytes at a time.
type chopped struct {
	rest []byte
	n    int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest[:min(c.n, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

func checkKey(t *testing.T, line []byte, separator string) {
	a := &appendOptions{keySeparator: separator}
	r := a.record(line)
	switch {
	case separator == "" || !bytes.Contains(line, []byte(separator)):
		if r.Key != nil || !bytes.Equal(r.Value, line) {
			t.Fatalf("%q without a key is %q and %q", line, r.Key, r.Value)
		}
	case r.Key == nil || bytes.Contains(r.Key, []byte(separator)) || string(r.Key)+separator+string(r.Value) != string(line):
		t.Fatalf("%q at %q is %q and %q", line, separator, r.Key, r.Value)
	}
}

// FuzzAddrs: of a list of addresses every one is tried, and each is host:port.
func FuzzAddrs(f *testing.F) {
	for _, s := range []string{addrDefault, "", ",", "a:1,", " a:1 , b:2 ", "[::1]:1", "a", "a:", "a:1;b:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o := options{addrs: s, timeout: time.Second, output: "text"}
		c, err := o.open()
		if err != nil {
			var u usageError
			if !errors.As(err, &u) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part == "" || !strings.Contains(part, ":") {
				t.Errorf("%q has address %q", s, part)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPrint: a list of fields prints one line with a tab between any two; JSON gives every byte back.
func FuzzPrint(f *testing.F) {
	f.Add("value", []byte("v"), []byte("k"), "h", []byte("x"), int64(7))
	f.Add("offset,key,value", []byte{0xff, '\n'}, []byte("a\"\\\u2028"), "\xff", []byte{}, int64(-1))
	f.Add("json", []byte{}, []byte("ü\x00"), "", []byte{0xed, 0xa0, 0x80}, int64(1)<<62)
	f.Add("partition,timestamp,,value", []byte{}, []byte{}, "", []byte{}, int64(0))
	f.Fuzz(func(t *testing.T, format string, value, key []byte, header string, headerValue []byte, number int64) {
		r := client.Record{Key: key, Value: value, Headers: []client.Header{{Key: header, Value: headerValue}}, Offset: number, TimestampMillis: -number}
		if number%3 == 0 {
			r.Key, r.Value = nil, nil
		}
		if write, err := parseFormat(format); err == nil && format != "json" {
			tabs := bytes.Count(r.Key, []byte("\t"))*strings.Count(format, "key") + bytes.Count(r.Value, []byte("\t"))*strings.Count(format, "value")
			if line := printed(t, write, &r); bytes.Count(line, []byte("\t")) != strings.Count(format, ",")+tabs {
				t.Errorf("%s prints %q", format, line)
			}
		}
		checkJSON(t, &r, printed(t, writeJSON, &r))
	})
}

// printed is what write prints, without the line end, which is there.
func printed(t *testing.T, write recordWriter, r *client.Record) []byte {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	if err := errors.Join(write(out, 3, r), out.Flush()); err != nil {
		t.Fatal(err)
	}
	line, ended := bytes.CutSuffix(b.Bytes(), []byte("\n"))
	if !ended {
		t.Fatalf("no line: %q", line)
	}
	return line
}

func checkJSON(t *testing.T, r *client.Record, line []byte) {
	var got struct {
		Key, Value  *string
		KeyBase64   *string `json:"key_base64"`
		ValueBase64 *string `json:"value_base64"`
		Headers     []struct {
			Key         *string
			KeyBase64   *string `json:"key_base64"`
			Value       *string
			ValueBase64 *string `json:"value_base64"`
		}
		Offset    int64
		Timestamp int64 `json:"timestamp_ms"`
	}
	if err := json.Unmarshal(line, &got); err != nil || bytes.Contains(line, []byte("\n")) {
		t.Fatalf("%q: %v", line, err)
	}
	header := r.Headers[0]
	h := got.Headers[0]
	if got.Offset != r.Offset || got.Timestamp != r.TimestampMillis || !sameBytes(got.Key, got.KeyBase64, r.Key) || !sameBytes(got.Value, got.ValueBase64, r.Value) ||
		!sameBytes(h.Key, h.KeyBase64, []byte(header.Key)) || !sameBytes(h.Value, h.ValueBase64, header.Value) {
		t.Errorf("%+v is printed as %s", r, line)
	}
}

// sameBytes says whether a field, as text or in base64, is want.
func sameBytes(text, base *string, want []byte) bool {
	switch {
	case base != nil:
		got, err := base64.StdEncoding.DecodeString(*base)
		return err == nil && bytes.Equal(got, want) && want != nil
	case text != nil:
		return *text == string(want) && want != nil
	default:
		return want == nil
	}
}
