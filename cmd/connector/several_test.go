package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// Two streams of one request share its checkpoints. Who forgets one of them reads both again, and says so; the other one
// publishes nothing for that (5). A test of the definition tells them apart.
func TestStreamsOfOneRequest(t *testing.T) {
	s := newStage(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		rows := ""
		if q.URL.Query().Get("offset") == "0" {
			rows = fmt.Sprintf(`{"id":1,"at":%d}`, time.Now().Unix()-100)
		}
		fmt.Fprintf(w, `{"apples":[%s],"pears":[%s]}`, rows, rows)
	}))
	t.Cleanup(server.Close)
	s.write("fruit.yaml", `source: fruit
config: {url: {}}
base_url: "{{ config.url }}"
streams:
  fruit:
    path: /fruit
    query: {since: "{{ cursor ?? -1 }}", offset: "{{ offset }}"}
    records: {apples: apples, pears: pears}
    primary_key: id
    hash: {exclude: [at]}
    paginator: {type: offset}
    incremental: {cursor_field: at, format: unix}
    interval: 1s
`)
	s.write("connections.yaml", fmt.Sprintf("- name: crm\n  source: ./fruit.yaml\n  account: sales\n  config: {url: %q}\n", server.URL))
	s.env["VALUE_FORMAT"] = "json"
	s.want(0, []string{"sources", "test", s.dir + "/fruit.yaml", "--config", "url=" + server.URL}, "fruit: stream apples, schema json; stream pears, schema json",
		"apples 1", "pears 1", "2 would be published (r: 2)", "nothing would be published again")
	counted := func() bool {
		h := s.holdings()
		return h.streams["apples"].Count == 1 && h.streams["pears"].Count == 1 && h.cursors["fruit"]["-"].Passes > 0
	}
	r := s.run()
	s.until("both are published", counted)
	r.stop()
	s.want(0, []string{"offsets", "list", "crm"}, "crm/apples", "crm/pears", "crm/fruit")
	s.want(0, []string{"offsets", "rewind", "crm/fruit", "--to", "start", "--dry-run"}, "the start")
	s.want(0, []string{"offsets", "rewind", "crm/pears", "--to", "start", "--dry-run"}, "the start")
	s.want(2, []string{"offsets", "reset", "crm/fruit", "--yes"}, "is a request with several streams")
	s.want(0, []string{"offsets", "reset", "crm/pears", "--tombstone-old", "--yes"}, "checkpoints", "those of the request fruit", "1 hash removed and 1 tombstone published")
	h := s.holdings()
	if len(h.cursors["fruit"]) != 0 || h.streams["apples"].Count != 1 || h.streams["pears"].Topic != "" {
		t.Errorf("after the reset: %+v", h)
	}
	s.want(1, []string{"check"}, "state crm/pears", "--rebaseline", "page crm/fruit", "2 records")
	r = s.run("--rebaseline")
	s.until("pears are published anew", counted)
	r.stop()
	s.want(0, []string{"check"}, "state crm/apples", "goes on with 1 key")
}

// Where the list gives parts, `check` and `sources test` read a whole record too: a credential may list and not see.
func TestCheckReadsAWholeRecord(t *testing.T) {
	s := newStage(t)
	var private atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case q.URL.Path == "/things":
			fmt.Fprint(w, `[{"id":1},{"id":2},{"id":3}]`)
		case private.Load():
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"error":"private"}`)
		default:
			fmt.Fprintf(w, `{"id":%s,"text":"long"}`, q.URL.Path[len("/things/"):])
		}
	}))
	t.Cleanup(server.Close)
	s.write("parts.yaml", `source: parts
config: {url: {}}
base_url: "{{ config.url }}"
streams:
  things: {path: /things, records: ., primary_key: id, hydrate: {path: "/things/{{ record.id }}"}}
`)
	s.write("connections.yaml", fmt.Sprintf("- name: crm\n  source: ./parts.yaml\n  account: sales\n  config: {url: %q}\n", server.URL))
	s.env["VALUE_FORMAT"] = "json"
	s.want(0, []string{"check"}, "page crm/things", "3 records, the first has key 1")
	s.want(0, []string{"sources", "test", s.dir + "/parts.yaml", "--config", "url=" + server.URL, "--pages", "4"}, "(whole record)", `"text":"long"`,
		"3 would be published", "nothing would be published again")
	private.Store(true)
	s.want(1, []string{"check"}, "FAIL  page crm/things", "403")
}
