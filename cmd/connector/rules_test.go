package main

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docs/rules.md says of every rule where it is enforced and which tests fail without it. A name that stands there has to exist and
// to name the rule itself. With -rules.write the lists are made anew: make rules.
var rulesWrite = flag.Bool("rules.write", false, "write the lists of docs/rules.md anew")

const rulesPage = "../../docs/rules.md"

// ruleNames are all rules: those of the Kafka protocol, of polling and deleting, and the invariants.
func ruleNames() []string {
	var all []string
	for _, kind := range []struct {
		name string
		n    int
	}{{"P", 24}, {"D", 10}, {"K", 20}, {"Invariant ", 10}} {
		for n := range kind.n {
			all = append(all, kind.name+strconv.Itoa(n+1))
		}
	}
	return all
}

// place is a declaration that names rules.
type place struct {
	room, file, name string
	test, function   bool
	rules            map[string]bool
}

var (
	numbered  = regexp.MustCompile(`\b[KPD][1-9][0-9]?\b`)
	ruledTest = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)((?:(?:[KPD]|Inv)[1-9][0-9]?[a-g]?)+)`)
	inName    = regexp.MustCompile(`([KPD]|Inv)([1-9][0-9]?)`)
	bracketed = regexp.MustCompile(`\(([KPD0-9a-g, ()]*)\)|[Ii]nvariants? ([0-9, and]+)`)
	invariant = regexp.MustCompile(`(?:^|[ (])([1-9]|10)(?:$|[,) ])`)
)

// rulesIn returns the rules that a text names: "P10", and where it is a comment "(7)", "(4, P14)" or "invariant 9".
func rulesIn(text string, comment bool) []string {
	all := numbered.FindAllString(text, -1)
	if !comment {
		return all
	}
	for _, m := range bracketed.FindAllStringSubmatch(text, -1) {
		for part := range strings.SplitSeq(m[1]+m[2], ",") {
			if n := invariant.FindStringSubmatch(part); n != nil {
				all = append(all, "Invariant "+n[1])
			}
		}
	}
	return all
}

// places are the declarations of the module, with the rules that each names.
func places(files []file) []place {
	var all []place
	for _, f := range files {
		if strings.HasSuffix(f.path, "/rules_test.go") {
			continue
		}
		base := f.set.File(f.ast.Pos()).Base()
		add := func(name string, function bool, doc *ast.CommentGroup, n ast.Node) {
			from, to := n.Pos(), n.End()
			if doc != nil {
				from = doc.Pos()
			}
			end := int(to) - base
			if eol := strings.IndexByte(f.text[end:], '\n'); eol >= 0 { // what stands behind it on its line
				end, to = end+eol, to+token.Pos(eol)
			}
			p := place{f.room, f.path, name, f.test, function, map[string]bool{}}
			for _, r := range rulesIn(f.text[int(from)-base:end], false) {
				p.rules[r] = true
			}
			for _, c := range f.ast.Comments {
				if from <= c.Pos() && c.End() <= to {
					for _, r := range rulesIn(c.Text(), true) {
						p.rules[r] = true
					}
				}
			}
			if m := ruledTest.FindStringSubmatch(name); m != nil {
				for _, r := range inName.FindAllStringSubmatch(m[1], -1) {
					p.rules[strings.Replace(r[1], "Inv", "Invariant ", 1)+r[2]] = true
				}
			}
			all = append(all, p)
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				add(functionName(d), true, d.Doc, d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						add(s.Name.Name, false, cmp.Or(s.Doc, d.Doc), s)
					case *ast.ValueSpec:
						add(s.Names[0].Name, false, cmp.Or(s.Doc, d.Doc), s)
					}
				}
			}
		}
	}
	return all
}

func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	e := d.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	switch g := e.(type) {
	case *ast.IndexExpr:
		e = g.X
	case *ast.IndexListExpr:
		e = g.X
	}
	return e.(*ast.Ident).Name + "." + d.Name.Name
}

// off is a file of internal/supervisor/testdata/planted/rules: a bug that switches a rule off, and the test that finds it.
type off struct{ name, rule, what, room, test string }

func switchedOff(t *testing.T) []off {
	paths, err := filepath.Glob("../../internal/supervisor/testdata/planted/rules/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no rule is switched off: %v", err)
	}
	var all []off
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := off{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
		for line := range strings.Lines(string(text)) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key {
			case "rule":
				o.rule = value
			case "what":
				o.what = value
			case "test":
				o.room, o.test, _ = strings.Cut(value, " ")
			}
		}
		all = append(all, o)
	}
	return all
}

// entry is what the page says of a rule.
type entry struct {
	rule, says        string
	code, tests, offs []string // "file name" and "room name"; names of bugs
	open              string   // what is not built of it
	behind            string   // the heading of the next section, with its text
}

var (
	heading = regexp.MustCompile(`^### ((?:[KPD]|Invariant )[1-9][0-9]?)$`)
	quoted  = regexp.MustCompile("`([^`]+)`")
	offLine = regexp.MustCompile("^- .* \\(`([^`]+)`: `[^`]+`\\)$")
)

