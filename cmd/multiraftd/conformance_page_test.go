package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// paperPage is what people read of the conformance tests.
const paperPage = "../../docs/conformance.md"

// claim is what a conformance test holds the server against: a sentence, and where it stands.
type claim struct{ where, sentence string }

// quotation is how each of those tests' comments begins.
var quotation = regexp.MustCompile(`^([^":]+): "([^"]+)"(\s|$)`)

// claims reads the comments of the conformance tests, by the tests' names.
func claims(t *testing.T) map[string]claim {
	t.Helper()
	files, err := filepath.Glob("conformance_*_test.go")
	must(t, err)
	all := map[string]claim{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		must(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "TestPaper") {
				continue
			}
			comment := strings.Join(strings.Fields(f.Doc.Text()), " ")
			q := quotation.FindStringSubmatch(comment)
			if q == nil {
				t.Errorf("%s: the comment of %s does not begin with the place and the sentence that it tests", name, f.Name.Name)
				continue
			}
			all[f.Name.Name] = claim{q[1], strings.TrimRight(q[2], ".")}
		}
	}
	return all
}

func TestThePageOfConformanceListsEachTestWithItsSentence(t *testing.T) {
	page, err := os.ReadFile(paperPage)
	must(t, err)
	want, cases := claims(t), map[string]bool{}
	if len(want) < 20 {
		t.Fatalf("only %d conformance tests found", len(want))
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 4 || !strings.Contains(line, "`TestPaper") {
			continue
		}
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		test := strings.Trim(cells[3], "`")
		c, ok := want[test]
		if !ok {
			t.Errorf("the page has %s, which is no test, or has it twice", test)
			continue
		}
		delete(want, test)
		if cells[0] == "" || cases[cells[0]] {
			t.Errorf("%s: the case %q is empty or another's", test, cells[0])
		}
		cases[cells[0]] = true
		if got := (claim{cells[2], cells[1]}); got != c {
			t.Errorf("%s: the page says\n%+v, the test\n%+v", test, got, c)
		}
	}
	for test, c := range want {
		t.Errorf("the page has no row such as\n| CASE | %s | %s | `%s` |", c.sentence, c.where, test)
	}
}
