package layers

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// healthReasons finds what `mrctl cluster health` and `node can-stop` can say is wrong, as patterns: the first argument
// of reasonList's add in router, and the field What of a Finding in actors and of a HealthReason in router.
func healthReasons(t *testing.T, tree *tree) []string {
	t.Helper()
	var all []string
	take := func(f file, e ast.Expr) {
		pattern, ok := patternOf(e)
		if !ok {
			return // it passes on what another place says
		}
		if pattern == "" {
			t.Errorf("%s: a reason whose text can't be read from the source", f.path)
		}
		all = append(all, pattern)
	}
	for _, f := range tree.files {
		if f.test || f.dir != "router" && f.dir != "actors" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "add" && len(n.Args) == 3 && f.dir == "router" {
					take(f, n.Args[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "What" {
					take(f, n.Value)
				}
			}
			return true
		})
	}
	return all
}

var verb = regexp.MustCompile(`%[a-z]`)

// patternOf turns a text with verbs into one with gaps. ok is false for a variable.
func patternOf(e ast.Expr) (pattern string, ok bool) {
	switch e := e.(type) {
	case *ast.Ident, *ast.SelectorExpr:
		return "", false
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return "", true
		}
		return verb.ReplaceAllString(regexp.QuoteMeta(text), `\S+`), true
	case *ast.BinaryExpr: // what is wrong + "..."
		if rest, ok := patternOf(e.Y); ok && e.Op == token.ADD {
			return `\S+` + rest, true
		}
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Sprintf" {
			return patternOf(e.Args[0])
		}
	}
	return "", true
}

func TestEveryHealthReasonIsExplainedToOperatorsAndEveryExplanationHasAReason(t *testing.T) {
	tree, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Health reasons\n")
	section, _, _ = strings.Cut(section, "\n## ")
	explained := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		reason, ok := strings.CutPrefix(cells[0], "| `")
		if !ok {
			continue
		}
		if len(cells) != 3 || len(cells[1]) < 20 || len(cells[2]) < 20 {
			t.Errorf("%s: not explained", line)
		}
		explained[strings.TrimSuffix(reason, "`")] = false
	}
	patterns := healthReasons(t, tree)
	if len(patterns) < 10 {
		t.Errorf("only %d reasons found: have they moved?", len(patterns))
	}
	for _, p := range patterns {
		found := false
		for reason := range explained {
			if regexp.MustCompile("^" + p + "$").MatchString(reason) {
				explained[reason], found = true, true
			}
		}
		if !found {
			t.Errorf("docs/operations.md does not explain %q", p)
		}
	}
	for reason, known := range explained {
		if !known {
			t.Errorf("docs/operations.md explains %q, which nothing says", reason)
		}
	}
}
