package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows says which rooms of ours a room may import. A room that is not listed imports nothing of ours but cdc.
var arrows = map[string][]string{
	"internal/cdc":        {},
	"internal/record":     {"internal/cdc"},
	"internal/state":      {"internal/cdc", "internal/record"},
	"internal/fetch":      {"internal/cdc"},
	"internal/source":     {"internal/cdc", "internal/record", "internal/fetch"},
	"internal/codec":      {"internal/cdc", "internal/record"},
	"internal/offsets":    {"internal/cdc"},
	"internal/kafka":      {"internal/cdc", "internal/offsets"},
	"internal/reconcile":  {"internal/cdc"},
	"internal/capture":    {"internal/cdc", "internal/record", "internal/state", "internal/reconcile", "internal/fetch", "internal/source", "internal/codec", "internal/offsets", "internal/kafka"},
	"internal/supervisor": {"internal/cdc", "internal/capture", "internal/source", "internal/fetch", "internal/kafka", "internal/codec", "internal/offsets"},
	"internal/admin":      {"internal/cdc", "internal/capture"},
	"internal/judge":      {"internal/cdc", "internal/record", "internal/codec", "internal/offsets"},
	"internal/simulator":  {},
	"internal/embedded":   {},
	"schemas":             {},
	"cmd/connector":       nil, // wires everything
}

// keepers says which libraries stay in which rooms (tests may use them anywhere).
var keepers = map[string][]string{
	"github.com/twmb/franz-go/pkg/kgo":   {"internal/kafka"},
	"github.com/twmb/franz-go/pkg/kadm":  {"internal/kafka"},
	"github.com/twmb/franz-go/pkg/kmsg":  {"internal/kafka"},
	"github.com/twmb/franz-go/pkg/sr":    {"internal/codec"},
	"github.com/twmb/franz-go/pkg/kfake": {"internal/embedded"},
}

const longest = 70 // lines of a function, but for those of hotpath.txt

type file struct {
	room, path string
	test       bool
	ast        *ast.File
	set        *token.FileSet
	text       string
}

// tree parses every Go file of the module once.
func tree(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == ".git" || n == "testdata" || n == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		files = append(files, file{filepath.ToSlash(filepath.Dir(rel)), rel, strings.HasSuffix(path, "_test.go"), f, set, string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found %d Go files: the walk is broken", len(files))
	}
	return files
}

func TestImportsFlowOneWay(t *testing.T) {
	for _, f := range tree(t) {
		allowed, known := arrows[f.room]
		if !known {
			t.Errorf("%s: room %s is not in the layout: it needs a place in the design first", f.path, f.room)
			continue
		}
		for _, im := range f.ast.Imports {
			path, _ := strconv.Unquote(im.Path.Value)
			if rooms, kept := keepers[path]; kept && !f.test && !slices.Contains(rooms, f.room) {
				t.Errorf("%s imports %s, which belongs to %v", f.path, path, rooms)
			}
			room, ours := strings.CutPrefix(path, "tidemark/")
			if ours && !f.test && allowed != nil && !slices.Contains(allowed, room) {
				t.Errorf("%s imports %s: the arrow does not exist", f.path, room)
			}
		}
	}
}

func TestFunctionsFitOnAScreen(t *testing.T) {
	text, err := os.ReadFile("hotpath.txt")
	if err != nil {
		t.Fatal(err)
	}
	excused := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var name, bench string
		var lines int
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if _, err := fmt.Sscan(line, &name, &lines, &bench); err != nil {
			t.Fatalf("hotpath.txt: %q wants: room.Function lines Benchmark: %v", line, err)
		}
		excused[name] = lines
	}
	if len(excused) > 6 {
		t.Errorf("hotpath.txt lists %d functions; six is the most", len(excused))
	}
	for _, f := range tree(t) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			limit := longest
			if l, ok := excused[f.room+"."+fn.Name.Name]; ok {
				limit = l
			}
			if n > limit {
				t.Errorf("%s: %s has %d lines, the limit is %d", f.set.Position(fn.Pos()), fn.Name.Name, n, limit)
			}
		}
	}
}

func TestHouseRules(t *testing.T) {
	docs := map[string]string{}
	files := tree(t)
	for _, f := range files {
		if strings.HasSuffix(f.path, "/doc.go") {
			docs[f.room] = f.text
		}
	}
	for _, f := range files {
		if _, ok := docs[f.room]; !ok {
			t.Errorf("%s: no doc.go in %s", f.path, f.room)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !f.test && !strings.Contains(docs[f.room], "oroutine") {
					t.Errorf("%s: a go statement, and doc.go names no goroutine", f.set.Position(n.Pos()))
				}
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: init()", f.set.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "time" && n.Sel.Name == "Sleep" {
					t.Errorf("%s: time.Sleep: wait for a condition", f.set.Position(n.Pos()))
				}
				if ok && x.Name == "os" && n.Sel.Name == "Exit" && f.path != "cmd/connector/main.go" && !f.test {
					t.Errorf("%s: os.Exit outside main", f.set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

func TestExportedIdentifiersAreDocumented(t *testing.T) {
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no comment", f.set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					undocumented(t, f, d, s)
				}
			}
		}
	}
}

func undocumented(t *testing.T, f file, d *ast.GenDecl, s ast.Spec) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
			t.Errorf("%s: type %s has no comment", f.set.Position(s.Pos()), s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%s: %s has no comment", f.set.Position(s.Pos()), n.Name)
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	e := d.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	if g, ok := e.(*ast.IndexExpr); ok {
		e = g.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

func TestNoRoomWithoutAName(t *testing.T) {
	for _, f := range tree(t) {
		for _, bad := range []string{"config", "util", "utils", "common", "helpers", "types", "shared"} {
			if f.room == "internal/"+bad {
				t.Errorf("%s: a package is a noun of the design", f.path)
			}
		}
	}
}
