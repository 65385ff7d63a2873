package capture_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/capture"
)

// TestK8gAdoptionPromises: what an adoption has committed is what the next comparison expects.
func TestK8gAdoptionPromises(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1, "v", "a"), row(2, "v", "b"))
	s := settings{definition: things, config: config}
	topic := capture.EventsTopic(b.kafka, "c", b.options(s).Source.Streams[0])
	adm := b.admin()
	if _, err := adm.CreateTopic(b.Context(), topic.Partitions, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact"),
		"min.compaction.lag.ms": kadm.StringPtr("604800000"), "delete.retention.ms": kadm.StringPtr("604800000")}, topic.Name); err != nil {
		t.Fatal(err)
	}
	cl := b.client()
	for i, v := range []string{`{"id":1,"v":"a"}`, `{"id":2,"v":"b"}`} {
		if err := cl.ProduceSync(b.Context(), &kgo.Record{Topic: topic.Name, Key: []byte(fmt.Sprint(i + 1)), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s.change = func(o *capture.Options) { o.Adopt = true }
	c := b.start(s)
	st := c.passes(1)
	if st.Streams[0].Mismatch || strings.Contains(c.log.String(), "does not hold what") {
		t.Errorf("false mismatch after adoption: %+v", st.Streams[0])
	}
	c.end()
}

// TestP2KeyTwiceInOneAnswer: the state that an answer ends with is published, although its bytes are those of the last commit: the
// answer itself has staged another one before, and no later page of the feed shows the key again.
func TestP2KeyTwiceInOneAnswer(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf()
	polls := 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch since := r.URL.Query().Get("since"); {
		case since == "":
			answer(w, 200, map[string]any{"data": []any{row(1, "v", "a")}, "next": "one", "more": false})
		case since == "one" && polls >= 3: // a, then b, then a again, between two polls
			answer(w, 200, map[string]any{"data": []any{row(1, "v", "b"), row(1, "v", "a")}, "next": "two", "more": false})
		case since == "one":
			polls++
			answer(w, 200, map[string]any{"data": []any{row(1, "v", "a")}, "next": "one", "more": false}) // teaches the raw bytes
		default:
			answer(w, 200, map[string]any{"data": []any{}, "next": since, "more": false})
		}
		return true
	})
	c := b.start(settings{definition: opaque, config: config})
	c.await("two", func(s capture.Status) bool {
		return len(s.Partitions) > 0 && s.Partitions[0].Cursor == "two"
	})
	c.passes(3)
	c.end()
	lines := b.lines("things")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"v":"a"`) {
		t.Errorf("the feed ended with a, the topic ends with %q", lines)
	}
}

// TestStatusOfAnEndedConnection: who asks a connection whose loop has ended gets its phase, and does not wait for ever.
func TestStatusOfAnEndedConnection(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", "a"))
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	b.wire.sever(true)
	shop.put(row(1, "v", "z"))
	c.await("owning again", func(s capture.Status) bool { return s.Phase.Name == "owning again" })
	c.stop()
	<-c.done
	answered := make(chan capture.Status, 1)
	go func() { answered <- c.Connection.Status(context.Background()) }()
	select {
	case st := <-answered:
		if st.Phase.Name != "stopped" {
			t.Errorf("phase %q", st.Phase.Name)
		}
	case <-time.After(patience):
		t.Error("who asks an ended connection for its status waits for ever")
	}
}

// TestP14LostLookupIsAskedAgain: a held version whose lookup failed is asked for again although the cursor has passed it (4).
func TestP14LostLookupIsAskedAgain(t *testing.T) {
	b := lay(t)
	def := `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  things:
    path: /things
    query: {since: "{{ anchor ?? start }}"}
    records: data
    primary_key: id
    version: n
    paginator: {type: keyset, size_echo: size}
    incremental: {cursor_field: at, format: rfc3339, granularity: 1s, order: asc}
    interval: 200ms
    reconcile: {every: 24h, lookup: {path: "/things/{{ key.id }}", records: data}}
`
	shop, config := b.shelf(row(1, "n", 5, "v", "new", "at", "2020-01-01T00:00:00Z"))
	var mu sync.Mutex
	broken, asked := true, 0
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/things/") {
			asked++
			if broken {
				w.WriteHeader(500)
				return true
			}
			return false
		}
		since := r.URL.Query().Get("since")
		var rows []any
		for _, x := range shop.rows { // in order
			if x["at"].(string) >= since && len(rows) < 2 {
				rows = append(rows, x)
			}
		}
		answer(w, 200, map[string]any{"data": rows, "size": 2})
		return true
	})
	c := b.start(settings{definition: def, config: config})
	c.passes(1)
	shop.mu.Lock() // a restored backup: version 3, touched now; more rows follow
	shop.rows = []map[string]any{
		row(1, "n", 3, "v", "restored", "at", "2020-01-01T01:00:00Z"), row(2, "n", 1, "at", "2020-01-01T02:00:00Z"),
		row(3, "n", 1, "at", "2020-01-01T03:00:00Z"), row(4, "n", 1, "at", "2020-01-01T04:00:00Z"),
	}
	shop.mu.Unlock()
	c.await("the lookup failed", func(s capture.Status) bool { return len(s.Partitions) > 0 && s.Partitions[0].Failures > 0 })
	mu.Lock()
	broken = false
	before := asked
	mu.Unlock()
	c.await("recovered", func(s capture.Status) bool {
		return len(s.Partitions) > 0 && s.Partitions[0].Failures == 0 && s.Streams[0].Keys == 4
	})
	c.passes(5)
	c.end()
	mu.Lock()
	again := asked - before
	mu.Unlock()
	lines := b.lines("things")
	if !strings.Contains(strings.Join(lines, "\n"), "restored") {
		t.Errorf("the restored version is lost: looked up %d times after the API recovered; cursor %q; events %q", again, b.checkpoint("things").Cursor, lines)
	}
}

// TestK19SlowRefreshOutlivesTheRevoke: a refresh that has begun is waited for, and its token stored, within the revoke budget.
func TestK19SlowRefreshOutlivesTheRevoke(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	n := 0
	calls := make(chan struct{}, 10)
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			mu.Lock()
			n++
			k := n
			mu.Unlock()
			calls <- struct{}{}
			<-time.After(8 * time.Second)
			answer(w, 200, map[string]any{"access_token": fmt.Sprint("access-", k), "refresh_token": fmt.Sprint("refresh-", k), "expires_in": 3600})
			return
		}
		answer(w, 200, map[string]any{"data": []any{row(1, "v", "a")}})
	}))
	def := `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator:
  type: oauth2
  grant_type: refresh_token
  token_url: "{{ config.url }}/token"
  client_id: me
  client_secret: secret
  refresh_token: refresh-0
streams:
  things:
    path: /things
    records: data
    primary_key: id
    interval: 200ms
`
	key := [32]byte{1}
	c := b.start(settings{definition: def, config: map[string]any{"url": url}, change: func(o *capture.Options) { o.SealKey = &key }})
	<-calls
	began := time.Now()
	c.end()
	took := time.Since(began)
	past := b.past("token/c")
	if len(past) == 0 || strings.Contains(past[len(past)-1], `"intent":true`) {
		t.Errorf("the refresh ended %v after the stop, inside the revoke budget of 20 s, and its token is not stored: %q", took, past)
	}
}

// busyAndSlow has a stream that always changes and one whose pass takes its time, and says in each of its requests when it began.
const busyAndSlow = `
source: shop
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  busy:
    path: /busy
    records: data
    primary_key: id
    interval: 200ms
  slow:
    path: /slow
    query: {page: "{{ page }}", began: "{{ now }}"}
    records: data
    primary_key: id
    paginator: {type: page, more: more}
    interval: 1s
`

// TestK9OnePassAtATime: after a reopen a partition whose time had come is read once, after the token is settled: of the passes of one
// ownership no more than the last is not read to its end.
func TestK9OnePassAtATime(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	v, passes := 0, map[string]*pass{}
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil // our clock is the server's, less a minute
		if r.URL.Path == "/busy" {
			mu.Lock()
			v++
			x := v / 4
			mu.Unlock()
			answer(w, 200, map[string]any{"data": []any{row(1, "v", x)}})
			return
		}
		p, id := r.URL.Query().Get("page"), r.URL.Query().Get("began")
		mu.Lock()
		if passes[id] == nil {
			passes[id] = begun(t, id)
		}
		passes[id].pages += p // what a reopen cut off may come late
		mu.Unlock()
		select {
		case <-time.After(400 * time.Millisecond):
			answer(w, 200, map[string]any{"data": []any{row("k"+p, "v", 1)}, "more": p != "3"})
		case <-r.Context().Done():
		}
	}))
	c := b.start(settings{definition: busyAndSlow, config: map[string]any{"url": url}})
	c.passes(1)
	for range 2 {
		// wait until slow rests, then break a commit of busy's
		st := c.await("rest", func(s capture.Status) bool {
			return len(s.Partitions) == 2 && !s.Partitions[1].Reading && s.Partitions[1].Passes > 0
		})
		other := b.client(kgo.TransactionalID("test.c"))
		if _, _, err := other.ProducerID(b.Context()); err != nil {
			t.Fatal(err)
		}
		c.await("reopen", func(s capture.Status) bool { return s.Reopened > st.Reopened && s.Phase.Name == "running" })
		c.passes(1)
	}
	c.end()
	mu.Lock()
	defer mu.Unlock()
	all := ownerships(t, c.log.String(), slices.Collect(maps.Values(passes)))
	if len(all) < 3 {
		t.Errorf("%d ownerships", len(all))
	}
	for _, one := range all {
		for _, p := range one[:max(0, len(one)-1)] {
			if !strings.HasSuffix(p.pages, "3") {
				t.Errorf("the pass of %v ended behind %q, and others followed in its ownership", p.began, p.pages)
			}
		}
	}
}

// pass is one that the server has met: when it began, by our clock, and the pages that it asked for.
type pass struct {
	began time.Time
	pages string
}

// begun is the pass that says so of its beginning, by the clock of the server, which has none: ours less a minute, once it has
// answered.
func begun(t *testing.T, said string) *pass {
	at, err := time.Parse(time.RFC3339Nano, said)
	if err != nil {
		t.Error(err)
	}
	if time.Since(at) > time.Minute/2 {
		at = at.Add(time.Minute)
	}
	return &pass{began: at}
}

// ownerships sorts passes into the ownerships between which the log says that the connection is owned anew. It says so before it
// waits a second, less a fifth, so that a pass falls clearly on one side.
func ownerships(t *testing.T, log string, passes []*pass) [][]*pass {
	t.Helper()
	var anew []time.Time
	for line := range strings.Lines(log) {
		if strings.Contains(line, "the connection is owned anew") {
			at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(strings.Fields(line)[0], "time="))
			if err != nil {
				t.Fatal(err)
			}
			anew = append(anew, at.Add(10*time.Millisecond))
		}
	}
	slices.SortFunc(passes, func(x, y *pass) int { return x.began.Compare(y.began) })
	all := make([][]*pass, len(anew)+1)
	for _, p := range passes {
		i := 0
		for i < len(anew) && p.began.After(anew[i]) {
			i++
		}
		all[i] = append(all[i], p)
	}
	return all
}

// TestD7GraveOfTheLastVersion: a deletion came with the version of the last state; a stale replica that shows that state again does not
// bring the key back.
func TestD7GraveOfTheLastVersion(t *testing.T) {
	b := lay(t)
	def := things + "    version: n\n    delete: \"record.gone ?? false\"\n"
	shop, config := b.shelf(row(1, "n", 5, "v", "live"))
	c := b.start(settings{definition: def, config: config})
	c.passes(2)
	shop.put(row(1, "n", 5, "gone", true))
	c.await("deleted", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	n := 0
	shop.break_(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		if n++; n == 1 { // one answer of a stale replica
			answer(w, 200, map[string]any{"data": []any{row(1, "n", 5, "v", "live")}})
			return true
		}
		return false
	})
	c.passes(3)
	c.end()
	if l := b.lines("things"); len(l) != 2 {
		t.Errorf("a stale answer brought the key back: %q", l)
	}
}
