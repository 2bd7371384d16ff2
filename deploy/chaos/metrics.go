package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// metrics returns the samples of a node, by name as printed, labels and all.
func (c *cluster) metrics(ctx context.Context, id int) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTPAddr(id)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics of node %d: %w", id, err)
	}
	defer resp.Body.Close() // read only
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of node %d: HTTP status %s", id, resp.Status)
	}
	return samples(resp.Body)
}

// samples reads the text format.
func samples(r io.Reader) (map[string]float64, error) {
	all, lines := make(map[string]float64), bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("sample %q: %w", line, err)
		}
		all[line[:i]] = v
	}
	return all, lines.Err()
}

// sum adds a sample up over nodes.
func (c *cluster) sum(ctx context.Context, name string, ids ...int) (total float64, err error) {
	for _, id := range ids {
		m, err := c.metrics(ctx, id)
		if err != nil {
			return 0, err
		}
		v, ok := m[name]
		if !ok {
			return 0, fmt.Errorf("node %d has no metric %s", id, name)
		}
		total += v
	}
	return total, nil
}
