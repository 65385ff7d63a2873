package source

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// MaxPartitions bounds the partitions of a request: the product of its lists, and its parents (10).
const MaxPartitions = 10_000

// Overrides are what a connection changes of a definition.
type Overrides struct {
	// Streams are the chosen streams, each with what is changed of it; nil chooses all, as they are.
	Streams map[string]StreamOverride
	Rate    *RateOverride // nil: the definition's
	// Anonymous says that nothing will be asked with the source's own credential, so that its settings may be missing.
	Anonymous bool
}

// StreamOverride changes one stream; zero fields leave the definition's.
type StreamOverride struct {
	Interval       time.Duration
	Hash           *HashOverride // replaces the definition's whole
	ReconcileEvery time.Duration // -1: never
	Guard          *Reconcile    // its numbers of D5; nil: the definition's
	Topic          TopicSettings
}

// HashOverride are content rules of a connection's own (P23); at most one of the lists is set.
type HashOverride struct{ Include, Exclude []string }

// RateOverride replaces the account's budget; zero fields leave the definition's.
type RateOverride struct {
	Budget        float64
	Per           time.Duration
	MaxConcurrent int
}

// Bind fills in a connection's settings and returns the source that it reads. Values of config are texts, numbers, truth
// values, lists of them, or cdc.Secret. Everything wrong is in one cdc.Error.
func (d *Definition) Bind(connection string, config map[string]any, o Overrides) (*Source, error) {
	b := &binder{def: d, source: &Source{Name: d.Name, Connection: connection}, anonymous: o.Anonymous}
	b.settings(config)
	if len(b.problems) == 0 { // what follows would only repeat that a setting is missing
		b.base()
		b.auth()
		b.rate(o.Rate)
		b.streams(o.Streams)
	}
	if len(b.problems) > 0 {
		return nil, fetch.NewVeil(b.source.Secrets...).Veil(&cdc.Error{
			Op: "configure", Where: connection, Err: errors.Join(b.problems...), Remedy: cdc.Halt, Scope: cdc.Connection,
			Hint: fmt.Sprintf("Correct the connection in the connections file; `connector sources show %s` lists the settings of its source", d.Name),
		})
	}
	return b.source, nil
}

// binder makes one Source and keeps every problem it meets.
type binder struct {
	def       *Definition
	source    *Source
	anonymous bool // Overrides.Anonymous
	problems  []error
}

func (b *binder) fail(format string, args ...any) {
	b.problems = append(b.problems, fmt.Errorf(format, args...))
}

func (b *binder) settings(config map[string]any) {
	b.source.config = map[string]any{}
	known := make([]string, len(b.def.config))
	for i, s := range b.def.config {
		known[i] = s.name
		given, ok := config[s.name]
		switch {
		case ok && given != nil:
			b.setting(s, given)
		case s.fallback != nil:
			b.source.config[s.name] = s.fallback
		case s.optional:
			b.source.config[s.name] = nil
		default:
			b.fail("config.%s is missing (declared in %s)", s.name, s.location())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if !slices.Contains(known, name) {
			b.fail("config.%s is no setting of %s%s", name, b.def.Name, suggest(name, known))
		}
	}
}

func (b *binder) setting(s *setting, given any) {
	x, err := s.convert(given)
	if err != nil {
		if s.secret {
			err = fmt.Errorf("it must be a %s", s.kind) // the value itself stays out of messages
		}
		b.fail("config.%s: %w (declared in %s)", s.name, err, s.location())
		return
	}
	b.source.config[s.name] = x
	if s.secret {
		list, ok := x.([]any)
		if !ok {
			list = []any{x}
		}
		for _, one := range list {
			if text, err := written(one); err == nil && s.kind != "boolean" {
				b.source.Secrets = append(b.source.Secrets, cdc.NewSecret(text))
			}
		}
	}
}

// convert returns x as the setting's type. Numbers may come as text, since the environment knows nothing else.
func (s *setting) convert(x any) (any, error) {
	x = normal(x)
	text, isText := x.(string)
	if t, ok := x.(time.Time); ok { // YAML reads 2024-01-01 as a time
		text, isText = t.Format(time.RFC3339Nano), true
	}
	switch s.kind {
	case "list":
		return convertList(x)
	case "integer":
		if isText {
			if i, err := strconv.ParseInt(text, 10, 64); err == nil {
				return i, nil
			}
		}
		if i, ok := x.(int64); ok {
			return i, nil
		}
	case "number":
		if i, ok := x.(int64); ok {
			return float64(i), nil
		}
		if isText {
			if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
				return f, nil
			}
		}
		if f, ok := x.(float64); ok {
			return f, nil
		}
	case "boolean":
		if v, ok := x.(bool); ok || text == "true" || text == "false" {
			return v || text == "true", nil
		}
	default:
		if isText && text == "" {
			return nil, errors.New("it is empty")
		}
		if isText {
			return text, nil
		}
		if _, ok := x.([]any); !ok && x != nil {
			return written(x)
		}
	}
	return nil, fmt.Errorf("%s is no %s", shown(x), s.kind)
}

