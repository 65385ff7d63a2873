package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

const evening = `
source: gala
base_url: https://api.test
authenticator: {type: none}
streams:
  events: {path: /events, records: data, primary_key: id}
  items:
    path: "/events/{{ partition.event.id }}/items"
    records: data
    primary_key: id
    partition: {event: {stream: events}}
    interval:
      - {when: "(partition.event.start ?? 0) <= unix(now) && unix(now) < (partition.event.end ?? 0)", every: 3m}
      - {every: 24h}
`

// bare is an ownership that is connected to nothing.
func bare(t *testing.T, definition string) *ownership {
	t.Helper()
	d, err := source.Parse("test.yaml", []byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	src, err := d.Bind("c", nil, source.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Source: src, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	over, end := context.WithCancel(t.Context())
	end()
	return &ownership{Connection: c, filling: newBatch(1, kafka.NewBatch()), committing: newBatch(0, kafka.NewBatch()), ctx: over}
}

// see sights a parent.
func (o *ownership) see(text string) error {
	body := []byte(text)
	id, _, _ := strings.Cut(strings.TrimPrefix(text, `{"id":`), ",")
	key := []byte(strings.Trim(id, `"}`))
	return o.sight(o.streams[0], &source.Record{
		Raw: record.All(body), Key: key, KeyHash: record.KeyHash(key), RawHash: record.RawHash(body),
	}, body)
}

// TestP21RulesAreEvaluatedEachMinute: an event that begins is polled from then on, and not when the plan of the day before said.
func TestP21RulesAreEvaluatedEachMinute(t *testing.T) {
	o := bare(t, evening)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	start := now.Add(90 * time.Minute)
	if err := o.see(fmt.Sprintf(`{"id":1,"start":%d,"end":%d}`, start.Unix(), start.Add(time.Hour).Unix())); err != nil {
		t.Fatal(err)
	}
	p := o.byName["items/event=1"]
	o.plan(p, now)
	for p.walk == nil {
		if p.poll.slot < 0 || p.poll.due.Sub(now) > rulesEvery || now.After(start.Add(time.Hour)) {
			t.Fatalf("at %s the rules are looked at %s later", now, p.poll.due.Sub(now))
		}
		now = p.poll.due
		o.verified = now
		if err := o.tick(now); err != nil {
			t.Fatal(err)
		}
	}
	o.fetchers.Wait()
	if late := now.Sub(start); late < 0 || late > 4*time.Minute {
		t.Errorf("it is read %s after its beginning", late)
	}
}

// TestP21PartitionsAreBounded: one child more than MaxPartitions stops the parent, whose cursor would pass it (10, 4).
func TestP21PartitionsAreBounded(t *testing.T) {
	o := bare(t, evening)
	l := o.streams[0].spec.Children[0]
	o.kin.count[l.Child] = source.MaxPartitions - 1
	if err := o.see(`{"id":1}`); err != nil {
		t.Fatal(err)
	}
	err := o.see(`{"id":2}`)
	if remedy, scope := cdc.Verdict(err); remedy != cdc.Halt || scope != cdc.Stream || cdc.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if err := o.see(`{"id":1,"start":1}`); err != nil {
		t.Errorf("a known parent: %v", err)
	}
}

// TestP21ManyParentsOfOneValue: parents that share a partition are named in its checkpoint as far as there is room (K5); beyond
// that the partition is read on, whoever goes.
func TestP21ManyParentsOfOneValue(t *testing.T) {
	o := bare(t, strings.Replace(strings.Replace(evening, "{stream: events}", "{stream: events, by: hall}", 1), "partition.event.id", "partition.event.hall", 1))
	s := o.streams[0]
	long := strings.Repeat("x", 1000)
	for i := range 20 {
		if err := o.see(fmt.Sprintf(`{"id":"%s%d","hall":"north"}`, long, i)); err != nil {
			t.Fatal(err)
		}
	}
	p := o.byName["items/event=north"]
	if n := size(mustRoots(t, p).Of); n > mostRoots+len(beyond) || len(o.filling.checkpoints[p].value) > 20<<10 {
		t.Errorf("%d bytes of keys, %d of checkpoint", n, len(o.filling.checkpoints[p].value))
	}
	for i := range 20 {
		key := fmt.Appendf(nil, "%s%d", long, i)
		if err := o.bereave(s, key, record.KeyHash(key)); err != nil {
			t.Fatal(err)
		}
	}
	if r := mustRoots(t, p); len(r.Of) != 1 || o.rests(p) != "" {
		t.Errorf("%q is left, %q", r.Of, o.rests(p))
	}
	o = bare(t, evening)
	if err := o.see(`{"id":7}`); err != nil {
		t.Fatal(err)
	}
	if got := o.childrenOf(o.streams[0], []byte("7")); len(got) != 1 || got[0].spec.Name != "event=7" {
		t.Errorf("children of 7: %v", got)
	}
	if err := o.bereave(o.streams[0], []byte("7"), record.KeyHash([]byte("7"))); err != nil || len(o.childrenOf(o.streams[0], []byte("7"))) != 0 {
		t.Errorf("%v", err)
	}
}

func mustRoots(t *testing.T, p *partition) roots {
	t.Helper()
	var r roots
	if err := json.Unmarshal(p.checkpoint().Parent["event"], &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestP14OlderParentSaysNothing: what a stale replica says of a parent does not reach its children.
func TestP14OlderParentSaysNothing(t *testing.T) {
	o := bare(t, strings.Replace(evening, "primary_key: id}", "primary_key: id, version: n}", 1))
	if err := o.see(`{"id":1,"start":9}`); err != nil {
		t.Fatal(err)
	}
	s, key := o.streams[0], []byte("1")
	s.table.Stage(1, key, record.KeyHash(key), state.Entry{Hash: 1, Version: cdc.IntegerVersion(9)})
	body := []byte(`{"id":1,"start":3}`)
	rec := source.Record{Raw: record.All(body), Key: key, KeyHash: record.KeyHash(key), RawHash: record.RawHash(body), Version: cdc.IntegerVersion(8)}
	if err := o.sight(s, &rec, body); err != nil {
		t.Fatal(err)
	}
	if got := string(o.byName["items/event=1"].spec.Parent["event.start"]); got != "9" {
		t.Errorf("start %s", got)
	}
}
