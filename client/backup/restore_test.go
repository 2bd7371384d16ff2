package backup

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

func TestEverythingComesBackToTheOffset(t *testing.T) {
	from, to := filled(t), newRig(t)
	dir := fresh(t)
	age, size := 168*time.Hour, int64(10<<30)
	_, _, err := from.client.AlterTopic(from.ctx(), "a", client.RetentionChange{Age: &age, Bytes: &size})
	from.must(err)
	from.backup(dir)
	restored := to.restore(dir)
	if len(restored) != 2 || restored[0].Records != 353 || restored[0].WereThere != 0 || restored[1].Records != 15 {
		t.Errorf("%+v", restored)
	}
	for p := range 3 {
		to.wantSame("a", p, from, "a")
	}
	to.wantSame("b", 0, from, "b")
	topics, err := to.client.ListTopics(to.ctx())
	to.must(err)
	if keep := topics[0].GetRetention(); topics[0].GetPartitions() != 3 || keep.GetRetentionMs() != age.Milliseconds() || keep.GetRetentionBytes() != size {
		t.Errorf("%v", topics[0])
	}
	if n := to.cluster.Batches("a", 0); n != 1 {
		t.Errorf("small batches make %d batches", n)
	}
}

func TestARestoreStoresNothingTwiceWhateverFails(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.cluster.CreateTopic("a", 2)
	from.append("a", 0, 3000, 1, 3000, 2, 2000)
	from.append("a", 1, 2500, 2500, 2500)
	dir := fresh(t)
	from.backup(dir)
	calls, failed := 0, 0
	to.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		kinds := []clienttest.Fault{clienttest.NotLeader, clienttest.UnknownStored, clienttest.UnknownLost, clienttest.BreakAfter, clienttest.BreakBefore, clienttest.Overloaded}
		if calls++; calls%2 == 0 && failed < 40 {
			failed++
			return kinds[failed%len(kinds)]
		}
		return clienttest.None
	})
	to.restore(dir)
	if failed < 10 {
		t.Fatalf("only %d faults", failed)
	}
	to.wantSame("a", 0, from, "a")
	to.wantSame("a", 1, from, "a")
}

func TestARestoreThatWasCutShortGoesOnWithTheSameCall(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.cluster.CreateTopic("a", 2)
	from.append("a", 0, 3000, 1, 3000, 2, 2000, 1, 1, 1)
	from.append("a", 1, 2500, 2500, 2500)
	from.cluster.CreateTopic("b", 1)
	from.append("b", 0, 10)
	dir := fresh(t)
	from.backup(dir)
	stored := 0
	to.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		if c.Read {
			return clienttest.None
		}
		if stored++; stored > 3 {
			return clienttest.TooLarge
		}
		return clienttest.None
	})
	restored, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir, Timeout: 10 * time.Second})
	if err == nil || len(restored) != 2 || !strings.Contains(err.Error(), "restore of a: partition ") || !strings.Contains(err.Error(), "at offset ") {
		t.Fatalf("%+v, %v", restored, err)
	}
	if n := len(to.records("a", 0)) + len(to.records("a", 1)); n == 0 || n >= 15506 {
		t.Fatalf("%d records after the failure", n)
	}
	to.cluster.SetFault(nil)
	again := to.restore(dir)
	if again[0].WereThere == 0 || again[0].Records == 0 || again[0].WereThere+again[0].Records != 15506 {
		t.Errorf("%+v", again)
	}
	for p := range 2 {
		to.wantSame("a", p, from, "a")
	}
	to.wantSame("b", 0, from, "b")
	if once := to.restore(dir); once[0].Records != 0 || once[0].WereThere != 15506 || once[1].WereThere != 10 {
		t.Errorf("of what is complete: %+v", once)
	}
}

