package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// P18: what is not the API's answer is an error with its remedy, never an empty page.
func TestP18ResponseMustProveItself(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	for _, c := range []struct {
		name   string
		resp   fetch.Response
		remedy cdc.Remedy
		text   string
	}{
		{"login page", fetch.Response{Header: html, Body: []byte("<!doctype html><title>Log in</title>")}, cdc.Halt, "web page"},
		{"page as JSON", fetch.Response{Body: []byte("  <html></html>")}, cdc.Halt, "not JSON but a web page"},
		{"error object", fetch.Response{Body: []byte(`{"error":"backend down","size":100}`)}, cdc.Halt, "no records at"},
		{"null list", fetch.Response{Body: []byte(`{"error":"backend down","size":100,"data":null}`)}, cdc.Halt, "no records at"},
		{"truncated", fetch.Response{Body: []byte(`{"size":100,"data":[{"id":1,"updated_at":"2026-03-10T11:00:00Z"},{"id":2,"up`)}, cdc.Retry, "cut off"},
		{"truncated after the records", fetch.Response{Body: []byte(`{"size":100,"data":[]`)}, cdc.Retry, "cut off"},
		{"empty", fetch.Response{Body: []byte("\n")}, cdc.Retry, "is empty"},
		{"not JSON", fetch.Response{Body: []byte(`{'size':100}`)}, cdc.Halt, "not JSON"},
		{"two documents", fetch.Response{Body: []byte(`{"size":100,"data":[]}{}`)}, cdc.Halt, "expected the end"},
		{"a name twice", fetch.Response{Body: []byte(`{"size":100,"data":[{"id":1}],"data":[]}`)}, cdc.Halt, "twice"},
		{"declared", fetch.Response{Body: []byte(`{"size":100,"data":[],"status":"error"}`)}, cdc.Retry, "declared as retry"},
		{"error status", fetch.Response{Status: 503, Body: []byte(`{}`)}, cdc.Retry, "503"},
		{"forbidden", fetch.Response{Status: 403, Body: []byte(`{}`)}, cdc.Halt, "403"},
		{"gone", fetch.Response{Status: 410, Body: []byte(`{}`)}, cdc.Expired, "410"},
		{"declared expired", fetch.Response{Status: 400, Body: []byte(`{"code":"CURSOR"}`)}, cdc.Expired, "declared as expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := keysetStream + `
    errors:
      - {when: "response.body.status == 'error'", do: retry}
      - {status: 400, when: "response.body.code == 'CURSOR'", do: expired}
`
			got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: at(-time.Hour)}, 0, func(asked) any {
				resp := c.resp
				if resp.Status == 0 {
					resp.Status = 200
				}
				return &resp
			})
			want(t, got.err, c.remedy, c.text)
			if got.checkpoint != nil || len(got.keys) > 0 {
				t.Errorf("it counts: %+v %q", got.checkpoint, got.keys)
			}
		})
	}
}

// D2: where a new login in the middle of a listing shows the page before as it was, the listing is complete all the same, and
// nothing is missed: the answer that came with the new login is asked for again.
func TestD2ReloginRepeatsThePageBefore(t *testing.T) {
	pages := []string{`{"data":[{"id":1},{"id":2}]}`, `{"data":[{"id":3},{"id":4}]}`, `{"data":[{"id":5}]}`, `{"data":[]}`}
	for name, same := range map[string]bool{"same": true, "other": false} {
		t.Run(name, func(t *testing.T) {
			again, logged := 0, false
			got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
				page := q.query.Get("page")
				body := pages[page[0]-'1']
				if page == "2" {
					if again++; again == 2 && !same {
						body = `{"data":[{"id":3}]}`
					}
				}
				if page == "3" && !logged {
					logged = true
					return &fetch.Response{Status: 200, Body: []byte(body), Relogin: true}
				}
				return body
			})
			if got.err != nil || got.complete != same || len(got.keys) != 5 || again != 2 {
				t.Errorf("%v: complete %v, keys %q, the page before was asked for %d times", got.err, got.complete, got.keys, again)
			}
		})
	}
}

// D2, (10): a server that ends the session at every third page would have the page before asked for again without an end.
func TestD2ReloginAgainAndAgainEnds(t *testing.T) {
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		switch page := q.query.Get("page"); {
		case q.n > 50:
			t.Fatal("the pass does not end")
			return nil
		case page == "3":
			return &fetch.Response{Status: 200, Body: []byte(`{"data":[]}`), Relogin: true}
		default:
			return fmt.Sprintf(`{"data":[{"id":%s}]}`, page)
		}
	})
	if got.err != nil || got.complete {
		t.Error(got.err, got.complete)
	}
}

// D2: a listing that outlives its sessions is complete, where the page before shows the same under each new login, also where the
// session ends again while that is asked for.
func TestD2ListingOutlivesItsSessions(t *testing.T) {
	logins, last, asides := int64(0), "", map[string]bool{}
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		page := q.query.Get("page")
		resp := &fetch.Response{Status: 200, Body: fmt.Appendf(nil, `{"data":[{"id":%s}]}`, page)}
		switch {
		case page == "9":
			resp.Body = []byte(`{"data":[]}`)
		case page != last && !asides[page]: // the session ends at each page once, and at each repetition of the one before
			logins++
			asides[page], resp.Relogin = true, true
		case page < last:
			logins++
			resp.Relogin = true
		}
		last, resp.Logins = page, logins
		return resp
	})
	if got.err != nil || !got.complete || len(got.keys) != 8 || logins < 8 {
		t.Errorf("%v: complete %v, keys %q, %d logins", got.err, got.complete, got.keys, logins)
	}
}

// D2: who logged in again in the middle of a listing may see other records.
func TestReloginIsNotComplete(t *testing.T) {
	got := newDriver(t, bound(t, snapshotStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.n > 1 {
			return &fetch.Response{Status: 200, Body: []byte(`{"data":[]}`), Relogin: true}
		}
		return `{"data":[{"id":1}]}`
	})
	if got.err != nil || got.complete {
		t.Error(got.err, got.complete)
	}
}

// P17: a partition that the definition says to skip moves nothing.
func TestP17SkipPartition(t *testing.T) {
	stream := keysetStream + "    errors: [{status: 404, do: skip_partition}]\n"
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return &fetch.Response{Status: 404, Body: []byte(`{}`)}
	})
	if got.err != nil || got.checkpoint != nil || got.complete || len(got.notices) != 1 {
		t.Errorf("%v %+v %v %q", got.err, got.checkpoint, got.complete, got.notices)
	}
}

// P19, P24: one bad record is parked, everything else of its page goes on.
func TestP19BadRecordsAreParked(t *testing.T) {
	good := `{"id":1,"updated_at":"2026-03-10T11:00:00Z"},{"id":2,"updated_at":"2026-03-10T11:00:01Z"},`
	for _, c := range []struct{ name, row, text string }{
		{"no key", `{"updated_at":"2026-03-10T11:30:00Z"}`, "no usable key: id is not there"},
		{"null key", `{"id":null,"updated_at":"2026-03-10T11:30:00Z"}`, "id is null"},
		{"empty key", `{"id":"","updated_at":"2026-03-10T11:30:00Z"}`, "id is empty"},
		{"object key", `{"id":{},"updated_at":"2026-03-10T11:30:00Z"}`, "id is object"},
		{"another type of key", `{"id":"3","updated_at":"2026-03-10T11:30:00Z"}`, "id is a string here, and a number in the stream's first record"},
		{"long key", `{"id":` + strings.Repeat("9", 5000) + `,"updated_at":"2026-03-10T11:30:00Z"}`, "5000 bytes"},
		{"strange cursor", `{"id":3,"updated_at":"yesterday"}`, "cursor cannot be read"},
		{"name twice", `{"id":3,"id":4,"updated_at":"2026-03-10T11:30:00Z"}`, "twice"},
		{"lone surrogate", `{"id":3,"updated_at":"2026-03-10T11:30:00Z","x":"\ud800"}`, "cannot be read"},
		{"bad UTF-8", "{\"id\":3,\"updated_at\":\"2026-03-10T11:30:00Z\",\"x\":\"\xff\"}", "UTF-8"},
		{"deep", `{"id":3,"x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, "nested too deeply"},
		{"large", `{"id":3,"updated_at":"2026-03-10T11:30:00Z","x":"` + strings.Repeat("x", 9000) + `"}`, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := bound(t, keysetStream, nil)
			src.SetLimits(Limits{Record: record.Limits{RecordBytes: 8000}})
			got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
				return `{"size":100,"data":[` + good + c.row + `,{"id":5,"updated_at":"2026-03-10T11:59:00Z"}]}`
			})
			if got.err != nil || !slices.Equal(got.keys, []string{"1", "2", "5"}) || len(got.parked) != 1 {
				t.Fatalf("%v %q %v", got.err, got.keys, got.parked)
			}
			want(t, got.parked[0], cdc.Park, c.text)
			if _, scope := cdc.Verdict(got.parked[0]); scope != cdc.Record || cdc.Hint(got.parked[0]) == "" {
				t.Errorf("reach %v, hint %q", scope, cdc.Hint(got.parked[0]))
			}
			if got.checkpoint.Cursor != "2026-03-10T11:59:00Z" {
				t.Errorf("what parks commits with the cursor: %+v", got.checkpoint)
			}
			if keyless := c.name != "strange cursor" && c.name != "large"; got.complete == keyless {
				t.Errorf("complete %v: who is parked without a key is not sighted (D2)", got.complete)
			}
		})
	}
}

