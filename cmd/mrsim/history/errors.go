package history

import "errors"

// ErrMisuse: the history contradicts its own rules, so the recorder is at fault and nothing was checked: time
// runs backwards, an operation is answered twice, a value belongs to two batches, there is no final log.
var ErrMisuse = errors.New("history: misrecorded")
