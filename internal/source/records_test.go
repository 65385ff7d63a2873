package source

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// bundle is givergy's shape: several streams in one answer, under one offset and one cursor.
const bundle = `
    path: /things
    query: {since: "{{ cursor ?? -1 }}", offset: "{{ offset }}", limit: 100}
    records:
      buys: {path: buys, filter: "record.live ?? true"}
      bids: {path: bids, primary_key: [lot, no], hash: {exclude: [seen]}, value: bid, delete: "record.gone ?? false"}
      gifts: gifts
    primary_key: id
    paginator: {type: offset, size: 100}
    incremental: {cursor_field: updated, format: unix, lookback: 0s}
`

// categories serves the lists of a bundle, each from the offset on, a hundred rows at most.
func categories(lists map[string][]map[string]any) server {
	return func(q asked) any {
		low, err := strconv.Atoi(q.query.Get("offset"))
		if err != nil {
			panic(err)
		}
		out := map[string]any{}
		for name, rows := range lists {
			out[name] = append([]map[string]any{}, rows[min(low, len(rows)):min(low+100, len(rows))]...)
		}
		return out
	}
}

func rowsOf(n int, add func(i int) map[string]any) []map[string]any {
	out := []map[string]any{}
	for i := range n {
		row := map[string]any{"id": i, "updated": noon.Unix() - int64(n) + int64(i)}
		for k, v := range add(i) {
			row[k] = v
		}
		out = append(out, row)
	}
	return out
}

// P10, P4: one request, several streams: an offset advances by the longest of their lists, the pass ends when every one is
// empty, and the cursor, which is common to all, moves with the end. Keys, values, filters and hash rules are each stream's own.
func TestP10SeveralStreamsUnderOneOffset(t *testing.T) {
	src := bound(t, bundle, nil)
	lists := map[string][]map[string]any{
		"buys": rowsOf(30, func(i int) map[string]any { return map[string]any{"live": i != 7} }),
		"bids": rowsOf(250, func(i int) map[string]any {
			return map[string]any{"lot": "x", "no": i, "gone": i == 9, "bid": map[string]any{"sum": i, "seen": 1}}
		}),
		"gifts": {},
	}
	r := src.Requests[0]
	if len(src.Requests) != 1 || len(r.Streams) != 3 || src.Streams[1] != r.Streams[1] || r.Streams[2].Index != 2 {
		t.Fatalf("%d requests, %d streams", len(src.Requests), len(src.Streams))
	}
	d := newDriver(t, src)
	pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	var page Page
	got := map[string]int{}
	var asked []string
	for n := 1; !page.Done; n++ {
		req, err := r.Compose(&pos)
		if err != nil {
			t.Fatal(err)
		}
		_, query, _ := strings.Cut(req.URL, "&")
		asked = append(asked, query)
		if err := r.Split(&pos, d.respond(req, n, categories(lists)), nil, &page); err != nil {
			t.Fatal(err)
		}
		if (page.Checkpoint != nil) != page.Done {
			t.Errorf("page %d: checkpoint %+v", n, page.Checkpoint)
		}
		for _, rec := range page.Records {
			if rec.Err != nil {
				t.Error(rec.Err)
			}
			got[fmt.Sprint(src.Streams[rec.Stream].Name, " ", rec.Kind)]++
			switch name := src.Streams[rec.Stream].Name; {
			case name == "bids" && (!strings.HasPrefix(string(rec.Key), `["x",`) || !strings.HasPrefix(string(rec.Value.Of(page.Body)), `{"seen"`)):
				t.Errorf("%s %s %s", name, rec.Key, rec.Value.Of(page.Body))
			case name == "buys" && strings.HasPrefix(string(rec.Key), "["):
				t.Errorf("%s %s", name, rec.Key)
			}
		}
		pos = page.Next
	}
	want := map[string]int{"buys 0": 29, "buys 2": 1, "bids 0": 249, "bids 1": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"offset=0&limit=100", "offset=100&limit=100", "offset=200&limit=100", "offset=250&limit=100"}, asked); diff != "" {
		t.Error(diff)
	}
	if !page.Complete || page.Checkpoint.Cursor != fmt.Sprint(noon.Unix()-1) || page.Checkpoint.Drifting {
		t.Errorf("%+v, complete %v", page.Checkpoint, page.Complete)
	}
}

