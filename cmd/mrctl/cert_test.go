package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

// made is what mrctl cert prints as JSON.
type made struct {
	Cert, Key string
	Until     time.Time
}

func readCert(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificatesAreMadeAsTheyAreAskedForAndNeverOverwritten(t *testing.T) {
	c := &ctl{t, new(clienttest.Cluster)} // no node: none is asked
	dir := filepath.Join(t.TempDir(), "certs")
	roots := x509.NewCertPool()
	for _, tc := range []struct {
		args  []string
		name  string
		years int
		uris  string
		usage []x509.ExtKeyUsage
		hosts int
	}{
		{[]string{"ca", dir}, "ca", 10, "", nil, 0},
		{[]string{"node", dir, "3", "node3", "10.0.0.3", "::1"}, "node-3", 1, "multiraftd://node/3", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, 3},
		{[]string{"node", dir, "any", "node4"}, "node-any", 1, "", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, 1},
		{[]string{"client", dir, "app", "--days", "730"}, "client-app", 2, "", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, 0},
	} {
		args := append([]string{"cert", "-o", "json"}, tc.args...)
		var m made
		if err := json.Unmarshal([]byte(c.must("", args...)), &m); err != nil {
			t.Fatal(err)
		}
		cert := readCert(t, m.Cert)
		if tc.name == "ca" {
			roots.AddCert(cert)
		}
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil || m.Cert != filepath.Join(dir, tc.name+".crt") || m.Key != filepath.Join(dir, tc.name+".key") || !m.Until.Equal(cert.NotAfter) {
			t.Errorf("%s: %v, made %+v", tc.name, err, m)
		}
		if days := int(time.Until(cert.NotAfter).Hours()+12) / 24; days != 365*tc.years {
			t.Errorf("%s is valid for %d days", tc.name, days)
		}
		var uris []string
		for _, u := range cert.URIs {
			uris = append(uris, u.String())
		}
		if strings.Join(uris, " ") != tc.uris || !slices.Equal(cert.ExtKeyUsage, tc.usage) || len(cert.DNSNames)+len(cert.IPAddresses) != tc.hosts {
			t.Errorf("%s: URIs %v, usage %v, names %v %v", tc.name, uris, cert.ExtKeyUsage, cert.DNSNames, cert.IPAddresses)
		}
		if info, err := os.Stat(m.Key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the key's file has mode %v: %v", tc.name, info.Mode(), err)
		}
		if r := c.run(nil, args...); r.code != exitFailed || !strings.Contains(r.stderr, "is there already, and is not overwritten") {
			t.Errorf("%s once more: %+v", tc.name, r)
		}
	}
}

func TestCertificatesThatCannotBeMadeSayWhy(t *testing.T) {
	c := &ctl{t, new(clienttest.Cluster)}
	dir := t.TempDir()
	if r := c.run(nil, "cert", "node", dir, "1", "host"); r.code != exitFailed || !strings.Contains(r.stderr, "make it with mrctl cert ca "+dir) {
		t.Errorf("without a CA: %+v", r)
	}
	c.must("", "cert", "ca", dir, "--days", "400")
	for want, args := range map[string][]string{
		`"0" is not a node's id`:        {"node", dir, "0", "host"},
		`"01" is not a node's id`:       {"node", dir, "01", "host"},
		`"x" is not a node's id`:        {"node", dir, "x", "host"},
		"requires at least 3 arg":       {"node", dir, "1"},
		"--days 0: want 1 to":           {"node", dir, "1", "host", "--days", "0"},
		`"../x" cannot be part of`:      {"client", dir, "../x"},
		"-o is text or json":            {"client", dir, "x", "-o", "xml"},
		"the CA ends at":                {"client", dir, "x", "--days", "500"},
		`"host:1" is neither a host na`: {"node", dir, "1", "host:1"},
	} {
		code := exitUsage
		if strings.HasPrefix(want, "the CA") || strings.HasPrefix(want, `"host`) {
			code = exitFailed
		}
		if r := c.run(nil, append([]string{"cert"}, args...)...); r.code != code || !strings.Contains(r.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
	}
}

func TestTLSSettingsThatCannotBeUsedAreAUsageErrorAndPlaintextIsSaid(t *testing.T) {
	c := start(t, 1)
	dir := t.TempDir()
	c.must("", "cert", "ca", dir)
	if r := c.run(nil, "cluster", "status", "--tls-cert", "x"); r.code != exitUsage || !strings.Contains(r.stderr, "--tls-key is missing") {
		t.Errorf("half a pair: %+v", r)
	}
	t.Setenv("MULTIRAFT_TLS_CA", filepath.Join(dir, "ca.crt"))
	if r := c.run(nil, "cluster", "status", "--timeout", "2s"); r.code != exitUnreachable || !strings.Contains(r.stderr, "the node speaks plaintext") {
		t.Errorf("TLS to plaintext: %+v", r)
	}
}
