package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// copying is one partition's turn.
type copying struct {
	run       *run
	topic     *Topic
	partition *Partition
}

// copyAll copies the partitions of the chosen topics, and notes in m what it has.
func (b *run) copyAll(ctx context.Context, m *Manifest, chosen []*multiraftv1.TopicSummary) error {
	b.result.Added = map[uint64]Amount{}
	var todo []copying
	for _, c := range chosen {
		t, ok := m.topic(c.GetName())
		if !ok {
			return fmt.Errorf("backup: topic %s is not in the plan", c.GetName())
		}
		for i := range t.Partitions {
			todo = append(todo, copying{b, t, &t.Partitions[i]})
		}
	}
	b.progress.begin("copying", 0, len(todo))
	return each(ctx, partitionsAtOnce, len(todo), func(ctx context.Context, i int) error {
		err := todo[i].copy(ctx)
		if err == nil {
			b.progress.partitionDone()
		}
		return err
	})
}

// copy adds what is new in a partition, all of it the first time. Retention may take the first records of a partition
// while they are copied: then it is begun anew, at what is the first one by then.
func (c copying) copy(ctx context.Context) error {
	for try := 1; ; try++ {
		part, err := c.attempt(ctx)
		if err == nil {
			c.run.added(c.topic.ID, c.partition, &part)
			*c.partition = part
			return nil
		}
		where := fmt.Sprintf("%s/%d", c.topic.Name, c.partition.Partition)
		if !errors.Is(err, client.OffsetOutOfRange) {
			return fmt.Errorf("backup of %s: %w", where, err)
		}
		if c.partition.Start != notCopied {
			return fmt.Errorf("backup of %s: %w: the backup ends at offset %d, and what follows is gone: begin a new one in another folder: %w", where, ErrRetired, c.partition.End, err)
		}
		if try == copyTriesMax {
			return fmt.Errorf("backup of %s: %w, %d times: retention is faster than the backup: %w", where, ErrRetired, try, err)
		}
	}
}

// attempt returns the partition as it is with what is new.
func (c copying) attempt(ctx context.Context) (Partition, error) {
	part := *c.partition
	r, err := c.reader(ctx)
	if err != nil {
		return part, err
	}
	defer r.Close()
	w := newPartitionWriter(c.run.folder, c.topic.ID, part.Partition)
	if err := c.drain(ctx, r, w); err != nil {
		return part, errors.Join(err, w.erase())
	}
	if part.Start == notCopied {
		part.Start = r.Offset()
		if len(w.done) > 0 {
			part.Start = w.done[0].Start
		}
	}
	part.End = r.Offset()
	part.Segments = append(part.Segments[:len(part.Segments):len(part.Segments)], w.done...)
	return part, nil
}

// reader begins behind what is there.
func (c copying) reader(ctx context.Context) (*client.Reader, error) {
	timeout := c.run.options.Timeout
	cfg := client.ReadConfig{Partition: c.partition.Partition, To: client.End(), RetryTimeout: timeout}
	if c.partition.Start != notCopied {
		cfg.From = client.Offset(c.partition.End)
	}
	ask, cancel := withTimeout(ctx, timeout)
	defer cancel()
	r, err := c.run.client.NewReader(ask, c.topic.Name, cfg)
	if err != nil {
		return nil, err
	}
	if r.TopicID() != c.topic.ID {
		return nil, errors.Join(fmt.Errorf("the topic was deleted meanwhile, and created again"), r.Close())
	}
	return r, nil
}

// drain writes what r has to the end.
func (c copying) drain(ctx context.Context, r *client.Reader, w *partitionWriter) error {
	for {
		batch, err := r.NextBatch(ctx)
		if errors.Is(err, io.EOF) {
			return w.finish()
		}
		if err != nil {
			return err
		}
		info, err := recordbatch.ParseHeader(batch)
		if err != nil {
			return err
		}
		if err := w.add(batch, info); err != nil {
			return err
		}
		c.run.progress.add(int64(info.Count), int64(len(batch)))
	}
}

func (b *run) added(topic uint64, was, is *Partition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.result.Added[topic]
	if was.Start == notCopied {
		a.Records += is.Records()
	} else {
		a.Records += is.End - was.End
	}
	a.Bytes += is.Bytes() - was.Bytes()
	b.result.Added[topic] = a
}
