package source

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

func whole(buf []byte) record.Span { return record.Span{Off: 0, End: int32(len(buf))} }

// decide compiles a condition and evaluates it on a record, as the scanner would show it.
func decide(t *testing.T, text, rec string) (bool, error) {
	t.Helper()
	var places []record.Path
	sc := (&scope{partitions: []string{"view"}}).with("a condition over records", "record", "partition", "now")
	sc.slot = func(p record.Path) int { places = append(places, p); return len(places) - 1 }
	e, err := compile(text, sc, boolean)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	spans := make([]record.Span, len(places))
	for i, p := range places {
		spans[i], _ = p.Find([]byte(rec), whole([]byte(rec)))
	}
	return newCondition("filter", e).clone().eval([]byte(rec), spans, &vars{partition: map[string]any{"view": "a"}, now: time.Unix(100, 0)})
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		text, rec string
		want      bool
	}{
		{"record.deleted ?? false", `{"deleted":true}`, true},
		{"record.deleted ?? false", `{}`, false},
		{"record.deleted ?? false", `{"deleted":null}`, false},
		{"record.a.b == 1", `{"a":{"b":1}}`, true},
		{"record.a[1] == 'x'", `{"a":[0,"x"]}`, true},
		{`record["a b"] == 'x'`, `{"a b":"x"}`, true},
		{"record.n == 9007199254740993", `{"n":9007199254740993}`, true}, // int64, not float64
		{"record.n == 9007199254740993", `{"n":9007199254740992}`, false},
		{"record.n == '123456789012345678901'", `{"n":123456789012345678901}`, true}, // larger ones keep their text
		{"record.x == nil", `{"x":null}`, true},                                      // null is not undefined
		{"record.id startsWith '_design/'", `{"id":"_design/x"}`, true},
		{"record.live && (record.end ?? 0) < unix(now)", `{"live":true,"end":99}`, true},
		{"record.live || record.gone", `{"live":true}`, true}, // what is not evaluated need not be there
		{"partition.view == 'a' && record.tags != nil && length(filter(record.tags, # == 'x')) > 0", `{"tags":["y","x"]}`, true},
		{"length(filter(record.items, (.kind ?? '') == 'k')) == 1", `{"items":[{"kind":"k"},{}]}`, true},
		{"(record.a ?? record.b ?? 0) == 2", `{"b":2}`, true},
		{"(record.a.b.c ?? 'none') == 'none'", `{"a":7}`, true},
		{"parse_time(record.at) < now", `{"at":"1970-01-01T00:00:01Z"}`, true},
		{"record != nil", `{}`, true},
	} {
		if got, err := decide(t, c.text, c.rec); err != nil || got != c.want {
			t.Errorf("%s on %s: %v %v", c.text, c.rec, got, err)
		}
	}
}

// TestP20Undefined proves that filter and delete see undefined: the record is parked unless the expression says ?? x.
func TestP20Undefined(t *testing.T) {
	for _, c := range []struct{ text, rec, want string }{
		{"record.deleted == true", `{}`, "record.deleted is not there"},
		{"!record.deleted", `{}`, "record.deleted is not there"},
		{"record.a.b == nil", `{"a":null}`, "record.a.b is not there"},
		{"record.a == record.b", `{"a":1}`, "record.b is not there"},
		{"record.list[3] == 1", `{"list":[1]}`, "record.list[3] is not there"},
		{"lower(record.name) == 'x'", `{}`, "record.name is not there"},
		{"length(filter(record.items, .kind == 'k')) == 1", `{"items":[{"kind":"k"},{}]}`, ".kind is not there"},
		{"(record.a ?? record.b) == 1", `{}`, "record.b is not there"},
		{"record.live", `{"live":"yes"}`, "gave a text"},
		{"record.live", `{"live":null}`, "gave null"},
		{"record.n > 1", `{"n":"2"}`, ""},
		{"record.id startsWith '_'", `{"id":5}`, "a value is a number, and a text is wanted"},
	} {
		_, err := decide(t, c.text, c.rec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: %v", c.text, c.rec, err)
			continue
		}
		if r, s := cdc.Verdict(err); r != cdc.Park || s != cdc.Record || cdc.Hint(err) == "" {
			t.Errorf("%s: %v %v %q", c.text, r, s, cdc.Hint(err))
		}
	}
}

