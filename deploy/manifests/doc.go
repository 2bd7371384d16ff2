// Package manifests starts nodes by the command lines that deploy/docker and deploy/kubernetes give their containers, as
// processes on loopback: they form a cluster, it grows and shrinks as docs/operations.md says, and a founder that has
// lost its volume comes back. Whether the files have the right form is for deploy/tools/manifests.
//
// It has no code outside its tests. Names and ports of the network that the files count on are replaced by loopback
// ones, and the data directory and the configuration by the test's own; nothing else is.
package manifests
