// Package decodetest checks what every decoder owes whoever calls it with a stranger's bytes, for tests only.
package decodetest
