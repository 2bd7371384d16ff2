package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAReceiptHasSixNumbers(t *testing.T) {
	r, err := parseReceipt("2\t1000\t50\t7\t1234\t3")
	if want := (receipt{partition: 2, offset: 1000, count: 50, term: 7, index: 1234, fsynced: 3}); err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"", "1\t2\t3\t4\t5", "1\t2\t3\t4\t5\tx", "1 2 3 4 5 6"} {
		if _, err := parseReceipt(bad); err == nil {
			t.Errorf("%q is taken for a receipt", bad)
		}
	}
}

func TestAWatcherHearsOfTheFirstReceiptAboveTheTermInItsPartition(t *testing.T) {
	l := newLedger()
	seen := l.watch(1, 5)
	at := time.Unix(100, 0)
	l.take(receipt{partition: 1, count: 1, term: 5, fsynced: 2}, at) // sent by the old leader before it died
	l.take(receipt{partition: 0, count: 1, term: 9, fsynced: 2}, at)
	select {
	case <-seen:
		t.Fatal("heard of another partition or of the old term")
	default:
	}
	l.take(receipt{partition: 1, count: 1, term: 6, fsynced: 2}, at.Add(time.Second))
	l.take(receipt{partition: 1, count: 1, term: 6, fsynced: 2}, at.Add(2*time.Second))
	if got := <-seen; !got.Equal(at.Add(time.Second)) {
		t.Errorf("heard of the receipt of %v", got)
	}
}

func TestReceiptsMustCountEveryRecordOnceAndNameAMajority(t *testing.T) {
	for _, c := range []struct {
		lines string
		fails bool
	}{
		{"0\t0\t3\t1\t2\t2\n0\t3\t2\t1\t3\t3\n", false},
		{"0\t0\t3\t1\t2\t2\n", true},
		{"0\t0\t3\t1\t2\t2\n0\t3\t3\t1\t3\t3\n", true},
		{"0\t0\t5\t1\t2\t1\n", true},
	} {
		l := newLedger()
		if err := l.readAll(strings.NewReader(c.lines)); err != nil {
			t.Fatal(err)
		}
		if err := l.check(5); (err != nil) != c.fails {
			t.Errorf("%q: %v", c.lines, err)
		}
	}
	if err := newLedger().readAll(strings.NewReader("appended 5 records\n")); err == nil {
		t.Error("a line that is no receipt passes")
	}
}

func TestOffsetsMustCountFromZero(t *testing.T) {
	values, err := denseValues(strings.NewReader("0\t\tone\n1\t\t\n2\t\tt\two\n3\t\tno end"))
	want := [][]byte{[]byte("one"), {}, []byte("t\two"), []byte("no end")}
	if err != nil || !slices.EqualFunc(values, want, bytes.Equal) {
		t.Errorf("got %q, %v", values, err)
	}
	for _, bad := range []string{"1\t\tx\n", "0\t\tx\n0\t\tx\n", "0\t\tx\n2\t\ty\n", "0 x\n"} {
		if _, err := denseValues(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestALostADoubledAndAChangedLineAreFound(t *testing.T) {
	lines := func(s string) [][]byte { return bytes.Split([]byte(s), []byte(" ")) }
	if err := sameMultiset(lines("a b b c"), lines("b c a b")); err != nil {
		t.Error(err)
	}
	for _, got := range []string{"a b c", "a b b b c", "a b b d", "a a b c", "a b b c c"} {
		if err := sameMultiset(lines("a b b c"), lines(got)); err == nil {
			t.Errorf("%q passes for %q", got, "a b b c")
		}
	}
}

func TestTheInputIsWholeLinesOfTheToolchain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "input")
	in, err := writeInput(t.Context(), path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if in.lines != 1000 || bytes.Count(data, []byte("\n")) != 1000 || !bytes.HasSuffix(data, []byte("\n")) || in.bytes != int64(len(data)) {
		t.Errorf("%+v for %d bytes", in, len(data))
	}
}

func TestTheMedianOfAnEvenNumberIsInTheMiddle(t *testing.T) {
	if m := median([]time.Duration{1, 2, 4, 100}); m != 3 {
		t.Errorf("got %d", m)
	}
	if m := median([]time.Duration{1, 2, 4}); m != 2 {
		t.Errorf("got %d", m)
	}
}

func TestTheLastLineOfProgressIsFoundBehindCarriageReturns(t *testing.T) {
	if got := lastLine("10 records\r20 records\rappended 30 records\n"); got != "appended 30 records" {
		t.Errorf("got %q", got)
	}
}