// P9: one id in two streams is no second sighting; a list that had ended and shows rows all the same is a sign of drift.
func TestP9StreamsOfOneAnswer(t *testing.T) {
	lists := map[string][]map[string]any{
		"buys":  rowsOf(150, func(int) map[string]any { return nil }),
		"bids":  rowsOf(40, func(i int) map[string]any { return map[string]any{"lot": 1, "no": i, "bid": 1} }),
		"gifts": rowsOf(150, func(int) map[string]any { return nil }),
	}
	got := newDriver(t, bound(t, bundle, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, categories(lists))
	if got.err != nil || !got.complete || offsets(got.queries) != "0 100 150" {
		t.Errorf("%v, complete %v, asked for %s", got.err, got.complete, offsets(got.queries))
	}
	serve := categories(lists)
	got = newDriver(t, bound(t, bundle, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		answer := serve(q)
		if q.n == 2 { // its pages are capped at 40 rows, less than the others': rows 40 to 100 were never shown
			answer.(map[string]any)["bids"] = lists["bids"][:5]
		}
		return answer
	})
	if got.err != nil || offsets(got.queries) != "0 100 150 0 100 150" {
		t.Errorf("%v, asked for %s", got.err, offsets(got.queries))
	}
	joint := strings.Replace(bundle, "size: 100", "size: 100, overlap: true", 1)
	got = newDriver(t, bound(t, joint, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, categories(lists))
	if got.err != nil || !got.complete || offsets(got.queries) != "0 99 149" {
		t.Errorf("%v, complete %v, asked for %s", got.err, got.complete, offsets(got.queries))
	}
}

// P18: an answer that lacks one of the lists is not a page on which that list is empty; P7: nor is one whose cursor is misnamed.
func TestP18EveryListIsThere(t *testing.T) {
	got := newDriver(t, bound(t, bundle, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `{"buys":[],"bids":[]}` })
	want(t, got.err, cdc.Halt, `no records at "gifts" (absent)`)
	got = newDriver(t, bound(t, bundle, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return `{"buys":[{"id":1,"updated":1}],"bids":[],"gifts":[{"id":1,"at":5}]}`
	})
	want(t, got.err, cdc.Halt, `no record of the page at "gifts" has "updated"`)
}

const plaid = `
    path: /things
    query: {cursor: "{{ cursor }}"}
    records: [added, {path: modified}, {path: removed, op: delete}]
    primary_key: id
    incremental: {type: opaque, next: next, more: more, checkpoint: pass}
`

// Lists of one stream with what each means: what is listed as removed is deleted, whatever else is said of it.
func TestRecordsAsAList(t *testing.T) {
	d := newDriver(t, bound(t, plaid, nil))
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return `{"added":[{"id":"a"}],"modified":[{"id":"b","x":1}],"removed":[{"id":"c"}],"next":"n1","more":false}`
	})
	if got.err != nil || got.kinds["a"] != Live || got.kinds["b"] != Live || got.kinds["c"] != Deleted || got.checkpoint.Cursor != "n1" {
		t.Errorf("%v %v %+v", got.err, got.kinds, got.checkpoint)
	}
}

// P2: the bytes of last time mean nothing in a list of what is gone, nor behind such a sighting on the same page.
func TestP2RemovedAndAddedAgain(t *testing.T) {
	d := newDriver(t, bound(t, plaid, nil))
	text := `{"id":"a","x":1}`
	d.table["a"] = record.RawHint{Len: uint32(len(text)), Hash: record.RawHash([]byte(text))}
	var kinds []Kind
	r := d.source.Requests[0]
	for _, body := range []string{
		`{"added":[` + text + `],"modified":[],"removed":[],"next":"n1","more":false}`,
		`{"removed":[` + text + `],"added":[` + text + `],"modified":[],"next":"n2","more":false}`,
	} {
		pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		var page Page
		req, _ := r.Compose(&pos)
		if err := r.Split(&pos, d.respond(req, 1, func(asked) any { return body }), func(int) record.Known { return d.table }, &page); err != nil {
			t.Fatal(err)
		}
		for _, rec := range page.Records {
			if rec.Same != (len(kinds) == 0) {
				t.Errorf("%s: same %v", body, rec.Same)
			}
			kinds = append(kinds, rec.Kind)
		}
	}
	if !slices.Equal(kinds, []Kind{Live, Deleted, Live}) {
		t.Error(kinds)
	}
}

// A path with [*] leads to many lists. What holds them must be there (P18); some may lack theirs, all of them may not.
func TestRecordsInManyLists(t *testing.T) {
	stream := `
    path: /things
    records: "groups[*].items"
    primary_key: id
`
	for body, say := range map[string]string{
		`{"groups":[{"items":[{"id":1},{"id":2}]},{"name":"empty"},{"items":[]},{"items":{"id":3}}]}`: "1 2 3",
		`{"groups":[]}`:                        "",
		`{"groups":[{"itmes":[{"id":1}]}]}`:    `no records at "groups[*].items" (absent)`,
		`{"groups":{"items":[{"id":1}]}}`:      `no records at "groups" (object)`,
		`{"error":"no"}`:                       `no records at "groups" (absent)`,
		`{"groups":[{"items":"later"}]}`:       `no records at "groups[*].items" (string)`,
		`{"groups":[{"items":[{"id":1},7,]}]}`: `expected`,
	} {
		got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return body })
		if got.err != nil {
			if !strings.Contains(got.err.Error(), say) || say == "" {
				t.Errorf("%s: %v", body, got.err)
			}
		} else if strings.Join(got.keys, " ") != say || !got.complete {
			t.Errorf("%s: %q", body, got.keys)
		}
	}
}

