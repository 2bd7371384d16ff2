package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fileBytesMax      = 1 << 20
	complaintInterval = time.Second // between two warnings about handshakes
	alpn              = "h2"        // HTTP/2: gRPC speaks nothing else
)

// Paths name PEM files. The zero value is no TLS.
type Paths struct {
	// Cert holds the certificate that is shown, and after it those that lead from it to one that others trust; Key its
	// private key.
	Cert, Key string
	// CA holds the certificates that the other side's must be signed by. Where it is empty, clients need none, and
	// servers one that the system trusts.
	CA string
}

// Set says that any file is named.
func (p Paths) Set() bool { return p != Paths{} }

// Config says which files, and what for.
type Config struct {
	Paths
	// Name is what the settings begin with, as faults name them: "peer-tls" for --peer-tls-cert.
	Name string
	// Mutual means that both sides are nodes: CA is required, and what it has signed for clients only is refused.
	Mutual bool
	// Logger hears of new files, and of handshakes that fail. nil = nobody does.
	Logger *slog.Logger
	// Counters count. nil = not.
	Counters *Counters
}

// Counters count what became of files that changed. They only grow.
type Counters struct{ Reloads, ReloadFailures atomic.Uint64 }

// Each calls f for every counter; address says which of a node's it is about.
func (c *Counters) Each(address string, f func(name, label, value, help string, v uint64)) {
	f("tls_reloads_total", "address", address, "Certificate files that changed and are in use since.", c.Reloads.Load())
	f("tls_reload_failures_total", "address", address, "Certificate files that changed and can't be used: those before are in use still.", c.ReloadFailures.Load())
}

// Files are certificates as the files have them now. It is safe for concurrent use.
type Files struct {
	cfg Config

	mu   sync.Mutex // guards what follows
	seen [3]stamp
	use  *material

	complained   string // the last complaint, so that one who tries again and again is one line
	complainedAt time.Time
}

// stamp tells a file from what it was before.
type stamp struct {
	missing          bool
	size, mtimeNanos int64
}

// Load reads the files. It reports every fault, each beginning with the setting that it is about; then there are no
// Files. Without any file named there are none either: plaintext.
func Load(cfg Config) (*Files, []string) {
	if !cfg.Set() {
		return nil, nil
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	f := &Files{cfg: cfg, seen: cfg.stamps()}
	var faults []string
	f.use, faults = cfg.read()
	if len(faults) > 0 {
		return nil, faults
	}
	return f, nil
}

// Server returns the configuration of one handshake to be served.
func (f *Files) Server() *tls.Config { return f.current().server }

// Expires is when the certificate in use ends, in seconds since 1970; 0 for nil Files.
func (f *Files) Expires() int64 {
	if f == nil {
		return 0
	}
	return f.current().pair.Leaf.NotAfter.Unix()
}

// current looks whether the files have changed.
func (f *Files) current() *material {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.cfg.stamps() // before they are read: what changes meanwhile is seen next time
	if seen == f.seen {
		return f.use
	}
	f.seen = seen
	next, faults := f.cfg.read()
	if len(faults) > 0 {
		f.cfg.Counters.ReloadFailures.Add(1)
		f.cfg.Logger.Warn("certificate files have changed and can't be used: those before stay in use", "why", faults)
		return f.use
	}
	f.use = next
	f.cfg.Counters.Reloads.Add(1)
	f.cfg.Logger.Info("certificate files have changed", "cert", f.cfg.Cert, "serial", next.pair.Leaf.SerialNumber.Text(16), "until", next.pair.Leaf.NotAfter)
	return f.use
}

func (c *Config) stamps() (all [3]stamp) {
	for i, name := range []string{c.Cert, c.Key, c.CA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			all[i] = stamp{missing: true} // reading says why
			continue
		}
		all[i] = stamp{size: info.Size(), mtimeNanos: info.ModTime().UnixNano()}
	}
	return all
}

// Complain logs that a handshake failed, with whom and why: at debug when it is the same as the last or comes soon after
// it.
func (f *Files) Complain(who string, err error) {
	text, log, now := who+err.Error(), f.cfg.Logger.Debug, time.Now()
	f.mu.Lock()
	if text != f.complained && now.Sub(f.complainedAt) >= complaintInterval {
		f.complained, f.complainedAt, log = text, now, f.cfg.Logger.Warn
	}
	f.mu.Unlock()
	log("TLS handshake failed", "settings", "--"+f.cfg.Name+"-*", "with", who, "err", err)
}

// ForClient returns what a client that is no node needs to reach servers: p.CA, or the system's CAs; a certificate, if
// p.Cert and p.Key name one; and the name that the servers' certificates must have, where that is not the one dialled. It
// reports every fault as Load does; without any file and name there is no TLS: nil.
func ForClient(p Paths, serverName string) (*tls.Config, []string) {
	if !p.Set() && serverName == "" {
		return nil, nil
	}
	c, f := Config{Paths: p}, &faults{name: "tls"}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	if p.CA != "" {
		cfg.RootCAs = c.readRoots(f)
	}
	switch {
	case p.Cert == "" && p.Key == "":
	case p.Cert == "":
		f.missing("cert", "the certificate that belongs to the key")
	case p.Key == "":
		f.missing("key", "the private key that belongs to the certificate")
	default:
		m := new(material)
		if chain := c.readPair(m, f); len(f.all) == 0 {
			if c.valid(chain[0], f) && !usable(chain[0], x509.ExtKeyUsageClientAuth) {
				f.add("cert", p.Cert, "the certificate is not one for clients")
			}
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.pair, nil }
	}
	if len(f.all) > 0 {
		return nil, f.all
	}
	return cfg, nil
}
