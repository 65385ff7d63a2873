package source

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// family has events, their items by two kinds, and what is bid for each item.
const family = `source: gala
config: {event_ids: {type: list, default: []}, kinds: {type: list, default: [a, b]}}
base_url: https://api.test
streams:
  events: {path: /events, records: data, primary_key: id, version: n}
  items:
    path: "/events/{{ partition.event.id }}/items/{{ partition.kind }}"
    query: {zone: "{{ partition.event.place.zone ?? 'UTC' }}", tag: "{{ partition.event.tags[0] ?? 'none' }}"}
    records: data
    primary_key: id
    filter: "(record.live ?? true) && (partition.event.open ?? true)"
    partition: {event: {stream: events, or: "{{ config.event_ids }}", when: changed}, kind: "{{ config.kinds }}"}
    interval:
      - {when: "(partition.event.start ?? 0) <= unix(now) && unix(now) <= (partition.event.end ?? 0)", every: 3m}
      - {every: 24h}
    reconcile: {lookup: {path: "/events/{{ key.event.id }}/items/{{ key.id }}", query: {zone: "{{ partition.event.place.zone ?? 'UTC' }}"}}}
  bids:
    path: "/items/{{ partition.item.id }}/bids"
    records: data
    primary_key: id
    partition: {item: {stream: items}}
  seats:
    path: "/venues/{{ partition.event.place.hall }}/{{ partition.event.place.floor }}/seats"
    records: data
    primary_key: [row, n]
    partition: {event: {stream: events, by: [place.hall, place.floor], fields: [name]}}
`

func requestNamed(t *testing.T, s *Source, name string) *Request {
	t.Helper()
	i := slices.IndexFunc(s.Requests, func(r *Request) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("no request %s", name)
	}
	return s.Requests[i]
}

