package source

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// orderedStream is a list that goes on behind a record.
const orderedStream = `
    path: /things
    query: {after: "{{ last.id }}"}
    records: data
    primary_key: id
    paginator: {type: token}
    reconcile: {order: key, total: total}
`

// behind serves pages of 10 behind a record, or behind a token that says how many came before it.
func behind(keys []string) server {
	return func(q asked) any {
		from := 0
		if after := q.query.Get("after"); after != "" {
			from = slices.Index(keys, after) + 1
		} else if token := q.query.Get("token"); token != "" {
			from, _ = strconv.Atoi(token)
		}
		data := []any{}
		for _, k := range keys[from:min(from+10, len(keys))] {
			data = append(data, map[string]any{"id": json.RawMessage(k), "name": "secret"})
		}
		out := map[string]any{"data": data, "total": len(keys)}
		if from+10 < len(keys) {
			out["next"] = strconv.Itoa(from + 10)
		}
		return out
	}
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

// TestD3PassGoesOnBehindAWindow: D3. a listing in the order of the key goes on behind any of its pages in another process, shows the
// rest, and is complete, with the number of keys that its answers tell.
func TestD3PassGoesOnBehindAWindow(t *testing.T) {
	for name, stream := range map[string]string{
		"last":      orderedStream,
		"token":     strings.NewReplacer(`after: "{{ last.id }}"`, `token: "{{ page_token }}"`, "type: token", "type: token, next: next, stable: true").Replace(orderedStream),
		"partition": strings.Replace(orderedStream, "    records", "    partition: {view: [a, b]}\n    records", 1),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, bound(t, stream, nil))
			p := d.source.Requests[0].Partitions()[0]
			serve := behind(numbers(1, 95))
			whole := d.pass(p, cdc.Checkpoint{}, 0, serve)
			if whole.err != nil || !whole.complete {
				t.Fatal(whole.err, whole.why)
			}
			for stop := 1; stop < 9; stop++ {
				part := d.pass(p, cdc.Checkpoint{}, stop, serve)
				w, ok := part.last.Window()
				if !ok || w.Last != whole.keys[stop*10-1] || w.Keys != stop*10 {
					t.Fatalf("after %d pages: %v %+v", stop, ok, w)
				}
				if strings.Contains(string(w.Record), "secret") || strings.Contains(stream, "last") != (w.Record != nil) {
					t.Errorf("more of the record is kept than the request needs: %s", w.Record)
				}
				text, err := json.Marshal(w)
				if err != nil {
					t.Fatal(err)
				}
				var kept cdc.Window
				if err := json.Unmarshal(text, &kept); err != nil {
					t.Fatal(err)
				}
				other := newDriver(t, bound(t, stream, nil)) // another process
				pos, err := other.source.Requests[0].Begin(p, cdc.Checkpoint{}, noon)
				if err != nil || !pos.Resume(kept) {
					t.Fatal(err, "it does not go on")
				}
				rest := other.follow(pos, 0, serve)
				if diff := cmp.Diff(whole.keys[stop*10:], rest.keys); rest.err != nil || !rest.complete || diff != "" {
					t.Errorf("after %d pages: %v %q\n%s", stop, rest.err, rest.why, diff)
				}
			}
		})
	}
}

// TestD3OutOfOrderIsIncomplete: D3, D2. a listing that is not in the order that its definition promises proves nothing missing, says
// why, and leaves no window to go on from.
func TestD3OutOfOrderIsIncomplete(t *testing.T) {
	for name, keys := range map[string][]string{
		"on a page":      append(numbers(1, 5), append([]string{"9", "8"}, numbers(10, 30)...)...),
		"between pages":  append(numbers(2, 11), append([]string{"1"}, numbers(12, 30)...)...),
		"digits as text": {`"1"`, `"10"`, `"2"`},
		"words":          {`"a"`, `"B"`},
		"text, numbers":  {`"a"`, `"7"`},
	} {
		t.Run(name, func(t *testing.T) {
			serve := behind(keys)
			got := newDriver(t, bound(t, orderedStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
				q.query.Set("after", strings.Trim(q.query.Get("after"), `"`)) // keys of text are asked for as they are
				if i := slices.Index(keys, strconv.Quote(q.query.Get("after"))); i >= 0 {
					q.query.Set("after", keys[i])
				}
				return serve(q)
			})
			if got.err != nil || got.complete || !strings.Contains(got.why, "order of the key") {
				t.Errorf("%v, complete %v: %q", got.err, got.complete, got.why)
			}
			if w, ok := got.last.Window(); ok {
				t.Errorf("a window: %+v", w)
			}
		})
	}
}

