// Package layers proves, by reading the source, that the rooms of the project keep to what they are for: who
// may import whom, where there is no clock, goroutine or randomness, and how long things may get. It also
// holds the committed table of errors (docs/errors.md) against the RPCs in proto/.
//
// It has no code outside its tests. The rules are the tables at the top of layers_test.go: a new package needs
// a line there, and whoever widens a rule writes the reason beside it.
//
// It does not type-check and does not run the go tool: it parses files. So it cannot see iteration over a map,
// or a clock that is reached through another package; reviews and the simulator have to.
package layers
