//go:build synctests

package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plot is what a seed of the deletions fixes: what the stream declares, how much there is, how the API lies, and when the
// process dies.
type plot struct {
	Seed    int64
	Shape   string
	Reads   string // "": a snapshot; timestamp, opaque
	Pages   string // of its listing: keyset, page, offset, token, last
	ByKey   bool   // the listing is in the order of the key (D3)
	Views   int    // partitions; 0: none
	Shared  bool   // key_scope: stream
	Lookup  bool
	Filter  string // "", delete, keep: on_leave
	Declare bool   // records say themselves that they are deleted
	List    bool   // an incremental stream is listed at all
	Total   bool
	Cap     int
	Session bool // the credential is a login's

	Size, Page     int
	Interval       time.Duration
	Every, Confirm time.Duration
	GuardKeys      int64
	GuardPercent   float64
	Bound          int // records of a transaction; 0: the default

	Chaos   time.Duration
	Pace    time.Duration // between two changes upstream, on average
	Lies    []lie
	Wire    []wireFault
	Approve bool // once there is calm, the operator lets go what is withheld
}

// lie is one way in which the API does not tell what there is, from the N-th listing or lookup on.
type lie struct {
	Do    string
	N     int
	Page  int
	View  string // "": of all
	For   time.Duration
	Share float64 // of the records that it hides
}

// Lies of a listing that no connector can tell from the truth. Where upstream can be asked for one record they may last; else
// two listings, which began as far apart as a confirmation wants, must not lie about one record.
var silent = []string{"rows dropped", "page dropped", "cut off", "stale replica", "other tenant's page"}

// Lies of a listing that show: it is not complete then (D2), or it is empty (D5).
var loud = []string{"403", "404", "429", "500", "web page", "error with 200", "truncated", "broken off", "no body", "empty", "page 403"}

func (l lie) silent() bool { return slices.Contains(silent, l.Do) }

// Lies of a lookup.
var lookups = []string{"moved", "forbidden", "web page 404", "500", "another record", "some forbidden"}

// shape is what a plot begins with.
type shape struct {
	name string
	plot
}

var shapes = []shape{
	{"keyset", plot{Reads: "timestamp", Pages: "keyset", Lookup: true, List: true}},
	{"pages", plot{Pages: "page"}},
	{"feed", plot{Reads: "timestamp", Pages: "page", List: true}},
	{"offsets", plot{Pages: "offset"}},
	{"opaque", plot{Reads: "opaque", Pages: "token", List: true}},
	{"declared", plot{Reads: "timestamp", Pages: "keyset", Declare: true}},
	{"declared and listed", plot{Reads: "timestamp", Pages: "keyset", Declare: true, Lookup: true, List: true}},
	{"views", plot{Pages: "page", Views: 3}},
	{"shared views", plot{Pages: "page", Views: 3, Shared: true}},
	{"views with lookup", plot{Reads: "timestamp", Pages: "keyset", Views: 2, Lookup: true, List: true}},
	{"filtered", plot{Pages: "page", Filter: "delete"}},
	{"filtered feed", plot{Reads: "timestamp", Pages: "keyset", Filter: "delete", Lookup: true, List: true}},
	{"kept", plot{Pages: "token", Filter: "keep"}},
	{"logged in", plot{Reads: "timestamp", Pages: "page", List: true, Session: true}},
}

// byKey are the shapes whose listings go on after a crash where they were (D3).
var byKey = []shape{
	{"by key", plot{Pages: "last"}},
	{"by key, beside a feed", plot{Reads: "timestamp", Pages: "last", List: true}},
	{"by key, with lookup", plot{Reads: "timestamp", Pages: "last", Lookup: true, List: true}},
	{"views by key", plot{Pages: "last", Views: 3}},
	{"tokens by key", plot{Reads: "opaque", Pages: "token", List: true}},
}

