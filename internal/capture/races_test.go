package capture_test

import (
	"context"
	"fmt"
	"net/http"
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
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	began := time.Now()
	st := c.Connection.Status(ctx)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Status of an ended connection took all of its %v; phase %q", took, st.Phase.Name)
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

// busyAndSlow has a stream that always changes and one whose pass takes its time.
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
    query: {page: "{{ page }}"}
    records: data
    primary_key: id
    paginator: {type: page, more: more}
    interval: 1s
`

// TestK9OnePassAtATime: after a reopen a partition whose time had come is read once, after the token is settled.
func TestK9OnePassAtATime(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	v, trace := 0, []string{}
	url := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			mu.Lock()
			v++
			x := v / 4
			mu.Unlock()
			answer(w, 200, map[string]any{"data": []any{row(1, "v", x)}})
			return
		}
		p := r.URL.Query().Get("page")
		mu.Lock()
		trace = append(trace, p)
		mu.Unlock()
		select {
		case <-time.After(400 * time.Millisecond):
			answer(w, 200, map[string]any{"data": []any{row("k"+p, "v", 1)}, "more": p != "3"})
		case <-r.Context().Done(): // it began between the fence and its discovery: a walk that was cut is not under way any more
			mu.Lock()
			defer mu.Unlock()
			trace = append(trace, "cut")
		}
	}))
	c := b.start(settings{definition: busyAndSlow, config: map[string]any{"url": url}})
	c.passes(1)
	twice := 0
	for range 2 {
		// wait until slow rests, then break a commit of busy's
		c.await("rest", func(s capture.Status) bool {
			return len(s.Partitions) == 2 && !s.Partitions[1].Reading && s.Partitions[1].Passes > 0
		})
		re := c.look().Reopened
		other := b.client(kgo.TransactionalID("test.c"))
		if _, _, err := other.ProducerID(b.Context()); err != nil {
			t.Fatal(err)
		}
		c.await("reopen", func(s capture.Status) bool { return s.Reopened > re && s.Phase.Name == "running" })
		c.passes(1)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := 1; i < len(trace); i++ {
		if trace[i] == "1" && trace[i-1] != "3" && trace[i-1] != "cut" {
			twice++
		}
	}
	c.end()
	if twice > 0 {
		t.Errorf("%d of the walks began while one was under way: %v", twice, trace)
	}
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
