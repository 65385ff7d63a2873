//go:build kafka

package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// pouchServer is all there is to write for a PouchDB Server.
const pouchServer = `
const PouchDB = require('pouchdb-core');
for (const part of ['pouchdb-adapter-memory', 'pouchdb-adapter-http', 'pouchdb-mapreduce', 'pouchdb-replication']) PouchDB.plugin(require(part));
const app = require('express')();
app.use('/', require('express-pouchdb')(PouchDB.defaults({adapter: 'memory'}), {inMemoryConfig: true, logPath: 'pouch.log'}));
app.listen(Number(process.argv[2]), '127.0.0.1');
`

// pouchFile is the shipped definition with a second stream: the same documents, listed in full at every pass (D10). That a
// document which the list does not show is gone is confirmed by its own address (D4).
const pouchFile = `
source: pouch
extends: couchdb
streams:
  documents:
    reconcile: {guard: {percent: 50}}
  listed:
    path: /_all_docs
    query: {include_docs: true, limit: 250, skip: "{{ offset }}"}
    records: rows[*].doc
    primary_key: _id
    filter: "!(record._id startsWith '_design/')"
    paginator: {type: offset, size: 250, overlap: true}
    interval: 1s
    reconcile: {total: total_rows, lookup: {path: "/{{ key._id }}", records: .}, guard: {percent: 50}}
`

// TestPouchDB reads an API that nobody here wrote, by its feed and by its list: 2,000 documents are created, updated and, 100 of
// them, deleted through PouchDB Server's own API while the connector runs. Then both topics, compacted by key, equal the
// database, and a restart publishes nothing. What changes while the connector is down is published after its start, and nothing
// else: what was deleted is declared by the feed, and found missing by the list.
func TestPouchDB(t *testing.T) {
	modules, err := filepath.Abs(root + "/.cache/pouchdb/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		if _, err := exec.LookPath("npm"); err != nil {
			t.Log("NOT RUN: npm is missing, and PouchDB Server comes from npm")
			return
		}
		t.Fatalf("PouchDB Server is not in %s: `deploy/test-kafka prepare` puts it there", modules)
	}
	p := newPouch(t, modules)
	connector := p.connector("one", "VALUE_FORMAT=json")
	p.until("the connector to own", connector, func() bool { return connector.passes() != nil })
	deleted := p.work(rand.New(rand.NewPCG(1, 2)), 2000, 100)
	want := p.database()
	if len(want) != 2000-deleted || deleted == 0 || deleted > 100 {
		t.Fatalf("the database holds %d documents after %d deletions", len(want), deleted)
	}
	for _, topic := range p.topics() {
		p.equals(topic, want, deleted)
	}
	p.away(p.restart(connector))
}

// topics are those of the feed and of the list.
func (p *pouch) topics() []string {
	return []string{p.name + ".pouch.documents", p.name + ".pouch.listed"}
}

// equals waits until a topic, compacted by key, holds what the database holds.
func (p *pouch) equals(topic string, want map[string]any, deleted int) {
	p.Helper()
	got := map[string]any{}
	events, tombstones := 0, 0
	p.read(topic, "what the database holds", func(r *kgo.Record) bool {
		events++
		if r.Value == nil {
			tombstones++
			delete(got, string(r.Key))
		} else {
			got[string(r.Key)] = p.document(r.Value)
		}
		return len(got) == len(want) && events >= len(want)+tombstones && cmp.Equal(got, want)
	})
	p.Logf("%s: %d events, of them %d tombstones, make the %d documents of the database", topic, events, tombstones, len(want))
	if tombstones > deleted {
		p.Errorf("%s: %d tombstones for %d deletions", topic, tombstones, deleted)
	}
}

// restart stops the connector and starts it again: it publishes nothing.
func (p *pouch) restart(connector *process) *process {
	p.Helper()
	connector.rest(2)
	connector.terminate()
	admin := kadm.NewClient(p.client())
	before := map[string]int64{}
	for _, topic := range p.topics() {
		before[topic] = p.ends(admin, topic)
	}
	connector = p.connector("one", "VALUE_FORMAT=json")
	connector.rest(3)
	for topic, end := range before {
		if after := p.ends(admin, topic); after != end || end == 0 {
			p.Errorf("the restart moved the end of %s from %d to %d", topic, end, after)
		}
	}
	return connector
}

// away stops the connector, changes the database, and starts the connector again.
func (p *pouch) away(connector *process) {
	p.Helper()
	connector.terminate()
	before := map[string]map[string]bool{}
	for _, topic := range p.topics() {
		before[topic] = map[string]bool{}
		for _, r := range p.all(topic) {
			before[topic][fmt.Sprint(r.Partition, "/", r.Offset)] = true
		}
	}
	want := p.meanwhile()
	connector = p.connector("one", "VALUE_FORMAT=json")
	for topic, old := range before {
		left := len(want)
		p.read(topic, "what changed meanwhile", func(r *kgo.Record) bool {
			if !old[fmt.Sprint(r.Partition, "/", r.Offset)] {
				left--
			}
			return left == 0
		})
	}
	connector.rest(3)
	connector.terminate()
	for topic, reason := range map[string]string{p.topics()[0]: "declared", p.topics()[1]: "reconciled"} {
		got := map[string]string{}
		for _, r := range p.all(topic) {
			if old := before[topic]; !old[fmt.Sprint(r.Partition, "/", r.Offset)] {
				got[string(r.Key)] += header(r, "ce_op") + header(r, "ce_reason")
			}
		}
		expected := map[string]string{}
		for id, op := range want {
			expected[id] = strings.Replace(op, "d", "d"+reason, 1)
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			p.Errorf("what %s got for the changes (- expected, + found):\n%s", topic, diff)
		}
	}
}

