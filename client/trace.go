package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// startAppend begins the span of a batch, if it is sampled.
func (c *Client) startAppend(topic string, partition uint32, records int) *trace.Span {
	if c.cfg.Tracer == nil {
		return nil
	}
	span := c.cfg.Tracer.Start(trace.SpanClientAppend, trace.Context{})
	if span == nil {
		return nil
	}
	return span.As(trace.Producer).Set(
		trace.Text(trace.AttrMessagingSystem, "multiraft"), trace.Text(trace.AttrMessagingOperation, "append"), trace.Text(trace.AttrMessagingType, "send"),
		trace.Text(trace.AttrDestination, topic), trace.Text(trace.AttrPartition, strconv.FormatUint(uint64(partition), 10)),
		trace.Number(trace.AttrBatchCount, records))
}

func endAppend(span *trace.Span, r Receipt, err error) {
	if span == nil {
		return
	}
	if err == nil {
		span.Set(trace.Number(trace.AttrOffset, r.Offset), trace.Number(trace.AttrTerm, r.Term), trace.Number(trace.AttrIndex, r.Index))
	}
	span.Fail(err)
	span.End()
}

// traceBatch begins the span of a batch that is sent for the first time. Its retries stay in it.
func (p *Producer) traceBatch(b *batch) {
	if b.traced {
		return
	}
	b.traced = true
	b.span = p.client.startAppend(p.topic, b.lane.partition, b.ack.Records)
	b.ack.TraceID = b.span.At().ID()
}

// Trace asks all nodes for the spans that they remember of a trace, and returns the answers of those that have some.
// The error names the nodes that did not answer, beside what the others said.
func (c *Client) Trace(ctx context.Context, id string) ([]*multiraftv1.GetTraceResponse, error) {
	st, err := c.ClusterStatus(ctx)
	if err != nil {
		return nil, err
	}
	answers, errs := make([]*multiraftv1.GetTraceResponse, len(st.GetNodes())), make([]error, len(st.GetNodes()))
	var wg sync.WaitGroup
	for i, n := range st.GetNodes() {
		wg.Go(func() {
			answer, err := c.traceAt(ctx, n.GetClientAddr(), id)
			if answers[i] = answer; err != nil {
				errs[i] = fmt.Errorf("node %d: %w", n.GetNodeId(), err)
			}
		})
	}
	wg.Wait()
	var found []*multiraftv1.GetTraceResponse
	for _, a := range answers {
		if len(a.GetSpans()) > 0 {
			found = append(found, a)
		}
	}
	return found, errors.Join(errs...)
}

func (c *Client) traceAt(ctx context.Context, addr, id string) (*multiraftv1.GetTraceResponse, error) {
	conn, err := c.conn(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	resp, err := multiraftv1.NewAdminServiceClient(conn).GetTrace(ctx, &multiraftv1.GetTraceRequest{TraceId: id})
	if err != nil {
		return nil, fromStatus("trace "+id, err)
	}
	return resp, nil
}
