// Package history records what clients of one partition asked and were told, and checks it against the log that
// the replicas have in the end.
//
//	calls and answers                      the final log
//	      |  append to a slice                   |  SetLog
//	      v                                      v
//	   History ------------------------------> witness: which append stands where
//	                                             |                  |
//	                                     Check: the whole      Porcupine: windows,
//	                                     history, linear       searched for an order
//
// The partition is an append-only log of records with unique values; a batch is stored whole or not at all.
// Offsets give the one order in which appends can have taken effect, so a history is linearizable exactly if
// no two operations contradict it: x returned before y was called, and y stands before x. Check looks for such
// pairs in one pass (check_time.go says how), and for all that has nothing to do with time: lost, changed,
// doubled and invented records, producers' sequences, torn batches. Porcupine knows no such argument: it is
// given what clients were told and searches for an order, with a checker that others wrote and use. The two
// share only the witness; tests hold their verdicts against each other.
//
// Order of events. The simulator is one goroutine, so the order in which it records is the order in which things
// happened, also at equal simulated times: an answer recorded before a call came before it. Record a call
// when the client sends, an answer when the client has it.
//
// Records below the final log start are known from what clients were told of them, or not at all. Nothing is
// concluded from those that nobody saw.
//
// It does not record what happens inside nodes (terms, votes, what is durable), and it does not decide which
// operations to run. It reads no clock; Porcupine's search is bounded in steps, so verdicts are repeatable.
package history