func TestARestoreGoesOnInTheMiddleOfABatchAndBehindARetiredStart(t *testing.T) {
	from := newRig(t)
	from.cluster.CreateTopic("a", 1)
	from.append("a", 0, 5, 5, 5, 5)
	dir := fresh(t)
	from.backup(dir)
	want := from.records("a", 0)
	for name, tt := range map[string]struct {
		batches []int // what an earlier restore has appended
		retired int   // of these
	}{
		"nothing":            {nil, 0},
		"part.of.a.batch":    {[]int{7}, 0},
		"start.retired":      {[]int{3, 5, 7}, 1},
		"all.of.it.retired":  {[]int{3, 5, 7}, 3},
		"the.end.is.retired": {[]int{20}, 1},
	} {
		to := newRig(t)
		r, restored := to.begin(dir, name)
		n := 0
		for _, size := range tt.batches {
			to.appendRecords(name, want[n:n+size])
			n += size
		}
		for range tt.retired {
			to.cluster.Truncate(name, 0)
		}
		to.must(r.fill(to.ctx(), restored, nil))
		if restored[0].Records != int64(20-n) || restored[0].WereThere != int64(n) {
			t.Errorf("%s: %+v", name, restored[0])
		}
		for _, got := range to.records(name, 0) {
			if !same(&got, &want[got.Offset]) {
				t.Errorf("%s: %+v, want %+v", name, got, want[got.Offset])
			}
		}
		desc, err := to.client.Describe(to.ctx(), name, true)
		if err != nil || desc.GetPartitions()[0].GetHighWatermark() != 20 {
			t.Errorf("%s: %v, %v", name, desc, err)
		}
	}
}

// appendRecords stores records as one batch.
func (r *rig) appendRecords(topic string, rs []client.Record) {
	r.Helper()
	p, err := r.client.NewProducer(r.ctx(), topic, client.ProducerConfig{})
	r.must(err)
	b, err := recordbatch.Encode(nil, recordbatch.None, rs)
	r.must(err)
	_, err = p.AppendBatch(r.ctx(), 0, b)
	r.must(err)
	r.must(p.Close(r.ctx()))
}

func TestTopicsOfOthersAreLeftAlone(t *testing.T) {
	from, to := filled(t), newRig(t)
	dir := fresh(t)
	from.backup(dir)
	to.cluster.CreateTopic("b", 1)
	_, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir})
	wantError(t, err, client.TopicExists, "topic b exists", "--as")
	topics, err := to.client.ListTopics(to.ctx())
	to.must(err)
	if len(topics) != 1 {
		t.Errorf("%d topics: one was created though another one's name was taken", len(topics))
	}
	restored, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir, Topics: []string{"b"}, As: "b.old"})
	to.must(err)
	if len(restored) != 1 || restored[0].As != "b.old" {
		t.Errorf("%+v", restored)
	}
	to.wantSame("b.old", 0, from, "b")
	if len(to.records("b", 0)) != 0 {
		t.Error("the topic of another was appended to")
	}
}

func TestATopicThatHoldsSomethingElseByNowIsNotAppendedTo(t *testing.T) {
	from := filled(t)
	dir := fresh(t)
	from.backup(dir, "b")
	want := from.records("b", 0)
	for says, held := range map[string][]client.Record{
		"offset 15: the backup ends before it":      append(want[:len(want):len(want)], client.Record{}),
		"offset 0: it is not the one in the backup": {{Value: []byte("mine")}},
		"offset 3: it is not the one in the backup": append(want[:3:3], client.Record{}),
		"offset 1: it is not the one in the backup": append(want[:1:1], want[2:]...),
	} {
		to := newRig(t)
		r, restored := to.begin(dir, "b")
		to.appendRecords("b", held)
		wantError(t, r.fill(to.ctx(), restored, nil), ErrForeign, says)
		if n := len(to.records("b", 0)); n != len(held) {
			t.Errorf("%s: %d records were appended", says, n-len(held))
		}
	}
}

// begin creates a topic of a backup as a restore does, under a name, and stops there.
func (r *rig) begin(dir, name string) (*restore, []Restored) {
	r.Helper()
	a, err := openArchive(dir, nil)
	r.must(err)
	r.Cleanup(func() { r.must(a.close()) })
	begun := &restore{archive: a, client: r.client, options: RestoreOptions{As: name}}
	topics, err := a.manifest.choose(nil)
	r.must(err)
	restored, err := begun.create(r.ctx(), topics)
	r.must(err)
	return begun, restored
}

