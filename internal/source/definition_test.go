package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// TestBadDefinitions proves that whatever is wrong is refused, all of it at once, with its place: each file of testdata/bad
// says at its end what is expected. Among it is a log feed that is to be reconciled (D1).
func TestBadDefinitions(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d bad definitions, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(data)) {
				if w, ok := strings.CutPrefix(line, "# want "); ok {
					if w[0] >= '0' && w[0] <= '9' { // else it names the file that is extended
						w = "x.yaml:" + w
					}
					want = append(want, strings.TrimSuffix(w, "\n"))
				}
			}
			_, err = Parse("x.yaml", data)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("Parse gave %v, not Problems", err)
			}
			if diff := cmp.Diff(strings.Join(want, "\n"), problems.Error()); diff != "" {
				t.Error(diff)
			}
			if remedy, _ := cdc.Verdict(err); remedy != cdc.Halt || cdc.Hint(err) == "" {
				t.Errorf("remedy %v, hint %q", remedy, cdc.Hint(err))
			}
		})
	}
}

const minimal = `source: shop
base_url: https://api.example.com/v1
streams:
  orders:
    path: /orders
    records: data
    primary_key: id
`

func mustParse(t *testing.T, text string) *Definition {
	t.Helper()
	d, err := Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustBind(t *testing.T, text string, config map[string]any) *Source {
	t.Helper()
	s, err := mustParse(t, text).Bind("c", config, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withStream is minimal with lines added to its stream.
func withStream(lines string) string {
	return minimal + "    " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n    ") + "\n"
}

func TestDefaultsOfAStream(t *testing.T) {
	s := mustBind(t, withStream("query: {since: '{{ cursor }}'}\nincremental: {cursor_field: updated, format: unix}"), nil)
	st, req := s.Streams[0], s.Requests[0]
	in := req.incremental
	if st.Schema != "json" || st.OnLeave != "delete" || st.Snapshot || !st.Versioned || st.versionSlot != st.cursorSlot || st.LogFeed {
		t.Errorf("stream %+v", st)
	}
	if in.kind != timestampCursor || !in.inclusive || in.order != unordered || in.granularity != time.Second ||
		in.lookback != time.Minute || in.settle != 0 || in.request.name != "unix" {
		t.Errorf("incremental %+v", in)
	}
	if req.paginator.kind != noPaginator || req.list.method != "GET" || req.Interval.fixed != defaultEvery {
		t.Errorf("request %+v", req)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "no reconciliation") {
		t.Errorf("warnings %q", s.Warnings)
	}
	lists := strings.Replace(withStream("query: {since: '{{ cursor }}'}\nincremental: {type: opaque, next: next}"), "records: data", "records: [data, {path: gone, op: delete}]", 1)
	if w := mustBind(t, lists, nil).Warnings; len(w) > 0 {
		t.Errorf("a list of what is gone says it: %q", w)
	}
}

// TestP14DefaultVersion proves that a state feed's version is its cursor field, and that a log feed has none of itself.
func TestP14DefaultVersion(t *testing.T) {
	lines := "query: {since: '{{ cursor }}'}\nincremental: {cursor_field: at, format: rfc3339}\n"
	if st := mustBind(t, withStream(lines), nil).Streams[0]; st.versionSlot != st.cursorSlot || st.versionFormat == nil {
		t.Errorf("state feed: %+v", st)
	}
	if st := mustBind(t, withStream(lines+"record_id: event"), nil).Streams[0]; st.Versioned || !st.LogFeed {
		t.Errorf("log feed: %+v", st)
	}
	if st := mustBind(t, withStream(lines+"version: revision"), nil).Streams[0]; !st.Versioned || st.versionSlot == st.cursorSlot || st.versionFormat != nil {
		t.Errorf("declared: %+v", st)
	}
	if st := mustBind(t, minimal, nil).Streams[0]; st.Versioned || !st.Snapshot {
		t.Errorf("snapshot: %+v", st)
	}
}

func TestDefaultsMerge(t *testing.T) {
	d := mustParse(t, `source: shop
base_url: https://api.example.com
defaults:
  query: {sort: updated_at, since: "{{ anchor ?? start }}"}
  records: data
  primary_key: id
  paginator: {type: keyset, size_echo: size}
  incremental: {cursor_field: updated_at, format: rfc3339, order: asc, lookback: 5m}
  interval: 30s
streams:
  orders: {path: /orders, incremental: {lookback: 1h}, query: {sort: changed, limit: 5, type: all}}
  users:  {path: /users, incremental: null, query: {since: null, page: "{{ page }}"}, paginator: {type: page}}
`)
	s, err := d.Bind("c", nil, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	orders, users := s.Requests[0], s.Requests[1]
	if orders.incremental.lookback != time.Hour || orders.incremental.order != ascending || orders.Interval.fixed != 30*time.Second {
		t.Errorf("orders: %+v", orders.incremental)
	}
	var names []string
	for _, p := range orders.list.query {
		names = append(names, p.name)
	}
	if diff := cmp.Diff([]string{"sort", "since", "limit", "type"}, names); diff != "" {
		t.Error(diff)
	}
	// null removes, and another type does not inherit what belonged to the first.
	if users.incremental != nil || users.paginator.kind != pagePaginator || users.paginator.sizeEcho != nil || !users.Streams[0].Snapshot {
		t.Errorf("users: %+v", users)
	}
}

func TestPathNames(t *testing.T) {
	for text, want := range map[string][]string{
		"id": {"id"}, "a.b": {"a", "b"}, `["a b"].c`: {"a b", "c"}, `a["@id"]`: {"a", "@id"},
		"a[0]": nil, `a["x`: nil, "a..b": nil, "[0]": nil,
	} {
		got, ok := pathNames(text)
		if ok != (want != nil) || ok && !slices.Equal(got, want) {
			t.Errorf("%s: %q %v", text, got, ok)
		}
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"primary_key", "path", "paginator", "interval", "id"}
	for word, want := range map[string]string{
		"primary_kye": "primary_key", "pth": "path", "paginater": "paginator", "Intervall": "interval", "quite_different": "", "x": "",
	} {
		if got := suggest(word, names); want == "" && got != "" || want != "" && got != ` (did you mean "`+want+`"?)` {
			t.Errorf("%s: %q", word, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1us": time.Microsecond, "7d": 7 * 24 * time.Hour, "1w": 7 * 24 * time.Hour, "1h30m": 90 * time.Minute,
		"1.5h": 90 * time.Minute, "0s": 0, "": -1, "5": -1, "-5s": -1, "soon": -1, "5 s": -1, "999999999d": -1,
	} {
		got, err := parseDuration(text)
		if want < 0 != (err != nil) || err == nil && got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

func TestOpen(t *testing.T) {
	if diff := cmp.Diff([]string{"couchdb", "crf-exchange", "focus", "givergy", "salesloft"}, Catalog()); diff != "" {
		t.Error(diff)
	}
	if _, err := Open("salseloft"); err == nil || !strings.Contains(err.Error(), `did you mean "salesloft"?`) {
		t.Error(err)
	}
	if _, err := Open("./nowhere.yaml"); err == nil || cdc.Hint(err) == "" {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(file); err != nil || d.Name != "shop" || d.File != file {
		t.Errorf("%v %v", d, err)
	}
}

// A schema that lies beside the definition is read with it; a change of what it holds is a change of the answers' meaning.
func TestSchemaBesideTheDefinition(t *testing.T) {
	dir := t.TempDir()
	file, avsc := filepath.Join(dir, "ours.yaml"), filepath.Join(dir, "avro", "order.avsc")
	if err := os.Mkdir(filepath.Dir(avsc), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(minimal+"    schema: avro/order.avsc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(text string) string {
		t.Helper()
		if err := os.WriteFile(avsc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Bind("c", nil, Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Streams[0].Avro(func(string) ([]byte, error) { return nil, errors.New("a shipped one was asked for") })
		if err != nil || string(got) != text || s.Streams[0].Schema != "avro/order.avsc" {
			t.Errorf("schema %s: %q, %v", s.Streams[0].Schema, got, err)
		}
		return s.Requests[0].answerPrint
	}
	if of(`{"a": 1}`) == of(`{"a": 2}`) {
		t.Error("another schema, and a 304 would still count")
	}
}

// FuzzParse proves that no text makes the language panic, that every refusal says where, and that what is taken binds or says why
// not.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"catalog/*.yaml", "testdata/bad/*.yaml", "testdata/good/*.yaml"} {
		files, err := filepath.Glob(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("x.yaml", data)
		if err == nil {
			if len(d.streams) == 0 || d.Name == "" {
				t.Error("a definition without a name or a stream was taken")
			}
			_, _ = d.Bind("c", nil, Overrides{}) // it must not panic either; settings may be missing
			binds(t, d)
			return
		}
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%v is not Problems", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	d, err := Open("couchdb")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Settings() {
		got = append(got, fmt.Sprintf("%s %s %v %v", s.Name, s.Type, s.Secret, s.Optional))
	}
	want := []string{"url string false false", "database string false false", "username string false true", "password string true true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