func invent(seed int64) plot {
	r := rand.New(rand.NewPCG(uint64(seed), 0xde1))
	shape := shapes[int(seed)%len(shapes)]
	if seed%7 == 3 {
		shape = byKey[int(seed/7)%len(byKey)]
		shape.ByKey = true
	}
	p := shape.plot
	p.Seed, p.Shape = seed, shape.name
	p.Size, p.Page = 20+r.IntN(100), 5+r.IntN(30)
	if r.IntN(3) == 0 {
		p.Size = 120 + r.IntN(180)
	}
	if p.ByKey { // long listings, to be cut
		p.Page = 3 + p.Page/5
	}
	p.Interval = time.Duration(30+r.IntN(90)) * time.Second
	p.Every, p.Confirm = time.Duration(2+r.IntN(6))*time.Minute, time.Duration(5+r.IntN(5))*time.Minute
	if p.Reads == "" {
		p.Every = p.Interval
	}
	p.GuardKeys, p.GuardPercent = int64(5+r.IntN(20)), float64(5+r.IntN(20))
	if r.IntN(2) == 0 {
		p.Bound = 5 + r.IntN(30)
	}
	p.Total = p.Pages != "keyset" && r.IntN(3) == 0
	if p.Pages != "keyset" && r.IntN(5) == 0 {
		p.Cap = p.Size + 10
	}
	p.Chaos, p.Pace = time.Duration(90+r.IntN(120))*time.Minute, time.Duration(15+r.IntN(75))*time.Second
	p.Approve = r.IntN(2) == 0
	p.inventLies(r)
	p.inventCrashes(r)
	if r.IntN(3) == 0 { // a guard that lets almost everything go hides nothing of what the other rules miss
		p.GuardKeys *= 8
	}
	return p
}

// fragile plots have listings whose missing rows nothing betrays, and no lookup.
func (p *plot) fragile() bool { return !p.betrayed("rows dropped") }

// betrayed reports whether a listing that conceals rows is found out: by lookups, or by a total, which counts another tenant's rows in
// their place.
func (p *plot) betrayed(do string) bool { return p.Lookup || p.Total && do != "other tenant's page" }

func (p *plot) inventLies(r *rand.Rand) {
	walks := int(p.Chaos / (p.Every + p.Interval/2))
	for range 4 + r.IntN(8) {
		l := lie{N: 1 + r.IntN(max(1, walks)), Page: 1 + r.IntN(4), Share: 0.02 + 0.1*r.Float64(), For: time.Duration(1+r.IntN(25)) * time.Minute}
		if r.IntN(4) == 0 {
			l.Share = 0.5
		}
		kinds := loud
		switch {
		case p.Session && r.IntN(3) == 0:
			kinds = []string{"login sees less"}
		case r.IntN(2) == 0:
			kinds = silent
		case p.ByKey && r.IntN(3) == 0:
			kinds = []string{"shuffled"}
		case p.Pages != "token" && p.Pages != "last" && r.IntN(3) == 0:
			kinds = []string{"shuffled", "repeated", "rows swapped", "rows swapped"}
		case p.Total && r.IntN(3) == 0:
			kinds = []string{"another total"}
		}
		if l.Do = kinds[r.IntN(len(kinds))]; l.silent() && !p.betrayed(l.Do) { // a longer one would be the truth
			l.For = time.Duration(float64(p.Confirm) * (0.2 + 0.6*r.Float64()))
		}
		if p.Views > 0 && r.IntN(2) == 0 {
			l.View = p.views()[r.IntN(p.Views)]
		}
		p.Lies = append(p.Lies, l)
	}
	for range 2 + r.IntN(4) {
		if p.Lookup {
			p.Lies = append(p.Lies, lie{Do: lookups[r.IntN(len(lookups))], N: 1 + r.IntN(60), For: time.Duration(1+r.IntN(30)) * time.Minute})
		}
	}
}

