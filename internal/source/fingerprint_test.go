package source

import (
	"strings"
	"testing"

	"tidemark/internal/cdc"
)

// TestP23Fingerprints proves which change makes what invalid: a cursor, a listing, a key; and that everything else is free.
func TestP23Fingerprints(t *testing.T) {
	const text = `source: shop
config: {partner: {default: p1}, key: {secret: true, default_is_none: x}, from: {optional: true}}
base_url: https://api.example.com
streams:
  orders:
    path: /orders
    query: {partner: "{{ config.partner }}", key: "{{ config.key }}", since: "{{ cursor ?? start }}"}
    records: data
    primary_key: id
    filter: record.live
    incremental: {cursor_field: updated_at, format: rfc3339, start: "{{ config.from }}"}
    interval: 30s
`
	base := strings.Replace(text, ", default_is_none: x", "", 1)
	bind := func(text string, config map[string]any) (request, listing, key, rules string) {
		if config["key"] == nil {
			config["key"] = cdc.NewSecret("k1")
		}
		s := mustBind(t, text, config)
		return s.Requests[0].RequestPrint, s.Requests[0].ListingPrint, s.Streams[0].KeyPrint, s.Streams[0].Rules.Fingerprint()
	}
	r0, l0, k0, c0 := bind(base, map[string]any{})
	for _, c := range []struct {
		name, old, new             string
		config                     map[string]any
		request, listing, key, rul bool // changes
	}{
		{name: "nothing"},
		{name: "spelling of an expression", old: "cursor ?? start", new: "cursor  ??  (start)"},
		{name: "order of parameters", old: `{partner: "{{ config.partner }}", key: "{{ config.key }}",`, new: `{key: "{{ config.key }}", partner: "{{ config.partner }}",`},
		{name: "interval", old: "interval: 30s", new: "interval: 5m"},
		{name: "lookback", old: "format: rfc3339", new: "format: rfc3339, lookback: 1h"},
		{name: "a renewed key", config: map[string]any{"key": cdc.NewSecret("k2")}},
		{name: "path", old: "/orders", new: "/sales", request: true, listing: true},
		{name: "host", old: "api.example.com", new: "eu.example.com", request: true, listing: true},
		{name: "a parameter more", old: "query: {", new: "query: {live: true, ", request: true, listing: true},
		{name: "a setting in a parameter", config: map[string]any{"partner": "p2"}, request: true, listing: true},
		{name: "cursor field", old: "updated_at", new: "changed_at", request: true, listing: true},
		{name: "records", old: "records: data", new: "records: items", request: true, listing: true},
		{name: "filter", old: "record.live", new: "record.alive", listing: true},
		{name: "start", config: map[string]any{"from": "2024-01-31"}, listing: true},
		{name: "key", old: "primary_key: id", new: "primary_key: [id, shop]", key: true},
		{name: "hash", old: "interval: 30s", new: "hash: {exclude: [counts]}", rul: true},
	} {
		if c.config == nil {
			c.config = map[string]any{}
		}
		changed := base
		if c.old != "" {
			if changed = strings.Replace(base, c.old, c.new, 1); changed == base {
				t.Fatalf("%s: nothing was replaced", c.name)
			}
		}
		r, l, k, rules := bind(changed, c.config)
		if (r != r0) != c.request || (l != l0) != c.listing || (k != k0) != c.key || (rules != c0) != c.rul {
			t.Errorf("%s: request %v listing %v key %v rules %v", c.name, r != r0, l != l0, k != k0, rules != c0)
		}
	}
}

func TestP24KeyScopeIsPartOfTheKey(t *testing.T) {
	lines := "partition: {view: [a]}"
	a := mustBind(t, withStream(lines), nil).Streams[0]
	b := mustBind(t, withStream(lines+"\nkey_scope: stream"), nil).Streams[0]
	c := mustBind(t, withStream("partition: {look: [a]}"), nil).Streams[0]
	d := mustBind(t, withStream("partition: {view: [a, b]}"), nil).Streams[0]
	if a.KeyPrint == b.KeyPrint || a.KeyPrint == c.KeyPrint || a.KeyPrint != d.KeyPrint || a.keyScope || !b.keyScope {
		t.Error(a.KeyPrint, b.KeyPrint, c.KeyPrint, d.KeyPrint)
	}
}

// TestD9CredentialIsPartOfTheListing: D9, P23. a tombstone may mean no more than "not visible to this credential", so a listing that
// another one reads is another listing, and its deletions wait for a second one.
func TestD9CredentialIsPartOfTheListing(t *testing.T) {
	d := parseAuth(t, "{type: bearer, token: '{{ config.key }}'}")
	listing := func(key string) string {
		s, err := bindTo(d, "https://api.example.com", map[string]any{"key": key})
		if err != nil {
			t.Fatal(err)
		}
		return s.Requests[0].Listing()
	}
	if listing("one") == listing("another") {
		t.Error("another credential reads the same listing")
	}
	if first, again := listing("one"), listing("one"); first != again {
		t.Error("one credential reads two listings")
	}
}