func shown(x any) string {
	if s, ok := x.(string); ok {
		return strconv.Quote(s)
	}
	return kindOf(x)
}

func convertList(x any) (any, error) {
	list, ok := x.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is no list", shown(x))
	}
	out := make([]any, len(list))
	for i, e := range list {
		switch e := normal(e).(type) {
		case string, int64, bool:
			out[i] = e
		case map[string]any: // a parent's record (P21)
			if out[i] = e; len(e) == 0 {
				return nil, fmt.Errorf("element %d of the list is an empty map", i)
			}
		default:
			return nil, fmt.Errorf("element %d of the list is %s, not a text, a whole number, a truth value or a map", i, kindOf(e))
		}
	}
	return out, nil
}

// eval evaluates a template over settings.
func (b *binder) eval(t *template) (value any, ok bool, err error) {
	v := vars{config: b.source.config}
	value, ok, err = t.eval(&v)
	b.confided(&v)
	return value, ok, err
}

// text evaluates a template over settings; "" where it is null.
func (b *binder) text(t *template) string {
	if t == nil {
		return ""
	}
	x, ok, err := b.eval(t)
	if err == nil && ok {
		var s string
		if s, err = written(x); err == nil {
			return s
		}
	}
	if err != nil {
		b.fail("%s: %w", t.where, cause(err))
	}
	return ""
}

func cause(err error) error {
	var e *cdc.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func (b *binder) base() {
	s := b.source
	s.headers = b.def.headers
	v := vars{config: s.config}
	text, err := b.def.base.address(&v, 1)
	b.confided(&v)
	if err != nil {
		b.fail("base_url: %w", cause(err))
		return
	}
	s.BaseURL = strings.TrimRight(text, "/")
	b.origin("base_url", s.BaseURL)
}

// origin checks an absolute URL and adds its origin to those that may see credentials.
func (b *binder) origin(what, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		b.fail("%s %q: %v", what, text, errors.Unwrap(err))
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		b.fail("%s %q must begin with https:// (or http://) and a host", what, text)
	case u.User != nil:
		b.fail("%s holds a user name or a password: that belongs into the authenticator", what)
	case u.RawQuery != "" || u.Fragment != "":
		b.fail("%s %q has a ? or # in it", what, text)
	default:
		if o := strings.ToLower(u.Scheme + "://" + u.Host); !slices.Contains(b.source.Origins, o) {
			b.source.Origins = append(b.source.Origins, o)
		}
	}
}

func (b *binder) rate(o *RateOverride) {
	r := b.def.rate
	if o != nil {
		if o.Budget > 0 {
			r.Budget = o.Budget
		}
		if o.Per > 0 {
			r.Per = o.Per
		}
		if o.MaxConcurrent > 0 {
			r.MaxConcurrent = o.MaxConcurrent
		}
	}
	if r.Per == 0 {
		r.Per = time.Minute
	}
	b.source.Rate = r
}

func (b *binder) streams(chosen map[string]StreamOverride) {
	names := b.def.choices()
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		if !slices.Contains(names, name) {
			b.fail("stream %s is not in %s%s: it has %s", name, b.def.Name, suggest(name, names), strings.Join(names, ", "))
		}
	}
	for _, p := range b.def.streams {
		b.request(p, chosen)
	}
	b.lineages()
	b.warn()
	if len(b.source.Streams) == 0 && len(b.problems) == 0 {
		b.fail("no stream is chosen")
	}
}

// choices returns what a connection may choose: streams, and requests, which stand for all of their streams.
func (d *Definition) choices() []string {
	names := d.StreamNames()
	for _, p := range d.streams {
		if !slices.Contains(names, p.request.Name) {
			names = append(names, p.request.Name)
		}
	}
	return names
}

