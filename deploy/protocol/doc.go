// Package protocol runs the Python client of docs/protocol.md, taken from the page, on stubs generated as the page says,
// against three real processes of which the leader is killed: what a client in another language is told works.
//
// It has no code outside its tests.
package protocol
