package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const nodes = 3

// ratio is a figure that two counters give together.
type ratio struct{ name, of, per string }

var ratios = []ratio{
	{"envelopes per frame", "multiraft_transport_envelopes_sent_total", "multiraft_transport_frames_sent_total"},
	{"appends per entry", "multiraft_replica_proposals_total", "multiraft_replica_entries_proposed_total"},
	{"group appends per fsync", "multiraft_log_synced_appends_total", "multiraft_log_syncs_total"},
}

// line says what happened between two scrapes.
func (r ratio) line(before, after map[string]float64) string {
	of, per := after[r.of]-before[r.of], after[r.per]-before[r.per]
	if per == 0 {
		return fmt.Sprintf("%s: %s did not move", r.name, r.per)
	}
	return fmt.Sprintf("%s: %.1f (%.0f / %.0f)", r.name, of/per, of, per)
}

// scrape sums the counters of all nodes by name, whatever their labels.
func scrape(ctx context.Context, c *localcluster.Cluster) (map[string]float64, error) {
	sums := make(map[string]float64)
	for id := 1; id <= nodes; id++ {
		if err := scrapeNode(ctx, "http://"+c.HTTPAddr(id)+"/metrics", sums); err != nil {
			return nil, fmt.Errorf("metrics of node %d: %w", id, err)
		}
	}
	return sums, nil
}

func scrapeNode(ctx context.Context, url string, sums map[string]float64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read only
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s", resp.Status)
	}
	return addSamples(resp.Body, sums)
}

// addSamples reads the text format: name, labels in braces or none, value.
func addSamples(r io.Reader, sums map[string]float64) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := cutLast(lines.Text(), ' ')
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("sample %q: %w", lines.Text(), err)
		}
		name, _, _ = strings.Cut(name, "{")
		sums[name] += v
	}
	return lines.Err()
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
