package metadata

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
)

func TestPlacementTakesRacksThenLoadThenTheLowestIdAndLeadersTakeTurns(t *testing.T) {
	for _, c := range []struct {
		name       string
		racks      []string
		partitions uint32
		replicas   uint32
		want       []string
	}{
		{"three nodes, three replicas", []string{"", "", ""}, 4, 3, []string{"[1 2 3]", "[2 1 3]", "[3 1 2]", "[1 2 3]"}},
		{"one replica", []string{"", "", ""}, 4, 1, []string{"[1]", "[2]", "[3]", "[1]"}},
		{"the least loaded", []string{"", "", "", ""}, 4, 2, []string{"[1 2]", "[3 4]", "[2 1]", "[4 3]"}},
		{"two racks", []string{"a", "a", "b", "b"}, 4, 2, []string{"[1 3]", "[2 4]", "[3 1]", "[4 2]"}},
		{"more replicas than racks", []string{"a", "a", "a", "b"}, 2, 3, []string{"[1 4 2]", "[3 4 1]"}},
		{"nodes without a rack are together", []string{"", "", "a"}, 2, 2, []string{"[1 3]", "[2 3]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := withNodes(t, c.racks...)
			if got := layout(w.accepted(create(1, "t", c.partitions, c.replicas)).(*metav1.Topic)); !slices.Equal(got, c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestANewNodeIsFilledFirst(t *testing.T) {
	w := withNodes(t, "", "", "")
	w.accepted(create(1, "old", 6, 3))
	w.accepted(register(&metav1.Node{NodeId: 4, StoreId: "s", StartNumber: 1}))
	if got := layout(w.accepted(create(2, "new", 3, 2)).(*metav1.Topic)); !slices.Equal(got, []string{"[4 1]", "[4 2]", "[3 4]"}) {
		t.Fatalf("%v", got)
	}
}

func TestAnyPlacementIsDistinctSpreadAndEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perRack, racks := rapid.IntRange(1, 3).Draw(t, "nodes per rack"), rapid.IntRange(1, 4).Draw(t, "racks")
		var names []string
		for i := range perRack * racks {
			names = append(names, string(rune('a'+i%racks)))
		}
		w := withNodes(t, names...)
		replicas := rapid.IntRange(1, min(len(names), ReplicasMax)).Draw(t, "replicas")
		for i := range rapid.IntRange(1, 4).Draw(t, "topics") {
			topic := w.accepted(create(i, "t"+string(rune('a'+i)), rapid.Uint32Range(1, 20).Draw(t, "partitions"), uint32(replicas))).(*metav1.Topic)
			for _, p := range topic.GetPartitions() {
				checkSpread(t, p, names, racks, replicas)
			}
		}
		least, most := w.m.hosts[0], w.m.hosts[0]
		for _, h := range w.m.hosts {
			least.replicas, most.replicas = min(least.replicas, h.replicas), max(most.replicas, h.replicas)
			least.preferred, most.preferred = min(least.preferred, h.preferred), max(most.preferred, h.preferred)
		}
		if most.replicas-least.replicas > 1 || most.preferred-least.preferred > 2 {
			t.Fatalf("load is uneven: %+v", w.m.hosts)
		}
	})
}

// checkSpread checks that replicas are on different nodes, and that no rack has two more than another.
func checkSpread(t *rapid.T, p *metav1.Partition, rackOf []string, racks, replicas int) {
	nodes, inRack := map[uint64]bool{}, map[string]int{}
	for _, r := range p.GetReplicas() {
		nodes[r.GetNodeId()] = true
		inRack[rackOf[r.GetNodeId()-1]]++
	}
	if len(nodes) != replicas {
		t.Fatalf("%v", p)
	}
	for rack, n := range inRack {
		if n > (replicas+racks-1)/racks {
			t.Fatalf("%d replicas in rack %s: %v", n, rack, p)
		}
	}
}
