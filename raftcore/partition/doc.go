// Package partition is the state machine of a partition: it turns committed entries into offsets, recognises
// retried batches of idempotent producers, and finds records by offset and time.
//
//	entry {time, batches} --Apply--> one Outcome per batch, and what must be stored
//	                                   |
//	   prefix|0                  machine record: next offset, log start, the log's clock
//	   prefix|1|first offset     index row, one per entry: Raft index, time, records, batches not accepted
//	   prefix|2|producer id      session: epoch and the latest five batches
//
// The records themselves stay where they are, in the Raft log; Read fetches entries by the index of their
// row, skips the batches that were not accepted and sets offset and leader epoch in copies of the others.
// There is one row per entry and not per batch because a key costs about as much as all else in an apply.
//
// Machine belongs to the replica's actor. Read, ReadBounds and OffsetAt are functions over one View and have
// no part in that state: rows, bounds and entries all come from the same image of the store.
//
// Time is the log's own clock: the largest time of any entry so far. Sessions expire by it, so that all
// replicas agree. A session is removed when nothing was stored for it in sessionMillisMax, or when there are
// more than sessionsMax, the least recently used first. How recently is told by the offset of a session's
// latest batch, which is stored, and not by the order of some list, so that a replica that has restarted
// removes the same ones.
//
// It does not check checksums or records (the node that admits a batch does), does not decide when to
// truncate, does not fetch over a network, and never fails: what it cannot decode it judges Invalid.
// Log start is part of the format and respected everywhere; no command moves it yet.
package partition
