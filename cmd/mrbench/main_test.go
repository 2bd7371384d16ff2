package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startCluster(t *testing.T) *clienttest.Cluster {
	t.Helper()
	cluster, err := clienttest.Start(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// bench runs mrbench against a cluster.
func bench(t *testing.T, cluster *clienttest.Cluster, line string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	args := append(strings.Fields(line), "--addr", strings.Join(cluster.Addrs(), ","))
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

func benchJSON(t *testing.T, cluster *clienttest.Cluster, line string, want int) *report {
	t.Helper()
	code, out, errs := bench(t, cluster, line+" -o json")
	if code != want {
		t.Fatalf("%s: exit %d, want %d\n%s%s", line, code, want, out, errs)
	}
	r := &report{}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return r
}

func held(t *testing.T, cluster *clienttest.Cluster, topic string, partitions int) (n, used int) {
	t.Helper()
	for p := range partitions {
		records, err := cluster.Records(topic, p)
		if err != nil {
			t.Fatal(err)
		}
		n += len(records)
		used += min(len(records), 1)
	}
	return n, used
}

func TestAppendStoresWhatItReportsOverAllPartitions(t *testing.T) {
	for _, mode := range []string{"stream", "unary"} {
		t.Run(mode, func(t *testing.T) {
			cluster := startCluster(t)
			r := benchJSON(t, cluster, "append --topic t --create --partitions 6 --records 10007 --size 16 --clients 3 --window 300 --verify --mode "+mode, exitDone)
			a := r.Append
			if a == nil || a.Records != 10007 || a.Errors != 0 || a.RecordsPerS <= 0 || a.Batches == 0 || a.LatencyMillis.Max <= 0 {
				t.Fatalf("append %+v", a)
			}
			if n, used := held(t, cluster, "t", 6); n != 10007 || used != 6 {
				t.Errorf("%d records in %d partitions", n, used)
			}
			if r.Verify == nil || r.Verify.Acknowledged != 10007 || r.Verify.failed() || r.Read.Records != 10007 || r.CPU == nil {
				t.Errorf("verify %+v, read %+v, cpu %+v", r.Verify, r.Read, r.CPU)
			}
			if d := r.Load; d.Durable != "majority-fsync" || d.Partitions != 6 || d.Replicas != 3 || d.Clients != 3 || d.Window != 300 || d.Mode != mode {
				t.Errorf("load %+v", d)
			}
		})
	}
}

func TestAppendVerifiesThroughFaultsAndBesideOlderRecords(t *testing.T) {
	cluster := startCluster(t)
	benchJSON(t, cluster, "append --topic t --create --partitions 2 --records 100", exitDone)
	calls := 0
	cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		calls++
		kinds := []clienttest.Fault{clienttest.UnknownStored, clienttest.BreakAfter, clienttest.NotLeader, clienttest.Overloaded}
		if calls%5 > 0 {
			return clienttest.None
		}
		return kinds[calls/5%len(kinds)]
	})
	r := benchJSON(t, cluster, "append --topic t --create --partitions 2 --records 3000 --size 64 --clients 2 --window 128 --verify", exitDone)
	if r.Append.Records != 3000 || r.Verify.Acknowledged != 3000 || r.Verify.Foreign != 0 || r.Read.Records != 3000 || calls < 10 {
		t.Errorf("append %+v, verify %+v, %d calls", r.Append, r.Verify, calls)
	}
}

func TestAFailedBatchEndsTheRunWithItsFigures(t *testing.T) {
	cluster := startCluster(t)
	cluster.CreateTopic("t", 2)
	calls := 0
	cluster.SetFault(func(call clienttest.Call) clienttest.Fault {
		if calls++; calls > 3 && !call.Read {
			return clienttest.TooLarge
		}
		return clienttest.None
	})
	r := benchJSON(t, cluster, "append --topic t --records 100000 --clients 1 --window 64 --verify", exitFailed)
	if r.Append.Errors == 0 || r.Append.Records == 0 || r.Append.Records >= 100000 || r.Verify.failed() || r.Verify.Acknowledged != r.Append.Records {
		t.Errorf("append %+v, verify %+v", r.Append, r.Verify)
	}
}

func TestLostRecordsFailTheVerification(t *testing.T) {
	j := &job{}
	err := j.judge(newChecker(load.NewPayload(3, 16), 1, 1), []load.Outcome{{Client: 0, Appended: 10}})
	if exitCode(err) != exitFailed || !errors.Is(err, errVerify) || j.report.Verify.Missing != 10 {
		t.Errorf("%v, %+v", err, j.report.Verify)
	}
}

func TestReadReadsAllOrAsMuchAsItIsTold(t *testing.T) {
	cluster := startCluster(t)
	benchJSON(t, cluster, "append --topic t --create --partitions 5 --records 4000 --size 100", exitDone)
	r := benchJSON(t, cluster, "read --topic t --clients 2 --verify", exitDone)
	if r.Read.Records != 4000 || r.Verify.Acknowledged != 4000 || r.Read.MBPerS <= 0 || r.Append != nil || r.CPU == nil {
		t.Errorf("read %+v, verify %+v", r.Read, r.Verify)
	}
	if r := benchJSON(t, cluster, "read --topic t --records 1", exitDone); r.Read.Records < 1 {
		t.Errorf("read %+v", r.Read)
	}
	if r := benchJSON(t, cluster, "read --topic t --duration 1ns", exitDone); r.Read == nil {
		t.Error("no figures")
	}
}

func TestMixedFollowsWhatItAppends(t *testing.T) {
	cluster := startCluster(t)
	benchJSON(t, cluster, "append --topic t --create --partitions 3 --records 500", exitDone)
	r := benchJSON(t, cluster, "mixed --topic t --records 5000 --size 20 --clients 2 --window 200 --verify", exitDone)
	if r.Append.Records != 5000 || r.Read.Records != 5000 || r.Verify.Acknowledged != 5000 {
		t.Errorf("append %+v, read %+v, verify %+v", r.Append, r.Read, r.Verify)
	}
	if r := benchJSON(t, cluster, "mixed --topic t --records 1 --clients 1", exitDone); r.Read.Records != 1 || r.Verify != nil {
		t.Errorf("read %+v, verify %+v", r.Read, r.Verify)
	}
}

func TestARunEndsAfterItsDuration(t *testing.T) {
	cluster := startCluster(t)
	r := benchJSON(t, cluster, "append --topic t --create --partitions 1 --duration 30ms --rate 2000 --clients 2 --window 16 --verify", exitDone)
	if r.Append.Records == 0 || r.Append.BehindMillis == nil || r.Verify.Acknowledged != r.Append.Records {
		t.Errorf("append %+v, verify %+v", r.Append, r.Verify)
	}
}

func TestASignalEndsTheRunWithWhatItHasDone(t *testing.T) {
	cluster := startCluster(t)
	cluster.CreateTopic("t", 1)
	for _, command := range []string{"append", "mixed"} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		cluster.SetFault(func(call clienttest.Call) clienttest.Fault {
			if calls++; calls == 20 {
				cancel()
			}
			return clienttest.None
		})
		var out, errs bytes.Buffer
		code := run(ctx, []string{command, "--topic", "t", "--duration", "1h", "--addr", strings.Join(cluster.Addrs(), ",")}, &out, &errs)
		if code != exitFailed || !strings.Contains(out.String(), "records/s") || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%s: exit %d\n%s%s", command, code, out.String(), errs.String())
		}
	}
}