func TestPlacesArePlannedOnce(t *testing.T) {
	s := mustBind(t, withStream("filter: record.id != 'x' && record.live\ndelete: (record.gone ?? record.id) == 'y'"), nil)
	var got []string
	for _, p := range s.Streams[0].places {
		got = append(got, p.String())
	}
	if strings.Join(got, " ") != "id live gone" || s.Streams[0].keySlots[0] != 0 {
		t.Errorf("%q %v", got, s.Streams[0].keySlots)
	}
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		text, body string
		want       bool
		fails      bool
	}{
		{"hasMore", `{"hasMore":true}`, true, false},
		{"hasMore", `{"hasMore":false}`, false, false},
		{"hasMore", `{}`, false, false},
		{"hasMore", `{"hasMore":null}`, false, false},
		{"paging.pending", `{"paging":{"pending":3}}`, true, false},
		{"paging.pending", `{"paging":{"pending":0}}`, false, false},
		{"next", `{"next":"abc"}`, true, false},
		{"next", `{"next":""}`, false, false},
		{"next", `{"next":{}}`, false, true}, // neither yes nor no: the pass must not end by it
		{"response.body.pending > 0", `{"pending":3}`, true, false},
		{"response.body.pending > 0", `{}`, false, true},
		{"(response.body.pending ?? 0) > 0", `{}`, false, false},
		{"response.status == 200 && response.headers['X-More'] == 'yes'", `{}`, true, false},
		{"response.headers.nothing == nil", `{}`, true, false},
		{"response.body.error.code == 'busy'", `<html>`, false, false}, // null-safe, also where there is no JSON
		{"error.code", `<html>`, false, false},
		{"error", `{"error":`, false, false},
		{"response.body contains 'html'", `<html>`, true, false},
		{"response.body.list[0].x == 1", `{"list":[{"x":1}]}`, true, false},
		{"response.body[partition.view] == 1", `{"a":1}`, true, false},
	} {
		r := &linter{file: "x"}
		sc := (&scope{partitions: []string{"view"}}).with("an answer", "response", "partition")
		sig := r.signal(scalar(c.text), "more", sc)
		if len(r.problems) > 0 {
			t.Fatalf("%s: %v", c.text, r.problems)
		}
		resp := &response{status: 200, header: http.Header{"X-More": {"yes"}}, body: []byte(c.body)}
		got, err := sig.eval(resp, &vars{partition: map[string]any{"view": "a"}})
		if (err != nil) != c.fails || got != c.want {
			t.Errorf("%s on %s: %v %v", c.text, c.body, got, err)
		}
		if r, s := cdc.Verdict(err); err != nil && (r != cdc.Halt || s != cdc.Stream) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

func TestKeyNames(t *testing.T) {
	s := mustBind(t, strings.Replace(withStream("partition: {view: [a]}"), "primary_key: id", "primary_key: [owner.id, owner.kind, n]", 1), nil)
	got := s.Streams[0].keyNames(map[string]any{"view": "a"}, []any{"o", "k", int64(3)})
	want := map[string]any{"view": "a", "owner": map[string]any{"id": "o", "kind": "k"}, "n": int64(3)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func BenchmarkCondition(b *testing.B) {
	rec := []byte(`{"id":"doc","deleted":false}`)
	var places []record.Path
	sc := (&scope{}).with("x", "record")
	sc.slot = func(p record.Path) int { places = append(places, p); return len(places) - 1 }
	e, err := compile("!(record.id startsWith '_design/')", sc, boolean)
	if err != nil {
		b.Fatal(err)
	}
	c := newCondition("filter", e)
	span, _ := places[0].Find(rec, whole(rec))
	spans, v := []record.Span{span}, &vars{}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := c.eval(rec, spans, v); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
