package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/internal/simulator"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSourcesListAndShow(t *testing.T) {
	s := &stage{T: t}
	s.want(0, []string{"sources", "list"}, "salesloft     oauth2 refresh_token or oauth2 client_credentials or bearer", "refresh_token*", "[start_date]", "people accounts", "couchdb       basic")
	s.want(0, []string{"sources", "show", "couchdb"}, "source: couchdb", "last_seq")
	s.want(1, []string{"sources", "show", "couchbd"}, "no definition is called")
	s.want(2, []string{"sources", "tset"}, `did you mean "test"`)
	s.want(0, []string{"sources", "-h"}, "connector sources check FILE...")
	s.want(0, []string{"sources", "help"}, "connector sources check FILE...")
	s.want(0, []string{"sources", "test", "-h"}, "-replay")
}

// All mistakes of all files, each with its place.
func TestSourcesCheckSaysEverything(t *testing.T) {
	s := &stage{T: t}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	text := strings.Replace(read(t, "testdata/team.yaml"), "primary_key: id", "primary_keys: id", 1)
	text = strings.Replace(text, "interval: 1s", "interval: soon", 1)
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	schema := filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(schema, []byte(strings.Replace(read(t, "testdata/team.yaml"), "salesloft/person", "salesloft/persona", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(0, []string{"sources", "check", "testdata/team.yaml", "salesloft"}, "testdata/team.yaml: ok: source team, streams people", "warning: no reconciliation, so what vanishes upstream is never noticed: stream people")
	out := s.want(1, []string{"sources", "check", "testdata/team.yaml", bad, schema, filepath.Join(dir, "none.yaml")}, "3 of 4 cannot be used",
		"none.yaml", "stream people", "primary_keys", "interval")
	if n := strings.Count(out, bad+":"); n < 2 {
		t.Errorf("%d lines about %s:\n%s", n, bad, out)
	}
}

// The test of a definition shows requests without secrets, and that the second reading publishes nothing (5).
func TestSourcesTestReadsTwice(t *testing.T) {
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "golden")
	args := []string{"sources", "test", "testdata/team.yaml", "--config", "base_url=" + s.url}
	s.env["KEY"] = simulator.APIKey
	live := s.want(0, append(args, "--config", "key=${KEY}", "--record", dir), "→ GET "+s.url+"/v2/people?", "Authorization: Bearer ***", "← 200",
		"people: 2 pages, 200 records: 199 would be published (r: 199), 1 suppressed, the pass goes on", "200 records suppressed, nothing would be published again", "recorded 5 exchanges",
		"people, from its cursor ", "people: the next pass: 1 page, 52 records, of which 51 were not seen before")
	if strings.Contains(live, simulator.APIKey) {
		t.Error("the key is printed")
	}
	s.sim.Change("people", 50) // what is recorded stays as it was
	before := s.sim.Stats().Requests
	replayed := s.want(0, append(args, "--replay", dir))
	if after := s.sim.Stats().Requests; after != before {
		t.Errorf("a replay asked the API %d times", after-before)
	}
	if want, _, ok := strings.Cut(live, "recorded "); !ok || replayed != want {
		t.Errorf("the replay says something else:\n%s\nthan the recording:\n%s", replayed, want)
	}
	for _, e := range must(os.ReadDir(dir)) {
		if strings.Contains(read(t, filepath.Join(dir, e.Name())), simulator.APIKey) {
			t.Errorf("%s holds the key", e.Name())
		}
	}
	s.want(1, append(args, "--replay", dir, "--since", "2020-01-01T00:00:00Z"), "no recorded answer to GET")
	s.want(1, append(args, "--config", "key=${KEY}", "--record", dir), "not empty")
	s.want(0, append(args, "--config", "key=${KEY}", "--since", "2126-01-01T00:00:00Z", "--pages", "1"), "updated_at%5Bgte%5D=2125-12-31T23%3A55%3A00Z")
	out := s.want(2, append(args, "--config", "key=${KEY}", "--since", "yesterday"), "--since yesterday: nothing of stream people begins there", "write it as 2024-01-31")
	if strings.Contains(out, "stored cursor") {
		t.Error("it speaks of a cursor that nobody has stored:\n" + out)
	}
	s.want(1, append(args, "--config", "key=nonsense"), "401", "The credential is not accepted")
	s.want(1, []string{"sources", "test", "testdata/team.yaml"}, "config.base_url is missing", "--config name=value")
}

// A filter that only the second pass has is tried, too: its mistakes show before anything runs. SOQL takes no quotes around a time.
func TestSourcesTestAsksFromTheCursor(t *testing.T) {
	s := &stage{T: t}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked = append(asked, q.URL.Query().Get("q"))
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(asked[len(asked)-1], "'") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `[{"errorCode":"MALFORMED_QUERY","message":"unexpected token: '2024"}]`)
			return
		}
		rows := []any{map[string]any{"Id": "a", "SystemModstamp": "2024-01-31T10:00:00.000+0000"}, map[string]any{"Id": "b", "SystemModstamp": "2024-01-31T11:00:00.000+0000"}}
		if strings.Contains(asked[len(asked)-1], "WHERE") {
			rows = append(rows[1:], map[string]any{"Id": "c", "SystemModstamp": "2024-01-31T12:00:00.000+0000"})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"records": rows})
	}))
	defer server.Close()
	text := `source: force
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  accounts:
    path: /query
    query: {q: 'SELECT Id{{ cursor == nil ? "" : " WHERE SystemModstamp >= @" + cursor + "@" }} FROM Account'}
    records: records
    primary_key: Id
    incremental: {cursor_field: SystemModstamp, format: "%Y-%m-%dT%H:%M:%S.%3f%z", lookback: 10m}
`
	file := filepath.Join(t.TempDir(), "force.yaml")
	write := func(quote string) {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "@", quote)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"sources", "test", file, "--config", "url=" + server.URL}
	write("''") // one quote, in YAML
	s.want(1, args, "2 records suppressed, nothing would be published again", "WHERE%20SystemModstamp%20%3E%3D%20%272024-01-31T10%3A50%3A00.000%2B0000%27",
		"accounts: FAIL: the first pass can be read, and the next one cannot", "MALFORMED_QUERY")
	write("")
	golden := filepath.Join(t.TempDir(), "golden")
	s.want(0, append(args, "--record", golden), "accounts, from its cursor 2024-01-31T11:00:00.000+0000 on, as the next pass asks:",
		"accounts: the next pass: 1 page, 2 records, of which 1 were not seen before", "recorded 3 exchanges")
	s.want(0, append(args, "--replay", golden), "accounts: the next pass: 1 page, 2 records")
	// A time as people write it, too.
	asked = nil
	s.want(0, append(args, "--since", "2024-01-31"))
	if !slices.Contains(asked, "SELECT Id WHERE SystemModstamp >= 2024-01-30T23:50:00.000+0000 FROM Account") {
		t.Errorf("asked for %q", asked)
	}
	// A recording from before that was asked for says so, and is good for the rest; one that has it shows what was changed since.
	write(" ")
	s.want(1, append(args, "--replay", golden), "no recorded answer to GET")
	about := filepath.Join(golden, recordingFile)
	if err := os.WriteFile(about, []byte(strings.ReplaceAll(read(t, about), `"onward": true`, `"onward": false`)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(0, append(args, "--replay", golden), "2 records suppressed", "is not in this recording", "Record anew")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A field that differs from answer to answer is named, since it would be published at every pass.
func TestSourcesTestNamesVolatileFields(t *testing.T) {
	s := &stage{T: t}
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		record := map[string]any{"id": q.URL.Query().Get("shop"), "name": "x", "rendered": n.Add(1), "secret": q.Header.Get("X-Api-Key")}
		_ = json.NewEncoder(w).Encode([]any{record, map[string]any{"name": "without a key"}})
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	text := `source: shop
config: {url: {}, key: {secret: true}, shops: {type: list}}
base_url: "{{ config.url }}"
authenticator: {type: api_key, header: x-api-key, value: "{{ config.key }}"}
streams:
  things:
    path: /things
    partition: {shop: "{{ config.shops }}"}
    query: {shop: "{{ partition.shop }}"}
    records: .
    primary_key: id
    paginator: {type: none}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"sources", "test", file, "--config", "url=" + server.URL, "--config", "key=@" + key, "--config", "shops=a", "--config", "shops=b"}
	out := s.want(1, args, "partition shop=a (1 of 2", "X-Api-Key: ***", "differs in rendered", "FAIL: 1 record would be published again", "FAIL: 1 record would go to the dead-letter topic", "parked:")
	if strings.Contains(out, "swordfish") {
		t.Error("the key is printed:\n" + out)
	}
	s.want(1, append(args, "--partition", "shop=b"), `["b","b"]`)
	s.want(2, append(args, "--partition", "shop=c"), "it has shop=a shop=b")
}

// A key that two records share is no matter of the hash: the advice is about the key, also where versions hide it.
func TestSourcesTestSaysThatAKeyCameTwice(t *testing.T) {
	s := &stage{T: t}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		rows := []any{map[string]any{"line": 1, "at": "2024-01-31T10:00:00Z", "sum": 5}, map[string]any{"line": 1, "at": "2024-01-31T11:00:00Z", "sum": 7},
			map[string]any{"line": 2, "at": "2024-01-31T11:00:00Z", "sum": 7}}
		if q.URL.Query().Get("since") != "" {
			rows = rows[1:]
		}
		_ = json.NewEncoder(w).Encode(rows)
	}))
	defer server.Close()
	for name, more := range map[string]string{"a snapshot": "", "versions": "\n    query: {since: '{{ cursor }}'}\n    incremental: {cursor_field: at, format: rfc3339}"} {
		file := filepath.Join(t.TempDir(), "lines.yaml")
		text := "source: lines\nconfig: {url: {}}\nbase_url: '{{ config.url }}'\nstreams:\n  lines:\n    path: /lines\n    records: .\n    primary_key: line" + more + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out := s.want(1, []string{"sources", "test", file, "--config", "url=" + server.URL}, "lines: FAIL: one reading had the key 1 twice, with different contents: is `primary_key` unique?")
		if strings.Contains(out, "exclude") {
			t.Errorf("%s: it speaks of the hash:\n%s", name, out)
		}
		if text = strings.Replace(text, "primary_key: line", "primary_key: [line, sum]", 1); more == "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s.want(0, []string{"sources", "test", file, "--config", "url=" + server.URL}, "3 records suppressed, nothing would be published again")
		}
	}
}

// P21: the children of the first parent are tried with it, those of a given one without.
func TestSourcesTestOfChildren(t *testing.T) {
	s := &stage{T: t}
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		asked = append(asked, q.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		rows := []any{map[string]any{"id": 7, "slug": "spring ball"}, map[string]any{"id": 8, "slug": "x"}}
		if q.URL.Path == "/none" {
			rows = []any{}
		}
		_ = json.NewEncoder(w).Encode(rows)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "gala.yaml")
	text := `source: gala
config: {url: {}, events: {default: events}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  items: {path: "/{{ partition.event.slug }}/items", partition: {event: {stream: events, by: slug}}, records: ., primary_key: id}
  events: {path: "/{{ config.events }}", records: ., primary_key: id}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"sources", "test", file, "--config", "url=" + server.URL}
	s.want(0, args, "items, partition event=spring+ball (of the first parent", `["spring ball",7]`, "nothing would be published again")
	s.want(0, append(args, "--stream", "items", "--partition", "event=other"), `["other",7]`)
	mu.Lock()
	if !slices.Contains(asked, "/other/items") || strings.Count(strings.Join(asked, " "), "/events") != 2 {
		t.Errorf("asked for %q", asked)
	}
	mu.Unlock()
	s.want(0, append(args, "--config", "events=none"), "items: nothing was asked for: no parent was read")
}

// (9): a test does not spend the refresh token of a grant that rotates.
func TestSourcesTestSpendsNoRefreshToken(t *testing.T) {
	s := newStage(t)
	args := []string{"sources", "test", "salesloft", "--stream", "users", "--config", "client_id=x", "--config", "base_url=" + s.url + "/v2",
		"--config", "token_url=" + s.url + "/oauth/token", "--config", "client_secret=xxxx", "--config", "refresh_token=" + simulator.RefreshToken}
	s.want(1, args, "good for one use", "--access-token-file")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(simulator.APIKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(0, append(args, "--access-token-file", token), "users: 1 page, 5 records: 5 would be published", "the pass ended")
	if n := s.sim.Stats().Refreshes; n != 0 {
		t.Errorf("%d refreshes", n)
	}
}

// Editors get the schema, and the pages that people copy from hold to it.
func TestSourcesJSONSchema(t *testing.T) {
	s := &stage{T: t}
	s.want(0, []string{"sources", "json-schema"}, `"$schema": "https://json-schema.org/draft/2020-12/schema"`, `"cursor_field"`)
	s.want(0, []string{"sources", "json-schema", "connections"}, `"allow_hosts"`)
	s.want(2, []string{"sources", "json-schema", "conections"}, `did you mean "connections"`)
	s.want(0, []string{"sources", "reference"}, "# Every key", "| `granularity` |")
}

// What a definition names and no answer has is a mistake that nothing else would show: an update that is suppressed, a version that
// protects nothing, a pass that ends too early.
func TestSourcesTestNamesWhatIsNowhere(t *testing.T) {
	s := &stage{T: t}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		rows := []any{map[string]any{"id": 1, "name": "a", "rev": 3}, map[string]any{"id": 2, "name": "b", "rev": 4}}
		out := map[string]any{"data": rows, "has_more": true, "next": "t2"}
		if q.URL.Query().Get("token") == "t2" {
			out = map[string]any{"data": []any{map[string]any{"id": 3, "name": "c", "rev": 5}}, "has_more": false, "next": "t3"}
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	for stream, texts := range map[string][]string{
		"paginator: {type: token, next: next, more: has_more}, version: rev, hash: {include: [name]}": nil,
		"paginator: {type: token, next: next, more: has_moer}":                                        {`has "t2" to go on from at "next"`, `did you mean "has_more"?`, "has_moer ?? false"},
		"paginator: {type: token, next: nxt}":                                                         {"note: nothing shows that `paginator.next` is right: no answer had it, and a page has 2 records"},
		"paginator: {type: token, next: next, more: has_more}, version: revision":                     {"FAIL: `version` is in none of the 3 records", "there are id, name, rev"},
		"paginator: {type: token, next: next, more: has_more}, hash: {include: [name, revv]}":         {"FAIL: `hash.include` is in none of the 3 records", `did you mean "rev"?`},
		"paginator: {type: token, next: next, more: has_more}, hash: {include: [naem]}":               {"no change of them would count", `did you mean "name"?`},
	} {
		text := "source: shop\nconfig: {url: {}}\nbase_url: \"{{ config.url }}\"\nstreams:\n  things: {path: /things, query: {limit: 2, token: \"{{ page_token }}\"}, records: data, primary_key: id, " + stream + "}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code := 1
		if texts == nil || strings.HasPrefix(texts[0], "note") {
			code = 0
		}
		out := s.want(code, []string{"sources", "test", file, "--config", "url=" + server.URL}, texts...)
		if texts == nil && (strings.Contains(out, "FAIL") || strings.Contains(out, "note:")) {
			t.Errorf("a right definition:\n%s", out)
		}
	}
}
