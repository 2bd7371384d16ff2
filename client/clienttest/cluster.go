package clienttest

import (
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// clusterID is that of every cluster, until SetID.
const clusterID = "6f1b0a52-6f0d-4d5e-9d6c-000000000001"

// messageBytesMax is above any batch.
const messageBytesMax = 64 << 20

// Fault is what goes wrong with one append or read.
type Fault int

// The zero Fault is none.
const (
	None           Fault = iota
	NotLeader            // refused, with a hint when there is a leader
	NoLeader             // refused
	Overloaded           // refused, with a time to try again
	DiskFull             // refused, likewise
	TooLarge             // refused for good
	UnknownLost          // OUTCOME_UNKNOWN, not stored
	UnknownStored        // OUTCOME_UNKNOWN, stored
	BreakBefore          // the connection's stream ends, nothing stored
	BreakAfter           // the connection's stream ends before the answer, stored
	SwallowedReply       // stored, never answered
	Truncated            // of a read under way: the partition's first batch goes before it
)

// Call is what a Fault is chosen for.
type Call struct {
	Node      uint64
	Read      bool
	Partition uint32
}

// Cluster is a set of nodes and topics.
type Cluster struct {
	mu         sync.Mutex
	nodes      []*node
	topics     map[string]*topic
	fault      func(Call) Fault
	forward    bool
	producers  int64
	creates    map[string]uint64 // request id -> topic
	created    uint64            // topics, deleted ones too
	recordsMax uint32
	describes  int
	id         string
}

type topic struct {
	name       string
	id         uint64
	partitions []*partition
	retention  *multiraftv1.Retention
}

type node struct {
	id     uint64
	addr   string
	server *grpc.Server // nil while stopped
}

// Start starts nodes 1 to n.
func Start(n int) (*Cluster, error) {
	c := &Cluster{topics: make(map[string]*topic), creates: make(map[string]uint64), recordsMax: 4 << 20, id: clusterID}
	for i := range n {
		c.nodes = append(c.nodes, &node{id: uint64(i + 1), addr: "127.0.0.1:0"})
		if err := c.StartNode(uint64(i + 1)); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// StartNode starts a stopped node at its old address.
func (c *Cluster) StartNode(id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[id-1]
	if n.server != nil {
		return fmt.Errorf("clienttest: node %d is running", id)
	}
	lis, err := net.Listen("tcp", n.addr)
	if err != nil {
		return fmt.Errorf("clienttest: %w", err)
	}
	n.addr = lis.Addr().String()
	n.server = grpc.NewServer(grpc.MaxRecvMsgSize(messageBytesMax), grpc.MaxSendMsgSize(messageBytesMax))
	multiraftv1.RegisterLogServiceServer(n.server, &logService{c: c, node: n.id})
	multiraftv1.RegisterAdminServiceServer(n.server, &adminService{c: c, node: n.id})
	go serve(n.server, lis)
	return nil
}

// serve ends when the server is stopped; any other end shows as a node that cannot be reached.
func serve(s *grpc.Server, lis net.Listener) { _ = s.Serve(lis) }

// StopNode breaks the node's connections, like a kill. Its partitions move to the next running node.
func (c *Cluster) StopNode(id uint64) {
	c.mu.Lock()
	server := c.nodes[id-1].server
	c.nodes[id-1].server = nil
	for _, t := range c.topics {
		for _, p := range t.partitions {
			if p.leader == id {
				p.leader = c.runningAfter(id)
			}
		}
	}
	c.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

func (c *Cluster) runningAfter(id uint64) uint64 {
	for i := range c.nodes {
		if n := c.nodes[(int(id)+i)%len(c.nodes)]; n.server != nil {
			return n.id
		}
	}
	return 0
}

// Close stops all nodes.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		c.StopNode(n.id)
	}
}

// Addrs are the nodes' client addresses.
func (c *Cluster) Addrs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// SetFault lets f choose the fault of every append item and read from now on. f is called under a lock.
func (c *Cluster) SetFault(f func(Call) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// SetForward makes nodes that do not lead accept appends.
func (c *Cluster) SetForward(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forward = on
}

// SetRecordBytesMax sets the limit that Describe announces.
func (c *Cluster) SetRecordBytesMax(n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recordsMax = n
}

// SetID gives the cluster another id.
func (c *Cluster) SetID(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id = id
}

// Truncate drops the first batch of a partition, as retention does.
func (c *Cluster) Truncate(name string, partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics[name].partitions[partition].truncate()
}

// Append stores a batch directly, past all faults.
func (c *Cluster) Append(name string, partition int, batch []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, refused := c.topics[name].partitions[partition].append(uint32(partition), batch); refused != nil {
		return fmt.Errorf("clienttest: %s", refused.GetMessage())
	}
	return nil
}

// Describes is how often Describe has been called.
func (c *Cluster) Describes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.describes
}

// CreateTopic creates a topic directly. Its leaders are spread over the nodes.
func (c *Cluster) CreateTopic(name string, partitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.create(name, partitions)
}

func (c *Cluster) create(name string, partitions int) *topic {
	c.created++
	t := &topic{name: name, id: c.created}
	for i := range partitions {
		t.partitions = append(t.partitions, newPartition(uint64(i%len(c.nodes)+1)))
	}
	c.topics[name] = t
	return t
}

// DeleteTopic deletes a topic directly.
func (c *Cluster) DeleteTopic(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delete(name)
}

// delete ends the topic's readers, too.
func (c *Cluster) delete(name string) {
	for _, p := range c.topics[name].partitions {
		p.gone = true
		close(p.grown)
		p.grown = make(chan struct{})
	}
	for request, id := range c.creates {
		if id == c.topics[name].id {
			delete(c.creates, request)
		}
	}
	delete(c.topics, name)
}

// MoveLeader makes a node lead a partition; 0 = nobody.
func (c *Cluster) MoveLeader(name string, partition int, leader uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics[name].partitions[partition].leader = leader
}

// ForgetProducers makes a partition forget its producers, as it does with those idle for long.
func (c *Cluster) ForgetProducers(name string, partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.topics[name].partitions[partition].sessions)
}

// Records returns what a partition holds.
func (c *Cluster) Records(name string, partition int) ([]recordbatch.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []recordbatch.Record
	for _, b := range c.topics[name].partitions[partition].batches {
		rs, err := recordbatch.Decode(b)
		if err != nil {
			return nil, err
		}
		all = append(all, rs...)
	}
	return all, nil
}

// Batches is how many batches a partition holds.
func (c *Cluster) Batches(name string, partition int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.topics[name].partitions[partition].batches)
}

func (c *Cluster) faultOf(call Call) Fault {
	if c.fault == nil {
		return None
	}
	return c.fault(call)
}

func (c *Cluster) byID(id uint64) *topic {
	for _, t := range c.topics {
		if t.id == id {
			return t
		}
	}
	return nil
}