// P19: more than 20 and more than 5 % of a pass are not bad records.
func TestP19ManyBadRecordsHalt(t *testing.T) {
	serve := func(bad, all int) server {
		return func(q asked) any {
			var rows []string
			for i := range all {
				if i < bad {
					rows = append(rows, fmt.Sprintf(`{"no":%d,"updated_at":"2026-03-10T11:00:00Z"}`, i))
				} else {
					rows = append(rows, fmt.Sprintf(`{"id":%d,"updated_at":"2026-03-10T11:00:00Z"}`, i))
				}
			}
			return `{"size":9999,"data":[` + strings.Join(rows, ",") + `]}`
		}
	}
	for _, c := range []struct {
		bad, all int
		halts    bool
	}{{20, 20, false}, {21, 21, true}, {21, 400, true}, {21, 420, false}, {30, 500, true}} {
		got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, serve(c.bad, c.all))
		if c.halts {
			want(t, got.err, cdc.Halt, "could not be published")
		} else if got.err != nil || len(got.parked) != c.bad {
			t.Errorf("%d of %d: %v", c.bad, c.all, got.err)
		}
	}
	pos := Position{request: bound(t, keysetStream, nil).Requests[0], rows: 100}
	if err := pos.Park(20); err != nil {
		t.Error(err)
	}
	pos.counted = 3
	if err := pos.Park(3); err != nil { // Split has counted them
		t.Error(err)
	}
	want(t, pos.Park(1), cdc.Halt, "21 of 100") // the caller's own too
}

