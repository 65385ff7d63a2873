package capture_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/capture"
)

// fielded is the shelf with fields added and removed.
var fielded = strings.Replace(things, "config: {url: {}}", "config: {url: {}, shop: {}}", 1) +
	"    add_fields: {shop: \"{{ config.shop }}\"}\n    remove_fields: [secret]\n"

// P23, (5): what is published, and what its hash is made of, is the record with its added and removed fields. A setting that they
// use, or another list of them, publishes nothing by itself; the next real change is published once, in the new form.
func TestP23ChangedFieldsRehashSilently(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", "a", "secret", 1), row(2, "v", "b", "secret", 1))
	with := func(name string) map[string]any { return map[string]any{"url": config["url"], "shop": name} }
	first := settings{definition: fielded, config: with("east")}
	c := b.start(first)
	c.passes(1)
	shop.put(row(1, "v", "a", "secret", 2)) // what is removed is no change
	c.passes(2)
	c.end()
	b.audit(b.sourceOf(first), false)
	for i, next := range []settings{
		{definition: fielded, config: with("west")},
		{definition: strings.Replace(fielded, "[secret]", "[secret, seen]", 1), config: with("west")},
		{definition: things, config: config},
		first,
	} {
		c = b.start(next)
		c.await("both re-hashed", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Rehashed == 2 })
		st := c.passes(1)
		if i == 0 {
			shop.put(row(1, "v", "changed", "secret", 3))
			st = c.passes(2)
		}
		c.end()
		if got := counts(st); got.Rehashed != 2 || got.Published() != 0 && i != 0 {
			t.Errorf("%d: %+v", i, got)
		}
	}
	want := []string{`1 r {"v":"a","shop":"east"}`, `1 u {"v":"changed","shop":"west"}`, `2 r {"v":"b","shop":"east"}`}
	got := sorted(b.lines("things"))
	for i := range got {
		got[i] = strings.Replace(got[i], `"id":`+got[i][:1]+`,`, "", 1)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// K10, P23: events that are adopted hold the added fields already.
func TestK10AdoptAddedFields(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", 1), row(2, "v", 1))
	config["shop"] = "east"
	c := b.start(settings{definition: fielded, config: config})
	c.passes(1)
	c.end()
	s := b.otherName(settings{definition: fielded, config: config})
	s.change = with(s.change, func(o *capture.Options) { o.Adopt = true })
	shop.put(row(2, "v", 2))
	c = b.start(s)
	st := c.await("a pass", func(s capture.Status) bool { return len(s.Partitions) > 0 && s.Partitions[0].Passes > 2 })
	if p := counts(st); p.Published() != 1 || p.Updated != 1 {
		t.Errorf("adopted, then published %+v, want the one change", p)
	}
	c.end()
}
