package layers

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// tree is the project's source.
type tree struct {
	fset  *token.FileSet
	top   []string // names at the top level
	files []file   // Go files of the module, in path order
}

// file is one parsed Go file.
type file struct {
	path      string // from the top, with slashes
	dir       string
	lines     int
	generated bool
	test      bool
	syntax    *ast.File
}

// load parses all Go files of the module at the top of fsys. Nested modules, testdata and hidden folders are
// not part of it.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if at != "." && path.Dir(at) == "." {
			t.top = append(t.top, at)
		}
		if d.IsDir() {
			return skip(fsys, at)
		}
		if path.Ext(at) != ".go" {
			return nil
		}
		f, err := t.parse(fsys, at)
		t.files = append(t.files, f)
		return err
	})
	return t, err
}

// skip tells WalkDir which directories hold none of the module's packages.
func skip(fsys fs.FS, dir string) error {
	name := path.Base(dir)
	if dir == "." {
		return nil
	}
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (t *tree) parse(fsys fs.FS, at string) (file, error) {
	source, err := fs.ReadFile(fsys, at)
	if err != nil {
		return file{}, err
	}
	syntax, err := parser.ParseFile(t.fset, at, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, fmt.Errorf("parsing: %w", err)
	}
	return file{
		path: at, dir: path.Dir(at), syntax: syntax,
		lines:     bytes.Count(source, []byte("\n")),
		generated: ast.IsGenerated(syntax),
		test:      strings.HasSuffix(at, "_test.go"),
	}, nil
}

// packages groups the files by directory, in order.
func (t *tree) packages() [][]file {
	files := slices.Clone(t.files)
	slices.SortStableFunc(files, func(a, b file) int { return strings.Compare(a.dir, b.dir) })
	var all [][]file
	for len(files) > 0 {
		n := 0
		for n < len(files) && files[n].dir == files[0].dir {
			n++
		}
		all, files = append(all, files[:n]), files[n:]
	}
	return all
}

// words splits a list of the tables.
func words(s string) []string { return strings.Fields(s) }

// under says whether p is named by one of the patterns: itself, or below "x/...".
func under(p string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		below, tree := strings.CutSuffix(pattern, "/...")
		return p == below || tree && strings.HasPrefix(p, below+"/")
	})
}

// at says whether a file is named by one of the places: by its directory or by a file pattern.
func (f file) at(places []string) bool {
	return under(f.dir, places) || slices.ContainsFunc(places, func(pattern string) bool {
		matched, err := path.Match(pattern, f.path)
		return err == nil && matched
	})
}
