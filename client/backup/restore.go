package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/client"
)

// RestoreOptions say what to restore, and as what.
type RestoreOptions struct {
	// Dir holds the backup.
	Dir string
	// Topics to restore. Default: all that are in the backup.
	Topics []string
	// As is another name for the one topic that is restored.
	As string
	// Replicas of each partition. Default: as many as there were.
	Replicas uint32
	// Renumber lets a partition whose first records were gone begin at offset 0.
	Renumber bool
	// Timeout ends it when nothing has moved for so long. 0 = never.
	Timeout time.Duration
	// Progress may be nil.
	Progress *Progress
}

// Restored says what has become of one topic of the backup.
type Restored struct {
	Topic      *Topic
	As         string // its name in the cluster
	ID         uint64 // in the cluster
	Records    int64  // appended now
	WereThere  int64  // records that an earlier restore had appended, and that are as in the backup
	Renumbered []Renumbered
}

// Renumbered is a partition whose offsets are not those that they were.
type Renumbered struct {
	Partition uint32
	By        int64 // every offset is so much smaller
}

// Restore checks a backup and appends what is in it to new topics. Nothing is created before all has been checked, and
// before it is known that no name is taken. A restore that was cut short is taken up by the same call; one that came
// to its end finds nothing to do. With an error comes what has been created all the same. errors.Is tells ErrDamaged,
// ErrOffsets, ErrForeign, ErrStalled, client.TopicExists and the other reasons of the client.
func Restore(ctx context.Context, c *client.Client, o RestoreOptions) ([]Restored, error) {
	a, err := openArchive(o.Dir, o.Progress)
	if err != nil {
		return nil, err
	}
	r := &restore{archive: a, client: c, options: o}
	restored, err := r.run(ctx)
	return restored, errors.Join(err, a.close())
}

// restore is one call of Restore.
type restore struct {
	*archive
	client  *client.Client
	options RestoreOptions
}

func (r *restore) run(ctx context.Context) ([]Restored, error) {
	topics, err := r.manifest.choose(r.options.Topics)
	if err != nil {
		return nil, err
	}
	if err := r.mayRestore(topics); err != nil {
		return nil, err
	}
	found, err := r.survey(ctx, topics)
	if err != nil {
		return nil, err
	}
	if len(found.problems) > 0 {
		return nil, fmt.Errorf("restore: nothing was restored: %w", errors.Join(found.problems...))
	}
	ctx, stop := r.progress.watch(ctx, r.options.Timeout)
	defer stop()
	restored, err := r.create(ctx, topics)
	if err != nil {
		return restored, causeOf(ctx, err)
	}
	return restored, causeOf(ctx, r.fill(ctx, restored, found.largest))
}

// mayRestore says what is in the way before anything is read.
func (r *restore) mayRestore(topics []*Topic) error {
	if as := r.options.As; as != "" {
		switch {
		case len(topics) != 1:
			return fmt.Errorf("restore: another name is for one topic, and %d would be restored: choose one of %s", len(topics), some(r.manifest.names()))
		case !validName(as):
			return fmt.Errorf("restore: %q is no name of a topic: 1 to 249 characters of a-z A-Z 0-9 . _ -", as)
		}
	}
	if r.options.Renumber {
		return nil
	}
	var late []string
	for _, t := range topics {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; p.Start > 0 {
				late = append(late, fmt.Sprintf("%s/%d begins at offset %d", t.Name, p.Partition, p.Start))
			}
		}
	}
	if len(late) == 0 {
		return nil
	}
	return fmt.Errorf("restore: %w: what came before was retired when the backup was made, and a new topic begins at 0: %s; --renumber restores from 0 on",
		ErrOffsets, some(late))
}

func (r *restore) nameOf(t *Topic) string {
	if r.options.As != "" {
		return r.options.As
	}
	return t.Name
}

// requestID is the same whenever this topic of this backup is restored under this name.
func (r *restore) requestID(t *Topic) (id [client.RequestIDBytes]byte) {
	text := fmt.Appendf(nil, "multiraftd restore\x00%s\x00%s\x00", r.manifest.ID, r.nameOf(t))
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(text, t.ID))
	copy(id[:], sum[:])
	return id
}

// create creates the topics, or finds those that an earlier restore of this backup has created: first those whose names
// are taken, so that another's topic ends it before there is anything new.
func (r *restore) create(ctx context.Context, topics []*Topic) ([]Restored, error) {
	ask, cancel := withTimeout(ctx, r.options.Timeout)
	defer cancel()
	existing, err := r.client.ListTopics(ask)
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, t := range existing {
		taken[t.GetName()] = true
	}
	order := slices.Clone(topics)
	slices.SortStableFunc(order, func(a, b *Topic) int { return btoi(taken[r.nameOf(b)]) - btoi(taken[r.nameOf(a)]) })
	r.progress.begin("creating topics", 0, 0)
	var restored []Restored
	var refused []error
	for _, t := range order {
		if len(refused) > 0 && !taken[r.nameOf(t)] {
			break
		}
		id, err := r.createOne(ctx, t)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		restored = append(restored, Restored{Topic: t, As: r.nameOf(t), ID: id})
	}
	return restored, errors.Join(refused...)
}

func (r *restore) createOne(ctx context.Context, t *Topic) (uint64, error) {
	ask, cancel := withTimeout(ctx, r.options.Timeout)
	defer cancel()
	replicas := t.Replicas
	if r.options.Replicas > 0 {
		replicas = r.options.Replicas
	}
	if t.RetentionMillis > math.MaxInt64/int64(time.Millisecond) {
		return 0, fmt.Errorf("restore: topic %s: a retention of %d ms is longer than a client can ask for", t.Name, t.RetentionMillis)
	}
	keep := client.Retention{Age: time.Duration(t.RetentionMillis) * time.Millisecond, Bytes: t.RetentionBytes}
	// Whether its partitions have leaders already shows when they are appended to.
	id, _, err := r.client.CreateTopicAs(ask, r.requestID(t), r.nameOf(t), uint32(len(t.Partitions)), replicas, keep)
	r.progress.moves.Add(1)
	switch {
	case errors.Is(err, client.TopicExists):
		return 0, fmt.Errorf("restore: %w: delete it, or restore under another name with --topic %s --as NAME", err, t.Name)
	case errors.Is(err, client.NotEnoughNodes):
		return 0, fmt.Errorf("restore: %w: --replicas N restores with fewer", err)
	case err != nil:
		return 0, fmt.Errorf("restore: %w", err)
	}
	return id, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
