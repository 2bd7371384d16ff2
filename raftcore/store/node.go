package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// FormatVersion is the format that this code writes. A store of a higher one is refused.
const FormatVersion uint32 = 1

// formatMagic starts the format record: it tells our stores from others.
const formatMagic = "multiraftd"

// Node is what a store knows about the node that it belongs to.
type Node struct {
	Format    uint32 // 0 means FormatVersion when written
	Cluster   string // UUID; empty before the node belongs to a cluster
	StoreID   string // UUID of this store: a wiped disk has another one
	NodeID    raftcore.NodeID
	Start     uint64 // how often the node has started
	State     raftv1.StoreState
	Bootstrap string // the set with which it was founded, as typed; empty without one
	// Contacts are the nodes that were members when this one joined, with their peer addresses, as a bootstrap
	// set is typed: whom it speaks to until it has the metadata. Empty on a founder.
	Contacts string
	// BootID was drawn at the latest start, and EarlierBootIDs at those before it; see lineage.
	BootID         []byte
	EarlierBootIDs [][]byte
}

// LatestStart is the latest start of the node.
func (n *Node) LatestStart() lineage.Start {
	return lineage.Start{Number: n.Start, ID: n.BootID, Earlier: n.EarlierBootIDs}
}

// SetStart makes s the latest start of the node.
func (n *Node) SetStart(s lineage.Start) {
	n.Start, n.BootID, n.EarlierBootIDs = s.Number, s.ID, s.Earlier
}

// PutNode stores n and the format of the store.
func PutNode(b *Batch, n Node) {
	if n.Format == 0 {
		n.Format = FormatVersion
	}
	putFormat(b, n.Format)
	v := appendBytes(newValue(128), n.Cluster)
	v = appendBytes(v, n.StoreID)
	v = binary.AppendUvarint(v, uint64(n.NodeID))
	v = binary.AppendUvarint(v, n.Start)
	v = binary.AppendUvarint(v, uint64(n.State))
	v = appendBytes(v, n.Bootstrap)
	if n.Contacts != "" { // a founder's record stays as it always was
		v = appendBytes(v, n.Contacts)
	}
	b.Set(nodeKey(kindNode), v)
	if len(n.BootID) > 0 { // in a record of its own: to versions that do not know it, it is not there
		ids := slices.Concat(append([][]byte{n.BootID}, n.EarlierBootIDs...)...)
		b.Set(nodeKey(kindStarts), appendBytes(binary.AppendUvarint(newValue(len(ids)+2*binary.MaxVarintLen64), n.Start), string(ids)))
	}
}

// LoadNode returns false when nothing was stored yet, and ErrNewerFormat or ErrDamaged for a store that this
// code must not use.
func LoadNode(v View) (Node, bool, error) {
	format, err := loadFormat(v)
	if err != nil {
		return Node{}, false, err
	}
	value, err := v.Get(nodeKey(kindNode))
	if errors.Is(err, ErrNotFound) {
		return Node{}, false, nil
	}
	if err != nil {
		return Node{}, false, err
	}
	d := decode("node", value)
	n := Node{
		Format: format, Cluster: string(d.bytes()), StoreID: string(d.bytes()), NodeID: raftcore.NodeID(d.uvarint()),
		Start: d.uvarint(), State: raftv1.StoreState(d.enum()), Bootstrap: string(d.bytes()),
	}
	if len(d.rest) > 0 {
		n.Contacts = string(d.bytes())
	}
	if err := d.err(); err != nil {
		return Node{}, false, err
	}
	return n, true, n.loadStarts(v)
}

// loadStarts reads the boot ids, if they are those up to the latest start: a version that knows of none may have started
// the node in between.
func (n *Node) loadStarts(v View) error {
	value, err := v.Get(nodeKey(kindStarts))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d := decode("starts", value)
	number := d.uvarint()
	ids := slices.Collect(slices.Chunk(bytes.Clone(d.bytes()), lineage.IDBytes))
	if err := d.err(); err != nil {
		return err
	}
	if len(ids) == 0 || !(lineage.Start{ID: ids[0], Earlier: ids[1:]}).Valid() {
		return fmt.Errorf("%w: starts record", ErrDamaged)
	}
	if number == n.Start {
		n.BootID, n.EarlierBootIDs = ids[0], ids[1:]
	}
	return nil
}

func putFormat(b *Batch, format uint32) {
	b.Set(nodeKey(kindFormat), binary.BigEndian.AppendUint32([]byte(formatMagic), format))
}

// loadFormat returns 0 for a store without a format record.
func loadFormat(v View) (uint32, error) {
	value, err := v.Get(nodeKey(kindFormat))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(value) != len(formatMagic)+4 || string(value[:len(formatMagic)]) != formatMagic {
		return 0, fmt.Errorf("%w: its format record is something else", ErrForeign)
	}
	format := binary.BigEndian.Uint32(value[len(formatMagic):])
	if format > FormatVersion {
		return 0, fmt.Errorf("%w: the store has format %d, this build knows formats up to %d", ErrNewerFormat, format, FormatVersion)
	}
	return format, nil
}
