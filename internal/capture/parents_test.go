package capture_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// fair is an API of lists under paths: /events, /events/1/items. What no list was made for is 404.
type fair struct {
	mu     sync.Mutex
	lists  map[string][]map[string]any
	status map[string]int // by path: what is answered instead
	asked  map[string]int // by path
	by     map[string]int // by User-Agent and path: what the end of a connection cut off may come late, when another one runs
}

func (b *bed) fair() (*fair, map[string]any) {
	f := &fair{lists: map[string][]map[string]any{}, status: map[string]int{}, asked: map[string]int{}, by: map[string]int{}}
	return f, map[string]any{"url": b.serve(f)}
}

// list makes a list whole.
func (f *fair) list(path string, rows ...map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists[path] = rows
}

// fail answers path with a status from now on; 0: with its list again.
func (f *fair) fail(path string, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status[path] = status
}

func (f *fair) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[path]
}

// countBy is count of the requests of one User-Agent.
func (f *fair) countBy(agent, path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.by[agent+" "+path]
}

// second names the connection that asks.
func second(o *capture.Options) { o.Fetch.UserAgent = "second" }

func (f *fair) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.URL.Path]++
	f.by[r.UserAgent()+" "+r.URL.Path]++
	rows, ok := f.lists[r.URL.Path]
	switch status := f.status[r.URL.Path]; {
	case status != 0:
		answer(w, status, map[string]any{"code": "no"})
		return
	case !ok:
		answer(w, http.StatusNotFound, map[string]any{"code": "not_found"})
		return
	}
	since := r.URL.Query().Get("since")
	out := []map[string]any{}
	for _, row := range rows {
		if at, _ := row["at"].(string); at >= since {
			out = append(out, row)
		}
	}
	answer(w, http.StatusOK, map[string]any{"data": out, "size": 100})
}

// gala is a parent stream with a child; PARENT and CHILD are lines of theirs, OF is more of the child's partition.
const gala = `
source: gala
config: {url: {}, ids: {type: list, default: []}, kinds: {type: list, default: [a]}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  events:
    path: /events
    records: data
    primary_key: id
    interval: 200ms
    hash: {exclude: [touched]}
    PARENT
  items:
    path: "/events/{{ partition.event.id }}/items"
    records: data
    primary_key: id
    interval: 200ms
    partition: {event: {stream: events OF}}
    CHILD
`

func galaWith(of, parent, child string) string {
	return strings.NewReplacer(" OF", of, "PARENT", parent, "CHILD", child).Replace(gala)
}

// begin starts a connection and waits until it has its topics.
func (b *bed) begin(s settings) *connector {
	b.Helper()
	c := b.start(s)
	c.await("the loop", func(s capture.Status) bool { return s.Phase.Name == "running" })
	return c
}

// partitionNamed returns the status of a partition; zero where it is not there.
func partitionNamed(s capture.Status, stream, name string) capture.PartitionStatus {
	for _, p := range s.Partitions {
		if p.Stream == stream && p.Name == name {
			return p
		}
	}
	return capture.PartitionStatus{}
}

// read waits until the partition has ended so many passes more.
func (c *connector) read(stream, name string, n int64) {
	c.Helper()
	before := partitionNamed(c.look(), stream, name).Passes
	c.await(fmt.Sprintf("%d passes of %s/%s", n, stream, name), func(s capture.Status) bool {
		return partitionNamed(s, stream, name).Passes >= before+n
	})
}

