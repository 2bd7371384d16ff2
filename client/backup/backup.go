package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

const (
	// partitionsAtOnce is how many partitions are copied or restored at the same time.
	partitionsAtOnce = 4
	// notCopied is the start of a partition that is yet to be copied.
	notCopied = -1
	// copyTriesMax is how often a partition is begun anew whose records are retired while they are copied.
	copyTriesMax = 5
)

// Options say what to back up, and where to.
type Options struct {
	// Dir must not exist, or be empty; with Incremental it may hold a backup of the same cluster.
	Dir string
	// Topics to copy. Default: all.
	Topics []string
	// Incremental adds what is new to the backup in Dir, if there is one.
	Incremental bool
	// Timeout ends it when nothing has moved for so long. 0 = never.
	Timeout time.Duration
	// Progress may be nil.
	Progress *Progress
}

// Result says what was copied.
type Result struct {
	Manifest *Manifest
	Added    map[uint64]Amount // by topic id: what this run has copied
	Notes    []string          // what somebody should know
}

// Amount is how much.
type Amount struct{ Records, Bytes int64 }

// Backup copies topics into a folder. When it fails, what it wrote is removed, and an older backup in the folder is what
// it was; errors.Is tells ErrNotEmpty, ErrOtherCluster, ErrRetired, ErrStalled, and the client's reasons.
func Backup(ctx context.Context, c *client.Client, o Options) (*Result, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	f, old, err := openFolder(o.Dir, o.Incremental, o.Progress)
	if err != nil {
		return nil, err
	}
	b := &run{client: c, options: o, folder: f, old: old, progress: o.Progress}
	res, installed, err := b.run(ctx)
	switch {
	case err == nil:
	case installed:
		err = fmt.Errorf("backup: %s is complete, but it is not certain that it is on the disk for good: %w", o.Dir, err)
	default:
		if undone := f.discard(); undone != nil {
			err = fmt.Errorf("%w; what it wrote to %s could not be removed: %w", err, o.Dir, undone)
		} else {
			err = fmt.Errorf("%w; %s is as it was before", err, o.Dir)
		}
	}
	if closed := f.close(); err == nil && closed != nil {
		err = fmt.Errorf("backup: %w", closed)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// run is one call of Backup.
type run struct {
	client   *client.Client
	options  Options
	folder   *folder
	old      *Manifest
	progress *Progress

	mu     sync.Mutex
	result Result
}

func (b *run) run(ctx context.Context) (*Result, bool, error) {
	ctx, stop := b.progress.watch(ctx, b.options.Timeout)
	defer stop()
	m, chosen, err := b.plan(ctx)
	if err != nil {
		return nil, false, causeOf(ctx, err)
	}
	if err := b.copyAll(ctx, m, chosen); err != nil {
		return nil, false, causeOf(ctx, err)
	}
	m.Ended = now()
	var installed bool
	err = b.progress.onDisk(func() (err error) {
		installed, err = b.folder.commit(m)
		return err
	})
	if err != nil {
		return nil, installed, fmt.Errorf("backup: %w", err)
	}
	b.result.Manifest = m
	return &b.result, true, nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// causeOf is why ctx ended, where err says only that it did.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// plan makes the manifest to be: what the old one has, and the chosen topics as they are in the cluster.
func (b *run) plan(ctx context.Context) (*Manifest, []*multiraftv1.TopicSummary, error) {
	ask, cancel := withTimeout(ctx, b.options.Timeout)
	defer cancel()
	st, err := b.client.ClusterStatus(ask)
	if err != nil {
		return nil, nil, err
	}
	m, err := b.newManifest(st.GetClusterId())
	if err != nil {
		return nil, nil, err
	}
	topics, err := b.client.ListTopics(ask)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := b.choose(topics)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range chosen {
		if err := m.include(t); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(m.Topics, func(a, b Topic) int { return cmp.Compare(a.ID, b.ID) })
	b.noteGone(topics)
	return m, chosen, nil
}

func (b *run) newManifest(cluster string) (*Manifest, error) {
	m := &Manifest{Format: formatName, Version: formatVersion, Cluster: cluster, Began: now(), Topics: []Topic{}}
	if b.old == nil {
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return nil, fmt.Errorf("backup: id: %w", err)
		}
		m.ID = hex.EncodeToString(id)
		return m, nil
	}
	if b.old.Cluster != cluster {
		return nil, fmt.Errorf("backup: %s: %w: %s, this one is %s; take another folder", b.options.Dir, ErrOtherCluster, b.old.Cluster, cluster)
	}
	m.ID, m.Topics = b.old.ID, slices.Clone(b.old.Topics)
	return m, nil
}

func (b *run) choose(topics []*multiraftv1.TopicSummary) ([]*multiraftv1.TopicSummary, error) {
	if len(b.options.Topics) == 0 {
		return topics, nil
	}
	var chosen []*multiraftv1.TopicSummary
	for _, name := range dedupe(b.options.Topics) {
		i := slices.IndexFunc(topics, func(t *multiraftv1.TopicSummary) bool { return t.GetName() == name })
		if i < 0 {
			return nil, fmt.Errorf("backup: topic %s is not in the cluster", name)
		}
		chosen = append(chosen, topics[i])
	}
	return chosen, nil
}

// include adds a topic without records, or takes over the settings of one that is there.
func (m *Manifest) include(t *multiraftv1.TopicSummary) error {
	was, ok := m.topic(t.GetName())
	switch {
	case !ok:
		m.Topics = append(m.Topics, Topic{Name: t.GetName(), ID: t.GetTopicId()})
		was = &m.Topics[len(m.Topics)-1]
		for p := range t.GetPartitions() {
			was.Partitions = append(was.Partitions, Partition{Partition: p, Start: notCopied, Segments: []Segment{}})
		}
	case was.ID != t.GetTopicId():
		return fmt.Errorf("backup: topic %s was deleted and created again since this backup: begin a new one in another folder", t.GetName())
	case len(was.Partitions) != int(t.GetPartitions()):
		return fmt.Errorf("backup: topic %s has %d partitions, in this backup it has %d: begin a new one in another folder", t.GetName(), t.GetPartitions(), len(was.Partitions))
	default:
		was.Partitions = slices.Clone(was.Partitions) // they change; the old manifest does not
	}
	was.Replicas = t.GetReplicas()
	was.RetentionMillis, was.RetentionBytes = t.GetRetention().GetRetentionMs(), t.GetRetention().GetRetentionBytes()
	return nil
}

// noteGone tells of topics that the older backup has and the cluster has no more.
func (b *run) noteGone(topics []*multiraftv1.TopicSummary) {
	if b.old == nil {
		return
	}
	var gone []string
	for _, t := range b.old.Topics {
		if !slices.ContainsFunc(topics, func(now *multiraftv1.TopicSummary) bool { return now.GetTopicId() == t.ID }) {
			gone = append(gone, t.Name)
		}
	}
	if len(gone) > 0 {
		b.note("no longer in the cluster, what the backup has of it stays: %s", some(gone))
	}
}

func (b *run) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.result.Notes = append(b.result.Notes, fmt.Sprintf(format, args...))
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
