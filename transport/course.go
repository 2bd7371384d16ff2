package transport

import (
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// SnapshotSource is one snapshot that is to be sent. Open, then Chunk by chunk, then Ended: by one goroutine at a
// time. A chunk can be asked for again.
type SnapshotSource interface {
	// Open returns what all requests say: everything but offset, data, done, checksum and who the node is.
	Open() (*raftv1.InstallSnapshotRequest, error)
	// Chunk returns chunk i, and whether it is the last.
	Chunk(i int) (data []byte, last bool, err error)
	// Ended is called exactly once, with the receiver's answer or the reason why there is none.
	Ended(*raftv1.InstallSnapshotResponse, error)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// course decides what comes next in the sending of one snapshot, over as many streams as it takes: a stream that
// breaks is followed by one that only asks where to go on, by a position at which nothing can begin, and by another
// that does so. It has no clock, lock or goroutine.
type course struct {
	source SnapshotSource
	header *raftv1.Header // of the node
	base   *raftv1.InstallSnapshotRequest

	offsets []uint64 // where the chunks begin that have been read, and the next one while there is one
	size    uint64   // of the snapshot; known when the last chunk has been read
	whole   bool
	next    int // chunk to be sent
	ask     bool
	fault   error // of the source: nothing more can be sent
	// setbacks counts the ends of streams since the receiver was last heard to be further than before.
	setbacks int
	furthest uint64
}

// nowhere is a position at which no chunk begins: the answer to it says where one does.
const nowhere = math.MaxUint64

func newCourse(s SnapshotSource, node *raftv1.Header) *course {
	return &course{source: s, header: node, offsets: []uint64{0}}
}

func (c *course) open() (err error) {
	if c.base, err = c.source.Open(); err != nil {
		return err
	}
	h := c.base.GetHeader()
	c.base.Header = &raftv1.Header{
		ClusterId: c.header.GetClusterId(), FromNode: c.header.GetFromNode(), StartNumber: c.header.GetStartNumber(), BootId: c.header.GetBootId(),
		GroupId: h.GetGroupId(), FromReplica: h.GetFromReplica(), ToReplica: h.GetToReplica(),
	}
	return nil
}

// at is where the next request begins.
func (c *course) at() uint64 {
	if c.next < len(c.offsets) {
		return c.offsets[c.next]
	}
	return c.size
}

// request returns the next request of a stream, and whether it is the stream's last.
func (c *course) request() (req *raftv1.InstallSnapshotRequest, last bool, err error) {
	if c.ask {
		c.ask = false
		return c.message(nowhere, nil, false), true, nil
	}
	offset := c.at()
	if c.whole && c.next == len(c.offsets) { // everything has arrived, and only the answer is missing
		return c.message(offset, nil, true), true, nil
	}
	data, last, err := c.source.Chunk(c.next)
	if err != nil {
		c.fault = err
		return nil, false, err
	}
	c.next++
	switch end := offset + uint64(len(data)); {
	case last:
		c.size, c.whole = end, true
	case c.next == len(c.offsets):
		c.offsets = append(c.offsets, end)
	}
	return c.message(offset, data, last), last, nil
}

func (c *course) message(offset uint64, data []byte, done bool) *raftv1.InstallSnapshotRequest {
	b := c.base
	return &raftv1.InstallSnapshotRequest{
		Header: b.GetHeader(), Term: b.GetTerm(), LeaderId: b.GetLeaderId(), LastIncludedIndex: b.GetLastIncludedIndex(),
		LastIncludedTerm: b.GetLastIncludedTerm(), ConfState: b.GetConfState(), SnapshotId: b.GetSnapshotId(),
		Offset: offset, Data: data, Done: done, Checksum: crc32.Checksum(data, castagnoli),
	}
}

// answered takes an answer, and says whether it is the end. Otherwise the next stream goes on where it says.
func (c *course) answered(resp *raftv1.InstallSnapshotResponse) (over bool, err error) {
	if resp.GetSuccess() || resp.GetTerm() > c.base.GetTerm() {
		return true, nil
	}
	to, i := resp.GetNextOffset(), 0
	switch at, found := slices.BinarySearch(c.offsets, to); {
	case found:
		i = at
	case c.whole && to == c.size:
		i = len(c.offsets)
	default:
		return true, fmt.Errorf("%w: at %d, where no chunk begins", ErrSnapshotPosition, to)
	}
	c.next = i
	if to > c.furthest {
		c.furthest, c.setbacks = to, 0
	}
	if c.setBack() {
		return true, fmt.Errorf("%w: %d streams in a row came no further than %d bytes", ErrSnapshotPosition, snapshotSetbacksMax, c.furthest)
	}
	return false, nil
}

// broke takes the end of a stream without an answer, and says whether it is the end of all.
func (c *course) broke(cause error) (over bool, err error) {
	if c.fault != nil {
		return true, c.fault
	}
	switch status.Code(cause) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.Unimplemented, codes.PermissionDenied:
		return true, cause
	case codes.ResourceExhausted: // the next one may find room; one under way is worth waiting for
		if c.furthest == 0 && c.setbacks == 0 {
			return true, cause
		}
	}
	c.ask = c.next > 0
	if c.setBack() {
		return true, cause
	}
	return false, nil
}

func (c *course) setBack() bool {
	c.setbacks++
	return c.setbacks > snapshotSetbacksMax
}