// child is the committed checkpoint of a partition of items.
func (b *bed) child(name string) cdc.Checkpoint {
	b.Helper()
	text := b.state()["cursor/c/items/"+name]
	if text == "" {
		return cdc.Checkpoint{}
	}
	cp, err := offsets.Decode[cdc.Checkpoint]([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	return cp
}

// has waits until the stream's topic holds the line.
func (b *bed) has(stream, line string) {
	b.Helper()
	b.until(line, func() bool { return slices.Contains(b.lines(stream), line) }, func() any { return b.lines(stream) })
}

// TestP21ChildrenAppear: a child's partition appears with its parent, its first pass publishes r and the later ones c (P24: under
// the parent's value and its own key); it goes with its parent, and its keys stay (D8).
func TestP21ChildrenAppear(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1))
	api.list("/events/1/items", row("x"))
	s := settings{definition: galaWith("", `delete: "record.gone ?? false"`, ""), config: config}
	c := b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	api.list("/events", row(1), row(2))
	api.list("/events/2/items", row("x"))
	api.list("/events/1/items", row("x"), row("y"))
	b.has("items", `[2,"x"] r {"id":"x"}`)
	b.has("items", `[1,"y"] c {"id":"y"}`)
	api.list("/events", row(1), row(2, "gone", true))
	c.await("the parent gone", func(s capture.Status) bool {
		p := partitionNamed(s, "items", "event=2")
		return p.State == "parent gone" && !p.Reading && p.Due.IsZero()
	})
	asked := api.count("/events/2/items")
	c.read("items", "event=1", 6)
	if n := api.count("/events/2/items"); n > asked+1 { // one was under way when the parent went
		t.Errorf("the children of a gone parent were asked for %d times more", n-asked)
	}
	api.list("/events", row(1), row(2))
	api.list("/events/2/items", row("x"), row("z"))
	b.has("items", `[2,"z"] c {"id":"z"}`)
	c.end()
	want := []string{`[1,"x"] r {"id":"x"}`, `[1,"y"] c {"id":"y"}`, `[2,"x"] r {"id":"x"}`, `[2,"z"] c {"id":"z"}`}
	if d := cmp.Diff(want, sorted(b.lines("items"))); d != "" {
		t.Error(d)
	}
	for _, tx := range b.transactions() {
		for _, r := range tx.records {
			if r.Topic == "test.c.events" && r.Value == nil && len(tx.of("test.offsets", "cursor/c/items/event=2")) != 1 {
				t.Error("the parent's tombstone and its children's loss are not one transaction")
			}
		}
	}
	b.audit(b.sourceOf(s), false)
}

// TestP21ParentAndMarkInOneTransaction: the parent's event commits with the checkpoints of its children, so that neither is
// there without the other (4).
func TestP21ParentAndMarkInOneTransaction(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1, "v", "a"))
	api.list("/events/1/items", row("x"))
	c := b.begin(settings{definition: galaWith(", when: changed", "", ""), config: config})
	b.has("items", `[1,"x"] r {"id":"x"}`)
	api.list("/events", row(1, "v", "b"))
	b.has("events", `1 u {"id":1,"v":"b"}`)
	c.end()
	found := 0
	for _, tx := range b.transactions() {
		if keys := tx.of("test.c.events", ""); len(keys) == 0 {
			continue
		}
		found++
		for _, r := range tx.records {
			if string(r.Key) != "cursor/c/items/event=1" {
				continue
			}
			cp, err := offsets.Decode[cdc.Checkpoint](r.Value)
			if err != nil || !cp.Pending || string(cp.Parent["event.id"]) != "1" {
				t.Errorf("beside the parent's event stands %s (%v)", r.Value, err)
			}
			found++
		}
	}
	if found != 4 {
		t.Errorf("%d of two events and two marks", found)
	}
}

// TestP21RestartReadsNoParent: after a restart the children are there although the parents cannot be read, with the fields of
// their parents that they use.
func TestP21RestartReadsNoParent(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1, "zone", "CET", "other", "no"), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	s := settings{definition: galaWith("", "", `filter: "(partition.event.zone ?? 'none') != 'x'"`), config: config}
	c := b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	c.end()
	want := map[string]json.RawMessage{"event": json.RawMessage(`{"of":{"1":""},"fields":["event.id","event.zone"]}`),
		"event.id": json.RawMessage("1"), "event.zone": json.RawMessage(`"CET"`)}
	if d := cmp.Diff(want, b.child("event=1").Parent); d != "" {
		t.Error(d)
	}
	api.fail("/events", 503)
	api.list("/events/1/items", row("x"), row("y"))
	api.list("/events/2/items", row("x"), row("y"))
	c = b.begin(s)
	b.has("items", `[1,"y"] c {"id":"y"}`)
	b.has("items", `[2,"y"] c {"id":"y"}`)
	if p := partitionNamed(c.look(), "events", "-"); !p.LastPass.IsZero() {
		t.Errorf("the parents were read: %+v", p)
	}
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21ChangedOnly: with when: changed a child is read when its parent's bytes changed, also where the change is suppressed, and
// else not at all, a restart included.
func TestP21ChangedOnly(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1, "touched", 1), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	s := settings{definition: galaWith(", when: changed", "", ""), config: config}
	c := b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	api.list("/events/1/items", row("x"), row("y"))
	c.read("events", "-", 3)
	if n := api.count("/events/1/items"); n != 1 {
		t.Errorf("the children of an unchanged parent were read %d times, want once", n)
	}
	api.list("/events", row(1, "touched", 2), row(2))
	b.has("items", `[1,"y"] c {"id":"y"}`)
	b.until("no mark", func() bool { return !b.child("event=1").Pending && !b.child("event=2").Pending })
	c.read("events", "-", 3)
	c.end()
	c = b.begin(s)
	c.read("events", "-", 3)
	c.end()
	if n, m := api.count("/events/1/items"), api.count("/events/2/items"); n != 2 || m != 1 {
		t.Errorf("read %d and %d times, want 2 and 1", n, m)
	}
	if d := cmp.Diff([]string{`1 r {"id":1,"touched":1}`, `2 r {"id":2}`}, sorted(b.lines("events"))); d != "" {
		t.Errorf("the touch was published: %s", d)
	}
	if b.child("event=1").Pending || b.child("event=2").Pending {
		t.Error("a finished pass leaves its mark")
	}
	b.audit(b.sourceOf(s), false)
}

