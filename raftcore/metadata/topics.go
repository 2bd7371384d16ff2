package metadata

import (
	"fmt"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func (m *Machine) createTopic(c *metav1.CreateTopic, b *store.Batch) raftcore.Outcome {
	if len(c.GetRequestId()) != RequestIDBytes {
		return refused(invalid("request_id", "%d bytes, must be %d", len(c.GetRequestId()), RequestIDBytes))
	}
	if t, ok := m.requests[string(c.GetRequestId())]; ok {
		t, _ := m.state.Topic(t)
		return raftcore.Outcome{Verdict: raftcore.Duplicate, Value: t}
	}
	if err := m.mayCreate(c); err != nil {
		return refused(err)
	}
	a := m.state.allocators
	t := &metav1.Topic{TopicId: a.Topic, Name: c.GetName(), Replicas: c.GetReplicas(), RequestId: c.GetRequestId(), Config: c.GetConfig(),
		Partitions: m.hosts.place(a.Group, int(c.GetPartitions()), int(c.GetReplicas()))}
	a.Topic++
	a.Group += raftcore.GroupID(c.GetPartitions())
	m.state = m.state.withTopic(t).withAllocators(a)
	m.requests[string(t.GetRequestId())] = t.GetTopicId()
	set(b, m.idKey(topicSpace, t.GetTopicId()), t)
	return raftcore.Outcome{Value: t}
}

func (m *Machine) mayCreate(c *metav1.CreateTopic) error {
	if err := ValidateTopic(c.GetName(), c.GetPartitions(), c.GetReplicas()); err != nil {
		return err
	}
	if err := validateConfig(c.GetConfig()); err != nil {
		return err
	}
	if _, ok := m.state.TopicByName(c.GetName()); ok {
		return fmt.Errorf("%w: %s", ErrTopicExists, c.GetName())
	}
	if have, want := m.hosts.open(), int(c.GetReplicas()); have < want {
		return &NotEnoughNodesError{have, want}
	}
	if m.state.groups+int(c.GetPartitions()) > GroupsMax {
		return &LimitError{"partitions in all topics", GroupsMax}
	}
	return nil
}

func (m *Machine) alterTopic(c *metav1.AlterTopic, b *store.Batch) raftcore.Outcome {
	t, ok := m.state.Topic(c.GetTopicId())
	if !ok {
		return refused(fmt.Errorf("%w: %d", ErrUnknownTopic, c.GetTopicId()))
	}
	cfg := &metav1.TopicConfig{RetentionMs: t.GetConfig().GetRetentionMs(), RetentionBytes: t.GetConfig().GetRetentionBytes()}
	if c.RetentionMs != nil {
		cfg.RetentionMs = c.GetRetentionMs()
	}
	if c.RetentionBytes != nil {
		cfg.RetentionBytes = c.GetRetentionBytes()
	}
	if err := validateConfig(cfg); err != nil {
		return refused(err)
	}
	next := &metav1.Topic{TopicId: t.GetTopicId(), Name: t.GetName(), Partitions: t.GetPartitions(),
		Replicas: t.GetReplicas(), RequestId: t.GetRequestId(), Config: cfg}
	m.state = m.state.withTopicReplaced(next)
	set(b, m.idKey(topicSpace, t.GetTopicId()), next)
	return raftcore.Outcome{Value: next}
}

// deleteTopic frees the name and orders every replica deleted that was ever placed and is not gone. The request
// that created it is forgotten too: sent again, it creates another topic.
func (m *Machine) deleteTopic(id uint64, b *store.Batch) raftcore.Outcome {
	t, ok := m.state.Topic(id)
	switch {
	case !ok && id > 0 && id < m.state.allocators.Topic:
		return raftcore.Outcome{Verdict: raftcore.Duplicate}
	case !ok:
		return refused(fmt.Errorf("%w: %d", ErrUnknownTopic, id))
	}
	for _, p := range t.GetPartitions() {
		m.hosts.count(p, -1)
		m.orderDeleted(p, nil, b)
		if p.GetTargetId() > 0 {
			b.Delete(m.idKey(partitionSpace, p.GetGroupId()))
		}
	}
	m.state = m.state.withoutTopic(t)
	delete(m.requests, string(t.GetRequestId()))
	b.Delete(m.idKey(topicSpace, id))
	return raftcore.Outcome{Value: t}
}