func TestSomebodyElsesAppendsAreNoticedByTheOffsets(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.cluster.CreateTopic("a", 1)
	from.append("a", 0, 3000, 3000, 3000, 3000, 3000, 3000)
	dir := fresh(t)
	from.backup(dir)
	intruder, err := recordbatch.Encode(nil, recordbatch.None, []client.Record{{Value: []byte("intruder")}})
	to.must(err)
	var intrusion sync.WaitGroup
	var there atomic.Bool
	appends := 0
	to.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		if c.Read {
			return clienttest.None
		}
		if appends++; appends == 2 {
			intrusion.Go(func() {
				if err := to.cluster.Append("a", 0, intruder); err != nil {
					t.Error(err)
				}
				there.Store(true)
			})
		}
		if appends >= 2 && !there.Load() {
			return clienttest.NoLeader
		}
		return clienttest.None
	})
	_, err = Restore(to.ctx(), to.client, RestoreOptions{Dir: dir})
	intrusion.Wait()
	wantError(t, err, ErrForeign, "something else appends")
}

func TestWhatComesBehindTheLastRecordIsNoticed(t *testing.T) {
	from, to := newRig(t), newRig(t)
	from.cluster.CreateTopic("a", 1)
	from.append("a", 0, 10)
	dir := fresh(t)
	from.backup(dir)
	r, restored := to.begin(dir, "a")
	to.must(r.fill(to.ctx(), restored, nil))
	late := newLedger(&restored[0], &Progress{})
	late.begin(0, 10, 0)
	to.must(r.nothingBehind(to.ctx(), late))
	to.append("a", 0, 1)
	wantError(t, r.nothingBehind(to.ctx(), late), ErrForeign, "it ends at offset 11, and in the backup at 10")
}

func TestOffsetsThatCannotBeKeptAreRefusedUnlessToldOtherwise(t *testing.T) {
	from, to := filled(t), newRig(t)
	from.cluster.Truncate("a", 0)
	from.cluster.Truncate("a", 0)
	from.cluster.Truncate("a", 2) // down to nothing
	dir := fresh(t)
	from.backup(dir)
	_, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir})
	wantError(t, err, ErrOffsets, "a/0 begins at offset 2, a/2 begins at offset 40", "--renumber")
	topics, err := to.client.ListTopics(to.ctx())
	to.must(err)
	if len(topics) > 0 {
		t.Errorf("%d topics were created", len(topics))
	}
	_, err = Restore(to.ctx(), to.client, RestoreOptions{Dir: dir, Topics: []string{"b"}})
	to.must(err)  // nothing was retired in it
	for range 2 { // the second time it finds all there
		restored, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir, Renumber: true})
		to.must(err)
		if r := restored[len(restored)-1]; r.As != "a" && restored[0].As != "a" {
			t.Fatalf("%+v", restored)
		}
		for _, r := range restored {
			if r.As == "a" && (len(r.Renumbered) != 2 || r.Records+r.WereThere != 311) {
				t.Errorf("%+v", r)
			}
		}
	}
	want, got := from.records("a", 0), to.records("a", 0)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Offset != int64(i) || want[i].Offset != int64(i)+2 || !same(&got[i], &want[i]) {
			t.Errorf("%+v became %+v", want[i], got[i])
		}
	}
}

func TestWhatTheClusterCannotTakeIsSaidBeforeAnythingIsAppended(t *testing.T) {
	from, to := filled(t), newRig(t)
	dir := fresh(t)
	from.backup(dir, "b")
	to.cluster.SetRecordBytesMax(4)
	_, err := Restore(to.ctx(), to.client, RestoreOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "--record-bytes-max") || len(to.records("b", 0)) != 0 {
		t.Errorf("%v", err)
	}
	to.cluster.SetRecordBytesMax(4 << 20)
	to.restore(dir) // goes on in the same topic
	to.wantSame("b", 0, from, "b")
	_, err = Restore(to.ctx(), to.client, RestoreOptions{Dir: dir, As: "c", Replicas: 9})
	wantError(t, err, client.NotEnoughNodes, "--replicas")
}

func TestNamesAreChecked(t *testing.T) {
	from, to := filled(t), newRig(t)
	dir := fresh(t)
	from.backup(dir)
	for says, o := range map[string]RestoreOptions{
		"topic c is not in the backup; there are: a, b": {Dir: dir, Topics: []string{"c"}},
		"another name is for one topic":                 {Dir: dir, As: "x"},
		"is no name of a topic":                         {Dir: dir, Topics: []string{"a"}, As: "../x"},
	} {
		if _, err := Restore(to.ctx(), to.client, o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
