package main

import (
	"strings"
	"testing"
)

func TestAValueInTheFileIsWhatIsWrittenThere(t *testing.T) {
	for written, want := range map[string]string{
		"1.10": "1.10", "010": "010", "1e3": "1e3", "2024-01-01": "2024-01-01", "'no'": "no", `"a: b"`: "a: b", `""`: "", "r1 # the first": "r1",
	} {
		cfg, err := settings{file: []byte(complete + "rack: " + written + "\n")}.load(t)
		if err != nil || cfg.Rack != want {
			t.Errorf("rack: %s is %q, %v, want %q", written, cfg.Rack, err, want)
		}
	}
}

func TestAValueInTheFileIsOneValue(t *testing.T) {
	for _, written := range []string{"", "null", "~", "[a, b]", "{a: b}", "\n  - a", "\n  a: b"} {
		_, err := settings{file: []byte(complete + "rack: " + written + "\n")}.load(t)
		if err == nil || !strings.Contains(err.Error(), "rack must have one value") {
			t.Errorf("rack: %s: got %v", written, err)
		}
	}
}

func TestANodeIDIsDecimalWhereverItStands(t *testing.T) {
	for _, id := range []string{"0x1", "1_0", "0b1"} {
		_, err := settings{file: []byte(complete), args: []string{"--node-id", id}}.load(t)
		if err == nil || !strings.Contains(err.Error(), "want a number") {
			t.Errorf("--node-id %s: got %v", id, err)
		}
	}
}