// request copies a blueprint, as far as its streams are chosen: what a connection changes, and what evaluations keep, is its own.
func (b *binder) request(p *blueprint, chosen map[string]StreamOverride) {
	req := p.request
	req.source, req.Streams, req.records = b.source, nil, nil
	for _, from := range p.streams {
		if changes, ok := b.changes(p, from, chosen); ok {
			b.stream(&req, from, changes)
		}
	}
	if len(req.Streams) == 0 {
		return
	}
	req.records = b.selections(&req, p.request.records)
	if p.request.incremental != nil {
		in := *p.request.incremental
		b.zone(&in, p, req.Streams)
		b.start(&in, p)
		req.incremental = &in
	}
	b.partitions(&req, p.partitions)
	if p.request.listing != nil { // D1: another request for the same records
		l := *p.request.listing
		l.source, l.Streams, l.partitions = b.source, req.Streams, req.partitions
		l.records = b.selections(&req, p.request.listing.records)
		if l.incremental != nil {
			in := *req.incremental
			if !l.uses.cursorEnd {
				in.window = 0 // P15: each window would list everything
			}
			l.incremental = &in
		}
		req.listing = &l
	}
	for _, r := range []*Request{&req, req.listing} {
		if r != nil && r.list.url != nil {
			b.address(r)
		}
		if r != nil && r.ordered && b.source.Auth.Kind == AuthSession { // D2
			b.fail("stream %s: reconcile.order: a restart logs in anew, and another login may see other records: leave `order` out", req.Name)
		}
	}
	req.prints(func(name string) bool {
		s := (&scope{config: b.def.config}).setting(name)
		return s != nil && s.secret
	})
	b.source.Streams = append(b.source.Streams, req.Streams...)
	b.source.Requests = append(b.source.Requests, &req)
}

// selections returns those of a blueprint's selections whose streams are chosen, as req has them.
func (b *binder) selections(req *Request, all []selection) []selection {
	var out []selection
	for _, sel := range all {
		if i := slices.IndexFunc(req.Streams, func(st *Stream) bool { return st.Name == sel.stream.Name }); i >= 0 {
			sel.stream = req.Streams[i]
			out = append(out, sel)
		}
	}
	return out
}

// changes returns what a connection changes of a stream, by its request's name and by its own, and whether it is chosen.
func (b *binder) changes(p *blueprint, st *Stream, chosen map[string]StreamOverride) ([]StreamOverride, bool) {
	var out []StreamOverride
	above, all := chosen[p.request.Name]
	own, one := chosen[st.Name]
	if all && st.Name != p.request.Name {
		if above.Topic.Name != "" {
			b.fail("stream %s: topic name stands above several streams: each has a topic of its own", p.request.Name)
		}
		out = append(out, above)
	}
	if one {
		out = append(out, own)
		if own.Interval > 0 && st.Name != p.request.Name {
			b.fail("stream %s: it is read by the request %s, whose streams have one interval: change that one's", st.Name, p.request.Name)
		}
	}
	return out, chosen == nil || all || one
}

// stream adds a copy of a stream to its request.
func (b *binder) stream(req *Request, from *Stream, changes []StreamOverride) {
	st := *from
	st.Index = len(b.source.Streams) + len(req.Streams)
	st.Rules.Fields = from.patch.fields(b.source.config)
	st.filter, st.delete, st.gone = from.filter.clone(), from.delete.clone(), from.gone.clone()
	st.request = req
	for _, o := range changes {
		b.override(&st, req, o)
	}
	if err := st.compileFiles(from.Files); err != nil {
		b.fail("stream %s: files: %w", st.Name, err)
	}
	req.Streams = append(req.Streams, &st)
}

// declares reports whether a list of the stream's request names what is gone.
func (st *Stream) declares() bool {
	return slices.ContainsFunc(st.request.records, func(sel selection) bool { return sel.stream == st && sel.gone })
}

// warn says what `check` should tell people of the streams: each thing once.
func (b *binder) warn() {
	var blind, partial []string
	for _, st := range b.source.Streams {
		if !st.reconciles() && !st.Snapshot && !st.LogFeed && st.delete == nil && !st.declares() { // the entries of a log stay what they were
			blind = append(blind, st.Name)
		}
		if len(st.Rules.Exclude) > 0 || len(st.Rules.Include) > 0 {
			partial = append(partial, st.Name)
		}
	}
	if blind != nil {
		b.source.Warnings = append(b.source.Warnings, "no reconciliation, so what vanishes upstream is never noticed: stream "+strings.Join(blind, ", "))
	}
	if partial != nil {
		b.source.Warnings = append(b.source.Warnings,
			"only a part of the records is compared, and the other fields go stale downstream until something else changes: stream "+strings.Join(partial, ", "))
	}
}

