// Package tlsfiles reads the certificates that a node shows, and those that it trusts, from PEM files, and makes of
// them what TLS needs on either side of a connection. It does not make certificates (mrctl cert does), and knows no
// addresses and no Raft.
//
// Files are looked at again at each handshake: three calls of stat while nothing has changed. A new pair that can't be
// used leaves the one before in use, and is a line in the log and a count, once for each change. Connections that are
// open keep what they began with.
//
//	Load -> Files.Server: the config of one handshake served
//	        Files.Dial:   gRPC credentials for connections to others, plaintext for nil Files
//
// # Certificates of nodes
//
// A certificate with URI SANs of the form multiraftd://node/ID speaks for these nodes only; one without any of the
// scheme speaks for every node. An ID is a number in decimal, from 1, without leading zeros. A certificate with another
// URI of that scheme speaks for nobody: it wants to be bound, and nobody knows to what.
//
// With Config.Mutual the other side must hold a certificate for servers as well as for clients, so that one for clients
// which the same CA has signed is no node's.
//
// It starts no goroutine.
package tlsfiles
