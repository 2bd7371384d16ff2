package issue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

const (
	organization = "multiraftd"
	serialBits   = 127
	// clockSkew is how far the clocks of who looks at a new certificate may be behind.
	clockSkew = time.Hour
)

// Pair is a certificate and its private key, in PEM.
type Pair struct{ Cert, Key []byte }

// Authority is a CA.
type Authority struct {
	cert *x509.Certificate
	key  any
}

// NewAuthority makes a CA that is valid until a time.
func NewAuthority(until time.Time) (*Authority, Pair, error) {
	t := template("multiraftd CA", until)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	p, cert, key, err := sign(t, nil)
	return &Authority{cert, key}, p, err
}

// OpenAuthority reads a CA from its files.
func OpenAuthority(cert, key string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the CA in %s and %s: %w", cert, key, err)
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of a CA", cert)
	}
	return &Authority{pair.Leaf, pair.PrivateKey}, nil
}

// Until is when the CA ends.
func (a *Authority) Until() time.Time { return a.cert.NotAfter }

// Node makes a certificate for a node that others reach by these names and IP addresses, for server and client in one.
// It is bound to the node with that id; 0 = to none.
func (a *Authority) Node(id uint64, hosts []string, until time.Time) (Pair, error) {
	t := template("multiraftd node", until)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if id > 0 {
		t.Subject.CommonName = fmt.Sprintf("multiraftd node %d", id)
		t.URIs = []*url.URL{tlsfiles.NodeURI(id)}
	}
	if len(hosts) == 0 {
		return Pair{}, errors.New("a node's certificate needs the names and IP addresses by which others reach it")
	}
	for _, h := range hosts {
		switch ip := net.ParseIP(h); {
		case ip != nil:
			t.IPAddresses = append(t.IPAddresses, ip)
		case h == "" || strings.ContainsAny(h, ":/, \t"):
			return Pair{}, fmt.Errorf("%q is neither a host name nor an IP address; it has no port", h)
		default:
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.sign(t)
}

// Client makes a certificate for a client, which is no node's.
func (a *Authority) Client(name string, until time.Time) (Pair, error) {
	t := template(name, until)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(t)
}

func (a *Authority) sign(t *x509.Certificate) (Pair, error) {
	if t.NotAfter.After(a.cert.NotAfter) {
		return Pair{}, fmt.Errorf("the CA ends at %s, before the certificate would", a.cert.NotAfter.Format(time.RFC3339))
	}
	p, _, _, err := sign(t, a)
	return p, err
}

func template(name string, until time.Time) *x509.Certificate {
	until = until.Truncate(time.Second) // as certificates have it
	from := time.Now()
	if until.Before(from) { // tests want some that have expired
		from = until
	}
	return &x509.Certificate{
		Subject: pkix.Name{Organization: []string{organization}, CommonName: name}, NotBefore: from.Add(-clockSkew), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// sign makes a key and a certificate for it, signed by a; nil = by itself.
func sign(t *x509.Certificate, a *Authority) (p Pair, cert *x509.Certificate, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return p, nil, nil, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)); err != nil {
		return p, nil, nil, err
	}
	parent, signer := t, any(key)
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return p, nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return p, nil, nil, err
	}
	p.Cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	cert, err = x509.ParseCertificate(der)
	return p, cert, key, err
}

const (
	keyMode  = 0o600
	certMode = 0o644
)

// Write writes the two files, which must not exist: either both are there then, or neither.
func (p Pair) Write(cert, key string) error {
	if err := create(key, p.Key, keyMode); err != nil {
		return err
	}
	if err := create(cert, p.Cert, certMode); err != nil {
		return errors.Join(err, os.Remove(key))
	}
	return nil
}

func create(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and is not overwritten: move it away, or name another directory", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