func TestTextNamesTheLoadAndTheFigures(t *testing.T) {
	cluster := startCluster(t)
	code, out, errs := bench(t, cluster, "mixed --topic t --create --partitions 2 --records 64 --size 16 --clients 2 --window 8 --rate 100000 --verify")
	if code != exitDone {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for _, want := range []string{"durable=majority-fsync", "clients=2", "window=8", "record=16B", "batch=262144B", "rate=100000/s", "records/s", "MB/s",
		"p50", "p99 ", "p99.9", "max", "errors", "client CPU", "caught up", "verify", "OK"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestBadCommandLinesAreUsageErrors(t *testing.T) {
	cluster := startCluster(t)
	for _, line := range []string{"", "write", "append", "append --topic t x", "append --topic t --nonsense", "append --topic t --create",
		"append --topic t --verify --size 15", "append --topic t --window 3 --clients 4", "append --topic t --clients 0", "append --topic t --mode both",
		"append --topic t -o yaml", "append --topic t --duration -1s", "append --topic t --timeout 0s", "append --topic t --size -1",
		"append --topic t --batch-bytes 0", "read --topic t --create --partitions 1", "append --topic t --records x"} {
		if code, out, errs := bench(t, cluster, line); code != exitUsage {
			t.Errorf("%q: exit %d\n%s%s", line, code, out, errs)
		}
	}
	if code, _, errs := bench(t, cluster, "append --topic t --addr nowhere"); code != exitFailed { // the last --addr counts
		t.Errorf("unknown topic: exit %d: %s", code, errs)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"append", "--topic", "t", "--addr", "nowhere"}, &out, &errs); code != exitUsage {
		t.Errorf("bad address: exit %d: %s", code, errs.String())
	}
}

func TestWhatCannotBeDoneIsSaidBeforeTheLoad(t *testing.T) {
	cluster := startCluster(t)
	cluster.CreateTopic("t", 3)
	cluster.SetRecordBytesMax(1000)
	for line, want := range map[string]string{
		"append --topic u":                                      "UNKNOWN_TOPIC",
		"append --topic t --partitions 4":                       "3 partitions, not 4",
		"append --topic t --size 1001":                          "at most 1000",
		"append --topic v --create --partitions 1 --replicas 4": "NOT_ENOUGH_NODES",
		"read --topic u":                                        "UNKNOWN_TOPIC",
	} {
		if code, out, errs := bench(t, cluster, line); code != exitFailed || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d\n%s%s", line, code, out, errs)
		}
	}
}

func TestExit4SaysThatNobodyIsThere(t *testing.T) {
	cluster := startCluster(t)
	addr := cluster.Addrs()[0]
	cluster.Close()
	for _, command := range []string{"append", "read", "mixed"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{command, "--topic", "t", "--addr", addr, "--timeout", "1s"}, &out, &errs); code != exitUnreachable {
			t.Errorf("%s: exit %d: %s", command, code, errs.String())
		}
	}
}

func TestVersionIsPrinted(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"version"}, &out, &errs); code != exitDone || !strings.HasPrefix(out.String(), fmt.Sprintf("mrbench %s ", version)) {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
}