// zone puts the formats of times into the zone that a setting names (P16).
func (b *binder) zone(in *incremental, p *blueprint, streams []*Stream) {
	if p.zone == nil {
		return
	}
	zone, err := zoneNamed(b.text(p.zone))
	if err != nil {
		b.fail("stream %s: %s: %w", p.request.Name, p.zone.where, err)
		return
	}
	record, request := *in.record, *in.request
	record.zone, request.zone = zone, zone
	for _, st := range streams {
		if st.versionFormat == in.record {
			st.versionFormat = &record
		}
	}
	in.record, in.request = &record, &request
}

// start reads where a stream without a cursor begins.
func (b *binder) start(in *incremental, p *blueprint) {
	if p.start == nil {
		return
	}
	x, ok, err := b.eval(p.start)
	if err != nil {
		b.fail("stream %s: %s: %w", p.request.Name, p.start.where, cause(err))
	}
	if !ok || err != nil {
		return
	}
	if in.start = x; in.kind != timestampCursor {
		return
	}
	text, err := written(x)
	if err != nil {
		b.fail("stream %s: start: %w", p.request.Name, err)
		return
	}
	plainFormats := []*format{in.request, in.record, {name: "rfc3339", zone: time.UTC}}
	if day, err := newFormat("date", ""); err == nil {
		plainFormats = append(plainFormats, day)
	}
	for _, f := range plainFormats {
		if t, err := f.parse([]byte(text)); err == nil {
			in.startTime, in.start = t, in.request.value(t)
			return
		}
	}
	b.fail("stream %s: start %q is no time: write it as 2024-01-31 or 2024-01-31T00:00:00Z", p.request.Name, text)
}

func (b *binder) partitions(req *Request, spreads []spread) {
	req.partitions = nil
	product := 1
	for _, sp := range spreads {
		dim := dimension{name: sp.name}
		if p := sp.parent; p != nil {
			dim.lineage = &Lineage{Child: req, Changed: p.changed, name: p.name, stream: p.stream, fields: p.kept, by: p.n}
		}
		for _, t := range sp.values {
			if err := b.spread(&dim, t); err != nil {
				b.fail("stream %s: partition %s (line %d): %w", req.Name, sp.name, sp.line, err)
				break
			}
		}
		seen := map[string]bool{}
		for _, c := range dim.choices() {
			if seen[c.text] {
				b.fail("stream %s: partition %s has %s twice", req.Name, sp.name, c.text)
			} else {
				seen[c.text] = true
			}
		}
		req.partitions = append(req.partitions, dim)
		if product *= max(1, len(dim.choices())); product > MaxPartitions {
			b.fail("stream %s: its lists multiply to more than %d partitions", req.Name, MaxPartitions)
			return
		}
	}
}

// spread adds the values of one element of a partition's list: a list in a setting counts with all of its elements.
func (b *binder) spread(dim *dimension, t *template) error {
	x, ok, err := b.eval(t)
	if err != nil {
		return cause(err)
	}
	list, isList := x.([]any)
	switch {
	case dim.lineage != nil && (!ok || isList && len(list) == 0):
		return nil // there are the parent's records
	case !ok || isList && len(list) == 0:
		return errNoValues
	case !isList:
		list = []any{x}
	}
	for _, v := range list {
		switch {
		case v == "":
			return errors.New("a value is empty")
		case dim.lineage != nil:
			if err := dim.lineage.give(v); err != nil {
				return err
			}
		case names(v):
			dim.values = append(dim.values, v)
		default:
			return fmt.Errorf("%s cannot name a partition", kindOf(v))
		}
	}
	return nil
}

func (b *binder) override(st *Stream, req *Request, o StreamOverride) {
	if o.Interval > 0 {
		req.Interval = Interval{fixed: o.Interval}
	}
	if o.ReconcileEvery != 0 {
		st.Reconcile.Every, st.Reconcile.times = max(o.ReconcileEvery, 0), nil
	}
	if g := o.Guard; g != nil {
		st.Reconcile.GuardKeys, st.Reconcile.GuardShare = g.GuardKeys, g.GuardShare
	}
	if h := o.Hash; h != nil {
		if len(h.Include) > 0 && len(h.Exclude) > 0 {
			b.fail("stream %s: hash has both include and exclude", st.Name)
		}
		st.Rules.Include, st.Rules.Exclude = b.paths(st.Name, h.Include), b.paths(st.Name, h.Exclude)
	}
	if o.Topic.Name != "" && !validTopic(o.Topic.Name) {
		b.fail("stream %s: topic name must be 1 to 249 of A-Z a-z 0-9 . _ -, not %q", st.Name, o.Topic.Name)
	}
	for _, c := range []struct {
		given bool
		set   func()
	}{
		{o.Topic.Name != "", func() { st.Topic.Name = o.Topic.Name }},
		{o.Topic.Partitions > 0, func() { st.Topic.Partitions = o.Topic.Partitions }},
		{o.Topic.Cleanup != "", func() { st.Topic.Cleanup = o.Topic.Cleanup }},
		{o.Topic.Retention != 0, func() { st.Topic.Retention = o.Topic.Retention }},
	} {
		if c.given {
			c.set()
		}
	}
}