// TestP21PendingSurvivesACrash: the parent's change is committed, and the process dies before the child's pass has ended. The next
// one reads the child although it cannot read the parent (4).
func TestP21PendingSurvivesACrash(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1, "touched", 1))
	api.list("/events/1/items", row("x"))
	s := settings{definition: galaWith(", when: changed", "", ""), config: config}
	c := b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	b.until("no mark", func() bool { return !b.child("event=1").Pending })
	api.list("/events/1/items", row("x"), row("y"))
	api.fail("/events/1/items", 503)
	api.list("/events", row(1, "touched", 2))
	b.until("the mark", func() bool { return b.child("event=1").Pending })
	b.wire.sever(true) // a crash: nothing more reaches the broker
	c.stop()
	<-c.done
	b.wire.sever(false)
	api.fail("/events", 503)
	api.fail("/events/1/items", 0)
	c = b.begin(s)
	b.has("items", `[1,"y"] c {"id":"y"}`)
	b.until("no mark", func() bool { return !b.child("event=1").Pending })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21LostMarkIsMadeAgain: the commit of a suppressed parent's mark is lost. The bytes of the parent are known by then, and the
// mark is made again all the same ((2), (4)).
func TestP21LostMarkIsMadeAgain(t *testing.T) {
	for _, what := range []string{"request", "answer"} {
		t.Run(what, func(t *testing.T) {
			b := lay(t)
			api, config := b.fair()
			api.list("/events", row(1, "touched", 1))
			api.list("/events/1/items", row("x"))
			s := settings{definition: galaWith(", when: changed", "", ""), config: config}
			c := b.begin(s)
			b.has("items", `[1,"x"] r {"id":"x"}`)
			b.until("no mark", func() bool { return !b.child("event=1").Pending })
			b.wire.strikes(lost(what, 1))
			api.fail("/events/1/items", 503) // no pass of the child's stands in for its mark
			api.list("/events/1/items", row("x"), row("y"))
			api.list("/events", row(1, "touched", 2))
			c.await("an ownership after the first", func(s capture.Status) bool { return s.Reopened > 0 && s.Phase.Name == "running" })
			b.until("the mark", func() bool { return b.child("event=1").Pending })
			api.fail("/events/1/items", 0)
			b.has("items", `[1,"y"] c {"id":"y"}`)
			c.end()
			b.audit(b.sourceOf(s), false)
		})
	}
}

// TestP21ChangeDuringThePass: the parent changes while its child is being read: that pass may have missed it, so another follows.
func TestP21ChangeDuringThePass(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1, "touched", 1))
	api.list("/events/1/items", row("x"))
	held, let := make(chan struct{}), make(chan struct{})
	var first sync.Once
	front := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events/1/items" {
			first.Do(func() {
				close(held)
				select {
				case <-let:
				case <-r.Context().Done():
				}
			})
		}
		api.ServeHTTP(w, r)
	}))
	config["url"] = front
	c := b.begin(settings{definition: galaWith(", when: changed", "", ""), config: config})
	<-held
	api.list("/events", row(1, "touched", 2))
	c.read("events", "-", 2)
	close(let)
	b.until("a second pass", func() bool { return api.count("/events/1/items") == 2 })
	b.until("no mark", func() bool { return !b.child("event=1").Pending })
	c.end()
	if n := api.count("/events/1/items"); n != 2 {
		t.Errorf("%d passes, want 2", n)
	}
}