// A definition that misnames the cursor halts, it does not read everything for ever.
func TestMisnamedCursorHalts(t *testing.T) {
	for row, text := range map[string]string{
		`{"id":1,"modified":"2026-03-10T11:00:00Z"}`: `no record of the page at "data" has "updated_at"`,
		`{"id":1,"updated_at":1773140400}`:           "no record of the page at \"data\" has a cursor that can be read",
	} {
		got := newDriver(t, bound(t, keysetStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
			return `{"size":100,"data":[` + row + `]}`
		})
		want(t, got.err, cdc.Halt, text)
	}
}

// P20: filter and delete see undefined, not null, for a place that is not there; the cursor moves on filtered records too.
func TestP20FilterAndDelete(t *testing.T) {
	stream := keysetStream + "    filter: \"record.kind == 'a'\"\n    delete: \"record.archived ?? false\"\n"
	rows := `{"id":1,"kind":"a","updated_at":"2026-03-10T11:00:00Z"},{"id":2,"kind":"b","updated_at":"2026-03-10T11:00:01Z"},` +
		`{"id":3,"updated_at":"2026-03-10T11:00:02Z"},{"id":4,"kind":null,"updated_at":"2026-03-10T11:00:03Z"},` +
		`{"id":5,"archived":true,"updated_at":"2026-03-10T11:00:04Z"},{"id":6,"kind":"b","updated_at":"2026-03-10T11:00:05Z"}`
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return `{"size":100,"data":[` + rows + `]}`
	})
	wanted := map[string]Kind{"1": Live, "2": Filtered, "4": Filtered, "5": Deleted, "6": Filtered}
	if diff := cmp.Diff(wanted, got.kinds); got.err != nil || diff != "" || len(got.parked) != 1 {
		t.Fatal(got.err, diff, got.parked)
	}
	want(t, got.parked[0], cdc.Park, "record.kind")
	if got.checkpoint.Cursor != "2026-03-10T11:00:05Z" || !got.complete {
		t.Errorf("%+v, complete %v", got.checkpoint, got.complete)
	}
}