func (b *binder) paths(stream string, list []string) []string {
	var out []string
	for _, text := range list {
		p, err := record.ParsePath(text)
		if err != nil {
			b.fail("stream %s: hash: %v", stream, err)
			continue
		}
		out = append(out, p.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// address adds the origin of a `url:` to those that may see credentials: it must be known before anything is asked.
func (b *binder) address(req *Request) {
	t := req.list.url
	var head string
	switch {
	case t.parts == nil:
		head, _ = t.literal.(string)
	case t.parts[0].expr == nil:
		head = t.parts[0].text
	default:
		x, err := t.parts[0].expr.eval(&vars{config: b.source.config})
		if err != nil {
			b.fail("stream %s: url must begin with an origin from the definition or the settings: %v", req.Name, err)
			return
		}
		head, _ = x.(string)
	}
	scheme, rest, ok := strings.Cut(head, "://")
	host, _, slash := strings.Cut(rest, "/")
	if !ok || host == "" || !slash && len(t.parts) > 1 && t.parts[0].expr == nil {
		b.fail("stream %s: url %q must begin with https:// and a host that are written out or a setting", req.Name, t.text)
		return
	}
	b.origin("url", scheme+"://"+host)
}

// SharesKeys reports whether partitions of the request have keys in common (key_scope: stream, P24).
func (r *Request) SharesKeys() bool {
	return slices.ContainsFunc(r.Streams, func(st *Stream) bool { return st.keyScope })
}

// Partitions returns the partitions of the request that its lists and the configuration name, in a fixed order; one without
// values if it has no lists. Those of a parent's records appear while running (P21).
func (r *Request) Partitions() []Partition {
	return r.product((*dimension).choices)
}

// vars returns what every template and condition of a request sees: the caller adds what belongs to the page.
func (r *Request) vars(p Partition, now time.Time) vars {
	return vars{partition: p.Values, config: r.source.config, now: now, page: r.paginator.firstPage}
}

// Scheduled returns the first moment after a time at which the request is to be polled; false where an interval says when (P22).
func (r *Request) Scheduled(after time.Time) (time.Time, bool) {
	if r.Interval.cron == nil {
		return time.Time{}, false
	}
	return r.Interval.cron.next(after), true
}

// Every returns how often p is polled at the moment now (server-corrected), which rules by expression evaluate anew.
func (r *Request) Every(p Partition, now time.Time) (time.Duration, error) {
	for _, rule := range r.Interval.rules {
		if rule.when == nil {
			return rule.every, nil
		}
		v := r.vars(p, now)
		x, err := rule.when.eval(&v)
		if err == nil {
			yes, ok := x.(bool)
			if ok && yes {
				return rule.every, nil
			}
			if !ok {
				err = fmt.Errorf("it gave %s, not true or false", kindOf(x))
			}
		}
		if err != nil {
			return 0, &cdc.Error{Op: "evaluate interval", Where: r.Name + "/" + p.Name, Err: err, Remedy: cdc.Halt, Scope: cdc.Stream,
				Hint: "Correct `interval` in the definition"}
		}
	}
	return r.Interval.fixed, nil
}

// Ruled reports whether rules decide, so that the interval may change while nothing is read.
func (i Interval) Ruled() bool { return len(i.rules) > 1 }

// cost returns what the request will cost of the budget, rounded up; 1 where nothing is declared.
func (r *Request) cost(v *vars) (int, error) {
	e := r.source.Rate.cost
	if e == nil {
		return 1, nil
	}
	x, err := e.eval(v)
	if err == nil {
		switch x := x.(type) {
		case int64:
			if x >= 0 && x <= 1_000_000 {
				return int(x), nil
			}
		case float64:
			if x >= 0 && x <= 1_000_000 {
				return int(math.Ceil(x)), nil
			}
		}
		err = fmt.Errorf("it gave %v, which is no number from 0 to 1000000", x)
	}
	return 0, &cdc.Error{Op: "evaluate cost", Where: r.source.Name, Err: err, Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: "Correct `rate_limit.cost` in the definition"}
}
