// Package guardtest is a gRPC client that need not behave, for tests only: HTTP/2 frames by hand over one
// connection. A real client keeps to what the server's SETTINGS and windows say, and so can't show that the
// server holds out when nobody does.
//
// It reads all that the server sends, answers SETTINGS and PING, and gives no window back: what it lets the
// server send is what it said at the start.
package guardtest