// The value is what is published, and a record without one is neither live nor gone (6).
func TestValue(t *testing.T) {
	stream := strings.Replace(changesStream, "value: doc", "value: doc\n    delete: \"record.deleted ?? false\"", 1)
	text := `{"results":[{"id":"a","doc":{"x":1}},{"id":"b","deleted":true},{"id":"c"},{"id":"d","doc":null}],"last_seq":4}`
	r := bound(t, stream, nil).Requests[0]
	pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	var page Page
	if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(text), ServerTime: noon}, nil, &page); err != nil {
		t.Fatal(err)
	}
	for i, wanted := range []string{`{"x":1}`, "", "", "null"} {
		if got := string(page.Records[i].Value.Of(page.Body)); got != wanted {
			t.Errorf("%d: %s", i, got)
		}
	}
	if page.Records[1].Kind != Deleted || page.Records[1].Err != nil {
		t.Errorf("%+v", page.Records[1])
	}
	want(t, page.Records[2].Err, cdc.Park, "`value` is absent")
	want(t, page.Records[3].Err, cdc.Park, "`value` is null")
}

// P14: the version is an integer or an instant, by default the cursor of a state feed.
func TestP14Versions(t *testing.T) {
	for version, c := range map[string]struct {
		row    string
		want   cdc.Version
		parked bool
	}{
		"":                      {`{"id":1,"updated_at":"2026-03-10T11:00:00.5Z"}`, cdc.InstantVersion(noon.Add(-time.Hour + 500*time.Millisecond)), false},
		"    version: rev\n":    {`{"id":1,"rev":7,"updated_at":"2026-03-10T11:00:00Z"}`, cdc.IntegerVersion(7), false},
		"    version: rev \n":   {`{"id":1,"rev":"9","updated_at":"2026-03-10T11:00:00Z"}`, cdc.IntegerVersion(9), false},
		"    version: rev  \n":  {`{"id":1,"rev":"2026-03-10T12:00:00Z","updated_at":"2026-03-10T11:00:00Z"}`, cdc.InstantVersion(noon), false},
		"    version: rev   \n": {`{"id":1,"rev":null,"updated_at":"2026-03-10T11:00:00Z"}`, cdc.Version{}, false},
		"    version:  rev\n":   {`{"id":1,"rev":"3-abc","updated_at":"2026-03-10T11:00:00Z"}`, cdc.Version{}, true},
	} {
		r := bound(t, keysetStream+version, nil).Requests[0]
		pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
		var page Page
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(`{"size":9,"data":[` + c.row + `]}`), ServerTime: noon}, nil, &page); err != nil {
			t.Fatal(err)
		}
		if rec := page.Records[0]; rec.Version != c.want || (rec.Err != nil) != c.parked {
			t.Errorf("%s: %v %v", c.row, rec.Version, rec.Err)
		}
	}
}

