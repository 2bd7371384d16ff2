package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
)

func newTrace(o *options) *cobra.Command {
	var jaeger string
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Draw the spans of a trace, as the nodes remember them or as Jaeger has them",
		Long: `Draw the spans of a trace: what was part of what, where it was done, how long it took and when.

Every node remembers the latest sampled traces. With --jaeger the trace comes from there instead, with the spans
of clients too. Exits with 1 when nobody has it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := strings.ToLower(args[0])
			if _, ok := trace.ParseID(id); !ok {
				return usage(fmt.Errorf("a trace id has 32 hexadecimal digits, not %q", args[0]))
			}
			t, err := o.findTrace(cmd, id, jaeger)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return o.print(cmd.OutOrStdout(), t, nil)
			}
			return t.draw(cmd.OutOrStdout(), barColumns())
		},
	}
	cmd.Flags().StringVar(&jaeger, "jaeger", "", "URL of Jaeger's query API, such as http://127.0.0.1:16686")
	return cmd
}

// findTrace asks Jaeger or the nodes.
func (o *options) findTrace(cmd *cobra.Command, id, jaeger string) (*traceTree, error) {
	if jaeger != "" {
		if err := o.validate(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
		defer cancel()
		return askJaeger(ctx, jaeger, id)
	}
	var t *traceTree
	err := o.call(cmd, func(ctx context.Context, c *client.Client) error {
		found, silent := c.Trace(ctx, id)
		switch {
		case len(found) > 0 && silent != nil:
			fmt.Fprintf(cmd.ErrOrStderr(), "mrctl: spans may be missing: %v\n", silent)
		case errors.Is(silent, client.ErrUnreachable) && found == nil:
			return silent
		case len(found) == 0 && silent != nil:
			return fmt.Errorf("no node that answers remembers trace %s: %v", id, silent)
		case len(found) == 0:
			return fmt.Errorf("no node remembers trace %s: it was not sampled, or later ones have taken its place", id)
		}
		t = fromNodes(id, found)
		return nil
	})
	return t, err
}

// traceTree is a trace for printing.
type traceTree struct {
	ID    string      `json:"trace_id"`
	Spans []traceSpan `json:"spans"` // by start
}

type traceSpan struct {
	ID         string         `json:"span_id"`
	Parent     string         `json:"parent_span_id"` // empty = the trace begins here
	Name       string         `json:"name"`
	Process    string         `json:"process"`
	Start      int64          `json:"start_unix_nano"`
	Duration   int64          `json:"duration_nano"`
	Attributes map[string]any `json:"attributes"`
	Links      []traceLink    `json:"links"`
	Failure    string         `json:"failure"`
}

type traceLink struct {
	Trace string `json:"trace_id"`
	Span  string `json:"span_id"`
}

func fromNodes(id string, answers []*multiraftv1.GetTraceResponse) *traceTree {
	t := &traceTree{ID: id}
	for _, a := range answers {
		for _, s := range a.GetSpans() {
			span := traceSpan{ID: fmt.Sprintf("%x", s.GetSpanId()), Parent: fmt.Sprintf("%x", s.GetParentSpanId()), Name: s.GetName(),
				Process: fmt.Sprintf("node %d", a.GetNodeId()), Start: s.GetStartUnixNano(), Duration: s.GetEndUnixNano() - s.GetStartUnixNano(),
				Attributes: map[string]any{}, Links: []traceLink{}, Failure: s.GetFailure()}
			for _, attr := range s.GetAttributes() {
				switch v := attr.GetValue().(type) {
				case *multiraftv1.TraceAttribute_Text:
					span.Attributes[attr.GetKey()] = v.Text
				case *multiraftv1.TraceAttribute_Number:
					span.Attributes[attr.GetKey()] = v.Number
				}
			}
			for _, l := range s.GetLinks() {
				if c, d := trace.Parse(l); d == trace.Sampled {
					span.Links = append(span.Links, traceLink{c.ID(), fmt.Sprintf("%x", c.SpanID)})
				}
			}
			t.Spans = append(t.Spans, span)
		}
	}
	t.sort()
	return t
}

// draw prints the tree, a line for each span, with a bar for its time.
func (t *traceTree) draw(w io.Writer, columns int) error {
	d := newDrawing(t, columns)
	for _, line := range d.lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