// entries reads the page.
func entries(t *testing.T) (head string, all []entry) {
	text, err := os.ReadFile(rulesPage)
	if err != nil {
		t.Fatal(err)
	}
	var e *entry
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		what, list, _ := strings.Cut(trimmed, ": ")
		switch m := heading.FindStringSubmatch(trimmed); {
		case m != nil:
			all = append(all, entry{rule: m[1]})
			e = &all[len(all)-1]
		case e == nil:
			head += line
		case strings.HasPrefix(line, "## "), e.behind != "":
			e.behind += line
		case what == "- Code":
			e.code = listed(list)
		case what == "- Tests":
			e.tests = listed(list)
		case trimmed == "- Off:":
		case offLine.MatchString(trimmed):
			e.offs = append(e.offs, offLine.FindStringSubmatch(trimmed)[1])
		case what == "- Open":
			e.open = list
		case trimmed != "":
			e.says += trimmed + " "
		}
	}
	return head, all
}

// listed reads "`a/b.go` `f`, `g`; `c.go` `h`".
func listed(list string) []string {
	var all []string
	for group := range strings.SplitSeq(list, "; ") {
		names := quoted.FindAllStringSubmatch(group, -1)
		for _, n := range names[min(1, len(names)):] {
			all = append(all, names[0][1]+" "+n[1])
		}
	}
	return all
}

// TestRulesPageIsTrue: every rule is on the page, what is named there names the rule too, and no rule is named that is not there.
func TestRulesPageIsTrue(t *testing.T) {
	files := tree(t)
	all, bugs := places(files), switchedOff(t)
	if *rulesWrite {
		writeRules(t, all, bugs)
	}
	rules := map[string]entry{}
	var order []string
	_, page := entries(t)
	for _, e := range page {
		rules[e.rule] = e
		order = append(order, e.rule)
	}
	if !slices.Equal(order, ruleNames()) {
		t.Errorf("the page has %q", order)
	}
	for _, f := range files {
		for _, c := range f.ast.Comments {
			for _, r := range rulesIn(c.Text(), true) {
				if _, ok := rules[r]; !ok {
					t.Errorf("%s names %s, and there is no such rule", f.set.Position(c.Pos()), r)
				}
			}
		}
	}
	for _, e := range page {
		e.check(t, all, bugs)
	}
	for _, b := range bugs {
		if !slices.Contains(rules[b.rule].offs, b.name) {
			t.Errorf("%s is switched off by %s, and the page does not say so: make rules", b.rule, b.name)
		}
	}
}

