package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
)

// unlimited is how a limit is taken away.
const unlimited = "unlimited"

// retentionFlags are --retention and --retention-bytes.
type retentionFlags struct{ age, bytes string }

func (f *retentionFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.age, "retention", unlimited, "how long records are kept: a duration such as 168h or 90m, or "+unlimited)
	cmd.Flags().StringVar(&f.bytes, "retention-bytes", unlimited, "how much of each partition is kept: a size such as 10GiB or 512MiB, or "+unlimited)
}

// values reads both flags.
func (f *retentionFlags) values() (age time.Duration, bytes int64, err error) {
	age, errAge := parseAge(f.age)
	bytes, errBytes := parseSize(f.bytes)
	if errAge != nil {
		errAge = fmt.Errorf("--retention %q: %w", f.age, errAge)
	}
	if errBytes != nil {
		errBytes = fmt.Errorf("--retention-bytes %q: %w", f.bytes, errBytes)
	}
	if err := errors.Join(errAge, errBytes); err != nil {
		return 0, 0, usage(err)
	}
	return age, bytes, nil
}

// parseAge reads a duration of whole milliseconds; 0 stands for unlimited and can't be typed: it looks like "keep
// nothing".
func parseAge(s string) (time.Duration, error) {
	if s == unlimited {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d%time.Millisecond != 0 {
		return 0, errors.New("want a duration of whole milliseconds, at least 1ms, such as 168h or 1h30m, or " + unlimited)
	}
	return d, nil
}

// parseSize reads a number of bytes with a binary unit or none; 0 as in parseAge.
func parseSize(s string) (int64, error) {
	if s == unlimited {
		return 0, nil
	}
	for _, u := range []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}} {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 63); err == nil && n > 0 && int64(n) <= math.MaxInt64/u.factor {
			return int64(n) * u.factor, nil
		}
		break
	}
	return 0, errors.New("want a size of at least 1 byte such as 10GiB, 512MiB, 64KiB or 1000, or " + unlimited)
}

// ageText and sizeText write what the flags read.
func ageText(millis int64) string {
	if millis == 0 {
		return unlimited
	}
	if millis > math.MaxInt64/int64(time.Millisecond) {
		return fmt.Sprintf("%dms", millis)
	}
	s := (time.Duration(millis) * time.Millisecond).String()
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}

func sizeText(bytes int64) string {
	switch {
	case bytes == 0:
		return unlimited
	case bytes%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", bytes>>30)
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", bytes>>20)
	case bytes%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", bytes>>10)
	default:
		return fmt.Sprintf("%d", bytes)
	}
}

type topicAltered struct {
	Name           string `json:"name"`
	ID             uint64 `json:"id"`
	RetentionMs    int64  `json:"retention_ms"`    // 0 = unlimited
	RetentionBytes int64  `json:"retention_bytes"` // 0 = unlimited
}

func newTopicAlter(o *options) *cobra.Command {
	var keep retentionFlags
	cmd := &cobra.Command{
		Use:   "alter NAME [--retention DURATION] [--retention-bytes SIZE]",
		Short: "Change how long a topic's records are kept",
		Long: "Change how long a topic's records are kept. What is not named stays as it is. What is past a limit then goes at\n" +
			"once, on all replicas, and does not come back: there is no question and no undo.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change client.RetentionChange
			age, bytes, err := keep.values()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("retention") {
				change.Age = &age
			}
			if cmd.Flags().Changed("retention-bytes") {
				change.Bytes = &bytes
			}
			if change == (client.RetentionChange{}) {
				return usage(errors.New("topic alter needs --retention or --retention-bytes"))
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				id, now, err := c.AlterTopic(ctx, args[0], change)
				if err != nil {
					return err
				}
				v := topicAltered{args[0], id, now.Age.Milliseconds(), now.Bytes}
				return o.print(cmd.OutOrStdout(), v, func(w io.Writer) {
					fmt.Fprintf(w, "TOPIC\tRETENTION\tRETENTION-BYTES\n%s\t%s\t%s\n", v.Name, ageText(v.RetentionMs), sizeText(v.RetentionBytes))
				})
			})
		},
	}
	keep.bind(cmd)
	return cmd
}

func newTopicDelete(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a topic with all its records",
		Long: "Delete a topic with all its records, for good. It does what it says, without a question, as rpk and\n" +
			"kafka-topics do. The name is free at once; the space comes back within a minute. Clients that still use the topic\n" +
			"get UNKNOWN_TOPIC, also when there is another topic under its name by then.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				id, err := c.DeleteTopic(ctx, args[0])
				if err != nil {
					return err
				}
				v := struct {
					Name string `json:"name"`
					ID   uint64 `json:"id"`
				}{args[0], id}
				return o.print(cmd.OutOrStdout(), v, func(w io.Writer) { fmt.Fprintf(w, "TOPIC\tSTATUS\n%s\tDELETED\n", v.Name) })
			})
		},
	}
}