// meanwhile creates, updates and deletes some documents, and returns what is to be published of each.
func (p *pouch) meanwhile() map[string]string {
	p.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	want, revisions := map[string]string{}, map[string]string{}
	var batch []map[string]any
	for id, d := range p.database() {
		document, ok := d.(map[string]any)
		if !ok || len(want) == 70 {
			break
		}
		revision := fmt.Sprint(document["_rev"])
		if len(want) < 30 {
			want[id] = "d"
			batch = append(batch, map[string]any{"_id": id, "_rev": revision, "_deleted": true})
		} else {
			want[id] = "u"
			batch = append(batch, person(random, id, revision))
		}
	}
	for n := range 25 {
		id := fmt.Sprintf("late-%04d", n)
		want[id] = "c"
		batch = append(batch, person(random, id, ""))
	}
	p.save(batch, revisions)
	return want
}

// pouch is a running PouchDB Server with an empty database, and a connection to it.
type pouch struct {
	*bed
	server *process
	url    string // of the database
}

func newPouch(t *testing.T, modules string) *pouch {
	t.Helper()
	p := &pouch{bed: newBed(t)}
	port := freePort(t)
	p.server = p.start("pouchdb", []string{"NODE_PATH=" + modules}, "node", p.write("server.js", pouchServer), fmt.Sprint(port))
	server := fmt.Sprintf("http://127.0.0.1:%d", port)
	p.url = server + "/people"
	p.until("PouchDB Server to answer", p.server, func() bool { return p.get(server, nil) == nil })
	p.must(http.MethodPut, "", nil, nil)
	// A design document is code of the database, not data: it is not published.
	p.must(http.MethodPut, "/_design/code", map[string]any{"views": map[string]any{}}, nil)
	p.write("pouch.yaml", pouchFile)
	p.write("connections.yaml", fmt.Sprintf(`- name: pouch
  source: ./pouch.yaml
  config: {url: "%s", database: people}
  streams: {documents: {interval: 1s}, listed: {}}
`, server))
	return p
}

func (p *pouch) must(method, path string, body, into any) {
	p.Helper()
	if err := p.send(method, p.url+path, body, into); err != nil {
		p.Fatal(err)
	}
}

// work creates n documents, updates a good part of them, and deletes at most so many, mixed, over some seconds.
func (p *pouch) work(random *rand.Rand, n, most int) (deleted int) {
	p.Helper()
	revisions := map[string]string{}
	var live []string
	for made := 0; made < n || deleted < most; {
		var batch []map[string]any
		touched := map[string]bool{}
		for range 1 + random.IntN(60) {
			change := random.IntN(20)
			switch {
			case made < n && (change < 11 || len(live) < 50):
				id := fmt.Sprintf("person-%04d", made)
				made++
				live = append(live, id)
				touched[id] = true
				batch = append(batch, person(random, id, ""))
			default:
				i := random.IntN(len(live))
				id := live[i]
				switch {
				case touched[id] || revisions[id] == "":
				case change >= 18 && deleted < most:
					batch = append(batch, map[string]any{"_id": id, "_rev": revisions[id], "_deleted": true})
					live = append(live[:i], live[i+1:]...)
					deleted++
				default:
					batch = append(batch, person(random, id, revisions[id]))
				}
				touched[id] = true
			}
		}
		p.save(batch, revisions)
		<-time.After(time.Duration(random.IntN(80)) * time.Millisecond) // so that the passes of the connector fall between
	}
	return deleted
}

// save sends a batch of changes, each of which must be taken.
func (p *pouch) save(batch []map[string]any, revisions map[string]string) {
	p.Helper()
	var answers []struct {
		ID, Rev, Error, Reason string
	}
	p.must(http.MethodPost, "/_bulk_docs", map[string]any{"docs": batch}, &answers)
	for _, a := range answers {
		if a.Error != "" {
			p.Fatalf("document %s: %s: %s", a.ID, a.Error, a.Reason)
		}
		revisions[a.ID] = a.Rev
	}
}

func person(random *rand.Rand, id, revision string) map[string]any {
	d := map[string]any{
		"_id": id, "name": fmt.Sprintf("Näme %d \U0001F600", random.IntN(1e6)), "score": random.Float64() * 1e9, "active": random.IntN(2) == 0,
		"tags": []any{"a", random.IntN(9), nil}, "address": map[string]any{"city": "Łódź", "lines": []string{strings.Repeat("x", random.IntN(400))}},
	}
	if revision != "" {
		d["_rev"] = revision
	}
	return d
}

// database is every document but the design documents, by id.
func (p *pouch) database() map[string]any {
	p.Helper()
	var answer struct {
		Rows []struct {
			ID  string
			Doc json.RawMessage
		}
	}
	p.must(http.MethodGet, "/_all_docs?include_docs=true", nil, &answer)
	all := map[string]any{}
	for _, r := range answer.Rows {
		if !strings.HasPrefix(r.ID, "_design/") {
			all[r.ID] = p.document(r.Doc)
		}
	}
	return all
}

func (p *pouch) document(text []byte) any {
	p.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		p.Fatalf("%v in %.200s", err, text)
	}
	return v
}
