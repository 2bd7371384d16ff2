package node

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/actors"
)

const mib = 1 << 20

func TestTheLevelFollowsFreeSpaceAndDoesNotFlicker(t *testing.T) {
	m := marksOf(100 << 30)
	if m != (diskMarks{512 * mib, 128 * mib, 128 * mib}) {
		t.Fatalf("%+v", m)
	}
	if small := marksOf(1 << 30); small != (diskMarks{256 * mib, 64 * mib, 64 * mib}) {
		t.Fatalf("%+v", small)
	}
	level := actors.SpaceEnough
	for _, step := range []struct {
		free uint64
		want actors.SpaceLevel
	}{
		{512, actors.SpaceEnough}, {511, actors.SpaceLow}, {512, actors.SpaceLow}, {639, actors.SpaceLow}, {640, actors.SpaceEnough},
		{128, actors.SpaceLow}, {127, actors.SpaceShort}, {255, actors.SpaceShort}, {256, actors.SpaceLow}, {0, actors.SpaceShort},
		{640, actors.SpaceEnough}, {127, actors.SpaceShort}, {639, actors.SpaceLow},
	} {
		if level = m.next(level, step.free*mib); level != step.want {
			t.Fatalf("with %d MiB free: %v, want %v", step.free, level, step.want)
		}
	}
}

func TestTheReserveIsGivenUpWhenTheDiskIsNearlyFullAndMadeAgain(t *testing.T) {
	var free uint64
	var fault error
	var said bytes.Buffer
	w := &spaceWatch{dir: t.TempDir(), space: &actors.Space{}, log: slog.New(slog.NewTextHandler(&said, nil)),
		free: func(string) (uint64, uint64, error) { return free, 1 << 30, fault }}
	reserve := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(w.dir, reserveFile))
		if errors.Is(err, fs.ErrNotExist) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for _, step := range []struct {
		free    uint64
		level   actors.SpaceLevel
		reserve int64
	}{
		{383, actors.SpaceEnough, 0}, // making it would use up what is enough
		{384, actors.SpaceEnough, 64 * mib},
		{100, actors.SpaceLow, 64 * mib},
		{63, actors.SpaceShort, 0},
		{300, actors.SpaceLow, 0},
		{320, actors.SpaceEnough, 0},
		{900, actors.SpaceEnough, 64 * mib},
	} {
		free = step.free * mib
		w.look()
		if level, have := w.space.Level(), reserve(); level != step.level || have != step.reserve {
			t.Fatalf("with %d MiB free: %v and a reserve of %d bytes, want %v and %d", step.free, level, have, step.level, step.reserve)
		}
	}
	if err := os.Truncate(filepath.Join(w.dir, reserveFile), 5); err != nil {
		t.Fatal(err)
	}
	if w.look(); reserve() != 64*mib {
		t.Fatal("a part of a reserve, after a crash, is not completed")
	}
	said.Reset()
	fault = errors.New("planted")
	for range 3 {
		w.look()
	}
	if w.space.Level() != actors.SpaceEnough || strings.Count(said.String(), "planted") != 1 {
		t.Fatalf("level %v, said %q", w.space.Level(), said.String())
	}
}

func TestTheSystemSaysHowMuchIsFree(t *testing.T) {
	free, total, err := freeSpace(t.TempDir())
	if err != nil || free == 0 || total < free {
		t.Fatalf("%d of %d, %v", free, total, err)
	}
	if _, _, err := freeSpace(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Fatal("it knows the free space of nothing")
	}
}
