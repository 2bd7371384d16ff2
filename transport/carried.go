package transport

import (
	"errors"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// TracesPerFrameMax is how many contexts of sampled writes ride in one frame; what is above goes without.
const TracesPerFrameMax = 256

// carry puts the contexts of an envelope's writes into its frame. Their sending is over with it: what follows is
// gRPC's and the network's, and shows as the gap before the receiving.
func carry(f *raftv1.Frame, group uint64, beside []trace.Carried) {
	for _, c := range beside {
		if c.Context.Valid() && len(f.Traces) < TracesPerFrameMax {
			f.Traces = append(f.Traces, &raftv1.TraceContext{GroupId: group, Index: c.Index, Traceparent: c.Context.Traceparent()})
		}
		c.Sending.End()
	}
}

// errDropped is, by fate, why what was to be sent was not.
var errDropped = func() (errs [fates]error) {
	for f := range fates {
		errs[f] = errors.New("dropped: " + f.String())
	}
	return errs
}()

func dropCarried(beside []trace.Carried, why Fate) {
	for _, c := range beside {
		c.Sending.Fail(errDropped[why])
		c.Sending.End()
	}
}