// check holds an entry against the code.
func (e entry) check(t *testing.T, all []place, bugs []off) {
	if strings.TrimSpace(e.says) == "" || len(e.code) == 0 || len(e.tests) == 0 {
		t.Errorf("%s: the page does not say what it is, where it is enforced and which tests need it", e.rule)
	}
	code, tests := map[string]bool{}, map[string]bool{}
	for _, p := range all {
		if p.rules[e.rule] {
			code[p.file+" "+p.name] = !p.test
			tests[p.room+" "+p.name] = p.test && p.function
		}
	}
	for _, name := range e.code {
		if !code[name] {
			t.Errorf("%s: the page says that %s enforces it. Nothing there names it; these do: %s", e.rule, name, strings.Join(where(code), "; "))
		}
	}
	for _, name := range e.tests {
		if !tests[name] {
			t.Errorf("%s: the page says that %s fails without it. No such test names it; these do: %s", e.rule, name, strings.Join(where(tests), "; "))
		}
	}
	for _, name := range e.offs {
		i := slices.IndexFunc(bugs, func(b off) bool { return b.name == name && b.rule == e.rule })
		if i < 0 {
			t.Errorf("%s: the page says that %s switches it off, and there is no such bug", e.rule, name)
		} else if !slices.Contains(e.tests, bugs[i].room+" "+bugs[i].test) {
			t.Errorf("%s: %s is to be found by %s, which is not among the tests of the rule", e.rule, name, bugs[i].test)
		}
	}
	if len(e.offs) == 0 && !strings.HasPrefix(e.rule, "Invariant") { // those are the simulation's to prove
		t.Errorf("%s: nothing switches it off, so nothing shows that its tests need it", e.rule)
	}
}

func where(m map[string]bool) []string {
	var all []string
	for name, is := range m {
		if is {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// tellers are rooms that show rules, or check them from outside, and enforce none.
var tellers = []string{"internal/admin", "internal/judge", "internal/simulator", "internal/embedded"}

// writeRules makes the lists of the page anew: the functions that name a rule, those of the command line only where there are no
// others, and types only where there are no functions; all tests that name it; and what switches it off.
func writeRules(t *testing.T, all []place, bugs []off) {
	head, page := entries(t)
	var out strings.Builder
	out.WriteString(head)
	for _, e := range page {
		ranks := map[int][]string{}
		var tests []string
		for _, p := range all {
			switch {
			case !p.rules[e.rule], strings.HasSuffix(p.file, "/doc.go"), slices.Contains(tellers, p.room) && !p.test:
			case p.test && p.function && (ruledTest.MatchString(p.name) || strings.HasPrefix(p.name, "Test")):
				tests = append(tests, p.room+" "+p.name)
			case p.test:
			case p.room == "cmd/connector":
				ranks[1] = append(ranks[1], p.file+" "+p.name)
			case p.function:
				ranks[0] = append(ranks[0], p.file+" "+p.name)
			default:
				ranks[2] = append(ranks[2], p.file+" "+p.name)
			}
		}
		code := ranks[0]
		for rank := 1; len(code) == 0 && rank < 3; rank++ {
			code = ranks[rank]
		}
		fmt.Fprintf(&out, "### %s\n\n%s\n\n", e.rule, strings.TrimSpace(e.says))
		offs := ""
		for _, b := range bugs {
			if b.rule == e.rule {
				offs += fmt.Sprintf("  - %s (`%s`: `%s`)\n", b.what, b.name, b.test)
				if name := b.room + " " + b.test; !slices.Contains(tests, name) {
					tests = append(tests, name)
				}
			}
		}
		fmt.Fprintf(&out, "- Code: %s\n- Tests: %s\n", grouped(code), grouped(tests))
		if offs != "" {
			out.WriteString("- Off:\n" + offs)
		}
		if e.open != "" {
			out.WriteString("- Open: " + e.open + "\n")
		}
		out.WriteString("\n")
		if e.behind != "" {
			out.WriteString(strings.TrimSpace(e.behind) + "\n\n")
		}
	}
	if err := os.WriteFile(rulesPage, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil { //nolint:gosec // a page
		t.Fatal(err)
	}
}

// grouped is what listed reads.
func grouped(names []string) string {
	by := map[string][]string{}
	for _, n := range names {
		where, name, _ := strings.Cut(n, " ")
		by[where] = append(by[where], "`"+name+"`")
	}
	var all []string
	for _, where := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[where])
		all = append(all, "`"+where+"` "+strings.Join(slices.Compact(by[where]), ", "))
	}
	return strings.Join(all, "; ")
}
