package layers

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// exports finds the compiled interface of each package that those in dirs import, as the go command keeps it.
func exports(dirs []string) (func(string) (io.ReadCloser, error), error) {
	args := []string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}"}
	for _, d := range dirs {
		args = append(args, "./"+d)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, err
	}
	at := map[string]string{}
	for line := range bytes.Lines(out) {
		p, file, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		at[p] = file
	}
	return func(p string) (io.ReadCloser, error) {
		if at[p] == "" {
			return nil, fmt.Errorf("no export data of %s", p)
		}
		return os.Open(at[p])
	}, nil
}

// mapRanges returns the statements of a package that range over a map and do not say why the order does not
// matter: a comment on the line, or on the lines above it, that speaks of the order.
func mapRanges(fset *token.FileSet, pkg string, files []file, lookup importer.Lookup) ([]string, error) {
	var syntax []*ast.File
	for _, f := range files {
		syntax = append(syntax, f.syntax)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup)}
	if _, err := conf.Check(pkg, fset, syntax, info); err != nil {
		return nil, err
	}
	var found []string
	for _, f := range files {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			r, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			if _, is := info.TypeOf(r.X).Underlying().(*types.Map); is && !speaksOfOrder(fset, f, r.Pos()) {
				found = append(found, position(fset.Position(r.Pos()))+": ranges over a map: sort the keys, or say in a comment why the order does not matter")
			}
			return true
		})
	}
	return found, nil
}

func speaksOfOrder(fset *token.FileSet, f file, at token.Pos) bool {
	line := fset.Position(at).Line
	return slices.ContainsFunc(f.syntax.Comments, func(c *ast.CommentGroup) bool {
		first, last := fset.Position(c.Pos()).Line, fset.Position(c.End()).Line
		return first <= line && line-1 <= last && strings.Contains(c.Text(), "order")
	})
}

// pureFiles are the files of a directory that the simulator runs, as the tables name them.
func pureFiles(t *tree, dir string) (pure, all []file) {
	for _, f := range t.files {
		if f.dir != dir || f.test {
			continue
		}
		all = append(all, f)
		for _, p := range purities {
			if f.at(words(p.at)) && !f.at(words(p.except)) && !f.generated {
				pure = append(pure, f)
				break
			}
		}
	}
	return pure, all
}

func TestWhatTheSimulatorRunsDoesNotDependOnTheOrderOfMaps(t *testing.T) {
	tree, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, p := range purities {
		for _, at := range words(p.at) {
			dir := strings.TrimSuffix(at, "/...")
			if strings.HasSuffix(dir, ".go") {
				dir = path.Dir(dir)
			}
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	lookup, err := exports(dirs)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		pure, all := pureFiles(tree, dir)
		if len(pure) == 0 {
			t.Errorf("%s has no files", dir)
		}
		found, err := mapRanges(tree.fset, module+"/"+dir, all, lookup)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, at := range found {
			name, _, _ := strings.Cut(at, ":")
			if slices.ContainsFunc(pure, func(p file) bool { return p.path == name }) {
				t.Error(at)
			}
		}
	}
}

func TestARangeOverAMapIsFoundUnlessItSpeaksOfTheOrder(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       int
	}{
		{"bare", "for range m {}", 1},
		{"a named type", "for range named(m) {}", 1},
		{"two of them", "for range m {}\n\n\nfor k := range m { _ = k }", 2},
		{"explained on the line", "for range m {} // counts: the order does not matter", 0},
		{"explained above", "// Counts: the order does not matter.\nfor range m {}", 0},
		{"explained further up", "// The order does not matter.\n\nfor range m {}", 1},
		{"a slice", "for range []int{1} {}", 0},
	} {
		tree, err := load(fstest.MapFS{"actors/a.go": {Data: []byte("package actors\n\ntype named map[int]int\n\nfunc f(m map[int]int) {\n" + c.body + "\n}\n")}})
		if err != nil {
			t.Fatal(err)
		}
		found, err := mapRanges(tree.fset, "actors", tree.files, nil)
		if err != nil || len(found) != c.want {
			t.Errorf("%s: %d found, want %d: %q (%v)", c.name, len(found), c.want, found, err)
		}
	}
}