// TestD3OrderOfKeys: D3. numbers go by their value, the digits of one as text too, and other text behind them by its bytes; the
// values of the partition have no part in it.
func TestD3OrderOfKeys(t *testing.T) {
	sorted := []string{"-10", "-9", "0", "9", "10", "99999999999999999999", "100000000000000000000", "007", "1.5", "A", "a", "a b", "a\"", "é"}
	for _, stream := range []string{orderedStream, strings.Replace(orderedStream, "    records", "    partition: {view: ['a,\"[b', 7]}\n    records", 1)} {
		r := bound(t, stream, nil).Requests[0]
		for _, p := range r.Partitions() {
			pos, err := r.Begin(p, cdc.Checkpoint{}, noon)
			if err != nil {
				t.Fatal(err)
			}
			key := func(s string) []byte {
				if len(r.partitions) == 0 {
					return []byte(s)
				}
				part, _ := json.Marshal(s)
				view, _ := json.Marshal(p.Values["view"])
				return fmt.Appendf(nil, "[%s,%s]", view, part)
			}
			for i, a := range sorted {
				for j, b := range sorted {
					if got, want := pos.Passed(key(a), key(b)), i <= j; got != want {
						t.Errorf("%s up to %s: %v", key(a), key(b), got)
					}
				}
			}
		}
	}
}

// TestD3NoWindowOfAListingThatDrifts: D3, D2, P9. a listing whose total has moved is walked again before it proves anything, and one
// that goes on in another process would not know of that.
func TestD3NoWindowOfAListingThatDrifts(t *testing.T) {
	serve := behind(numbers(1, 95))
	got := newDriver(t, bound(t, orderedStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 3, func(q asked) any {
		out := serve(q).(map[string]any)
		if q.query.Get("after") == "" {
			out["total"] = 96
		}
		return out
	})
	if w, ok := got.last.Window(); got.err != nil || ok {
		t.Errorf("%v, a window: %+v", got.err, w)
	}
}

// TestP5PassBesideAListingByKey: P5, D3. the passes of a feed have their page checkpoints, also where the same request lists by key:
// a window is of its listings alone.
func TestP5PassBesideAListingByKey(t *testing.T) {
	stream := `
    path: /things
    query: {since: "{{ cursor }}", token: "{{ page_token }}"}
    records: data
    primary_key: id
    paginator: {type: token, next: next, stable: true}
    incremental: {cursor_field: at, format: rfc3339}
    reconcile: {every: 24h, order: key}
`
	serve := behind(numbers(1, 95))
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 3, func(q asked) any {
		out := serve(q).(map[string]any)
		for _, r := range out["data"].([]any) {
			r.(map[string]any)["at"] = "2026-01-01T00:00:00Z"
		}
		return out
	})
	if cp := got.last.Checkpoint(); got.err != nil || cp.Anchor != "30" {
		t.Errorf("%v: %+v", got.err, cp)
	}
}

// TestD3KeysOfAnotherPartition: D3. a key that a definition before this one has made is of no order: nothing is said of it, and no
// window that ends with one is gone on from.
func TestD3KeysOfAnotherPartition(t *testing.T) {
	r := bound(t, strings.Replace(orderedStream, "    records", "    partition: {view: ['7']}\n    records", 1), nil).Requests[0]
	pos, err := r.Begin(r.Partitions()[0], cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if pos.Passed([]byte(`[7,1]`), []byte(`["7",5]`)) {
		t.Error("it is passed")
	}
	if pos.Resume(cdc.Window{Last: `[7,5]`, Record: json.RawMessage(`{"id":5}`)}) {
		t.Error("it goes on behind it")
	}
}
