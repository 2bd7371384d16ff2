package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/multiraftd/multiraftd/proto/trace"
)

// jaegerBytesMax bounds an answer of Jaeger's.
const jaegerBytesMax = 64 << 20

// jaegerAnswer is what Jaeger's query API says of a trace, as far as it is needed.
type jaegerAnswer struct {
	Data []struct {
		Spans []struct {
			SpanID        string      `json:"spanID"`
			OperationName string      `json:"operationName"`
			References    []jaegerRef `json:"references"`
			StartTime     int64       `json:"startTime"` // microseconds
			Duration      int64       `json:"duration"`  // microseconds
			Tags          []jaegerTag `json:"tags"`
			ProcessID     string      `json:"processID"`
		} `json:"spans"`
		Processes map[string]struct {
			ServiceName string      `json:"serviceName"`
			Tags        []jaegerTag `json:"tags"`
		} `json:"processes"`
	} `json:"data"`
}

type jaegerRef struct {
	RefType string `json:"refType"`
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

type jaegerTag struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// askJaeger gets a trace from Jaeger's query API.
func askJaeger(ctx context.Context, base, id string) (*traceTree, error) {
	address, err := url.JoinPath(base, "api", "traces", id)
	if err != nil {
		return nil, usage(fmt.Errorf("--jaeger %q: %w", base, err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, usage(fmt.Errorf("--jaeger %q: %w", base, err))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Jaeger: %w", err)
	}
	defer resp.Body.Close() // read only
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("jaeger at %s has no trace %s", base, id)
	default:
		return nil, fmt.Errorf("jaeger at %s answers %s", base, resp.Status)
	}
	var answer jaegerAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, jaegerBytesMax)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	if len(answer.Data) == 0 || len(answer.Data[0].Spans) == 0 {
		return nil, fmt.Errorf("jaeger at %s has no trace %s", base, id)
	}
	return answer.tree(id), nil
}

func (a *jaegerAnswer) tree(id string) *traceTree {
	t := &traceTree{ID: id}
	data := a.Data[0]
	for _, s := range data.Spans {
		p := data.Processes[s.ProcessID]
		span := traceSpan{ID: s.SpanID, Name: s.OperationName, Process: p.ServiceName, Start: s.StartTime * 1000, Duration: s.Duration * 1000,
			Attributes: map[string]any{}, Links: []traceLink{}}
		for _, tag := range p.Tags {
			if tag.Key == trace.AttrNode {
				span.Process = fmt.Sprintf("node %v", tag.Value)
			}
		}
		for _, tag := range s.Tags {
			if tag.Key == "otel.status_description" {
				span.Failure = fmt.Sprint(tag.Value)
			}
			span.Attributes[tag.Key] = tag.Value
		}
		for _, r := range s.References {
			if r.RefType == "CHILD_OF" && r.TraceID == id && span.Parent == "" {
				span.Parent = r.SpanID
			} else {
				span.Links = append(span.Links, traceLink{r.TraceID, r.SpanID})
			}
		}
		t.Spans = append(t.Spans, span)
	}
	t.sort()
	return t
}
