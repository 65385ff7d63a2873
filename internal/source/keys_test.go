package source

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// jsonSchema compiles a schema.
func jsonSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("tidemark.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tidemark.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asEditorsSee is a YAML text as a JSON Schema sees it: times are texts.
func asEditorsSee(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestTheSchemaAcceptsWhatTheParserAccepts: every shipped definition, and every one in testdata.
func TestTheSchemaAcceptsWhatTheParserAccepts(t *testing.T) {
	s := jsonSchema(t, DefinitionSchema())
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := filepath.Glob("catalog/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, shipped...); len(files) < 5 {
		t.Fatalf("%d files", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, doc := range strings.Split(string(text), "\n---\n") {
			if err := s.Validate(asEditorsSee(t, []byte(doc))); err != nil {
				t.Errorf("%s, %d: %v", file, i, err)
			}
		}
	}
}

// TestTheSchemaRefusesWhatTheParserRefuses: unknown keys, keys of another type, values that are no choice, in any depth. What only
// several keys together get wrong is the parser's alone.
func TestTheSchemaRefusesWhatTheParserRefuses(t *testing.T) {
	s := jsonSchema(t, DefinitionSchema())
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		for _, word := range []string{"unknown key", "is one of", "must be true or false", "must be a map, not", "` is missing"} {
			if strings.Contains(string(text), "# want ") && strings.Contains(string(text), word) && !strings.Contains(string(text), "many at once") {
				want = word
			}
		}
		if want == "" {
			continue
		}
		refused++
		if err := s.Validate(asEditorsSee(t, text)); err == nil {
			t.Errorf("%s is accepted, and the parser says: %s", file, want)
		}
	}
	if refused < 20 {
		t.Errorf("only %d of %d files were looked at", refused, len(files))
	}
}

// TestConnectionsSchema: the sample of the documentation is accepted, and what the parser refuses is not.
func TestConnectionsSchema(t *testing.T) {
	s := jsonSchema(t, ConnectionsSchema())
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"- {name: a, source: focus, config: {start: 2024-01-01, key: {file: /x}, ids: [1, {id: 7}]}, streams: {people: {interval: 1m, reconcile: false}, users: }}", true},
		{"- {name: a, source: focus, streams: [a, b], allow_hosts: h, rate_limit: {budget: 3, per: 1m}}", true},
		{"- {name: a}", false},
		{"- {name: a, source: focus, streams: {people: {intervall: 1m}}}", false},
		{"- {name: a, source: focus, rate_limit: {cost: 1}}", false},
		{"{name: a, source: focus}", false},
	} {
		_, err := ParseConnections("c.yaml", []byte(strings.ReplaceAll(c.text, "{file: /x}", "{file: keys.go}")), func(string) (string, bool) { return "", false })
		if (err == nil) != c.ok {
			t.Errorf("the parser says of %s: %v", c.text, err)
		}
		if err := s.Validate(asEditorsSee(t, []byte(c.text))); (err == nil) != c.ok {
			t.Errorf("the schema says of %s: %v", c.text, err)
		}
	}
}

// TestEveryKeyOfTheParserIsInATable: the parser reads maps by tables alone, and each of them is reached from the two roots, so
// schema and reference have every key that there is.
func TestEveryKeyOfTheParserIsInATable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used, below := map[string]bool{}, map[string]bool{"definitionTable": true, "connectionTable": true}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fun := call.Fun.(type) {
			case *ast.SelectorExpr:
				if fun.Sel.Name == "fields" && len(call.Args) == 3 {
					name, ok := call.Args[2].(*ast.Ident)
					if !ok || !strings.HasSuffix(name.Name, "Table") {
						t.Errorf("%s: fields is not given a table", file)
						return true
					}
					used[name.Name] = true
				}
			case *ast.Ident:
				if fun.Name == "inside" && file == "keys.go" {
					below[call.Args[0].(*ast.Ident).Name] = true
				}
			}
			return true
		})
	}
	if len(used) < 20 {
		t.Errorf("only %d tables are used", len(used))
	}
	for name := range used {
		if !below[name] {
			t.Errorf("%s is read by the parser, and is not in the reference", name)
		}
	}
	for name := range below {
		if !used[name] {
			t.Errorf("%s is in the reference, and no parser reads it", name)
		}
	}
	reference := string(Reference())
	for _, text := range []string{"`granularity`", "`max_concurrent`", "`allow_hosts`", "`cursor_from`"} {
		if !strings.Contains(reference, text) {
			t.Errorf("the reference lacks %s", text)
		}
	}
}

// TestTheReferencePageIsCurrent: docs/reference.md is what `make reference` writes.
func TestTheReferencePageIsCurrent(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(Reference())); diff != "" {
		t.Errorf("run `make reference`:\n%s", diff)
	}
}

