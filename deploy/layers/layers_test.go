package layers

import (
	"os"
	"testing"
)

const module = "github.com/multiraftd/multiraftd"

// Limits of house style; generated code is exempt.
const (
	functionLinesMax = 70
	fileLinesMax     = 500
)

// topLevel is everything that may stand at the top of the project (design §3).
var topLevel = words(`go.mod go.sum Makefile README.md LICENSE CONTRIBUTING.md .ci .git .gitignore bin
	proto actors router raftcore transport node client cmd deploy docs`)

// badNames say nothing about what a package is for.
var badNames = words("util utils common base types helper helpers misc shared lib")

// room says which packages of ours the packages at `at` may import. "x/..." is x and all below it. The first
// line that matches a package counts; a package without a line is a finding.
type room struct {
	at    string
	ours  string // in any file
	tests string // in addition, in test files
}

var rooms = []room{
	{at: "proto/...", ours: "proto/..."},
	{at: "raftcore", ours: "proto/...", tests: "raftcore/..."},
	{at: "raftcore/measure", ours: ""},
	{at: "raftcore/store", ours: "raftcore raftcore/measure proto/..."},
	{at: "raftcore/partition", ours: "raftcore raftcore/store proto/..."},
	{at: "raftcore/metadata", ours: "raftcore raftcore/store proto/..."},
	{at: "actors", ours: "raftcore/... proto/..."},
	{at: "transport", ours: "proto/... raftcore/measure transport/guard transport/tlsfiles", tests: "transport/guard/guardtest transport/tlsfiles/issue"}, // measure: it counts like every room; of Raft it knows nothing
	// In front of both servers of a node, so below both rooms that have one.
	{at: "transport/guard", ours: "", tests: "proto/... transport/guard/guardtest transport/tlsfiles/issue"},
	{at: "transport/guard/guardtest", ours: ""}, // a client for tests only
	// Certificates are the same affair on peer and client addresses, and for the tools.
	{at: "transport/tlsfiles", ours: "", tests: "transport/tlsfiles/issue"},
	{at: "transport/tlsfiles/issue", ours: "transport/tlsfiles"},
	{at: "router", ours: "actors raftcore/... proto/... transport/guard transport/tlsfiles", tests: "transport transport/guard/guardtest transport/tlsfiles/issue"},
	{at: "node", ours: "proto/... raftcore/... actors router transport transport/guard transport/tlsfiles node/tracing", tests: "client transport/guard/guardtest transport/tlsfiles/issue"},
	{at: "node/tracing", ours: "proto/..."},
	{at: "client", ours: "proto/...", tests: "node client/clienttest"}, // its Example starts a node
	{at: "client/backup", ours: "client proto/...", tests: "client/clienttest"},
	{at: "client/clienttest", ours: "proto/..."}, // a fake server, for tests only
	{at: "cmd/multiraftd", ours: "proto/... raftcore/... actors router transport transport/tlsfiles node node/tracing", tests: "client cmd/... deploy/localcluster transport/tlsfiles/issue"},
	{at: "cmd/mrctl", ours: "proto/... client client/backup node/tracing transport/tlsfiles transport/tlsfiles/issue", tests: "node client/clienttest"},
	{at: "cmd/mrbench", ours: "proto/... client cmd/mrbench/load transport/tlsfiles", tests: "node client/clienttest"},
	{at: "cmd/mrbench/load", ours: ""}, // puts the same load on other systems too: knows none
	{at: "cmd/mrsim", ours: "proto/... raftcore/... actors router transport node client cmd/mrsim/..."},
	{at: "cmd/mrsim/planted", ours: ""},
	{at: "cmd/mrsim/history", ours: ""}, // judges what clients saw: must not share a mistake with our code
	{at: "deploy/layers", ours: "", tests: "proto/..."},
	{at: "deploy/localcluster", ours: ""}, // starts binaries: needs none of our code, so that it tests all of it
	{at: "deploy/demo", ours: "deploy/localcluster"},
	{at: "deploy/jaeger", ours: "deploy/localcluster"},
	{at: "deploy/trial", ours: "deploy/localcluster"},
	{at: "deploy/bench", ours: "deploy/localcluster deploy/trial"},
	{at: "deploy/peers", ours: "deploy/localcluster deploy/trial"},
	{at: "deploy/manifests", ours: "", tests: "deploy/localcluster"},
	{at: "deploy/prometheus", ours: "", tests: "deploy/localcluster"},
	{at: "deploy/protocol", ours: "", tests: "deploy/localcluster"},
	{at: "deploy/systemd", ours: "", tests: "deploy/localcluster"},
	{at: "deploy/flood", ours: "proto/... transport/guard/guardtest"},
	{at: "deploy/chaos", ours: "deploy/localcluster"},
}