// P24, K4: the bytes of a key.
func TestP24Keys(t *testing.T) {
	snapshot := func(key, rest string) string {
		return "\n    path: /things\n    records: .\n    primary_key: " + key + "\n" + rest
	}
	view := "    partition: {view: \"{{ config.views }}\", n: [7]}\n    headers: {x-view: \"{{ partition.view }}\"}\n"
	content := sha256.Sum256([]byte(`{"a":"1","id":1}`))
	for _, c := range []struct{ name, stream, rows, want string }{
		{"number", snapshot("id", ""), `[{"id":1},{"id":-20},{"id":1e2},{"id":10.50}]`, "1|-20|100|10.5"},
		{"text", snapshot("id", ""), `[{"id":"a b"},{"id":"x\u0041\"y"},{"id":"é"}]`, `a b|xA"y|é`},
		{"nested", snapshot("a.id", ""), `[{"a":{"id":1}}]`, "1"},
		{"several", snapshot("[b, a]", ""), `[{"a":1,"b":"x\u0041\"y"},{"a":2,"b":"/<>"}]`, `["xA\"y",1]|["/<>",2]`},
		{"partition", snapshot("id", view), `[{"id":1}]`, `[7,"q\"<v",1]`},
		{"partition and several", snapshot("[id, a]", view), `[{"id":1,"a":"x"}]`, `[7,"q\"<v",1,"x"]`},
		{"key_scope: stream", snapshot("id", view+"    key_scope: stream\n"), `[{"id":1}]`, "1"},
		{"key_scope: stream, several", snapshot("[id, a]", view+"    key_scope: stream\n"), `[{"id":1,"a":"x"}]`, `[1,"x"]`},
		{"content", snapshot("content", ""), `[{"id":1,"a":"1"},{"a":"\u0031","id":1.0}]`, hex.EncodeToString(content[:]) + "|" + hex.EncodeToString(content[:])},
		{"content of a partition", snapshot("content", view), `[{"id":1,"a":"1"}]`, `[7,"q\"<v","` + hex.EncodeToString(content[:]) + `"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := bound(t, c.stream, map[string]any{"views": []any{`q"<v`}})
			r := src.Requests[0]
			d := newDriver(t, src)
			got := d.pass(r.Partitions()[0], cdc.Checkpoint{}, 0, func(asked) any { return c.rows })
			if s := strings.Join(got.keys, "|"); got.err != nil || s != c.want {
				t.Fatalf("%v %s, want %s", got.err, s, c.want)
			}
			// The fast path makes the same key of the same bytes.
			var page Page
			pos, _ := r.Begin(r.Partitions()[0], cdc.Checkpoint{}, noon)
			resp := &fetch.Response{Status: 200, Body: []byte(c.rows), ServerTime: noon}
			if err := r.Split(&pos, resp, nil, &page); err != nil {
				t.Fatal(err)
			}
			remember(d.table, &page)
			slow := slices.Clone(page.Records)
			for i := range slow {
				slow[i].Key = slices.Clone(slow[i].Key)
			}
			var again Page
			if err := r.Split(&pos, resp, func(int) record.Known { return d.table }, &again); err != nil {
				t.Fatal(err)
			}
			for i, rec := range again.Records {
				if string(rec.Key) != string(slow[i].Key) || rec.KeyHash != slow[i].KeyHash || rec.RawHash != slow[i].RawHash || rec.Raw != slow[i].Raw {
					t.Errorf("%d: %s %+v, %s %+v", i, rec.Key, rec, slow[i].Key, slow[i])
				}
			}
		})
	}
}

// remember does what the state table does when a page is settled.
func remember(to table, page *Page) {
	for _, rec := range page.Records {
		to[string(rec.Key)] = record.RawHint{Len: uint32(rec.Raw.Len()), Hash: rec.RawHash, Version: rec.Version}
	}
}

// P24: the type of a key is learnt, kept, and given back.
func TestP24KeyTypeIsLearnt(t *testing.T) {
	stream := "\n    path: /things\n    records: .\n    primary_key: id\n"
	src := bound(t, stream, nil)
	d := newDriver(t, src)
	if got := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `[{"id":"7"}]` }); got.err != nil || src.Streams[0].KeyType != "string" {
		t.Errorf("%v %q", got.err, src.Streams[0].KeyType)
	}
	src = bound(t, stream, nil)
	src.Streams[0].KeyType = "string" // as restored
	got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any { return `[{"id":7},{"id":"7"}]` })
	if got.err != nil || len(got.parked) != 1 || !slices.Equal(got.keys, []string{"7"}) {
		t.Errorf("%v %v %q", got.err, got.parked, got.keys)
	}
}

// people is a page of n records of about 1.5 KB, all of them unchanged in the table.
func people(t testing.TB, stream string, n int) (*Request, []byte, table) {
	t.Helper()
	def, err := Parse("test.yaml", []byte("source: test\nconfig: {start: {optional: true}}\nbase_url: https://api.test/v1\nauthenticator: {type: none}\nstreams:\n  things:\n"+stream))
	if err != nil {
		t.Fatal(err)
	}
	src, err := def.Bind("conn", nil, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"size":%d,"data":[`, n)
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"id":%d,"updated_at":"%s","name":"person %d","note":"%s","tags":["a","b"],"counts":{"sent":%d}}`,
			i+1, at(time.Duration(i-n)*time.Second), i, strings.Repeat("lorem ipsum ", 110), i)
	}
	b.WriteString("]}")
	r, known := src.Requests[0], table{}
	var page Page
	pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(b.String()), ServerTime: noon}, nil, &page); err != nil {
		t.Fatal(err)
	}
	remember(known, &page)
	return r, []byte(b.String()), known
}