// plainly is what a definition comes to, as far as defaults can change it: no compiled expressions, no places in the file.
func plainly(t *testing.T, text string) any {
	t.Helper()
	d := mustParse(t, text)
	b := d.streams[0]
	st := *b.stream
	in := incremental{}
	if b.request.incremental != nil {
		in = *b.request.incremental
	}
	type setting struct {
		kind             string
		secret, optional bool
	}
	var settings []setting
	for _, s := range d.config {
		settings = append(settings, setting{s.kind, s.secret, s.optional})
	}
	p := b.request.paginator
	p.next, in.next = nil, nil
	rate := d.rate
	rate.cost = nil
	return []any{
		settings, d.auth.kind, d.auth.pkce, d.auth.login != nil && d.auth.login.cookies, rate, b.request.list.method, st.Schema, st.OnLeave, st.Rules.Value, st.keyScope,
		st.Reconcile, p, in.kind, in.granularity, in.inclusive, in.order, in.lookback, in.settle, in.checkpointPass, b.request.Interval.fixed,
	}
}

// TestDefaultsAreAsTheTablesSay: to write a key's default changes nothing, for every key that has one.
func TestDefaultsAreAsTheTablesSay(t *testing.T) {
	const timestamp = "    query: {since: '{{ cursor }}'}\n    incremental: {cursor_field: at, format: rfc3339"
	settings := map[*keyTable]string{ // a definition with a place, @, for one more key of the table
		definitionTable:  minimal + "@",
		settingTable:     "config: {x: {@}}\n" + minimal,
		rateTable:        "rate_limit: {budget: 3, @}\n" + minimal,
		requestTable:     minimal + "    @\n",
		streamTable:      minimal + "    @\n",
		kindKeys:         minimal + "    filter: record.x == 1\n    @\n",
		guardTable:       minimal + "    reconcile: {lookup: {path: '/orders/{{ key.id }}'}, guard: {@}}\n",
		reconcileTable:   minimal + "    reconcile: {lookup: {path: '/orders/{{ key.id }}'}, @}\n",
		incrementalTable: minimal + timestamp + ", @}\n",
		formatTable:      minimal + "    query: {since: '{{ cursor }}'}\n    incremental: {cursor_field: at, format: {record: '%Y-%m-%d', @}}\n",
		scheduleTable:    minimal + "    schedule: {cron: '0 2 * * *', @}\n",
		hydrateTable:     minimal + "    hydrate: {path: '/orders/{{ record.id }}', @}\n",
	}
	special := map[string]string{ // keys that only some types have
		"stable":     minimal + "    query: {t: '{{ page_token }}'}\n    paginator: {type: token, next: n, @}\n",
		"start":      minimal + "    query: {p: '{{ page }}'}\n    paginator: {type: page, @}\n",
		"overlap":    minimal + "    query: {o: '{{ offset }}'}\n    paginator: {type: offset, size: 10, @}\n",
		"checkpoint": minimal + "    query: {c: '{{ cursor }}'}\n    incremental: {type: opaque, next: n, @}\n",
		"cookies":    "authenticator: {type: session, login: {path: /l}, token: t, header: h, @}\n" + minimal,
		"pkce": "authenticator: {type: oauth2, grant_type: refresh_token, token_url: 'https://x.invalid', client_id: a, client_secret: b, refresh_token: c, " +
			"authorize_url: 'https://x.invalid/a', @}\n" + minimal,
	}
	looked := 0
	for _, table := range []*keyTable{definitionTable, settingTable, authTable, rateTable, requestTable, paginatorTable, incrementalTable, formatTable, reconcileTable,
		guardTable, scheduleTable, hydrateTable, kindKeys, streamTable} {
		for _, k := range table.keys {
			text := settings[table]
			if s, ok := special[k.name]; ok && k.of != nil {
				text = s
			}
			if k.absent == "" || k.name == "method" && table != requestTable || slices.ContainsFunc(kindKeys.keys, func(o key) bool { return o.name == k.name }) && table != kindKeys {
				continue
			}
			if text == "" {
				t.Errorf("%s.%s has a default that nothing here looks at", table.name, k.name)
				continue
			}
			looked++
			without := plainly(t, strings.NewReplacer(", @", "", "@", "").Replace(text))
			if with := plainly(t, strings.ReplaceAll(text, "@", k.name+": "+k.absent)); !reflect.DeepEqual(with, without) {
				t.Errorf("%s.%s: %s is not what holds without it:\n%+v\n%+v", table.name, k.name, k.absent, with, without)
			}
		}
	}
	if looked < 25 {
		t.Errorf("only %d defaults were looked at", looked)
	}
}
