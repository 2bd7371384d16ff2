package layers

import (
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

var code = regexp.MustCompile("`([A-Z_]+)`")

// errorRows reads the tables of docs/errors.md: the first cell, without its quotes, to the rest of the row.
func errorRows(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		if _, twice := rows[name]; twice {
			t.Errorf("%s has two rows", name)
		}
		rows[name] = rest
	}
	return rows
}

func TestEveryRPCHasARowInTheTableOfErrorsAndEveryRowAnRPC(t *testing.T) {
	rows := errorRows(t)
	protocol, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, f := range []protoreflect.FileDescriptor{
		multiraftv1.File_multiraft_v1_log_proto, multiraftv1.File_multiraft_v1_admin_proto, raftv1.File_multiraft_raft_v1_raft_proto,
	} {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				rpc := string(service.Name()) + "." + string(service.Methods().Get(j).Name())
				known[rpc] = true
				if rows[rpc] == "" {
					t.Errorf("docs/errors.md has no row for %s", rpc)
				}
				if f.Package() == "multiraft.v1" && !strings.Contains(string(protocol), "`"+rpc+"`") {
					t.Errorf("docs/protocol.md does not say what %s is for", rpc)
				}
			}
		}
	}
	for name := range rows {
		if strings.Contains(name, ".") && !known[name] {
			t.Errorf("docs/errors.md has a row for %s, which is no RPC", name)
		}
	}
}

func TestTheTableOfErrorsUsesOnlyItsOwnReasonsAndCodesOfGRPC(t *testing.T) {
	rows := errorRows(t)
	used := make(map[string]bool)
	for name, rest := range rows {
		if !strings.Contains(name, ".") {
			if first := code.FindStringSubmatch(rest); first == nil || !isCode(first[1]) {
				t.Errorf("%s: the second cell is not a gRPC code: %s", name, rest)
			}
			continue
		}
		for _, m := range code.FindAllStringSubmatch(rest, -1) {
			used[m[1]] = true
			if peers := strings.HasPrefix(name, "RaftService."); peers && !isCode(m[1]) || !peers && rows[m[1]] == "" {
				t.Errorf("%s names %s, which has no meaning there", name, m[1])
			}
		}
	}
	for name := range rows {
		if !strings.Contains(name, ".") && !used[name] {
			t.Errorf("no RPC names the reason %s", name)
		}
	}
}

// isCode says whether gRPC has a status code of that name, as in google.rpc.Code.
func isCode(name string) bool {
	var c codes.Code
	return c.UnmarshalJSON([]byte(strconv.Quote(name))) == nil
}

func TestEveryReasonTheClientKnowsIsInTheTableOfErrors(t *testing.T) {
	tree, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	reasons := clientReasons(tree)
	if len(reasons) == 0 {
		t.Fatal("client/errors.go declares no constants of type Reason: has it moved?")
	}
	rows := errorRows(t)
	for _, r := range reasons {
		if rows[r] == "" {
			t.Errorf("docs/errors.md has no row for the reason %s", r)
		}
	}
}

// clientReasons returns the values of client's constants of type Reason.
func clientReasons(t *tree) []string {
	var reasons []string
	at := slices.IndexFunc(t.files, func(f file) bool { return f.path == "client/errors.go" })
	if at < 0 {
		return nil
	}
	ast.Inspect(t.files[at].syntax, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		for _, v := range spec.Values {
			lit, ok := v.(*ast.BasicLit)
			if !ok {
				continue
			}
			if s, err := strconv.Unquote(lit.Value); err == nil {
				reasons = append(reasons, s)
			}
		}
		return true
	})
	return reasons
}
