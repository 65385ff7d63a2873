package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

const hydrateStream = keysetStream + `
    hydrate: {path: "/things/{{ record.id }}", records: thing}
    filter: "record.live"
    delete: "record.gone ?? false"
    errors: [{status: 403, do: park_record}]
`

// library serves parts of things, and each thing whole.
type library struct {
	shop
	asked []string
	whole func(id string) any
}

func (l *library) serve(q asked) any {
	if id, ok := strings.CutPrefix(q.path, "/v1/things/"); ok {
		l.asked = append(l.asked, id)
		return l.whole(id)
	}
	l.asked = append(l.asked, "list")
	return l.shop.serve(q)
}

func inFull(id string) any {
	return fmt.Sprintf(`{"thing":{"id":%s,"live":%v,"updated_at":"2026-03-10T11:59:59Z","text":"long"}}`, id, id != "5")
}

// isWhole looks at a record that was listed as a part.
func isWhole(t *testing.T, rec *Record, page *Page) {
	t.Helper()
	if rec.Err != nil || !strings.Contains(string(rec.Content(page.Body)), `"text":"long"`) {
		t.Errorf("%s: %v %s", rec.Key, rec.Err, rec.Content(page.Body))
	}
	part := rec.Raw.Of(page.Body)
	if strings.Contains(string(part), "text") || rec.RawHash != record.RawHash(part) || !strings.Contains(string(part), `"id":`+string(rec.Key)) {
		t.Errorf("%s is known by %s", rec.Key, part)
	}
	if at := string(rec.Cursor.Of(page.Body)); at == "" || strings.Contains(at, "11:59:59Z") {
		t.Errorf("%s has the cursor %s", rec.Key, at)
	}
	if rec.Version.Time().Second() != 59 {
		t.Errorf("%s has the version %s, not that of the whole", rec.Key, rec.Version)
	}
}

// What is published of a thing is its whole record; the list's part is what it is known by the next time. The checkpoint of a
// page waits for its last whole record (4).
func TestHydrate(t *testing.T) {
	src := bound(t, hydrateStream, nil)
	l := &library{shop: shop{things: many(6, time.Second), size: 4}, whole: inFull}
	d := newDriver(t, src)
	r := src.Requests[0]
	pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	var page Page
	var got []string
	for n := 1; !page.Done; n++ {
		req, err := r.Compose(&pos)
		if err != nil {
			t.Fatal(err)
		}
		resp := d.respond(req, n, l.serve)
		if err := req.Judge(resp); err != nil {
			t.Fatal(err)
		}
		if err := r.Split(&pos, resp, func(int) record.Known { return d.table }, &page); err != nil {
			t.Fatal(err)
		}
		pos = page.Next
		left := 0
		if pos.hydration != nil {
			left = len(pos.hydration.parts) - pos.wholes
		}
		if left > 0 && (page.Checkpoint != nil || page.Done) {
			t.Errorf("(4): a checkpoint with %d records to come", left)
		}
		for _, rec := range page.Records {
			got = append(got, fmt.Sprintf("%s %d %v", rec.Key, rec.Kind, rec.Same))
			if rec.Same {
				continue
			}
			isWhole(t, &rec, &page)
			again, err := r.Rescan(Partition{}, 0, page.Body, &rec, src.Streams[0].Rules, 0)
			if err != nil || again != rec.Hash {
				t.Errorf("P23: %x, was %x, %v", again, rec.Hash, err)
			}
			if rec.Kind == Live {
				d.table[string(rec.Key)] = record.RawHint{Len: uint32(rec.Raw.Len()), Hash: rec.RawHash, Version: rec.Version}
			}
		}
	}
	if diff := cmp.Diff([]string{"list", "1", "2", "3", "4", "list", "5", "6"}, l.asked[:8]); diff != "" {
		t.Error(diff, l.asked)
	}
	for _, want := range []string{"1 0 false", "4 0 false", "5 2 false", "6 0 false", "4 0 true"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q: %q", want, got)
		}
	}
	if page.Checkpoint == nil || page.Checkpoint.Cursor != at(-time.Second) || !page.Complete {
		t.Errorf("%+v, complete %v", page.Checkpoint, page.Complete)
	}

	l.asked = nil // nothing changed: by the bytes of their parts the records are known, and none is asked for
	l.things[5].at = noon
	again := d.pass(Partition{Name: "-"}, *page.Checkpoint, 0, l.serve)
	if asked := slices.DeleteFunc(l.asked, func(s string) bool { return s == "list" || s == "5" }); again.err != nil || !slices.Equal(asked, []string{"6"}) {
		t.Errorf("%v, asked for %q again", again.err, asked)
	}
}

