package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/multiraftd/multiraftd/node"
)

// complete is a file that is enough to start with.
const complete = `data-dir: /tmp/d
node-id: 1
client-addr: 127.0.0.1:7071
peer-addr: 127.0.0.1:7081
bootstrap: 1=127.0.0.1:7081,2=127.0.0.1:7082,3=127.0.0.1:7083
`

// settings are what a start of the daemon is given: a file, the environment and flags.
type settings struct {
	file []byte
	env  map[string]string
	args []string
}

// load is what `multiraftd start` does with them, up to the node itself.
func (s settings) load(t *testing.T) (node.Config, error) {
	name := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(name, s.file, 0o600))
	for key, value := range s.env {
		must(t, os.Setenv(key, value))
	}
	defer func() {
		for key := range s.env {
			must(t, os.Unsetenv(key))
		}
	}()
	flags := pflag.NewFlagSet("start", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	defineStartFlags(flags)
	if err := flags.Parse(append([]string{"--config", name}, s.args...)); err != nil {
		return node.Config{}, &node.UsageError{Faults: []string{err.Error()}} // as main does
	}
	cfg, logger, err := loadConfig(flags, io.Discard)
	var usage *node.UsageError
	switch {
	case err == nil && logger == nil:
		t.Error("no logger")
	case err == nil:
		if err := cfg.Validate(); err != nil {
			t.Errorf("what was loaded is not valid: %v", err)
		}
	case !errors.As(err, &usage) || len(usage.Faults) == 0 || strings.TrimSpace(err.Error()) == "":
		t.Errorf("not a usage error: %v", err)
	}
	cfg.Logger = nil
	return cfg, err
}

// fits says whether text can be a variable's name or value.
func fits(text string) bool { return !strings.ContainsRune(text, 0) }

// FuzzConfig: no file, variable or flags make loading panic; it returns a valid configuration or says what is
// wrong with it.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(complete), "RACK", "b", "--rack=c\n--log-level\ndebug")
	f.Add([]byte(complete+"insecure: true\nelection-timeout: 2s\nrecord-bytes-max: 1MiB\n"), "INSECURE", "maybe", "")
	f.Add([]byte("rack: [a, b]\nnode-id: {}\ndata-dir: null\nlog-level: 2024-01-01\n"), "NOT_A_SETTING", "", "--no-such-flag")
	f.Add([]byte("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n1: 2\n? [k]\n: v\n"), "", "", "-h")
	f.Add([]byte("\xff\x00"), "CONFIG", "x", "--\nleft\nover")
	f.Fuzz(func(t *testing.T, file []byte, name, value, args string) {
		s := settings{file: file, env: map[string]string{}}
		if key := envPrefix + name; fits(key) && fits(value) && !strings.Contains(key, "=") {
			s.env[key] = value
		}
		if args != "" {
			s.args = strings.Split(args, "\n")
		}
		for _, a := range s.args {
			if strings.HasPrefix(a, "--config") { // another file would be none of the test's
				return
			}
		}
		if _, err := s.load(t); err != nil && errors.Is(err, pflag.ErrHelp) {
			t.Errorf("asked for help: %v", err)
		}
	})
}

// plain is a value that YAML needs no quotes for, or thinks so. What YAML calls null has no value.
var (
	plain = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9./_:-]*[A-Za-z0-9./_-])?$`)
	null  = regexp.MustCompile(`^(null|Null|NULL)$`)
)

// FuzzSettingSources: a setting means the same in the file, with and without quotes, in the environment and as
// a flag, and a later one of these wins.
func FuzzSettingSources(f *testing.F) {
	all := pflag.NewFlagSet("start", pflag.ContinueOnError)
	defineStartFlags(all)
	var keys []string
	all.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" {
			keys = append(keys, f.Name)
		}
	})
	for i, value := range []string{
		"", "1", "010", "0x1", "1.10", "1e3", "1_000", "true", "T", "yes", "2s", "1h1ns", "1MiB", "debug", "json", "127.0.0.1:1", "[::1]:0", "2024-01-01",
		"null", "~", "1=127.0.0.1:7081", "a\tb", " x ", "\x7f", "ü", "12:30:45", ".5", "#",
	} {
		f.Add(uint8(i), value)
		f.Add(uint8(slices.Index(keys, "rack")), value)
		f.Add(uint8(slices.Index(keys, "node-id")), value)
	}
	f.Fuzz(func(t *testing.T, pick uint8, value string) {
		if key := keys[int(pick)%len(keys)]; fits(value) && utf8.ValidString(value) {
			checkSources(t, key, value)
		}
	})
}

func checkSources(t *testing.T, key, value string) {
	rest := complete
	if at := strings.Index(complete, key+":"); at >= 0 {
		rest = complete[:at] + complete[at+strings.Index(complete[at:], "\n")+1:]
	}
	variable := envPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
	want, wantErr := settings{file: []byte(complete), env: map[string]string{variable: value}}.load(t)
	for source, s := range map[string]settings{
		// Go and YAML quote alike.
		"quoted in the file": {file: []byte(rest + key + ": " + strconv.QuoteToASCII(value) + "\n")},
		"plain in the file":  {file: []byte(rest + key + ": " + value + "\n")},
		"as a flag":          {file: []byte(complete), env: map[string]string{variable: "overruled"}, args: []string{"--" + key + "=" + value}},
	} {
		if source == "plain in the file" && (!plain.MatchString(value) || null.MatchString(value)) {
			continue
		}
		got, err := s.load(t)
		if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %q %s: %+v, %v, in the environment: %+v, %v", key, value, source, got, err, want, wantErr)
		}
	}
}

// FuzzParseBytes: a size is within bounds, and the same in every unit; or refused.
func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"", "0", "1", "-1", "4MiB", "4 MiB", "1024GiB", "1025GiB", "9223372036854775807KiB", "512KiB", "12B", "MiB", "1e3", "+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseBytes(s)
		if err != nil {
			return
		}
		if n < 1 || n > 1<<40 {
			t.Errorf("%q is %d bytes", s, n)
		}
		for unit, bytes := range map[string]int{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			if again, err := parseBytes(strconv.Itoa(n/bytes) + unit); n%bytes == 0 && (err != nil || again != n) {
				t.Errorf("%q is %d bytes, in %s %d, %v", s, n, unit, again, err)
			}
		}
	})
}
