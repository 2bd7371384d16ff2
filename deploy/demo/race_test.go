//go:build race

package main

// buildFlags make the nodes under test report races too; a race ends the node (GORACE), and so the demo.
var buildFlags = []string{"-race"}
