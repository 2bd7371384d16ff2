package layers

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// check holds a tree against all tables and returns a sentence for each place that breaks one.
func check(t *tree) []string {
	var found findings
	for _, name := range t.top {
		if !slices.Contains(topLevel, name) {
			found.add(name, "has no place at the top level: move it into a room, or add it to topLevel with a reason")
		}
	}
	for _, files := range t.packages() {
		found.checkPackage(files)
	}
	for _, f := range t.files {
		found.checkSize(t.fset, f)
		found.checkImports(f)
		found.checkPurity(t.fset, f)
		found.checkDocs(t.fset, f)
	}
	return found
}

type findings []string

func (fs *findings) add(where, format string, args ...any) {
	*fs = append(*fs, where+": "+fmt.Sprintf(format, args...))
}

// checkPackage looks at what a directory as a whole must have.
func (fs *findings) checkPackage(files []file) {
	dir := files[0].dir
	if slices.Contains(badNames, path.Base(dir)) {
		fs.add(dir, "the name says nothing: name the package after what it does")
	}
	if !slices.ContainsFunc(files, func(f file) bool { return !f.generated }) {
		return
	}
	doc := slices.IndexFunc(files, func(f file) bool { return path.Base(f.path) == "doc.go" })
	if doc < 0 || files[doc].syntax.Doc == nil {
		fs.add(dir, "has no doc.go with a package comment")
	}
}

func (fs *findings) checkSize(fset *token.FileSet, f file) {
	if f.generated {
		return
	}
	if f.lines > fileLinesMax {
		fs.add(f.path, "%d lines; at most %d", f.lines, fileLinesMax)
	}
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := fset.Position(fn.Pos()), fset.Position(fn.End())
		if n := to.Line - from.Line + 1; n > functionLinesMax {
			fs.add(position(from), "%s has %d lines; at most %d", fn.Name.Name, n, functionLinesMax)
		}
	}
}

func (fs *findings) checkImports(f file) {
	at := slices.IndexFunc(rooms, func(r room) bool { return under(f.dir, words(r.at)) })
	if at < 0 {
		fs.add(f.path, "package without a room: add it to the table of rooms")
		return
	}
	allowed := append(words(rooms[at].ours), f.dir)
	if f.test {
		allowed = append(allowed, words(rooms[at].tests)...)
	}
	for _, imported := range imports(f) {
		ours, is := strings.CutPrefix(imported, module+"/")
		if is && !under(ours, allowed) {
			fs.add(f.path, "imports %s; %s may import only: %s", ours, f.dir, strings.Join(allowed, " "))
		}
		fs.checkFences(f, imported)
	}
}

func (fs *findings) checkFences(f file, imported string) {
	for _, fence := range fences {
		exempt := f.test && !fence.tests
		if !exempt && under(imported, words(fence.imports)) && !f.at(words(fence.only)) {
			fs.add(f.path, "imports %s, which belongs in %s: %s", imported, fence.only, fence.because)
		}
	}
}

func (fs *findings) checkPurity(fset *token.FileSet, f file) {
	if f.test {
		fs.checkUses(fset, f, bannedInTests, "wait for the event instead")
		return
	}
	for _, p := range purities {
		if !f.at(words(p.at)) || f.at(words(p.except)) {
			continue
		}
		for _, imported := range imports(f) {
			if under(imported, words(p.imports)) {
				fs.add(f.path, "imports %s: %s", imported, p.because)
			}
		}
		fs.checkUses(fset, f, words(p.calls), p.because)
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				fs.add(position(fset.Position(g.Pos())), "go statement: %s", p.because)
			}
			return true
		})
	}
}

// checkUses finds mentions of standard-library names such as time.Now, called or passed on.
func (fs *findings) checkUses(fset *token.FileSet, f file, banned []string, because string) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if ok && slices.Contains(banned, importedAs(f, pkg.Name)+"."+sel.Sel.Name) {
			fs.add(position(fset.Position(sel.Pos())), "uses %s.%s: %s", pkg.Name, sel.Sel.Name, because)
		}
		return true
	})
}

// checkDocs wants a doc comment on each exported name of a package's level; a group's comment or a comment at
// the end of the line counts for constants, variables and types in a group.
func (fs *findings) checkDocs(fset *token.FileSet, f file) {
	if f.generated || f.test {
		return
	}
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Doc == nil && d.Name.IsExported() {
				fs.add(position(fset.Position(d.Pos())), "%s has no doc comment", d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				fs.checkSpec(fset, d, spec)
			}
		}
	}
}

func (fs *findings) checkSpec(fset *token.FileSet, d *ast.GenDecl, spec ast.Spec) {
	var names []*ast.Ident
	var comment bool
	switch s := spec.(type) {
	case *ast.TypeSpec:
		names, comment = []*ast.Ident{s.Name}, s.Doc != nil || s.Comment != nil
	case *ast.ValueSpec:
		names, comment = s.Names, s.Doc != nil || s.Comment != nil
	}
	for _, name := range names {
		if name.IsExported() && !comment && d.Doc == nil {
			fs.add(position(fset.Position(name.Pos())), "%s has no doc comment", name.Name)
		}
	}
}

func imports(f file) []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			p = spec.Path.Value // the parser has accepted it; an odd path is matched as it stands
		}
		paths = append(paths, p)
	}
	return paths
}

// importedAs returns the import path that the file calls name, or "" when name is no package there.
func importedAs(f file, name string) string {
	paths := imports(f)
	for i, spec := range f.syntax.Imports {
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(paths[i]) == name {
			return paths[i]
		}
	}
	return ""
}

func position(p token.Position) string { return fmt.Sprintf("%s:%d", p.Filename, p.Line) }