// TestP21DimensionsMultiply: a parent has a partition for each value of the other lists; a value that the list gains is read for
// the parents that are known, although they cannot be read again.
func TestP21DimensionsMultiply(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	definition := strings.Replace(galaWith("", "", ""), "}/items\"", "}/items/{{ partition.kind }}\"", 1)
	definition = strings.Replace(definition, "{stream: events}", "{stream: events}, kind: \"{{ config.kinds }}\"", 1)
	api.list("/events", row(1), row(2))
	for _, path := range []string{"/events/1/items/a", "/events/1/items/b", "/events/2/items/a", "/events/2/items/b"} {
		api.list(path, row("x"))
	}
	config["kinds"] = []any{"a"}
	c := b.begin(settings{definition: definition, config: config})
	b.has("items", `[1,"a","x"] r {"id":"x"}`)
	b.has("items", `[2,"a","x"] r {"id":"x"}`)
	c.end()
	api.fail("/events", 503)
	config["kinds"] = []any{"b"}
	c = b.begin(settings{definition: definition, config: config, change: second})
	b.has("items", `[1,"b","x"] r {"id":"x"}`)
	b.has("items", `[2,"b","x"] r {"id":"x"}`)
	st := c.look()
	if p := partitionNamed(st, "items", "event=1,kind=a"); p.Name != "" || api.countBy("second", "/events/1/items/a") > 0 {
		t.Errorf("P24: a value that left the list is read: %+v", p)
	}
	c.end()
	if b.child("event=1,kind=a").Passes == 0 {
		t.Error("P24: the state of a retired partition is gone")
	}
}

// TestP24RetiredChildComesBack: while a list's value was not configured nobody kept up what is known of the parents. When it comes
// back they are read anew, one that went is gone, and the cursor goes on.
func TestP24RetiredChildComesBack(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	feed := `query: {since: "{{ anchor ?? start }}"}
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: at, format: rfc3339, granularity: 1s, order: asc, lookback: 0s}
    delete: "record.gone ?? false"`
	definition := strings.Replace(galaWith("", feed, `filter: "record.id != (partition.event.zone ?? 'none')"`), "{stream: events}", "{stream: events}, kind: \"{{ config.kinds }}\"", 1)
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	api.list("/events", row(1, "at", "2020-01-01T00:00:00Z", "zone", "A"), row(2, "at", "2020-01-01T00:00:00Z"))
	run := func(kinds ...any) *connector {
		config["kinds"] = kinds
		return b.begin(settings{definition: definition, config: config})
	}
	c := run("a", "b")
	b.has("items", `[1,"b","x"] r {"id":"x"}`)
	b.has("items", `[2,"b","x"] r {"id":"x"}`)
	c.end()
	c = run("a")
	api.list("/events", row(1, "at", "2020-01-02T00:00:00Z", "zone", "B"), row(2, "at", "2020-01-02T00:00:00Z", "gone", true))
	b.until("the new zone", func() bool { return string(b.child("event=1,kind=a").Parent["event.zone"]) == `"B"` })
	api.list("/events", row(1, "at", "2020-01-02T00:00:00Z", "zone", "B"), row(3, "at", "2020-01-03T00:00:00Z"))
	api.list("/events/3/items")
	c.read("items", "event=3,kind=a", 1)
	c.end()
	c = run("a", "b")
	b.until("the new zone", func() bool { return string(b.child("event=1,kind=b").Parent["event.zone"]) == `"B"` })
	if st := partitionNamed(c.look(), "items", "event=2,kind=b"); st.State != "parent gone" {
		t.Errorf("the child of a parent that went meanwhile: %+v", st)
	}
	c.read("items", "event=1,kind=b", 2)
	c.end()
	if n := len(b.events("items")); n != 4 {
		t.Errorf("%d events of items: %q", n, b.lines("items"))
	}
}

