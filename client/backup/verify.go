package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// problemsMax is how many faults of a backup are told.
const problemsMax = 100

// archive is a backup that is read.
type archive struct {
	dir      string
	root     *os.Root
	manifest *Manifest
	progress *Progress
}

func openArchive(dir string, progress *Progress) (*archive, error) {
	if progress == nil {
		progress = &Progress{}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	m, err := readManifest(root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("backup: %s: %w", dir, err), root.Close())
	}
	return &archive{dir, root, m, progress}, nil
}

func (a *archive) close() error { return a.root.Close() }

// Load reads the manifest of a backup, and checks that alone.
func Load(dir string) (*Manifest, error) {
	a, err := openArchive(dir, nil)
	if err != nil {
		return nil, err
	}
	return a.manifest, a.close()
}

// Verify reads a backup, all of it, and checks that every file is there as it was written and holds the records that
// the manifest says. It needs no cluster. problems lists what is wrong, and where: each wraps ErrDamaged, and there are
// no more than 100. err says that the backup could not be checked, or that it is none. progress may be nil.
func Verify(ctx context.Context, dir string, progress *Progress) (m *Manifest, problems []error, err error) {
	a, err := openArchive(dir, progress)
	if err != nil {
		return nil, nil, err
	}
	topics, err := a.manifest.choose(nil)
	if err == nil {
		var s survey
		if s, err = a.survey(ctx, topics); err == nil {
			problems = s.problems
		}
	}
	return a.manifest, problems, errors.Join(err, a.close())
}

// survey is what reading a backup has found.
type survey struct {
	problems []error
	// largest is, by topic id, the size of the largest record in bytes of key, value and headers.
	largest map[uint64]int
}

// survey reads topics to their end.
func (a *archive) survey(ctx context.Context, topics []*Topic) (survey, error) {
	s := survey{largest: map[uint64]int{}}
	var todo []*source
	var total int64
	for _, t := range topics {
		total += t.Bytes()
		for i := range t.Partitions {
			todo = append(todo, a.source(t, &t.Partitions[i]))
		}
	}
	a.progress.begin("checking", total, len(todo))
	var mu sync.Mutex
	err := each(ctx, partitionsAtOnce, len(todo), func(ctx context.Context, i int) error {
		src := todo[i]
		largest, problems, err := a.readThrough(ctx, src)
		mu.Lock()
		defer mu.Unlock()
		s.largest[src.topic.ID] = max(s.largest[src.topic.ID], largest)
		s.problems = append(s.problems, problems[:min(len(problems), problemsMax-len(s.problems))]...)
		a.progress.partitionDone()
		return err
	})
	return s, err
}

// readThrough reads a partition. A segment that is damaged is left, and the next one read.
func (a *archive) readThrough(ctx context.Context, src *source) (largest int, problems []error, err error) {
	for {
		if ctx.Err() != nil {
			return largest, problems, errors.Join(context.Cause(ctx), src.close())
		}
		b, info, err := src.batch()
		switch {
		case errors.Is(err, io.EOF):
			return largest, problems, nil
		case errors.Is(err, ErrDamaged):
			problems = append(problems, err)
			if err := src.close(); err != nil {
				return largest, problems, err
			}
			continue
		case err != nil:
			return largest, problems, errors.Join(err, src.close())
		}
		size, err := largestRecord(b, info)
		if err != nil {
			problems = append(problems, damaged(src.open.name, "at offset %d: %v", info.BaseOffset, err))
		}
		largest = max(largest, size)
		a.progress.add(int64(info.Count), 0)
	}
}

// largestRecord looks into a batch; 0 where the records are compressed, which is for whoever wrote them.
func largestRecord(b []byte, info recordbatch.Info) (largest int, err error) {
	if info.Compression != 0 {
		return 0, nil
	}
	records, err := recordbatch.Decode(b)
	for i := range records {
		largest = max(largest, records[i].Bytes())
	}
	return largest, err
}