// P19, P20: what the list alone can tell is not asked for; a whole record that is not to be had parks its part, and the pass goes
// on; another record in its place halts.
func TestHydrateOdds(t *testing.T) {
	rows := `{"size":9,"data":[{"id":1,"gone":true,"updated_at":"2026-03-10T11:00:00Z"},{"id":2,"live":false,"updated_at":"2026-03-10T11:00:01Z"},` +
		`{"id":3,"updated_at":"2026-03-10T11:00:02Z"},{"id":4,"updated_at":"2026-03-10T11:00:03Z"},{"id":5,"updated_at":"2026-03-10T11:00:04Z"},` +
		`{"id":6,"updated_at":"2026-03-10T11:00:05Z"},{"id":7,"updated_at":"2026-03-10T11:00:06Z"}]}`
	l := &library{}
	answers := map[string]any{
		"3": &fetch.Response{Status: 404, Body: []byte(`{"error":"no such thing"}`)},
		"4": &fetch.Response{Status: 403, Body: []byte(`{"error":"private"}`)},
		"5": `{"thing":{"id":5,"updated_at":"2026-03-10T11:00:04Z"}}`, // no `live`
		"6": `{"thing":{"id":6,"live":true}}`,
		"7": `{"thing":{"id":7,"gone":true}}`,
	}
	serve := func(q asked) any {
		if id, ok := strings.CutPrefix(q.path, "/v1/things/"); ok {
			l.asked = append(l.asked, id)
			return answers[id]
		}
		return rows
	}
	got := newDriver(t, bound(t, hydrateStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
	if got.err != nil || strings.Join(l.asked[:5], " ") != "3 4 5 6 7" {
		t.Fatalf("%v %q", got.err, l.asked)
	}
	for id, kind := range map[string]Kind{"1": Deleted, "2": Filtered, "6": Live, "7": Deleted} {
		if k, ok := got.kinds[id]; !ok || k != kind {
			t.Errorf("%s is %v", id, k)
		}
	}
	if len(got.parked) < 3 || got.checkpoint == nil || got.checkpoint.Cursor != "2026-03-10T11:00:06Z" {
		t.Fatalf("%v %+v", got.parked, got.checkpoint)
	}
	want(t, got.parked[0], cdc.Park, "404")
	want(t, got.parked[1], cdc.Park, "403")
	want(t, got.parked[2], cdc.Park, "record.live is not there")
	for body, say := range map[string]string{
		`{"thing":{"id":4,"live":true}}`:          "got another record",
		`{"thing":[{"id":3}]}`:                    "no single record",
		`{"error":"x"}`:                           "no single record",
		`<html>`:                                  "web page",
		`{"thing":{"id":3,"live":true,"live":1}}`: "twice",
	} {
		answers["3"] = body
		want(t, newDriver(t, bound(t, hydrateStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve).err, cdc.Halt, say)
	}
	answers["3"] = &fetch.Response{Status: 401}
	if got := newDriver(t, bound(t, hydrateStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve); got.err == nil {
		t.Error("a refused credential is no matter of one record")
	}
}

// P23: another request for whole records reads other records.
func TestP23HydrateIsPartOfTheRequest(t *testing.T) {
	a := bound(t, hydrateStream, nil).Requests[0].RequestPrint
	b := bound(t, strings.Replace(hydrateStream, "/things/{{", "/things/full/{{", 1), nil).Requests[0].RequestPrint
	c := bound(t, without(hydrateStream, "hydrate", "park_record"), nil).Requests[0].RequestPrint
	if a == b || a == c {
		t.Error("a cursor is reused")
	}
}
