// Package lineage tells a store from an older copy of it. Each start of a node on a store has a number, one above that of
// the start before, and draws an id. A node shows the ids of the starts before as well: whoever remembers one of them
// sees whether this store comes from it. A copy of the store that is put back, or started elsewhere, shares the starts
// until the copy was made, and no later one. It may have started as often as the original, or more often: it has other
// ids.
//
// What it can't tell is a store put back that the original has not been started on since the copy was made: its starts
// are the same. Then only the log that a replica lacks gives it away (raftcore.ErrQuarantine).
package lineage