// TestP21ParentAnswers404: the children's records are withheld and not deleted, their stream goes on, the state is shown, and a
// change of the parent has them asked for at once.
func TestP21ParentAnswers404(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	s := settings{definition: galaWith("", "", ""), config: config}
	c := b.begin(s)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	api.fail("/events/2/items", 404)
	st := c.await("parent gone?", func(s capture.Status) bool { return partitionNamed(s, "items", "event=2").State == "parent gone?" })
	p := partitionNamed(st, "items", "event=2")
	b.says(p.LastError+" "+p.Hint, "nothing under this parent", "404", "records stay as they are")
	asked := api.count("/events/2/items")
	c.read("items", "event=1", 3)
	if n := api.count("/events/2/items"); n != asked {
		t.Errorf("it was asked %d times more", n-asked)
	}
	for _, st := range c.look().Streams {
		if st.Halted != "" {
			t.Errorf("halted: %s", st.Halted)
		}
	}
	api.fail("/events/2/items", 0)
	api.list("/events/2/items", row("x"), row("y"))
	api.list("/events", row(1), row(3)) // it is not the parent's absence from a list that decides
	api.list("/events/3/items")
	c.read("events", "-", 2)
	if st := partitionNamed(c.look(), "items", "event=2"); st.State != "parent gone?" {
		t.Errorf("state %q", st.State)
	}
	api.list("/events", row(1), row(2, "name", "back"))
	c.read("events", "-", 2)
	c.end()
	if d := cmp.Diff([]string{`[1,"x"] r {"id":"x"}`, `[2,"x"] r {"id":"x"}`}, sorted(b.lines("items"))); d != "" {
		t.Errorf("a child without when: changed, and none of whose fields changed, was asked for: %s", d)
	}
	c = b.begin(settings{definition: galaWith(", fields: [name]", "", ""), config: config}) // a restart asks, and so does a new field
	b.has("items", `[2,"y"] c {"id":"y"}`)
	c.end()
	for _, e := range b.events("items") {
		if e.Value == nil {
			t.Errorf("a tombstone for %s", e.Key)
		}
	}
	b.audit(b.sourceOf(s), false)
}

// TestP21ParkedParent: a parent that cannot be published has its children read.
func TestP21ParkedParent(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1))
	api.list("/events/1/items", row("x"))
	s := settings{definition: galaWith("", "filter: record.open", ""), config: config}
	c := b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	if n := len(b.events("events")); n != 0 {
		t.Errorf("%d events of a parent whose filter cannot be decided", n)
	}
	c.await("the parked parent", func(s capture.Status) bool { return s.Streams[0].Parked == 1 })
	api.list("/events", row(1, "open", false)) // it is outside the filter now, which it was never in
	c.await("the parent gone", func(s capture.Status) bool { return partitionNamed(s, "items", "event=1").State == "parent gone" })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21IdsFromTheConfiguration: configured ids are read without a parent; one that a parent has too is one partition with it,
