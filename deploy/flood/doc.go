// Command flood is a stranger who uses up what a node has, until its standard input ends: one kind of flood, as fast as
// it goes, from a loopback address of its own, which to the node is a host of its own. `make chaos ARGS=strangers`
// starts it beside a load, and measures what the load still gets.
//
//	flood -kind pings -client 127.0.0.1:7071 -peer 127.0.0.1:7171 -from 127.0.1.1 -cluster ID
//
// It has its own process, so that it can be given the processors that others leave: a stranger brings his own. What a
// node closes it opens again at once. In the end it prints, as JSON, how often it did what it is named after.
package main
