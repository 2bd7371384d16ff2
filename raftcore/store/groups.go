package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// StoredGroup is the identity record of a replica in this store.
type StoredGroup struct {
	Group      raftcore.GroupID
	Replica    raftcore.ReplicaID
	Generation uint64
	Tombstone  bool // deleted; Generation is 0
}

func (s *StoredGroup) encode() []byte {
	v := binary.AppendUvarint(newValue(24), uint64(s.Replica))
	v = binary.AppendUvarint(v, s.Generation)
	if s.Tombstone {
		return append(v, 1)
	}
	return append(v, 0)
}

func decodeIdentity(g raftcore.GroupID, value []byte) (StoredGroup, error) {
	d := decode("identity", value)
	s := StoredGroup{Group: g, Replica: raftcore.ReplicaID(d.uvarint()), Generation: d.uvarint(), Tombstone: d.flag()}
	return s, d.err()
}

// Groups returns the replicas in the store by ascending group, deleted ones included.
func Groups(v View) ([]StoredGroup, error) {
	var groups []StoredGroup
	var fault error
	err := v.Scan([]byte{spaceGroups}, []byte{spaceGroups + 1}, false, func(key, value []byte) bool {
		if len(key) != groupKeyBytes {
			fault = fmt.Errorf("%w: key of %d bytes among the groups", ErrDamaged, len(key))
			return false
		}
		if key[groupKeyBytes-1] != kindIdentity {
			return true
		}
		var s StoredGroup
		s, fault = decodeIdentity(raftcore.GroupID(binary.BigEndian.Uint64(key[1:])), value)
		groups = append(groups, s)
		return fault == nil
	})
	if err := errors.Join(err, fault); err != nil {
		return nil, err
	}
	return groups, nil
}

// loadIdentity returns ErrNoGroup or ErrTombstone when there is no replica to run.
func loadIdentity(v View, g raftcore.GroupID) (StoredGroup, error) {
	value, err := v.Get(groupKey(g, kindIdentity))
	if errors.Is(err, ErrNotFound) {
		return StoredGroup{}, fmt.Errorf("%w: %d", ErrNoGroup, g)
	}
	if err != nil {
		return StoredGroup{}, err
	}
	s, err := decodeIdentity(g, value)
	if err == nil && s.Tombstone {
		err = fmt.Errorf("%w: group %d", ErrTombstone, g)
	}
	return s, err
}

// CurrentGeneration returns the generation of the keys that g uses now: ErrNoGroup, ErrTombstone.
func CurrentGeneration(v View, g raftcore.GroupID) (uint64, error) {
	s, err := loadIdentity(v, g)
	return s.Generation, err
}

// Birth describes a new group to one of its initial replicas.
type Birth struct {
	Group   raftcore.GroupID
	Replica raftcore.ReplicaID
	Members map[raftcore.ReplicaID]raftcore.NodeID // the initial voters
}

// birthPosition is where every group starts: as if an entry with the initial membership had been applied
// and truncated. A replica that replayed membership changes on an empty ConfState would panic etcd/raft.
var birthPosition = raftcore.Position{Index: 1, Term: 1}

// PutBirth adds the first records of a group, the same for each initial replica but for its id. Commit them
// in one synced batch, and only if the store has no record of the group: a tombstone is one.
func PutBirth(b *Batch, birth Birth) {
	voters := slices.Sorted(maps.Keys(birth.Members))
	cs := &raftpb.ConfState{}
	for _, id := range voters {
		cs.Voters = append(cs.Voters, uint64(id))
	}
	identity := StoredGroup{Group: birth.Group, Replica: birth.Replica, Generation: firstGeneration}
	state := State{
		Applied: birthPosition.Index, AppliedTerm: birthPosition.Term, Truncated: birthPosition,
		ConfState: cs, Members: birth.Members,
	}
	b.Set(groupKey(birth.Group, kindIdentity), identity.encode())
	b.Set(groupKey(birth.Group, kindHard), encodeHardState(birthPosition.Term, 0, uint64(birthPosition.Index)))
	b.Set(dataKey(birth.Group, firstGeneration, kindApplied), state.encode())
}

// PutJoin adds the first records of a replica that comes to a group which exists: a log before the first entry
// of any group, and no membership. Only a snapshot can fill it, since every group starts truncated, and until
// then it neither votes for itself nor campaigns. Commit them synced, and only if the store has no record of
// the group: a tombstone is one.
func PutJoin(b *Batch, g raftcore.GroupID, r raftcore.ReplicaID) {
	identity := StoredGroup{Group: g, Replica: r, Generation: firstGeneration}
	state := State{ConfState: &raftpb.ConfState{}}
	b.Set(groupKey(g, kindIdentity), identity.encode())
	b.Set(groupKey(g, kindHard), encodeHardState(0, 0, 0))
	b.Set(dataKey(g, firstGeneration, kindApplied), state.encode())
}

// PutTombstone deletes everything of the replica but the record that it was here. Commit it synced, and only
// on an explicit order: never because something else does not mention the group.
func PutTombstone(b *Batch, g raftcore.GroupID, r raftcore.ReplicaID) {
	gone := StoredGroup{Group: g, Replica: r, Tombstone: true}
	b.Set(groupKey(g, kindIdentity), gone.encode())
	b.Delete(groupKey(g, kindHard))
	b.DeleteRange(groupData(g))
}

// Stored is what a store holds of one replica.
type Stored struct {
	StoredGroup
	Term, Vote                       uint64
	Commit, Applied, Truncated, Last raftcore.Index
	Strays                           bool // there are keys of other generations
}

// Inspect reads what v holds of g: what a node that opened this image would start from.
func Inspect(v View, g raftcore.GroupID) (Stored, error) {
	l := &Log{group: g}
	if err := l.load(v); err != nil {
		return Stored{}, fmt.Errorf("inspect group %d: %w", g, err)
	}
	return Stored{
		StoredGroup: StoredGroup{Group: g, Replica: l.replica, Generation: l.generation},
		Term:        l.hard.GetTerm(), Vote: l.hard.GetVote(), Commit: raftcore.Index(l.hard.GetCommit()),
		Applied: l.state.Applied, Truncated: l.state.Truncated.Index, Last: l.last, Strays: l.strays,
	}, nil
}
