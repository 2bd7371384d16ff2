// Package partition is the state machine of a partition: it turns committed entries into offsets, recognises
// retried batches of idempotent producers, and finds records by offset and time.
//
//	entry {time, payloads} --Apply--> one Outcome per payload, and what must be stored
//	                                   |
//	   prefix|0                  machine record: next offset, log start, the log's clock, bytes, last discarded entry
//	   prefix|1|first offset     index row, one per entry: Raft index, time, records, bytes before it, what is no record
//	   prefix|2|producer id      session: epoch and the latest five batches
//
// A payload is a record batch or a truncation. A truncation is "mrtrunc", a version byte (1), and three
// uvarints: the new log start, the bytes of all batches before it, and the last entry without a record from there
// on. It is shorter than a batch's header can be, so that nothing a node admits from a client is one. Apply moves
// the log start and deletes the rows before it; the entries go when the replica moves its State.Truncated up to
// Discarded, as far as it may.
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
// Retention is the decision: from an image of the store, a policy and the leader's clock it makes the truncation
// that the leader has to propose, or none. Replicas follow what is committed and decide nothing, so that all drop
// the same. Entries go whole: by age, when the log's clock at them is too far back; by bytes, oldest first, as long
// as what stays is at least as much as is to be kept (as in Kafka), so that the newest record never goes for its
// size.
//
// It does not check checksums or records (the node that admits a batch does), does not propose, does not
// fetch over a network, and never fails: what it cannot decode it judges Invalid.
package partition
