package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestDurationsAndSizesAreTakenOnlyAsTheyAreMeant(t *testing.T) {
	for in, want := range map[string]time.Duration{"168h": 168 * time.Hour, "1h30m": 90 * time.Minute, "1ms": time.Millisecond, "1.5s": 1500 * time.Millisecond, "unlimited": 0} {
		if got, err := parseAge(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "0s", "7", "7d", "-1h", "1us", "1ms1us", "h", " 1h", "Unlimited", "9999999999h"} {
		if got, err := parseAge(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
	for in, want := range map[string]int64{"10GiB": 10 << 30, "512MiB": 512 << 20, "1KiB": 1024, "1TiB": 1 << 40, "7": 7, "7B": 7, "unlimited": 0, "9223372036854775807": math.MaxInt64} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "0GiB", "-1", "+1", "1GB", "1G", "1gib", "1 GiB", "1.5GiB", "GiB", "0x10", "1_000", "9223372036854775808", "9007199254740992KiB"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func TestWhatIsShownCanBeTyped(t *testing.T) {
	for _, millis := range []int64{0, 1, 1500, 60_000, 90 * 60_000, 168 * 3600_000, 3600_000 + 1} {
		if back, err := parseAge(ageText(millis)); err != nil || back.Milliseconds() != millis {
			t.Errorf("%d ms is shown as %q", millis, ageText(millis))
		}
	}
	for _, bytes := range []int64{0, 1, 1000, 1 << 10, 5 << 20, 10 << 30, 1<<30 + 1<<20} {
		if back, err := parseSize(sizeText(bytes)); err != nil || back != bytes {
			t.Errorf("%d bytes are shown as %q", bytes, sizeText(bytes))
		}
	}
	if s := ageText(math.MaxInt64); s != "9223372036854775807ms" {
		t.Error(s)
	}
}

func TestATopicIsCreatedWithARetentionAlteredAndDeleted(t *testing.T) {
	c := start(t, 1)
	c.must("", "topic", "create", "t", "--partitions", "1", "--replicas", "1", "--retention", "168h", "--retention-bytes", "10GiB")
	if out := c.must("", "topic", "list"); !strings.Contains(out, "168h") || !strings.Contains(out, "10GiB") {
		t.Fatalf("list: %q", out)
	}
	if out := c.must("", "topic", "alter", "t", "--retention", "unlimited", "-o", "json"); out != `{"name":"t","id":1,"retention_ms":0,"retention_bytes":10737418240}`+"\n" {
		t.Fatalf("alter: %q", out)
	}
	if out := c.must("", "topic", "describe", "t"); !strings.Contains(out, "RETENTION        unlimited\nRETENTION-BYTES  10GiB") {
		t.Fatalf("describe: %q", out)
	}
	if out := c.must("", "topic", "delete", "t", "-o", "json"); out != `{"name":"t","id":1}`+"\n" {
		t.Fatalf("delete: %q", out)
	}
	for _, args := range [][]string{{"topic", "delete", "t"}, {"topic", "alter", "t", "--retention", "1h"}} {
		if r := c.run(nil, args...); r.code != exitFailed || !strings.Contains(r.stderr, "UNKNOWN_TOPIC") || r.stdout != "" {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	for _, args := range [][]string{
		{"topic", "alter", "t"}, {"topic", "alter", "--retention", "1h"}, {"topic", "delete"}, {"topic", "alter", "t", "--retention", "0"},
		{"topic", "create", "u", "--partitions", "1", "--replicas", "1", "--retention-bytes", "10GB"},
	} {
		if r := c.run(nil, args...); r.code != exitUsage {
			t.Fatalf("%v: %+v", args, r)
		}
	}
}
