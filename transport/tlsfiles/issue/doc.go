// Package issue makes the certificates of a cluster of one's own: a CA, and what it signs for nodes and clients. Keys
// are ECDSA on P-256, all files PEM. It is for who has no CA yet: it keeps no list of what it has signed, and takes
// nothing back. It never overwrites a file.
//
// It starts no goroutine.
package issue
