package capture_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/capture"
)

// TestHydrate: the list gives ids and times, what is published is the whole record. What is known by its part is not asked for
// again; after a restart all parts are unknown, and nothing is published for that (5). A record that cannot be had is parked.
func TestHydrate(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "at", "2026-01-01T00:00:00Z", "v", "a"), row(2, "at", "2026-01-01T00:00:01Z", "v", "b"), row(3, "at", "2026-01-01T00:00:02Z", "v", "c"))
	asked, private := 0, "3"
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if id, ok := strings.CutPrefix(r.URL.Path, "/things/"); ok {
			if asked++; id == private {
				answer(w, http.StatusForbidden, map[string]any{"error": "private"})
				return true
			}
			return false
		}
		parts, since := []map[string]any{}, r.URL.Query().Get("since")
		for _, x := range shop.rows {
			if x["at"].(string) >= since {
				parts = append(parts, row(x["id"], "at", x["at"]))
			}
		}
		slices.SortFunc(parts, func(a, b map[string]any) int { return strings.Compare(a["at"].(string), b["at"].(string)) })
		answer(w, http.StatusOK, map[string]any{"data": parts, "size": 100})
		return true
	})
	s := settings{definition: feed + "    hydrate: {path: \"/things/{{ record.id }}\", records: data}\n    errors: [{status: 403, do: park_record}]\n", config: config}
	c := b.start(s)
	from := c.passes(2).Partitions[0].Passes
	first, again := 0, 0
	shop.locked(func() { first = asked })
	c.passes(3)
	shop.locked(func() { again = asked - first })
	to := c.look().Partitions[0].Passes
	shop.locked(func() { private = "" })
	st := c.await("the parked record is had", func(s capture.Status) bool { return s.Streams[0].Parked == 0 && s.Streams[0].Keys == 3 })
	if n := int(to - from); again < 3 || again > n+2 { // 3 alone, once a pass; one pass may be under way on either side
		t.Errorf("%d whole records were asked for in %d passes over what is known", again, n)
	}
	if counts(st).Parked != 1 {
		t.Errorf("%+v", counts(st))
	}
	shop.put(row(1, "at", "2026-01-01T00:00:05Z", "v", "changed"))
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
	c = b.start(s)
	c.passes(2)
	c.end()
	want := []string{
		`1 r {"at":"2026-01-01T00:00:00Z","id":1,"v":"a"}`, `1 u {"at":"2026-01-01T00:00:05Z","id":1,"v":"changed"}`,
		`2 r {"at":"2026-01-01T00:00:01Z","id":2,"v":"b"}`, `3 c {"at":"2026-01-01T00:00:02Z","id":3,"v":"c"}`,
	}
	if d := cmp.Diff(want, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
	b.audit(b.sourceOf(s), false)
}