// keeps the type that its keys have, and is read on when the parent goes.
func TestP21IdsFromTheConfiguration(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events")
	for _, path := range []string{"/events/1/items", "/events/2/items", "/events/3/items"} {
		api.list(path, row("x"))
	}
	config["ids"] = []any{"1", 2, map[string]any{"id": 3, "zone": "CET"}}
	s := settings{definition: galaWith(`, or: "{{ config.ids }}"`, `delete: "record.gone ?? false"`, `filter: "record.id != (partition.event.zone ?? 'none')"`), config: config}
	c := b.begin(s)
	for _, line := range []string{`["1","x"] r {"id":"x"}`, `[2,"x"] r {"id":"x"}`, `[3,"x"] r {"id":"x"}`} {
		b.has("items", line)
	}
	api.list("/events", row(1))
	b.has("events", `1 c {"id":1}`)
	api.list("/events/1/items", row("x"), row("y"))
	b.has("items", `["1","y"] c {"id":"y"}`)
	api.list("/events", row(1, "gone", true))
	b.until("the parent's tombstone", func() bool { return len(b.events("events")) == 2 })
	api.list("/events/1/items", row("x"), row("y"), row("z"))
	b.has("items", `["1","z"] c {"id":"z"}`)
	c.end()
	config["ids"] = []any{1, 2} // a number now: the keys stay as they were
	api.list("/events/1/items", row("x"), row("y"), row("z"), row("w"))
	c = b.begin(s)
	b.has("items", `["1","w"] c {"id":"w"}`)
	if p := partitionNamed(c.look(), "items", "event=3"); p.Name != "" {
		t.Errorf("P24: an id that left the configuration is read: %+v", p)
	}
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21ParentStreamIsNotChosenAnyMore: what the configuration names goes on without its parents, by its interval; what only they
// named is retired (P24).
func TestP21ParentStreamIsNotChosenAnyMore(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	config["ids"] = []any{1}
	s := settings{definition: galaWith(`, or: "{{ config.ids }}", when: changed`, "", ""), config: config}
	c := b.begin(s)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	b.until("no mark", func() bool {
		cp := b.child("event=1")
		return !cp.Pending && cp.Passes > 0 && cp.Parent["event"] != nil
	})
	c.end()
	definition, err := source.Parse("test.yaml", []byte(s.definition))
	if err != nil {
		t.Fatal(err)
	}
	chosen := source.Overrides{Streams: map[string]source.StreamOverride{"items": {}}}
	s.change = func(o *capture.Options) {
		second(o)
		if o.Source, err = definition.Bind("c", config, chosen); err != nil {
			t.Fatal(err)
		}
	}
	c = b.begin(s)
	api.list("/events/1/items", row("x"), row("y"))
	b.has("items", `[1,"y"] c {"id":"y"}`)
	c.read("items", "event=1", 2)
	if p := partitionNamed(c.look(), "items", "event=2"); p.Name != "" || api.countBy("second", "/events/2/items") > 0 {
		t.Errorf("it is read: %+v", p)
	}
	c.end()
}

// TestP21ChildrenOfChildren: a child is a parent too, with its own primary_key as the value by default.
func TestP21ChildrenOfChildren(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	definition := galaWith("", "", "") + `
  bids:
    path: "/items/{{ partition.item.id }}/bids"
    records: data
    primary_key: n
    interval: 200ms
    partition: {item: {stream: items, when: changed}}
`
	api.list("/events", row(1), row(2))
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"), row("y"))
	api.list("/items/x/bids", row(nil, "n", 1))
	api.list("/items/y/bids", row(nil, "n", 2))
	s := settings{definition: definition, config: config}
	c := b.begin(s)
	b.has("bids", `["x",1] r {"id":null,"n":1}`)
	b.has("bids", `["y",2] r {"id":null,"n":2}`)
	c.end()
	api.fail("/events", 503)
	c = b.begin(s)
	api.list("/items/x/bids", row(nil, "n", 3))
	api.list("/events/2/items", row("x", "price", 5), row("y"))
	b.has("bids", `["x",3] c {"id":null,"n":3}`)
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21NewChildReadsTheParentsAnew: a child stream that is added later, or that comes to use another field, needs parents that
// the cursor has passed: they are read once more, and published no second time.
func TestP21NewChildReadsTheParentsAnew(t *testing.T) {
	b := lay(t)
	b.expires = true
	api, config := b.fair()
	feed := `query: {since: "{{ anchor ?? start }}"}
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: at, format: rfc3339, granularity: 1s, order: asc, lookback: 0s}`
	api.list("/events", row(1, "at", "2020-01-01T00:00:00Z", "zone", "x"), row(2, "at", "2020-02-01T00:00:00Z"))
	api.list("/events/1/items", row("x"), row("y"))
	api.list("/events/2/items", row("x"))
	alone, _, _ := strings.Cut(galaWith("", feed, ""), "  items:")
	c := b.begin(settings{definition: alone, config: config})
	c.passes(2)
	c.end()
	s := settings{definition: galaWith("", feed, ""), config: config}
	c = b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	c.end()
	s.definition = galaWith("", feed, `filter: "record.id != (partition.event.zone ?? 'none')"`)
	c = b.begin(s)
	b.until("x of the first event outside the filter", func() bool {
		lines := b.lines("items")
		return lines[len(lines)-1] == `[1,"x"] d `
	})
	c.end()
	if n := len(b.events("events")); n != 2 {
		t.Errorf("%d events of two parents", n)
	}
	b.audit(b.sourceOf(s), false)
}

// TestP21AnotherValue: a parent that gets another value leaves the partition of the old one; one without a value has no children.
func TestP21AnotherValue(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	definition := strings.Replace(galaWith(", by: slug", "", ""), "partition.event.id", "partition.event.slug", 1)
	api.list("/events", row(1, "slug", "old"), row(2, "slug", "old"), row(3), row(4, "slug", map[string]any{}))
	api.list("/events/old/items", row("x"))
	api.list("/events/new/items", row("x"))
	s := settings{definition: definition, config: config}
	c := b.begin(s)
	b.has("items", `["old","x"] r {"id":"x"}`)
	c.await("the parent with a value that is none parked", func(s capture.Status) bool { return s.Streams[0].Parked == 1 })
	api.list("/events", row(1, "slug", "new"), row(2, "slug", "old"), row(3))
	b.has("items", `["new","x"] r {"id":"x"}`)
	c.read("items", "event=old", 2) // the other parent is there
	api.list("/events", row(1, "slug", "new"), row(2), row(3))
	c.await("no parent of the old value", func(s capture.Status) bool { return partitionNamed(s, "items", "event=old").State == "parent gone" })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestP21BadFieldStopsOnePartition: what a parent's field does to a template or a rule stops the partition and not its stream, nor
// the connection, until the parent changes.
func TestP21BadFieldStopsOnePartition(t *testing.T) {
	for name, c := range map[string]struct{ path, interval, says string }{
		"template": {"/events/{{ partition.event.at }}/items", "interval: 200ms", "partition.event.at is null"},
		"interval": {"/events/{{ partition.event.id }}/items",
			"interval: [{when: \"(partition.event.at ?? 'none') > 0\", every: 200ms}, {every: 300ms}]", "evaluate interval"},
	} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			api, config := b.fair()
			definition := strings.NewReplacer("/events/{{ partition.event.id }}/items", c.path, "interval: 200ms\n    partition", c.interval+"\n    partition").Replace(galaWith("", "", ""))
			api.list("/events", row(1, "at", 1), row(2))
			api.list("/events/1/items", row("x"))
			api.list("/events/2/items", row("x"))
			conn := b.begin(settings{definition: definition, config: config})
			st := conn.await("a halt", func(s capture.Status) bool { return partitionNamed(s, "items", "event=2").Halted != "" })
			b.says(partitionNamed(st, "items", "event=2").Halted, c.says)
			conn.read("items", "event=1", 2)
			api.list("/events", row(1, "at", 1), row(2, "at", 2))
			conn.read("items", "event=2", 2)
			conn.end()
		})
	}
}

