package capture_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/capture"
	"tidemark/internal/source"
)

// The definitions of examples/sources as they are, but for how often things happen, each against a small server that behaves as
// its API does, traps included: example_*_test.go.

// example is what a definition of examples/sources has published, and how to run it.
type example struct {
	*bed
	settings
	stream string
}

// example reads a definition of one stream; config is the connection's.
func (b *bed) example(name string, config map[string]any) *example {
	b.Helper()
	text, err := os.ReadFile("../../examples/sources/" + name + ".yaml")
	if err != nil {
		b.Fatal(err)
	}
	key := [32]byte{5}
	s := settings{definition: string(text), config: config, change: func(o *capture.Options) {
		o.Confirm, o.SealKey = 400*time.Millisecond, &key
	}}
	s.overrides.Rate = &source.RateOverride{Budget: 1e6}
	spec := b.sourceOf(s).Streams[0]
	often := source.StreamOverride{Interval: 200 * time.Millisecond}
	if spec.Reconcile.Every > 0 {
		often.ReconcileEvery = 300 * time.Millisecond
	}
	s.overrides.Streams = map[string]source.StreamOverride{spec.Name: often}
	return &example{b, s, spec.Name}
}

// run starts a connection and waits until it has published the first n records.
func (e *example) run(n int64) *connector {
	e.Helper()
	c := e.start(e.settings)
	c.counted("the first records", func(n0 capture.Counts) bool { return n0.Published() >= n })
	return c
}

// counted waits until the stream's counters are as wanted.
func (c *connector) counted(what string, is func(capture.Counts) bool) {
	c.Helper()
	st := c.await(what, func(s capture.Status) bool { return is(counts(s)) || s.Streams[0].Halted != "" })
	if s := st.Streams[0]; s.Halted != "" {
		c.Fatalf("waited for %s: %s %s", what, s.Halted, s.Hint)
	}
}

// updated, deleted and published wait for so many of them since the connection began.
func (c *connector) updated(n int64) {
	c.Helper()
	c.counted(fmt.Sprint(n, " updates"), func(got capture.Counts) bool { return got.Updated >= n })
}

func (c *connector) deleted(n int64) {
	c.Helper()
	c.counted(fmt.Sprint(n, " deletions"), func(got capture.Counts) bool { return got.Deleted >= n })
}

func (c *connector) published(n int64) {
	c.Helper()
	c.counted(fmt.Sprint(n, " events"), func(got capture.Counts) bool { return got.Published() >= n })
}

// told are the events of a key, in their order: operation and value.
func (e *example) told(key string) []string {
	e.Helper()
	var out []string
	for _, ev := range e.events(e.stream) {
		if ev.Key == key {
			out = append(out, strings.TrimSpace(ev.Op+" "+string(ev.Value)))
		}
	}
	return out
}

// says fails unless the events of a key are these.
func (e *example) says(key string, want ...string) {
	e.Helper()
	if d := cmp.Diff(want, e.told(key)); d != "" {
		e.Errorf("%s: %s", key, d)
	}
}

// ends stops the connection, starts another, which publishes nothing, and audits all that was committed. In all there are so many
// events.
func (e *example) ends(c *connector, events int) {
	e.Helper()
	c.passes(2)
	before := e.lines(e.stream)
	c.end()
	again := e.start(e.settings)
	st := again.passes(3)
	again.end()
	if s := st.Streams[0]; s.Halted != "" || s.Parked > 0 || s.Mismatch {
		e.Errorf("%+v", s)
	}
	if d := cmp.Diff(before, e.lines(e.stream)); d != "" {
		e.Errorf("a restart publishes: %s", d)
	}
	if len(before) != events {
		e.Errorf("%d events, want %d:\n%s", len(before), events, strings.Join(before[max(0, len(before)-20):], "\n"))
	}
	e.audit(e.sourceOf(e.settings), false)
}

// bearer refuses what does not carry the token.
func bearer(token string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			answer(w, http.StatusUnauthorized, map[string]any{"message": "who are you?"})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// find is the row of a shelf with a value; nil where there is none.
func (s *shelf) find(name, value string) map[string]any {
	i := slices.IndexFunc(s.rows, func(r map[string]any) bool { return fmt.Sprint(r[name]) == value })
	if i < 0 {
		return nil
	}
	return s.rows[i]
}

// cut is a page of rows: from low on, size at most.
func cut(rows []map[string]any, low, size int) []map[string]any {
	low = max(0, min(low, len(rows)))
	return append([]map[string]any{}, rows[low:min(low+size, len(rows))]...)
}

// TestExamplesHaveTheirServers: no definition is shipped that is not run against its API's behaviour.
func TestExamplesHaveTheirServers(t *testing.T) {
	files, err := os.ReadDir("../../examples/sources")
	if err != nil || len(files) < 10 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		name, _, _ := strings.Cut(f.Name(), "-")
		text, err := os.ReadFile("example_" + name + "_test.go")
		if err != nil || !strings.Contains(string(text), `b.example("`+strings.TrimSuffix(f.Name(), ".yaml")+`"`) {
			t.Errorf("%s is run by no test: %v", f.Name(), err)
		}
	}
}