func jsonOfParent(t *testing.T, parent map[string]json.RawMessage) string {
	t.Helper()
	b, err := json.Marshal(parent)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sighted is what a child keeps of a parent's record.
func sighted(t *testing.T, l *Lineage, text string) map[string]json.RawMessage {
	t.Helper()
	body := []byte(text)
	fields, err := l.Sight(&Record{Raw: record.All(body)}, body)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// P21: a child keeps the fields that its templates, rules and conditions use, and those that are its value in the key.
func TestP21FieldsThatAreKept(t *testing.T) {
	s := mustBind(t, family, nil)
	for name, want := range map[string][]string{
		"items": {"event.end", "event.id", "event.open", "event.place.zone", "event.start", "event.tags"},
		"bids":  {"item.id"},
		"seats": {"event.name", "event.place.floor", "event.place.hall"},
	} {
		if d := cmp.Diff(want, requestNamed(t, s, name).Lineage().Fields()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	events := s.Streams[0]
	if len(events.Children) != 2 || events.Children[0].Child.Name != "items" || !events.Children[0].Changed || events.Children[1].Changed {
		t.Errorf("children of events: %+v", events.Children)
	}
	if l := requestNamed(t, s, "bids").Lineage(); l.Parent == nil || l.Parent.Name != "items" || l.Name() != "item" {
		t.Errorf("a child of a child: %+v", l)
	}
}

// P21, P24: a parent's record becomes partitions, one for each combination with the lists; they are rebuilt from what their
// checkpoints keep, with the types that they had.
func TestP21PartitionsOfAParent(t *testing.T) {
	s := mustBind(t, family, nil)
	r := requestNamed(t, s, "items")
	if got := r.Partitions(); len(got) != 0 {
		t.Errorf("partitions before a parent was seen: %+v", got)
	}
	fields := sighted(t, r.Lineage(), `{"id":7,"name":"Gala","start":100, "end":200,"place":{"zone":"Europe/Berlin"},"tags":["x","y"]}`)
	if d := cmp.Diff(`{"event.end":200,"event.id":7,"event.place.zone":"Europe/Berlin","event.start":100,"event.tags":["x","y"]}`, jsonOfParent(t, fields)); d != "" {
		t.Error(d)
	}
	parts, err := r.Lineage().Partitions(fields)
	if err != nil || len(parts) != 2 || parts[0].Name != "event=7,kind=a" || parts[1].Name != "event=7,kind=b" {
		t.Fatalf("%+v %v", parts, err)
	}
	again, ok := r.Revive("event=7,kind=b", fields)
	if d := cmp.Diff(parts[1], again); d != "" || !ok {
		t.Error(ok, d)
	}
	for _, name := range []string{"event=8,kind=b", "event=7,kind=c", "event=7", "-", "event=7,kind=%zz", "event=7,kind=b,more=1"} {
		if p, ok := r.Revive(name, fields); ok {
			t.Errorf("%s is %+v", name, p)
		}
	}
	if _, ok := r.Revive("event=7,kind=b", nil); ok {
		t.Error("a partition of nothing")
	}
	pos, err := r.Begin(again, cdc.Checkpoint{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	req, err := r.Compose(&pos)
	if err != nil || req.URL != "https://api.test/events/7/items/b?zone=Europe%2FBerlin&tag=x" {
		t.Errorf("%+v %v", req, err)
	}
	var page Page
	answer := &fetch.Response{Status: 200, Body: []byte(`{"data":[{"id":"i1"}]}`), ServerTime: noon}
	if err := r.Split(&pos, answer, nil, &page); err != nil || string(page.Records[0].Key) != `[7,"b","i1"]` {
		t.Errorf("%s %v", page.Records[0].Key, err)
	}
	for at, want := range map[int64]time.Duration{150: 3 * time.Minute, 250: 24 * time.Hour} {
		if every, err := r.Every(again, time.Unix(at, 0)); err != nil || every != want {
			t.Errorf("at %d every %s (%v), want %s", at, every, err, want)
		}
	}
}

// P24: several fields are the value together: a list in the name, one after the other in the key.
func TestP24SeveralFieldsAreTheValue(t *testing.T) {
	s := mustBind(t, family, nil)
	r := requestNamed(t, s, "seats")
	fields := sighted(t, r.Lineage(), `{"id":7,"place":{"hall":"north, left","floor":2}}`)
	parts, err := r.Lineage().Partitions(fields)
	if err != nil || len(parts) != 1 || parts[0].Name != "event=%5B%22north%2C+left%22%2C2%5D" {
		t.Fatalf("%+v %v", parts, err)
	}
	if again, ok := r.Revive(parts[0].Name, fields); !ok || cmp.Diff(parts[0], again) != "" {
		t.Errorf("%+v", again)
	}
	pos, _ := r.Begin(parts[0], cdc.Checkpoint{}, noon)
	var page Page
	answer := &fetch.Response{Status: 200, Body: []byte(`{"data":[{"row":"A","n":1}]}`), ServerTime: noon}
	if err := r.Split(&pos, answer, nil, &page); err != nil || string(page.Records[0].Key) != `["north, left",2,"A",1]` {
		t.Fatalf("%s %v", page.Records[0].Key, err)
	}
	values, rest, err := s.Streams[3].fields(page.Records[0].Key)
	if err != nil || r.partitionNameOf(values) != parts[0].Name || len(rest) != 2 {
		t.Errorf("%v %v %v", values, rest, err)
	}
	for _, gone := range []string{`{"id":7}`, `{"id":7,"place":{"hall":"x","floor":null}}`} {
		if fields := sighted(t, r.Lineage(), gone); fields != nil {
			t.Errorf("%s has children: %v", gone, fields)
		}
	}
	body := []byte(`{"id":7,"place":{"hall":1.5,"floor":2}}`)
	_, err = r.Lineage().Sight(&Record{Raw: record.All(body)}, body)
	want(t, err, cdc.Park, "place.hall is a number")
}

// P21: ids from the configuration: texts, numbers, maps.
func TestP21IdsFromTheConfiguration(t *testing.T) {
	ids := []any{"x y", 7, map[string]any{"id": int64(8), "start": 1, "end": int64(1e12), "place": map[string]any{"zone": "CET"}, "note": "not used"}}
	s := mustBind(t, family, map[string]any{"event_ids": ids, "kinds": []any{"a"}})
	r := requestNamed(t, s, "items")
	var got []string
	for _, p := range r.Partitions() {
		pos, err := r.Begin(p, cdc.Checkpoint{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		req, err := r.Compose(&pos)
		if err != nil {
			t.Fatal(err)
		}
		every, err := r.Every(p, noon)
		got = append(got, strings.Join([]string{p.Name, jsonOfParent(t, p.Parent), req.URL, every.String()}, " "))
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`event=x+y,kind=a {"event.id":"x y"} https://api.test/events/x%20y/items/a?zone=UTC&tag=none 24h0m0s`,
		`event=7,kind=a {"event.id":7} https://api.test/events/7/items/a?zone=UTC&tag=none 24h0m0s`,
		`event=8,kind=a {"event.end":1000000000000,"event.id":8,"event.place.zone":"CET","event.start":1} https://api.test/events/8/items/a?zone=CET&tag=none 3m0s`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// A record and a configured id with another type are one partition, and it keeps the type of its keys.
	l := r.Lineage()
	kept := l.Keep(sighted(t, l, `{"id":"7","start":5}`), map[string]json.RawMessage{"event.id": json.RawMessage("7")})
	if d := cmp.Diff(`{"event.id":7,"event.start":5}`, jsonOfParent(t, kept)); d != "" {
		t.Error(d)
	}
	chosen := Overrides{Streams: map[string]StreamOverride{"items": {}}}
	alone, err := mustParse(t, family).Bind("c", map[string]any{"event_ids": ids}, chosen)
	if err != nil || alone.Requests[0].Lineage().Parent != nil {
		t.Errorf("without its parent: %v", err)
	}
	for _, c := range []struct {
		ids  []any
		want string
	}{
		{nil, "stream items: its partitions are the records of stream events, which is not chosen, and the configuration names none"},
		{[]any{"7", 7}, "partition event has 7 twice"},
		{[]any{""}, "a value is empty"},
		{[]any{map[string]any{"name": "x"}}, "an element of the list has no id"},
		{[]any{map[string]any{"id": []any{1}}}, "a list, and a partition is named by texts and whole numbers"},
	} {
		if _, err := mustParse(t, family).Bind("c", map[string]any{"event_ids": c.ids}, chosen); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.ids, err)
		}
	}
}

// P20, P21: in a condition a field that the parent does not have is undefined, not null; in a template it is null, which
// confines its partition and not its stream.
func TestP21UnknownFieldsOfAParent(t *testing.T) {
	text := strings.Replace(family, "(partition.event.open ?? true)", "partition.event.open", 1)
	text = strings.Replace(text, "{{ partition.event.place.zone ?? 'UTC' }}\", tag", "{{ partition.event.place.zone }}\", tag", 1)
	s := mustBind(t, text, nil)
	r := requestNamed(t, s, "items")
	part := func(text string) Partition {
		parts, err := r.Lineage().Partitions(sighted(t, r.Lineage(), text))
		if err != nil {
			t.Fatal(err)
		}
		return parts[0]
	}
	pos, _ := r.Begin(part(`{"id":7}`), cdc.Checkpoint{}, noon)
	_, err := r.Compose(&pos)
	want(t, err, cdc.Halt, "partition.event.place.zone is null")
	if _, scope := cdc.Verdict(err); scope != cdc.Partition {
		t.Errorf("it reaches the %s", scope)
	}
	pos, _ = r.Begin(part(`{"id":".."}`), cdc.Checkpoint{}, noon)
	_, err = r.Compose(&pos)
	if _, scope := cdc.Verdict(err); err == nil || scope != cdc.Partition {
		t.Errorf("an id that climbs: %v", err)
	}
	for text, want := range map[string]string{`{"id":7}`: "is not there", `{"id":7,"open":false}`: "filtered", `{"id":7,"open":true}`: "live"} {
		pos, _ := r.Begin(part(text), cdc.Checkpoint{}, noon)
		var page Page
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(`{"data":[{"id":1}]}`), ServerTime: noon}, nil, &page); err != nil {
			t.Fatal(err)
		}
		rec, got := page.Records[0], "live"
		switch {
		case rec.Err != nil:
			got = rec.Err.Error()
		case rec.Kind == Filtered:
			got = "filtered"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// P21: a lookup knows the parent's record from its partition, and from the key alone where that is not known.
func TestP21LookupKnowsTheParent(t *testing.T) {
	s := mustBind(t, family, nil)
	r := requestNamed(t, s, "items")
	s.Streams[1].KeyType = "number"
	parts, err := r.Lineage().Partitions(sighted(t, r.Lineage(), `{"id":7,"open":false,"place":{"zone":"CET"}}`))
	if err != nil {
		t.Fatal(err)
	}
	look := func(want string) {
		t.Helper()
		if req, err := r.Lookup(1, []byte(`[7,"a",3]`)); err != nil || req.URL != want {
			t.Errorf("%+v %v, want %s", req, err, want)
		}
	}
	look("https://api.test/events/7/items/3?zone=UTC")
	r.Know(parts[0])
	look("https://api.test/events/7/items/3?zone=CET")
	var page Page
	answer := &fetch.Response{Status: 200, Body: []byte(`{"data":{"id":3}}`), ServerTime: noon}
	if gone, err := r.Found(1, []byte(`[7,"a",3]`), answer, &page); gone || err != nil || page.Records[0].Kind != Filtered {
		t.Errorf("%v %v %+v", gone, err, page.Records)
	}
	r.Forget(parts[0].Name)
	look("https://api.test/events/7/items/3?zone=UTC")
}

// P21: 404 of a child confines its partition, and only a child's; 410 of a cursor is P17's.
func TestP21ParentGone(t *testing.T) {
	s := mustBind(t, family, nil)
	r := requestNamed(t, s, "items")
	for _, c := range []struct {
		status int
		v      vars
		gone   bool
	}{{404, vars{}, true}, {404, vars{cursor: "x"}, true}, {410, vars{}, true}, {410, vars{cursor: "x"}, false}, {403, vars{}, false}} {
		err := r.judge(&fetch.Response{Status: c.status, Header: http.Header{}, Body: []byte(`{"code":"not_found"}`)}, &c.v, false)
		if got := errors.Is(err, ErrParentGone); got != c.gone {
			t.Errorf("%d: %v", c.status, err)
		}
		if _, scope := cdc.Verdict(err); c.gone && scope != cdc.Partition {
			t.Errorf("%d reaches the %s", c.status, scope)
		}
	}
	err := s.Requests[0].judge(&fetch.Response{Status: 404, Header: http.Header{}}, &vars{}, false)
	if _, scope := cdc.Verdict(err); scope != cdc.Stream || errors.Is(err, ErrParentGone) {
		t.Errorf("404 of a stream without parents: %v", err)
	}
}

// P21: what a parked parent says of its children counts, unless it cannot be read.
func TestP21ParkedParentHasChildren(t *testing.T) {
	l := requestNamed(t, mustBind(t, family, nil), "items").Lineage()
	for text, children := range map[string]bool{
		`{"id":7,"x":"` + strings.Repeat("x", 3<<20) + `"}`: true,
		`{"id":7,"id":8}`:           false,
		"{\"id\":7,\"x\":\"\xff\"}": false,
		`{"id":null}`:               false,
	} {
		body := []byte(text)
		fields, err := l.Sight(&Record{Raw: record.All(body), Err: errors.New("parked")}, body)
		if err != nil || children != (fields != nil) {
			t.Errorf("%.40s: %v %v", text, fields, err)
		}
	}
}

// P23: whose fields the value is made of is part of the key's identity; where the ids come from is not.
func TestP23ParentsInTheFingerprint(t *testing.T) {
	keyPrint := func(old, with string) string {
		return requestNamed(t, mustBind(t, strings.Replace(family, old, with, 1), nil), "bids").Streams[0].KeyPrint
	}
	base := keyPrint("", "")
	if keyPrint("{item: {stream: items}}", "{item: {stream: items, by: name}}") == base {
		t.Error("another field of the parent is the same key")
	}
	if keyPrint("{item: {stream: items}}", "{item: {stream: items, when: changed, fields: [name]}}") != base {
		t.Error("when and fields change the key")
	}
}

// P21: a list in the file of connections may hold maps; {file: PATH} stays what it was.
func TestP21MapsInTheFileOfConnections(t *testing.T) {
	text := `- name: east
  source: salesloft
  config: {event_ids: [x, 7, {id: "${ID}", start: 5, place: {file: PATH}}]}
`
	file := t.TempDir() + "/place"
	if err := os.WriteFile(file, []byte("hall\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "y", name == "ID" }
	got, err := ParseConnections("c.yaml", []byte(strings.Replace(text, "PATH", file, 1)), env)
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"x", int64(7), map[string]any{"id": "y", "start": int64(5), "place": "hall"}}
	if d := cmp.Diff(want, got[0].Config["event_ids"]); d != "" {
		t.Error(d)
	}
}
