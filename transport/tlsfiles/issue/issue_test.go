package issue_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	_, p, err := issue.NewAuthority(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(cert, key); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	_, next, err := issue.NewAuthority(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"", key} { // with both there, and with the certificate alone
		if gone != "" {
			if err := os.Remove(gone); err != nil {
				t.Fatal(err)
			}
		}
		if err := next.Write(cert, key); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("got %v", err)
		}
		if after, err := os.ReadFile(key); gone == "" && string(after) != string(before) || gone != "" && !os.IsNotExist(err) {
			t.Errorf("the key is another now, or half a pair is left: %v", err)
		}
	}
}

func TestWhatCannotBeSignedIsRefused(t *testing.T) {
	dir := t.TempDir()
	ca, p, err := issue.NewAuthority(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	again, err := issue.OpenAuthority(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil || !again.Until().Equal(ca.Until()) {
		t.Fatalf("it comes back as %v: %v", again, err)
	}
	for want, hosts := range map[string][]string{"needs the names": nil, `"a:7081" is neither`: {"b", "a:7081"}, `"" is neither`: {""}} {
		if _, err := ca.Node(1, hosts, ca.Until()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("hosts %q: %v", hosts, err)
		}
	}
	if _, err := ca.Client("x", ca.Until().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "the CA ends at") {
		t.Errorf("after the CA's end: %v", err)
	}
	leaf, err := ca.Client("x", ca.Until())
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.Write(filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := issue.OpenAuthority(filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")); err == nil || !strings.Contains(err.Error(), "not the certificate of a CA") {
		t.Errorf("a client as a CA: %v", err)
	}
}
