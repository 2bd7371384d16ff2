//go:build race

package main

// buildFlags make the nodes under test report races too; a race ends the node (GORACE), and so the scenario.
var buildFlags = []string{"-race"}