// A connection chooses streams by their names, or all of a request by its; a stream that is left out is not asked for, and
// one that is added finds the cursor void, since it has seen nothing of what that passed (P23).
func TestOverridesOfSeveralStreams(t *testing.T) {
	d := mustParse(t, "source: shop\nbase_url: https://api.test\nstreams:\n  things:"+bundle)
	bind := func(o map[string]StreamOverride) *Source {
		t.Helper()
		s, err := d.Bind("c", nil, Overrides{Streams: o})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := bind(nil)
	if diff := cmp.Diff([]string{"buys", "bids", "gifts"}, d.StreamNames()); diff != "" {
		t.Error(diff)
	}
	some := bind(map[string]StreamOverride{"bids": {Topic: TopicSettings{Name: "b"}}, "gifts": {}})
	if len(some.Streams) != 2 || len(some.Requests[0].records) != 2 || some.Streams[0].Topic.Name != "b" || some.Streams[1].Index != 1 ||
		some.Requests[0].records[0].stream != some.Streams[0] {
		t.Errorf("%+v", some.Streams)
	}
	if all.Requests[0].RequestPrint == some.Requests[0].RequestPrint {
		t.Error("P23: a cursor that gifts alone has moved is not that of buys")
	}
	whole := bind(map[string]StreamOverride{"things": {Interval: time.Hour, Topic: TopicSettings{Partitions: 3}}, "buys": {Topic: TopicSettings{Partitions: 9}}})
	if every, _ := whole.Requests[0].Every(Partition{}, noon); len(whole.Streams) != 3 || every != time.Hour || whole.Streams[0].Topic.Partitions != 9 ||
		whole.Streams[2].Topic.Partitions != 3 || whole.Requests[0].RequestPrint != all.Requests[0].RequestPrint {
		t.Errorf("%v %+v", every, whole.Streams[0].Topic)
	}
	for say, o := range map[string]map[string]StreamOverride{
		"stream bidz is not in shop (did you mean \"bids\"?): it has buys, bids, gifts, things": {"bidz": {}},
		"read by the request things, whose streams have one interval":                           {"bids": {Interval: time.Hour}},
		"each has a topic of its own": {"things": {Topic: TopicSettings{Name: "x"}}},
	} {
		if _, err := d.Bind("c", nil, Overrides{Streams: o}); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, not %s", err, say)
		}
	}
}

// P13: an id is one of its stream.
func TestP13IdsOfSeveralStreams(t *testing.T) {
	stream := strings.Replace(without(bundle, "bids:"), "primary_key: id\n", "primary_key: id\n    record_id: entry\n", 1)
	stream = strings.Replace(stream, "gifts: gifts", "gifts: {path: gifts, record_id: no}", 1)
	d := newDriver(t, bound(t, stream, nil))
	serve := func(q asked) any {
		if q.query.Get("offset") != "0" {
			return `{"buys":[],"gifts":[]}`
		}
		return fmt.Sprintf(`{"buys":[{"id":1,"entry":5,"updated":%d}],"gifts":[{"id":2,"no":5,"updated":%d}]}`, noon.Unix()-5, noon.Unix()-5)
	}
	got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve)
	if got.err != nil || len(got.keys) != 2 || got.skipped != 0 {
		t.Fatalf("%v %q %d", got.err, got.keys, got.skipped)
	}
	again := d.pass(Partition{Name: "-"}, *got.checkpoint, 0, serve)
	if again.err != nil || len(again.keys) != 0 || again.skipped != 2 {
		t.Errorf("%v %q %d", again.err, again.keys, again.skipped)
	}
}

// D4: a looked-up record of a stream is judged by its own list, not by the one of what is gone; where it lies in the answer is
// the stream's own place.
func TestLookupOfSeveralStreams(t *testing.T) {
	src := bound(t, strings.Replace(bundle, "gifts: gifts", `gifts: {path: gifts, reconcile: {lookup: {path: "/gifts/{{ key.id }}"}}}`, 1), nil)
	r, st := src.Requests[0], src.Streams[2]
	st.KeyType = "number"
	var page Page
	gone, err := r.Found(2, []byte("4"), &fetch.Response{Status: 200, Body: []byte(`{"gifts":{"id":4,"updated":1}}`)}, &page)
	if err != nil || gone || len(page.Records) != 1 || page.Records[0].Stream != 2 || src.Streams[0].HasLookup {
		t.Errorf("%v %v %+v", gone, err, page.Records)
	}
	list := bound(t, plaid+"    reconcile: {lookup: {path: \"/things/{{ key.id }}\", records: thing}}\n", nil)
	gone, err = list.Requests[0].Found(0, []byte("a"), &fetch.Response{Status: 200, Body: []byte(`{"thing":{"id":"a"}}`)}, &page)
	if err != nil || gone || page.Records[0].Kind != Live {
		t.Errorf("%v %v %+v", gone, err, page.Records)
	}
}
