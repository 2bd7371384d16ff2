package trace

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestEverySpanAndAttributeHasItsRowInTheDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../docs/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if strings.HasPrefix(line, "| `") {
			rows[strings.TrimSpace(line)] = true
		}
	}
	named := map[string]bool{}
	for _, n := range append(append([]Name{}, Spans...), Attributes...) {
		named[n.Name] = true
		row := fmt.Sprintf("| `%s` | %s |", n.Name, n.Means)
		if !rows[row] {
			t.Errorf("docs/traces.md lacks the row %s", row)
		}
		delete(rows, row)
	}
	for row := range rows {
		t.Errorf("docs/traces.md has a row for nothing: %s", row)
	}
	for _, name := range constants(t) {
		if !named[name] {
			t.Errorf("%q is in no table", name)
		}
	}
}

// constants returns the values of the constants in names.go.
func constants(t *testing.T) (values []string) {
	f, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, spec := range d.Specs {
				v, err := strconv.Unquote(spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, v)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatal("no constants found")
	}
	return values
}