// An unchanged record costs no allocation: a page of 1000 costs what a page of 100 costs.
func TestUnchangedRecordsAllocateNothing(t *testing.T) {
	for name, stream := range map[string]string{"keyset": keysetStream, "page": snapshotStream} {
		measure := func(n int) float64 {
			r, text, known := people(t, stream, n)
			pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
			resp := &fetch.Response{Status: 200, Body: text, ServerTime: noon}
			give := func(int) record.Known { return known }
			var page Page
			return testing.AllocsPerRun(20, func() {
				p := pos
				if err := r.Split(&p, resp, give, &page); err != nil {
					t.Fatal(err)
				}
				for i := range page.Records {
					if !page.Records[i].Same {
						t.Fatalf("record %d was parsed", i)
					}
				}
			})
		}
		small, large := measure(100), measure(1000)
		t.Logf("%s: %v allocations a page of 100, %v of 1000", name, small, large)
		if name == "keyset" && (large > small || small > 12) {
			t.Errorf("%s: %v allocations a page of 100, %v of 1000", name, small, large)
		}
		if perRecord := (large - small) / 900; perRecord > 0.2 { // page: the set of sightings (P9) doubles now and then
			t.Errorf("%s: %v allocations a record", name, perRecord)
		}
	}
}

// The fast path believes nothing but the hash: every byte that changes is noticed, and what was changed is parsed.
func TestFastPathNoticesEveryByte(t *testing.T) {
	r, text, known := people(t, keysetStream, 3)
	give := func(int) record.Known { return known }
	for i := range text {
		changed := slices.Clone(text)
		changed[i] ^= 1
		var page Page
		pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: changed, ServerTime: noon}, give, &page); err != nil {
			var e *cdc.Error
			if !errors.As(err, &e) {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		for _, rec := range page.Records {
			inside := int(rec.Raw.Off) <= i && i < int(rec.Raw.End)
			if rec.Same && inside {
				t.Fatalf("byte %d changed, and its record is the same", i)
			}
		}
	}
}

