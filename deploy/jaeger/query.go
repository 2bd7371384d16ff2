package jaeger

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Span is a span as the query API has it, with its process.
type Span struct {
	ID, Parent, Name string
	Trace            string
	Service, Node    string // Node is the attribute multiraft.node of the process; empty = none
	Process          string // service, instance and node: distinct for each process
	Start, Duration  int64  // microseconds
	Tags             map[string]string
	Links            []Link
	Warnings         []string
}

// Link names a span of this or another trace.
type Link struct{ Trace, Span string }

// End is when it ended.
func (s *Span) End() int64 { return s.Start + s.Duration }

// answer is the query API's, as far as it is needed.
type answer struct {
	Data []struct {
		TraceID string `json:"traceID"`
		Spans   []struct {
			TraceID       string      `json:"traceID"`
			SpanID        string      `json:"spanID"`
			OperationName string      `json:"operationName"`
			References    []reference `json:"references"`
			StartTime     int64       `json:"startTime"`
			Duration      int64       `json:"duration"`
			Tags          []tag       `json:"tags"`
			ProcessID     string      `json:"processID"`
			Warnings      []string    `json:"warnings"`
		} `json:"spans"`
		Processes map[string]struct {
			ServiceName string `json:"serviceName"`
			Tags        []tag  `json:"tags"`
		} `json:"processes"`
	} `json:"data"`
}

type reference struct{ RefType, TraceID, SpanID string }

type tag struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// Query asks a Jaeger at base, such as http://127.0.0.1:16686.
type Query struct{ Base string }

// Trace returns the spans of a trace by start; none when Jaeger does not have it.
func (q Query) Trace(ctx context.Context, id string) ([]Span, error) {
	a, err := q.get(ctx, "/api/traces/"+id)
	if err != nil || len(a.Data) == 0 {
		return nil, err
	}
	return a.spans(0), nil
}

// Find returns the traces with a span of this name, the latest ones, each with its spans by start.
func (q Query) Find(ctx context.Context, service, name string) ([][]Span, error) {
	v := url.Values{"service": {service}, "operation": {name}, "limit": {"200"}, "lookback": {"1h"}}
	a, err := q.get(ctx, "/api/traces?"+v.Encode())
	if err != nil {
		return nil, err
	}
	all := make([][]Span, len(a.Data))
	for i := range a.Data {
		all[i] = a.spans(i)
	}
	return all, nil
}

func (q Query) get(ctx context.Context, path string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.Base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read only
	if resp.StatusCode == http.StatusNotFound {
		return &answer{}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("jaeger: %s: %s", path, resp.Status)
	}
	var a answer
	return &a, json.NewDecoder(resp.Body).Decode(&a)
}

func (a *answer) spans(i int) []Span {
	data := a.Data[i]
	var all []Span
	for _, s := range data.Spans {
		p := data.Processes[s.ProcessID]
		ptags := texts(p.Tags)
		span := Span{ID: s.SpanID, Trace: s.TraceID, Name: s.OperationName, Start: s.StartTime, Duration: s.Duration, Tags: texts(s.Tags), Warnings: s.Warnings,
			Service: p.ServiceName, Node: ptags["multiraft.node"]}
		span.Process = strings.Join([]string{p.ServiceName, ptags["service.instance.id"], span.Node}, " ")
		for _, r := range s.References {
			switch r.RefType {
			case "CHILD_OF":
				span.Parent = r.SpanID
			default:
				span.Links = append(span.Links, Link{r.TraceID, r.SpanID})
			}
		}
		all = append(all, span)
	}
	slices.SortStableFunc(all, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Duration, a.Duration))
	})
	return all
}

func texts(tags []tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = fmt.Sprint(t.Value)
	}
	return m
}
