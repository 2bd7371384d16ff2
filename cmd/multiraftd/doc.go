// Command multiraftd is the server: flags, environment and file become a node.Config; the node runs until a
// signal, or until it fails.
//
// It holds no logic of the server's own. It alone decides about the process: exit codes, signals, where the
// log goes.
package main
