package capture_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/capture"
)

// diary is a log that shows its newest entry first, all of one account; deep down it may be in trouble.
type diary struct {
	entries int
	began   time.Time
	trouble atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool] // reports whether it answered
}

const deep = 30 // pages

func (l *diary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	before, err := strconv.Atoi(r.URL.Query().Get("before"))
	if err != nil {
		before = l.entries
	}
	if f := l.trouble.Load(); f != nil && l.entries-before == deep*10 && (*f)(w, r) {
		return
	}
	rows, out := []any{}, map[string]any{}
	for n := before; n > max(0, before-10); n-- {
		rows = append(rows, map[string]any{
			"id": n, "account": "a", "at": l.began.Add(time.Duration(n) * time.Second).Format(time.RFC3339), "pad": strings.Repeat("x", 10_000),
		})
	}
	if out["rows"] = rows; before > 10 {
		out["next"] = fmt.Sprint(before - 10)
	}
	answer(w, http.StatusOK, out)
}

const diarySource = `
source: diary
config: {url: {}}
base_url: "{{ config.url }}"
authenticator: {type: none}
streams:
  entries:
    path: /entries
    query: {since: "{{ cursor }}", before: "{{ page_token }}"}
    records: rows
    primary_key: account
    record_id: id
    paginator: {type: token, next: next}
    incremental: {cursor_field: at, format: rfc3339, order: desc}
    interval: 200ms
`

// spools are the files of spools that this process has open; their folder shows none.
func spools(t *testing.T) (open int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		t.Skip("the system does not say which files are open")
	}
	for _, f := range files {
		if name, err := os.Readlink(f); err == nil && strings.Contains(name, "tidemark-spool-") {
			if !strings.HasSuffix(name, "(deleted)") {
				t.Errorf("%s has a name", name)
			}
			open++
		}
	}
	return open
}

// TestP13SpoolGoesWithItsPass: a pass that is stopped, or halts, gives its file back; the next one plays everything in its order.
func TestP13SpoolGoesWithItsPass(t *testing.T) {
	b := lay(t)
	api := &diary{entries: 500, began: time.Now().Add(-time.Hour)}
	s := settings{definition: diarySource, config: map[string]any{"url": b.serve(api)}}
	reached := make(chan struct{}, 1)
	hang := func(_ http.ResponseWriter, r *http.Request) bool {
		reached <- struct{}{}
		<-r.Context().Done()
		return true
	}
	api.trouble.Store(&hang)
	c := b.start(s)
	<-reached
	if n := spools(t); n != 1 {
		t.Errorf("%d spools in files after %d pages of 100 kB", n, deep)
	}
	c.stop()
	<-c.done
	if n := spools(t); n != 0 {
		t.Errorf("stopped, and %d are open", n)
	}
	refuse := func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w, http.StatusUnprocessableEntity, map[string]any{"error": "too deep"})
		return true
	}
	api.trouble.Store(&refuse)
	c = b.start(s)
	c.halted("too deep")
	if n := spools(t); n != 0 {
		t.Errorf("halted, and %d are open", n)
	}
	c.stop()
	<-c.done
	if n := len(b.events("entries")); n != 0 {
		t.Errorf("%d entries of a pass that did not reach its cursor", n)
	}
	api.trouble.Store(nil)
	c = b.start(s)
	c.published(int64(api.entries))
	c.await("a pass", func(s capture.Status) bool { return s.Partitions[0].Passes > 0 })
	c.end()
	var ids []int
	for _, e := range b.events("entries") {
		var n int
		if _, err := fmt.Sscanf(string(e.Value[strings.Index(string(e.Value), `"id":`):]), `"id":%d`, &n); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, n)
	}
	if len(ids) != api.entries || !slices.IsSorted(ids) {
		t.Errorf("%d entries, in order: %v", len(ids), slices.IsSorted(ids))
	}
}
