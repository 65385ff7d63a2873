package supervisor

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A bug in testdata/planted/rules switches one rule off, and the test that it names has to fail then. So that a room's tests are
// built once for all of them, the functions that the bugs change stand beside the right ones under other names, and an
// environment variable says which of them is called.
var rulesOff = flag.String("rules.off", "", "switch off what matches this pattern of ROOM/NAME in testdata/planted/rules, and expect the test that is named there to fail")

const (
	rulesFolder = "rules"
	offVariable = "TIDEMARK_RULE_OFF" // names the bug that is switched on
)

// TestRulesHaveATest runs only with -rules.off: make rules-off.
func TestRulesHaveATest(t *testing.T) {
	if *rulesOff == "" {
		return
	}
	wanted := regexp.MustCompile(*rulesOff)
	byRoom := map[string][]planted{}
	for _, p := range plantedIn(t, rulesFolder) {
		if wanted.MatchString(p.room + "/" + p.name) {
			byRoom[p.room] = append(byRoom[p.room], p)
		}
	}
	for _, room := range slices.Sorted(maps.Keys(byRoom)) {
		t.Run(path.Base(room), func(t *testing.T) {
			binary := buildWith(t, room, switchable(t, byRoom[room]))
			for _, p := range byRoom[room] {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel() // most of the time they wait for what does not come
					p.switchOff(t, binary)
				})
			}
		})
	}
}

// switchOff runs the one test that has to fail with the bug, and to pass without it.
func (p planted) switchOff(t *testing.T, binary string) {
	for _, off := range []string{"", p.name} {
		run := exec.Command(binary, "-test.run", "^"+p.test+"$", "-test.timeout", "5m")
		run.Dir, run.Env = filepath.Join("..", "..", p.room), append(os.Environ(), offVariable+"="+off)
		out, err := run.CombinedOutput()
		failed := strings.Contains(string(out), "--- FAIL: "+p.test) || bytes.Contains(out, []byte("panic:"))
		switch {
		case off == "" && (err != nil || bytes.Contains(out, []byte("no tests to run"))):
			t.Fatalf("%s does not pass in %s with everything in place: %v\n%s", p.test, p.room, err, out)
		case off != "" && err == nil:
			t.Errorf("%s: %s, and %s passes in %s", p.rule, p.what, p.test, p.room)
		case off != "" && !failed:
			t.Errorf("%s: %s: it is not %s that fails: %v\n%s", p.rule, p.what, p.test, err, out)
		case off != "":
			t.Logf("%s: %s: %s fails", p.rule, p.what, p.test)
		}
	}
}

// switchable returns the files of the product that the bugs change, each with all of its bugs in it and a switch before them.
func switchable(t *testing.T, bugs []planted) map[string]string {
	dir, files := t.TempDir(), map[string]string{}
	byFile := map[string][]planted{}
	for _, p := range bugs {
		byFile[p.file] = append(byFile[p.file], p)
	}
	write := func(name string, text []byte) {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	for name, bugs := range byFile {
		source, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		text, err := withSwitches(source, bugs)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		write(name, text)
		room := path.Dir(name)
		write(room+"/rule_off.go", fmt.Appendf(nil, "package %s\n\nimport \"os\"\n\nvar ruleOff = os.Getenv(%q)\n", path.Base(room), offVariable))
	}
	return files
}

// withSwitches returns a file with the changed functions behind the right ones.
func withSwitches(source []byte, bugs []planted) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	cases, copies := map[*ast.FuncDecl]string{}, ""
	for _, p := range bugs {
		if _, err := p.plant(); err != nil {
			return nil, err
		}
		changed := map[*ast.FuncDecl]string{}
		for i, old := range p.old {
			f := functionAt(file, bytes.Index(source, []byte(old)))
			if f != nil && changed[f] == "" {
				changed[f] = string(source[f.Pos()-1 : f.End()-1])
			}
			if f == nil || !strings.Contains(changed[f], old) {
				return nil, fmt.Errorf("%s changes more than the inside of functions", p.name)
			}
			changed[f] = strings.Replace(changed[f], old, p.new[i], 1)
		}
		for f, text := range changed {
			other := f.Name.Name + "_" + strings.ReplaceAll(p.name, "-", "_")
			at := int(f.Name.Pos() - f.Pos())
			copies += "\n\n" + text[:at] + other + text[at+len(f.Name.Name):]
			call, err := callOf(f, other)
			if err != nil {
				return nil, err
			}
			cases[f] += fmt.Sprintf(" case %q: %s;", p.name, call)
		}
	}
	out := bytes.Clone(source)
	functions := slices.SortedFunc(maps.Keys(cases), func(a, b *ast.FuncDecl) int { return int(b.Pos() - a.Pos()) })
	for _, f := range functions {
		out = slices.Insert(out, int(f.Body.Lbrace), []byte(" switch ruleOff {"+cases[f]+" };")...)
	}
	return append(out, copies...), nil
}

func functionAt(file *ast.File, offset int) *ast.FuncDecl {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && int(f.Pos())-1 <= offset+1 && offset < int(f.End()) {
			return f
		}
	}
	return nil
}

// callOf is the statement that calls other in the place of f.
func callOf(f *ast.FuncDecl, other string) (string, error) {
	var arguments []string
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			_, variadic := field.Type.(*ast.Ellipsis)
			arguments = append(arguments, name.Name+strings.Repeat("...", btoi(variadic)))
		}
		if len(field.Names) == 0 {
			arguments = append(arguments, "_")
		}
	}
	if f.Type.TypeParams != nil {
		var types []string
		for _, field := range f.Type.TypeParams.List {
			for _, name := range field.Names {
				types = append(types, name.Name)
			}
		}
		other += "[" + strings.Join(types, ", ") + "]"
	}
	if f.Recv != nil {
		if len(f.Recv.List[0].Names) == 0 {
			return "", fmt.Errorf("the receiver of %s has no name", f.Name.Name)
		}
		other = f.Recv.List[0].Names[0].Name + "." + other
	}
	if slices.Contains(arguments, "_") {
		return "", fmt.Errorf("a parameter of %s has no name", f.Name.Name)
	}
	call := other + "(" + strings.Join(arguments, ", ") + ")"
	if f.Type.Results == nil {
		return call + "; return", nil
	}
	return "return " + call, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
