package source

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A definition that extends a shipped one says only what is different.
func TestExtends(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ours.yaml")
	text := `extends: salesloft
config: {tier: {default: gold}, start_date: null}
headers: {X-Tier: "{{ config.tier }}"}
rate_limit: {budget: 100}
defaults: {interval: 2m, incremental: {start: null, lookback: 1h}}
streams:
  calls: null
  users: {interval: 1h}
  people: {query: {per_page: 50, owner: ["1", "2"]}, hash: null, reconcile: null}
  notes: {path: /notes.json, paginator: {type: page}, query: {"updated_at[gte]": "{{ cursor }}", page: "{{ page }}"}, incremental: {order: null}}
  meetings: {path: /meetings, query: {"updated_at[gte]": null, page: null}, incremental: null, paginator: null}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "salesloft" || d.File != file {
		t.Errorf("%s of %s", d.Name, d.File)
	}
	if diff := cmp.Diff(slices.Concat(slices.DeleteFunc(shippedStreams(t), func(name string) bool { return name == "calls" }), []string{"meetings"}), d.StreamNames()); diff != "" {
		t.Error(diff)
	}
	s, err := d.Bind("c", map[string]any{"client_id": "a", "client_secret": "b", "refresh_token": "c"}, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*Request{}
	for _, r := range s.Requests {
		by[r.Name] = r
	}
	every := func(name string) time.Duration {
		d, err := by[name].Every(Partition{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if s.Rate.Budget != 100 || s.Rate.cost == nil || s.headers[0].name != "X-Tier" || every("people") != 2*time.Minute || every("users") != time.Hour {
		t.Errorf("rate %+v, headers %+v, intervals %v %v", s.Rate, s.headers, every("people"), every("users"))
	}
	people, notes, meetings := by["people"], by["notes"], by["meetings"]
	if in := people.incremental; in.lookback != time.Hour || in.start != nil || in.order != ascending || in.granularity != time.Microsecond {
		t.Errorf("people: %+v", in)
	}
	if st := people.Streams[0]; len(st.Rules.Exclude) != 0 || st.HasLookup || people.paginator.sizeEcho == nil {
		t.Errorf("people: %+v", st)
	}
	var names []string
	for _, p := range people.list.query {
		names = append(names, p.name)
	}
	if slices.Sort(names); strings.Join(names, " ") != "owner page per_page sort_by sort_direction updated_at[gte]" {
		t.Error(names)
	}
	if notes.paginator.kind != pagePaginator || notes.incremental.order != unordered || notes.list.path.literal != "/notes.json" {
		t.Errorf("notes: %+v", notes.paginator)
	}
	if !meetings.Streams[0].Snapshot || meetings.paginator.kind != noPaginator || len(meetings.Streams[0].Rules.Exclude) == 0 {
		t.Errorf("meetings: the base's defaults hold for new streams too: %+v", meetings.Streams[0])
	}
}

func shippedStreams(t *testing.T) []string {
	t.Helper()
	d, err := Open("salesloft")
	if err != nil {
		t.Fatal(err)
	}
	return d.StreamNames()
}

// What a patch spoils in the shipped file is reported there.
func TestExtendsNamesTheFile(t *testing.T) {
	_, err := Parse("ours.yaml", []byte("extends: salesloft\nconfig: {client_id: null, start_date: {type: integer}}\nstreams: {people: {primary_key: []}}\n"))
	if err == nil {
		t.Fatal("it was taken")
	}
	var problems Problems
	if !errors.As(err, &problems) || problems[0].File != "ours.yaml" || problems[0].Line != 3 {
		t.Fatalf("%v", err)
	}
	if !slices.ContainsFunc(problems, func(p Problem) bool {
		return p.File == "salesloft.yaml" && strings.Contains(p.Message, "config.client_id")
	}) {
		t.Errorf("%v", err)
	}
	d, err := Parse("ours.yaml", []byte("extends: couchdb\nsource: ours\nconfig:\n  shelf: {}\n"))
	if err != nil || d.Name != "ours" {
		t.Fatal(err)
	}
	_, err = d.Bind("c", map[string]any{"url": "https://x"}, Overrides{})
	if err == nil || !strings.Contains(err.Error(), "config.database is missing (declared in couchdb.yaml:") ||
		!strings.Contains(err.Error(), "config.shelf is missing (declared in ours.yaml:4)") {
		t.Error(err)
	}
}

// The shipped definitions do not extend each other in a circle: each can be opened.
func TestCatalogOpens(t *testing.T) {
	for _, name := range Catalog() {
		if _, err := Open(name); err != nil {
			t.Error(err)
		}
	}
}