// fence says that an import path, or what lies below it, is found in some places only. Test files are exempt
// unless tests is true.
type fence struct {
	imports string
	only    string // places that may: directories ("x/..." with all below) or files ("x/name*.go")
	tests   bool
	because string
}

var fences = []fence{
	{imports: "github.com/asynkron/protoactor-go/...", only: "actors router node cmd/mrsim", tests: true,
		because: "the rest must not know that there are actors"},
	{imports: "go.etcd.io/raft/v3/...", only: "raftcore/... actors", tests: true,
		because: "Raft is raftcore's business; actors pass raftpb messages on"},
	{imports: "github.com/cockroachdb/pebble/v2/...", only: "raftcore/store/pebble*.go node",
		because: "store is the only room that touches disk; node may hand it a file system"},
	{imports: "go.opentelemetry.io/otel/...", only: "node/...", tests: true,
		because: "the rooms have a narrow tracer of their own, which the simulator leaves out"},
	{imports: "google.golang.org/grpc/...", only: "proto/... transport/... router node/... client/... cmd/... deploy/flood",
		because: "the core and the actors know nothing of RPC"},
}

// pure says that the files at a place have no go statement, import none of these and use none of those. Test
// files are exempt.
type pure struct {
	at      string // directories and file patterns, as in fence.only
	except  string // files in them that the rule does not bind, each with its reason in because
	imports string
	calls   string
	because string
}

const clocks = "time.Now time.Since time.Until time.Sleep time.After time.AfterFunc time.Tick time.NewTimer time.NewTicker"

var purities = []pure{
	{at: "raftcore raftcore/measure raftcore/partition raftcore/metadata",
		imports: "time os net/... sync log/... context math/rand/... crypto/rand io/fs",
		because: "the core and the machines take messages and ticks and return effects, nothing else"},
	{at: "raftcore/store", except: "raftcore/store/pebble*.go", // Pebble is the disk
		imports: "time os net/... log/... context math/rand/... crypto/rand",
		calls:   clocks,
		because: "key layout, log and in-memory store run in the simulator"},
	{at: "actors",
		imports: "os net/... math/rand/... crypto/rand",
		calls:   clocks,
		because: "actors run in the simulator; the node injects clock, randomness and disk"},
	{at: "router", except: "router/serve*.go router/service*.go router/*_service.go", // in front of the actor: gRPC
		imports: "os net/... math/rand/... crypto/rand",
		calls:   clocks,
		because: "the router's core runs in the simulator"},
	{at: "transport/outbox*.go transport/inproc*.go transport/fifo*.go transport/queue*.go transport/size*.go transport/losses*.go transport/incarnations*.go transport/course*.go transport/carried*.go",
		imports: "os net/... math/rand/... crypto/rand",
		calls:   clocks,
		because: "the envelope logic and the in-process network run in the simulator"},
	{at: "cmd/mrsim", except: "cmd/mrsim/main.go cmd/mrsim/sweep.go cmd/mrsim/selftest.go", // around the worlds: processes, files, wall time
		imports: "os net/...",
		calls:   clocks,
		because: "a world knows no time, randomness or order but what its seed gives"},
}

// bannedInTests are calls that make a test slow or a matter of luck.
var bannedInTests = words("time.Sleep")

func TestTheRoomsKeepToTheirRules(t *testing.T) {
	tree, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.files) < 10 {
		t.Fatalf("only %d files found: is this the project's tree?", len(tree.files))
	}
	for _, finding := range check(tree) {
		t.Error(finding)
	}
}