// TestP21HaltedChildKeepsItsMark: while the child's stream is halted its parents are read on; the marks wait in Kafka.
func TestP21HaltedChildKeepsItsMark(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	api.list("/events", row(1))
	api.fail("/events/1/items", 403)
	s := settings{definition: galaWith(", when: changed", "", ""), config: config}
	c := b.begin(s)
	c.halted("403")
	api.list("/events", row(1), row(2))
	b.has("events", `2 c {"id":2}`)
	c.end()
	if !b.child("event=2").Pending || api.count("/events/2/items") != 0 {
		t.Errorf("checkpoint %+v, asked %d times", b.child("event=2"), api.count("/events/2/items"))
	}
	api.fail("/events", 503)
	api.fail("/events/1/items", 0)
	api.list("/events/1/items", row("x"))
	api.list("/events/2/items", row("x"))
	c = b.begin(s)
	b.has("items", `[1,"x"] r {"id":"x"}`)
	b.has("items", `[2,"x"] r {"id":"x"}`)
	c.end()
}

// TestP21ManyChildrenInBoundedTransactions: a page of parents moves many checkpoints; they count for the bound (K17).
func TestP21ManyChildrenInBoundedTransactions(t *testing.T) {
	b := lay(t)
	api, config := b.fair()
	var events []map[string]any
	for i := range 60 {
		events = append(events, row(i))
		api.list(fmt.Sprintf("/events/%d/items", i), row("x"))
	}
	api.list("/events", events...)
	definition := strings.Replace(galaWith("", "", ""), "{stream: events}", "{stream: events}, kind: [a, b, c, d, e]", 1)
	hold := make(chan struct{})
	b.wire.strikes(nth(kmsg.EndTxn, strike{hold: hold}, 2)) // the first is the owner record's
	c := b.begin(settings{definition: definition, config: config, change: func(o *capture.Options) { o.Records = 40 }})
	b.until("a commit that waits", func() bool { return b.wire.hits() == 1 })
	close(hold)
	b.until("every child", func() bool { return len(b.events("items")) == 300 })
	c.end()
	for _, tx := range b.transactions() {
		if n := len(tx.of("test.offsets", "cursor/c/items/")); n > 50 {
			t.Errorf("%d checkpoints in one transaction", n)
		}
	}
}
