package source

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

const restarted = `
    path: /things
    query: {cursor: "{{ cursor }}"}
    records: data
    primary_key: id
    incremental: {type: opaque, next: next, more: more}
    errors:
      - {status: 409, do: restart_pass, cursor_from: error.cursor}
      - {status: 410, do: expired, cursor_from: "regex_find(response.headers.location ?? '', 'token=([^&]+)', 1)"}
      - {status: 400, do: expired}
`

// P17: an answer may say where the next pass is to begin, in its body or its headers. Where it should and does not, the stream
// halts: any other beginning would be a guess (7).
func TestP17CursorFromTheAnswer(t *testing.T) {
	for _, c := range []struct {
		status       int
		body, header string
		remedy       cdc.Remedy
		cursor, say  string
	}{
		{409, `{"error":{"cursor":"c7"}}`, "", cdc.Restart, "c7", "declared as restart_pass"},
		{409, `{"error":{"cursor":12}}`, "", cdc.Restart, "12", ""},
		{409, `{"error":{"cursor":null}}`, "", cdc.Halt, "", "cannot be read"},
		{409, `{"error":{"cursor":[1]}}`, "", cdc.Halt, "", "a list, not a text"},
		{409, `<html>`, "", cdc.Halt, "", "cannot be read"},
		{409, `{"error":{"cursor":"` + strings.Repeat("x", maxCursor+1) + `"}}`, "", cdc.Halt, "", "16384 are allowed"},
		{410, `{}`, "https://api.test/v1/delta?token=t9&x=1", cdc.Expired, "t9", "declared as expired"},
		{410, `{}`, "", cdc.Halt, "", "cannot be read"},
		{400, `{}`, "", cdc.Expired, "", "declared as expired"},
	} {
		got := newDriver(t, bound(t, restarted, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: "old", Passes: 1}, 0, func(asked) any {
			h := http.Header{"Content-Type": {"application/json"}}
			if c.header != "" {
				h.Set("Location", c.header)
			}
			return &fetch.Response{Status: c.status, Body: []byte(c.body), Header: h}
		})
		want(t, got.err, c.remedy, c.say)
		if cursor, ok := CursorFrom(got.err); cursor != c.cursor || ok != (c.cursor != "") {
			t.Errorf("%d %s: %q %v", c.status, c.body, cursor, ok)
		}
	}
	sequence := strings.Replace(restarted, "opaque", "sequence", 1)
	got := newDriver(t, bound(t, sequence, nil)).pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(asked) any {
		return &fetch.Response{Status: 409, Body: []byte(`{"error":{"cursor":"c7"}}`)}
	})
	want(t, got.err, cdc.Halt, "is not an integer")
}

// park_record is about requests for one record: an answer to a lookup sets the record aside, the same answer to a list does not.
func TestParkRecordIsOfLookups(t *testing.T) {
	stream := listStream + "    errors: [{status: 403, do: park_record, hint: it is private}]\n" +
		"    reconcile: {lookup: {path: \"/things/{{ key.id }}\"}}\n"
	src := bound(t, stream, nil)
	r := src.Requests[0]
	req, err := r.Lookup(0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	err = req.Judge(&fetch.Response{Status: 403})
	want(t, err, cdc.Park, "declared as park_record")
	if _, scope := cdc.Verdict(err); scope != cdc.Record || cdc.Hint(err) != "it is private" {
		t.Errorf("%v %q", scope, cdc.Hint(err))
	}
	pos, err := r.Begin(Partition{Name: "-"}, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.Compose(&pos)
	if err != nil {
		t.Fatal(err)
	}
	want(t, list.Judge(&fetch.Response{Status: 403}), cdc.Halt, "403")
}

// P11: a lookup that is set aside bears no witness against an empty answer.
func TestP11ParkedWitness(t *testing.T) {
	stream := listStream + "    errors: [{status: 403, do: park_record}]\n    reconcile: {lookup: {path: \"/things/{{ key.id }}\"}}\n"
	d := newDriver(t, bound(t, stream, nil))
	first := d.pass(Partition{Name: "-"}, cdc.Checkpoint{}, 0, func(q asked) any {
		if q.n == 1 {
			return map[string]any{"data": []any{thing{7, noon.Add(-time.Hour)}.json()}}
		}
		return map[string]any{"data": []any{}}
	})
	asked1 := 0
	got := d.pass(Partition{Name: "-"}, *first.checkpoint, 0, func(q asked) any {
		if strings.HasPrefix(q.path, "/v1/things/") {
			asked1++
			return &fetch.Response{Status: 403, Body: []byte(`{"error":"private"}`)}
		}
		return map[string]any{"data": []any{}}
	})
	if first.err != nil || got.err != nil || asked1 != 1 || !got.last.checkpoint.Ended.Equal(noon) {
		t.Errorf("%v, %v, %d lookups", first.err, got.err, asked1)
	}
}

// P17: a dead page token restarts the pass, a dead cursor begins a full one; the one is not taken for the other.
func TestP17DeadTokenIsNoExpiredCursor(t *testing.T) {
	src := bound(t, keysetStream+"    errors: [{status: 400, do: restart_pass}, {status: 422, do: expired}]\n", nil)
	for status, remedy := range map[int]cdc.Remedy{400: cdc.Restart, 422: cdc.Expired, 410: cdc.Expired} {
		got := newDriver(t, src).pass(Partition{Name: "-"}, cdc.Checkpoint{Cursor: at(-time.Minute), Passes: 1}, 0, func(asked) any {
			return &fetch.Response{Status: status, Body: []byte(`{}`)}
		})
		want(t, got.err, remedy, "")
	}
	cp := Restart(cdc.Checkpoint{Cursor: "c", Anchor: "a", Start: "s", Began: noon, Passes: 3})
	if cp.Cursor != "c" || cp.Anchor != "" || cp.Start != "" || !cp.Began.IsZero() || cp.Passes != 3 {
		t.Errorf("a restarted pass goes on from %+v", cp)
	}
}