// Whatever stands in a page, Split neither panics nor reads outside of it; the fast path finds what the scanner finds.
func FuzzSplit(f *testing.F) {
	r, text, known := people(f, keysetStream, 2)
	f.Add(text)
	f.Add([]byte(`{"size":3,"data":[{"id":1,"updated_at":null}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var slow, fast Page
		for _, p := range []*Page{&slow, &fast} {
			give := func(int) record.Known { return known }
			if p == &slow {
				give = nil
			}
			pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
			if err := r.Split(&pos, &fetch.Response{Status: 200, Body: text, ServerTime: noon}, give, p); err != nil {
				p.Rows = -1
			}
		}
		if slow.Rows != fast.Rows || len(slow.Records) != len(fast.Records) {
			t.Fatalf("%d records by the scanner, %d by the fast path", len(slow.Records), len(fast.Records))
		}
	})
}

func BenchmarkSplitUnchanged(b *testing.B) {
	r, text, known := people(b, keysetStream, 1000)
	resp := &fetch.Response{Status: 200, Body: text, ServerTime: noon}
	give := func(int) record.Known { return known }
	pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	var page Page
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		p := pos
		if err := r.Split(&p, resp, give, &page); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

func BenchmarkSplitChanged(b *testing.B) {
	r, text, _ := people(b, keysetStream, 1000)
	resp := &fetch.Response{Status: 200, Body: text, ServerTime: noon}
	pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	var page Page
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		p := pos
		if err := r.Split(&p, resp, nil, &page); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

// P7 on the fast path: where the version is not the cursor, the cursor of an unchanged record is found in its bytes; the
// order is verified either way.
func TestP7UnchangedRecordsAreOrderedToo(t *testing.T) {
	for _, version := range []string{"", "    version: rev\n"} {
		row := func(id int, d time.Duration) string {
			return fmt.Sprintf(`{"id":%d,"rev":%d,"updated_at":"%s"}`, id, id, at(d))
		}
		r := bound(t, keysetStream+version, nil).Requests[0]
		known := table{}
		split := func(rows ...string) (Page, error) {
			pos, _ := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
			var page Page
			err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(`{"size":2,"data":[` + strings.Join(rows, ",") + `]}`), ServerTime: noon},
				func(int) record.Known { return known }, &page)
			return page, err
		}
		first, err := split(row(1, -2*time.Hour), row(2, -time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		remember(known, &first)
		again, err := split(row(1, -2*time.Hour), row(2, -time.Hour))
		if err != nil || !again.Records[0].Same || !again.Records[1].Same || again.Checkpoint.Cursor != at(-time.Hour) {
			t.Fatalf("%v %+v %+v", err, again.Records, again.Checkpoint)
		}
		_, err = split(row(2, -time.Hour), row(1, -2*time.Hour))
		want(t, err, cdc.Halt, "order is not ascending")
	}
}

// P13: an entry without an id is parked: whether it was read before cannot be told.
func TestP13EntryWithoutID(t *testing.T) {
	got := newDriver(t, bound(t, logStream, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return `{"size":9,"data":[{"thing":"a","updated_at":"2026-03-10T11:00:00Z"},{"id":2,"thing":"a","updated_at":"2026-03-10T11:00:00Z"},{"id":2,"thing":"a","updated_at":"2026-03-10T11:00:00Z"}]}`
	})
	if got.err != nil || len(got.keys) != 1 || got.skipped != 1 || len(got.parked) != 1 {
		t.Fatalf("%v %q %v", got.err, got.keys, got.parked)
	}
	want(t, got.parked[0], cdc.Park, "record_id is absent")
}

// `last` is the last record of the page before; escapes in places are read.
func TestLastAndEscapes(t *testing.T) {
	stream := "\n    path: /things\n    query: {page: \"{{ page }}\", after: \"{{ last.name }}\"}\n    records: data\n    primary_key: id\n    paginator: {type: page}\n"
	got := newDriver(t, bound(t, stream, nil)).pass(Partition{Name: "view=a"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.n == 2 {
			return `{"data":[]}`
		}
		return `{"data":[{"id":"a\/b","name":"x\u0041"}]}`
	})
	if got.err != nil || !slices.Equal(got.keys, []string{"a/b"}) || got.queries[1] != "/v1/things?page=2&after=xA" {
		t.Errorf("%v %q %q", got.err, got.keys, got.queries)
	}
	if p := &got.last; p.Partition().Name != "view=a" || p.Stage() != "page" || p.Pages() != 2 || p.Deep() || p.Checkpoint().Passes != 1 {
		t.Errorf("%v %v %v", p.Partition(), p.Stage(), p.Pages())
	}
}

// An optional setting leaves its parameter out; a lookup that was not declared is refused.
func TestCompose(t *testing.T) {
	stream := "\n    path: /things\n    query: {q: \"{{ config.start }}\"}\n    records: data\n    primary_key: id\n"
	r := bound(t, stream, nil).Requests[0]
	pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if req, err := r.Compose(&pos); err != nil || req.URL != "https://api.test/v1/things" {
		t.Errorf("optional: %+v %v", req, err)
	}
	if _, err := r.Lookup(0, []byte("1")); err == nil {
		t.Error("a lookup that was not declared")
	}
}

// P8 on the fast path: an unchanged record whose cursor is null is recognised too, and counts as a tie.
func TestP8UnchangedNullCursors(t *testing.T) {
	src := bound(t, keysetStream, nil)
	d := newDriver(t, src)
	text := `{"size":9,"data":[{"id":1,"updated_at":null},{"id":2,"updated_at":"2026-03-10T11:00:00Z"}]}`
	for i := range 2 {
		pos, _ := src.Requests[0].Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
		var page Page
		if err := src.Requests[0].Split(&pos, &fetch.Response{Status: 200, Body: []byte(text), ServerTime: noon}, func(int) record.Known { return d.table }, &page); err != nil {
			t.Fatal(err)
		}
		if page.Records[0].Same != (i == 1) || page.Checkpoint.Cursor != "2026-03-10T11:00:00Z" {
			t.Errorf("%d: %+v %+v", i, page.Records[0], page.Checkpoint)
		}
		remember(d.table, &page)
	}
}
