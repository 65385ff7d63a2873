package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"tidemark/internal/source"
)

var yamlBlock = regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```")

// TestPagesHoldDefinitionsThatAreRight: what a reader copies from README and docs is accepted by the program.
func TestPagesHoldDefinitionsThatAreRight(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checked := 0
	definitions, connections := editors(t, source.DefinitionSchema()), editors(t, source.ConnectionsSchema())
	for _, page := range append(pages, filepath.Join("..", "..", "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			block := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")[1:] // a block in a numbered list is indented
			block = strings.ReplaceAll(block, "/run/secrets/salesloft", secret)
			switch {
			case strings.HasPrefix(block, "source:"), strings.HasPrefix(block, "extends:"):
				if _, err := source.Parse(page, []byte(block)); err != nil {
					t.Error(err)
				}
				definitions(page, block)
			case strings.HasPrefix(block, "- name:"):
				if _, err := source.ParseConnections(page, []byte(block), func(string) (string, bool) { return "x", true }); err != nil {
					t.Error(err)
				}
				connections(page, block)
			default:
				t.Errorf("%s: a YAML block that is neither a definition nor a file of connections:\n%s", page, block)
			}
			checked++
		}
	}
	if checked < 3 {
		t.Errorf("only %d blocks were found", checked)
	}
	for _, file := range must(filepath.Glob("testdata/*.yaml")) {
		if text := read(t, file); strings.Contains(text, "\nsource:") || strings.HasPrefix(text, "source:") {
			definitions(file, text)
		}
	}
}

// editors returns what an editor does with a JSON Schema: it says what is wrong with a text.
func editors(t *testing.T, schema []byte) func(name, text string) {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tidemark.json", must(jsonschema.UnmarshalJSON(bytes.NewReader(schema)))); err != nil {
		t.Fatal(err)
	}
	compiled := must(c.Compile("tidemark.json"))
	return func(name, text string) {
		t.Helper()
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		doc := must(jsonschema.UnmarshalJSON(bytes.NewReader(must(json.Marshal(v))))) // times come out as texts
		if err := compiled.Validate(doc); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// TestEveryVariableIsDocumented: `connector env` says something of each.
func TestEveryVariableIsDocumented(t *testing.T) {
	variables, err := documented()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		if v.doc == "" {
			t.Errorf("%s has no documentation", v.name)
		}
	}
}

// TestExamplesAreListed: every definition of examples is right and short, and docs/examples.md says how short.
func TestExamplesAreListed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "examples.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "sources", "*"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d definitions, %v", len(files), err)
	}
	rows := regexp.MustCompile(`(?m)^\| \[([a-z-]+)\]\(\.\./examples/sources/([a-z-]+)\.yaml\)[^|]*\| (\d+) \|`).FindAllStringSubmatch(string(page), -1)
	listed := map[string]string{}
	for _, m := range rows {
		if m[1] != m[2] {
			t.Errorf("%s leads to %s", m[1], m[2])
		}
		listed[m[1]] = m[3]
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition, err := source.Open(file)
		if err != nil {
			t.Error(err)
			continue
		}
		lines := strings.Count(string(text), "\n")
		if definition.Name != name || lines < 10 || lines > 30 || listed[name] != strconv.Itoa(lines) {
			t.Errorf("%s: source %s has %d lines, and docs/examples.md says %q", file, definition.Name, lines, listed[name])
		}
		for i, line := range strings.Split(string(text), "\n") {
			if len([]rune(line)) > 140 {
				t.Errorf("%s:%d is too long", file, i+1)
			}
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/examples.md lists %s, which is not there", name)
	}
}

var commandNamed = regexp.MustCompile("`connector ([a-z-]+)")

// TestMessagesNameCommandsThatAreThere: what a message tells people to do can be done. Dead letters cannot be replayed.
func TestMessagesNameCommandsThatAreThere(t *testing.T) {
	literals := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			l, ok := n.(*ast.BasicLit)
			if !ok || l.Kind != token.STRING {
				return true
			}
			literals++
			for _, m := range commandNamed.FindAllStringSubmatch(l.Value, -1) {
				if !slices.Contains(names(), m[1]) {
					t.Errorf("%s: there is no command %s: %s", file, m[1], l.Value)
				}
			}
			for _, word := range []string{"replay it", "replay them", "replay the"} {
				if strings.Contains(l.Value, word) {
					t.Errorf("%s: nothing replays dead letters: %s", file, l.Value)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || literals < 1000 {
		t.Fatalf("%d texts, %v", literals, err)
	}
}