func (p *plot) inventCrashes(r *rand.Rand) {
	apis := []struct {
		name string
		most int
	}{{"EndTxn", 80}, {"EndTxn", 80}, {"Produce", 120}, {"GET", 500}, {"GET", 500}, {"InitProducerID", 6}}
	does := []string{crashBefore, crashAfter, crashAfter, loseRequest, loseAnswer, loseAnswer, terminate, freeze}
	for range 1 + r.IntN(7) {
		a := apis[r.IntN(len(apis))]
		f := wireFault{API: a.name, N: 1 + r.IntN(a.most), Do: does[r.IntN(len(does))], For: time.Duration(r.IntN(40)) * time.Second}
		if r.IntN(4) == 0 { // longer than a confirmation waits
			f.For = time.Duration(5+r.IntN(15)) * time.Minute
		}
		p.Wire = append(p.Wire, f)
	}
	for range 10 {
		if p.ByKey { // most requests are a listing's
			p.Wire = append(p.Wire, wireFault{API: "GET", N: 1 + r.IntN(1500), Do: does[r.IntN(3)], For: time.Duration(r.IntN(40)) * time.Second})
		}
	}
}

// definition writes down what the stream declares.
func (p *plot) definition() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("source: bazaar\nconfig: {url: {}, password: {secret: true}}\nbase_url: \"{{ config.url }}\"")
	if !p.Session {
		line("authenticator: {type: none}")
	} else {
		line("authenticator: {type: session, login: {path: /login, method: POST, body: {p: '{{ config.password }}'}}, token: token, header: X-Session, expires: 24h}")
	}
	line("streams:\n  things:\n    records: data\n    primary_key: id\n    interval: %v", p.Interval)
	view, one := "", "/one/{{ key.id }}"
	if p.Views > 0 {
		view = "/{{ partition.view }}"
		line("    partition: {view: [%s]}", strings.Join(p.views(), ", "))
		if p.Shared {
			line("    key_scope: stream")
		} else {
			one = "/one/{{ key.view }}/{{ key.id }}"
		}
	}
	query, paginator := p.pages(p.Pages)
	listing := fmt.Sprintf("listing: {path: %q, query: %s, paginator: %s}", "/all"+view, query, paginator)
	switch p.Reads {
	case "":
		listing = ""
		line("    path: %q\n    query: %s\n    paginator: %s", "/all"+view, query, paginator)
	case "timestamp":
		query, paginator = p.pages("keyset")
		line("    path: %q\n    query: %s\n    paginator: %s", "/feed"+view, query, paginator)
		line("    incremental: {cursor_field: at, format: rfc3339, granularity: 1ms, order: asc, lookback: 1m}")
	default:
		line("    path: %q\n    query: {cursor: \"{{ cursor }}\"}\n    incremental: {type: opaque, next: cursor, more: more}", "/feed"+view)
	}
	rules := []string{fmt.Sprintf("guard: {records: %d, percent: %g}", p.GuardKeys, p.GuardPercent)}
	if p.List && p.Reads != "" {
		rules = append(rules, fmt.Sprintf("every: %v", p.Every), listing)
	}
	if p.Lookup {
		gone := ""
		if p.Declare {
			gone = `, gone: "record.deleted == true"`
		}
		rules = append(rules, fmt.Sprintf("lookup: {path: %q, records: data%s}", one, gone))
	}
	if p.ByKey {
		rules = append(rules, "order: key")
	}
	if p.Total {
		rules = append(rules, "total: total")
	}
	if p.Cap > 0 {
		rules = append(rules, fmt.Sprintf("cap: %d", p.Cap))
	}
	line("    reconcile: {%s}", strings.Join(rules, ", "))
	if p.Filter != "" {
		line("    filter: record.open == true\n    on_leave: %s", p.Filter)
	}
	if p.Declare {
		line("    delete: record.deleted == true")
	}
	return b.String()
}

// pages is how a list is asked for, and its paginator.
func (p *plot) pages(kind string) (query, paginator string) {
	switch kind {
	case "keyset":
		return `{since: "{{ anchor ?? start }}"}`, "{type: keyset, size_echo: size}"
	case "page":
		return `{page: "{{ page }}"}`, "{type: page, more: more}"
	case "offset":
		return `{offset: "{{ offset }}"}`, fmt.Sprintf("{type: offset, size: %d, overlap: true}", p.Page)
	case "last":
		return `{after: "{{ last.id }}"}`, "{type: token}"
	}
	return `{token: "{{ page_token }}"}`, fmt.Sprintf("{type: token, next: next, stable: %t}", p.ByKey)
}

func (p *plot) views() []string { return []string{"north", "south", "west"}[:p.Views] }
