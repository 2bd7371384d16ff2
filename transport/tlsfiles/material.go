package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// material is what one reading of the files came to.
type material struct {
	pair           tls.Certificate
	server, client *tls.Config
}

// faults are what is wrong with settings, each beginning with its name.
type faults struct {
	name string
	all  []string
}

func (f *faults) add(setting, file, format string, args ...any) {
	f.all = append(f.all, fmt.Sprintf("--%s-%s %s: ", f.name, setting, file)+fmt.Sprintf(format, args...))
}

func (f *faults) missing(setting, why string) {
	f.all = append(f.all, fmt.Sprintf("--%s-%s is missing: %s", f.name, setting, why))
}

// read reads the files anew.
func (c *Config) read() (*material, []string) {
	f := &faults{name: c.Name}
	switch {
	case c.Cert == "" && c.Key == "":
		f.missing("cert", "a CA alone makes no TLS; give certificate and key too")
	case c.Cert == "":
		f.missing("cert", "the certificate that belongs to the key")
	case c.Key == "":
		f.missing("key", "the private key that belongs to the certificate")
	}
	if c.CA == "" && c.Mutual {
		f.missing("ca", "nodes verify each other's certificates by it")
	}
	if len(f.all) > 0 {
		return nil, f.all
	}
	m := new(material)
	var roots *x509.CertPool
	if c.CA != "" {
		roots = c.readRoots(f)
	}
	chain := c.readPair(m, f)
	if len(f.all) == 0 {
		c.check(chain, roots, f)
	}
	if len(f.all) > 0 {
		return nil, f.all
	}
	c.configure(m, roots)
	return m, nil
}

func (c *Config) readRoots(f *faults) *x509.CertPool {
	pem, err := readFile(c.CA)
	if err != nil {
		f.add("ca", c.CA, "%v", err)
		return nil
	}
	certs, err := parse(pem)
	if err != nil {
		f.add("ca", c.CA, "%v", err)
		return nil
	}
	pool := x509.NewCertPool()
	for _, one := range certs {
		pool.AddCert(one)
	}
	return pool
}

// readPair reads certificate and key, and returns the certificates of the former.
func (c *Config) readPair(m *material, f *faults) []*x509.Certificate {
	cert, err := readFile(c.Cert)
	var chain []*x509.Certificate
	if err == nil {
		chain, err = parse(cert)
	}
	if err != nil {
		f.add("cert", c.Cert, "%v", err)
	}
	key, kerr := readFile(c.Key)
	if kerr != nil {
		f.add("key", c.Key, "%v", kerr)
	}
	if err != nil || kerr != nil {
		return nil
	}
	if m.pair, err = tls.X509KeyPair(cert, key); err != nil {
		f.add("key", c.Key, "it is not the key of the certificate in %s: %v", c.Cert, err)
	}
	return chain
}

// check judges the certificate as the others will.
func (c *Config) check(chain []*x509.Certificate, roots *x509.CertPool, f *faults) {
	leaf := chain[0]
	bad := func(format string, args ...any) { f.add("cert", c.Cert, format, args...) }
	if !c.valid(leaf, f) {
		return
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		bad("the certificate names no host: want the name or IP address that others dial as a subject alternative name")
	}
	if !usable(leaf, x509.ExtKeyUsageServerAuth) {
		bad("the certificate is not one for servers")
	}
	if roots != nil && !usable(leaf, x509.ExtKeyUsageClientAuth) {
		bad("the certificate is not one for clients: nodes show it to each other")
	}
	if _, err := NodeIDs(leaf); err != nil {
		bad("%v", err)
	}
	if roots == nil {
		return
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool(chain[1:]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		bad("it does not lead to a certificate in --%s-ca %s: %v", c.Name, c.CA, err)
	}
}

// valid says whether now is within a certificate's time.
func (c *Config) valid(leaf *x509.Certificate, f *faults) bool {
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		f.add("cert", c.Cert, "the certificate has expired at %s", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		f.add("cert", c.Cert, "the certificate is valid from %s only", leaf.NotBefore.Format(time.RFC3339))
	default:
		return true
	}
	return false
}

func (c *Config) configure(m *material, roots *x509.CertPool) {
	m.server = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.pair}, NextProtos: []string{alpn},
		SessionTicketsDisabled: true, // each connection is judged by the files as they are
	}
	if roots != nil {
		m.server.ClientAuth, m.server.ClientCAs = tls.RequireAndVerifyClientCert, roots
	}
	m.client = &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, NextProtos: []string{alpn},
		// Whatever CAs the server names: it shall say that it does not trust this one, not that there is none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.pair, nil },
	}
	if c.Mutual {
		m.server.VerifyConnection, m.client.VerifyConnection = verifyNode(x509.ExtKeyUsageServerAuth), verifyNode(x509.ExtKeyUsageClientAuth)
	}
}

// verifyNode refuses certificates that are no node's: those lack the usage that the handshake itself does not ask for.
func verifyNode(usage x509.ExtKeyUsage) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if !usable(s.PeerCertificates[0], usage) {
			return errNoNode
		}
		return nil
	}
}

var errNoNode = errors.New("the certificate is not one for servers and clients, so it is no node's")

func usable(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, usage) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// readFile reads a plain file: what is none might never end.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, reason(err)
	}
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, reason(err)
	}
	if len(b) > fileBytesMax {
		return nil, fmt.Errorf("it is larger than %d bytes: want PEM", fileBytesMax)
	}
	return b, nil
}

// reason is an error without the file's name, which stands before it already.
func reason(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// parse returns the certificates in PEM; at least one.
func parse(b []byte) (certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate is in it: want PEM, -----BEGIN CERTIFICATE-----")
	}
	return certs, nil
}
