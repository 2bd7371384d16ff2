package history

import "fmt"

// What a Violation's Rule may be.
const (
	RuleLost           = "lost"             // a record that was acknowledged or read is not in the log
	RuleElsewhere      = "elsewhere"        // an acknowledged batch stands at another offset than told
	RuleChanged        = "changed"          // the log, or what another client saw, has something else at an offset
	RuleSharedOffset   = "shared-offset"    // two appends were acknowledged at one offset
	RuleInvented       = "invented"         // a record that nobody appended
	RuleTorn           = "torn"             // a part of a batch without the rest
	RuleStoredFailed   = "stored-failed"    // an append that was answered "definitely not stored" is in the log
	RuleStoredTwice    = "stored-twice"     // a batch is in the log more often than it was appended
	RuleNotADuplicate  = "not-a-duplicate"  // an append was answered "stored before", and is not in the log
	RuleProducerOrder  = "producer-order"   // a producer's batches stand in another order than its sequences
	RuleProducerGap    = "producer-gap"     // a producer's batch was stored without the one before it
	RuleAppendOrder    = "append-order"     // an append stands before one that was acknowledged before its call
	RuleEndTooHigh     = "end-too-high"     // an end, or a read to it, counts records appended only afterwards
	RuleReadPastCommit = "read-past-commit" // a read returned records appended only afterwards
	RuleStaleEnd       = "stale-end"        // an end, or a read to it, is below what was known before its call
	RuleEndInBatch     = "end-in-batch"     // an end, or a read to it, counts a part of a batch
	RuleLogStart       = "log-start"        // a log start fell, or is above the end
	RuleOrder          = "linearizability"  // Porcupine found no order of a window's operations
)

// Violation is what a checker found. Text names the operations, so that one can start to look from there.
type Violation struct {
	Rule string // one of the Rule constants
	Text string
}

func (v *Violation) Error() string { return "history: " + v.Rule + ": " + v.Text }

func violation(rule, format string, args ...any) *Violation {
	return &Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
}
