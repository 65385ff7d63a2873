package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// trialFlags are what `sources test` is asked.
type trialFlags struct {
	config                   settingsFlag
	stream, partition, since string
	record, replay, access   string
	pages, records           int
}

// settingsFlag collects --config name=value; a name given again makes a list.
type settingsFlag []string

// String implements flag.Value. It shows nothing: there may be secrets.
func (s *settingsFlag) String() string { return "" }

// Set implements flag.Value.
func (s *settingsFlag) Set(text string) error {
	if name, _, ok := strings.Cut(text, "="); !ok || name == "" {
		return errors.New("write name=value")
	}
	*s = append(*s, text)
	return nil
}

// sourcesTest reads a few pages of each stream, shows what would be published, and reads them again: whatever would be
// published the second time is not compared as it should be.
func sourcesTest(ctx context.Context, p *program, args []string) error {
	var t trialFlags
	f := p.flags("sources test", "NAME_OR_FILE --config name=value ... [--stream S] [--record DIR | --replay DIR]")
	t.asks(f)
	t.reads(f, 2)
	f.StringVar(&t.stream, "stream", "", "only this stream")
	f.IntVar(&t.records, "records", 5, "records of each page that are shown")
	f.StringVar(&t.record, "record", "", "write requests and answers into this new directory")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 || t.pages < 1 || t.record != "" && t.replay != "" {
		return fmt.Errorf("%w: connector sources test NAME_OR_FILE --config name=value ..., at least one page, and not both --record and --replay", errUsage)
	}
	src, err := t.bind(p, rest[0])
	if err != nil {
		return err
	}
	r, err := t.open(p, src)
	if err != nil {
		return err
	}
	defer r.close()
	for _, request := range r.order(t) {
		of := t
		if t.stream != "" && request.Name != t.stream {
			of.partition, of.since = "", ""
		}
		if err := r.try(ctx, request, of); err != nil {
			return err
		}
	}
	if r.recorder != nil {
		r.say("recorded %s in %s; secrets are hidden in it, and what else the answers hold is as it came, personal data too: look at it before you share it",
			counted(int64(r.recorder.n), "exchange"), t.record)
	}
	if r.failed {
		return errVerdict
	}
	return nil
}

// asks are the flags of whatever asks an API by its definition.
func (t *trialFlags) asks(f *flag.FlagSet) {
	f.Var(&t.config, "config", "a setting, name=value; again for each, and for each element of a list. @FILE and ${VAR} stand for a content")
	f.StringVar(&t.partition, "partition", "", "name=value[,name=value]; default: the first one")
	f.StringVar(&t.access, "access-token-file", "", "a file with an access token (or API key) to send instead of a grant that rotates")
}

// reads are the flags of whatever reads some pages.
func (t *trialFlags) reads(f *flag.FlagSet, pages int) {
	f.IntVar(&t.pages, "pages", pages, "pages of each stream")
	f.StringVar(&t.since, "since", "", "a time, or a cursor as the API writes it; default: the beginning")
	f.StringVar(&t.replay, "replay", "", "answer from this directory instead of the API")
}

// order returns the requests to try: parents first, since their children are found in what they answer. Where the partition is
// given, its parents are not asked.
func (r *trial) order(t trialFlags) []*source.Request {
	above := map[*source.Stream]*source.Lineage{} // of streams that may be parents
	for _, request := range r.src.Requests {
		above[request.Streams[0]] = request.Lineage()
	}
	depth := func(request *source.Request) (n int) {
		for l := request.Lineage(); l != nil && l.Parent != nil; l = above[l.Parent] {
			n++
		}
		return n
	}
	all := slices.Clone(r.src.Requests)
	slices.SortStableFunc(all, func(a, b *source.Request) int { return depth(a) - depth(b) })
	return slices.DeleteFunc(all, func(request *source.Request) bool {
		return t.partition != "" && t.stream != "" && request.Name != t.stream
	})
}

// bind fills in the definition with the settings of the command line. A replay needs no secrets.
func (t *trialFlags) bind(p *program, name string) (*source.Source, error) {
	d, err := source.Open(name)
	if err != nil {
		return nil, err
	}
	config, err := t.settings(p, d)
	if err != nil {
		return nil, err
	}
	for _, s := range d.Settings() {
		if s.Secret && config[s.Name] == nil && !s.Optional && (t.replay != "" || t.access != "") {
			config[s.Name] = standIn(s)
		}
	}
	o := source.Overrides{Anonymous: t.replay != "" || t.access != ""}
	if t.stream != "" {
		o.Streams = map[string]source.StreamOverride{t.stream: {}}
		for _, name := range d.Ancestors(t.stream) {
			o.Streams[name] = source.StreamOverride{}
		}
	}
	src, err := d.Bind("test", config, o)
	var e *cdc.Error
	if errors.As(err, &e) {
		e.Hint = "Give each setting as --config name=value: " + needs(d) + " (* secret, […] optional)"
	}
	return src, err
}

// standIn takes the place of a secret that is not needed. What a template cuts out of it at a usual place is long enough to be hidden,
// as it was of the secret itself when the request was recorded.
func standIn(s source.Setting) any {
	switch s.Type {
	case "integer", "number":
		return int64(9_876_543_210)
	case "boolean":
		return false
	case "list":
		return []any{"not-needed"}
	}
	return "notneeded-notneeded.notneeded_notneeded"
}

// settings reads --config.
func (t *trialFlags) settings(p *program, d *source.Definition) (map[string]any, error) {
	config := map[string]any{}
	for _, text := range t.config {
		name, value, _ := strings.Cut(text, "=")
		if file, ok := strings.CutPrefix(value, "@"); ok {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--config %s: %w", name, err)
			}
			value = strings.TrimRight(string(content), "\r\n")
		} else if inner, ok := strings.CutPrefix(value, "${"); ok && strings.HasSuffix(inner, "}") {
			v, set := p.env(strings.TrimSuffix(inner, "}"))
			if !set {
				return nil, fmt.Errorf("%w: --config %s: the variable %s is not set", errUsage, name, strings.TrimSuffix(inner, "}"))
			}
			value = v
		}
		isList := slices.ContainsFunc(d.Settings(), func(s source.Setting) bool { return s.Name == name && s.Type == "list" })
		switch before := config[name].(type) {
		case []any:
			config[name] = append(before, value)
		default:
			if config[name] = value; isList {
				config[name] = []any{value}
			}
		}
	}
	return config, nil
}

// trial reads pages and shows what they come to.
type trial struct {
	p        *program
	src      *source.Source
	client   *fetch.Client // nil: a replay
	send     sender
	recorder *recorder // nil: nothing is recorded
	hide     veil
	proof    string // the credential as people see it
	// cursorless says that what was recorded is from before the next pass was asked for.
	cursorless bool
	now        time.Time
	records    int
	failed     bool
	broken     error                                // a recording that could not be written
	children   map[*source.Request]source.Partition // of the first parent that was read (P21)
}

// open makes the way to the API, or to what was recorded of it.
func (t *trialFlags) open(p *program, src *source.Source) (*trial, error) {
	r := &trial{p: p, src: src, now: time.Now().UTC(), records: t.records, children: map[*source.Request]source.Partition{}}
	secrets := slices.Clone(src.Secrets)
	var access cdc.Secret
	if t.access != "" {
		content, err := os.ReadFile(t.access)
		if err != nil {
			return nil, fmt.Errorf("--access-token-file: %w", err)
		}
		access = cdc.NewSecret(strings.TrimSpace(string(content)))
		secrets = append(secrets, access)
	}
	r.hide, r.proof = fetch.NewVeil(secrets...).Hide, proofOf(src.Auth)
	if t.replay != "" {
		replay, err := openReplay(t.replay)
		if err != nil {
			return nil, err
		}
		replay.hide, r.now, r.send, r.cursorless = r.hide, replay.about.Now, replay.send, !replay.about.Onward
		return r, nil
	}
	if src.Auth.Rotates() && access.IsZero() {
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "sources test", "Give an access token (or an API key that the API takes as a bearer token) "+
			"with --access-token-file FILE, or answer from a recording with --replay DIR", "the refresh token of %s is good for one use, and a test would use it up", src.Name)
	}
	credential, err := credentialOf(src, access)
	if err != nil {
		return nil, err
	}
	client, err := fetch.New(fetch.Options{
		Origins: src.Origins, Budget: newBudget(src.Rate), Credential: credential, Secrets: src.Secrets, Attempts: 3, UserAgent: "tidemark/" + version,
	})
	if err != nil {
		return nil, err
	}
	r.client, r.send, r.hide = client, client.Do, client.Hide // the tokens that it is going to get, too
	if t.record != "" {
		if r.recorder, err = newRecorder(t.record, r.hide, recording{Source: src.Name, Now: r.now, Onward: true}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *trial) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// proofOf shows where the credential stands in a request.
func proofOf(a source.Auth) string {
	switch a.Kind {
	case source.AuthBearer, source.AuthOAuth2:
		return "Authorization: Bearer ***"
	case source.AuthBasic:
		return "Authorization: Basic ***"
	case source.AuthAPIKey:
		if a.Query != "" {
			return "query parameter " + a.Query + "=***"
		}
		return http.CanonicalHeaderKey(a.Header) + ": ***"
	case source.AuthSession:
		if a.Login.Cookies {
			return "Cookie: ***"
		}
		return http.CanonicalHeaderKey(a.Header) + ": " + a.Login.Prefix + "***"
	}
	return ""
}

// do sends one request and shows both sides of it.
func (r *trial) do(ctx context.Context, request *fetch.Request) (*fetch.Response, error) {
	target, sent := r.hide.ask(request)
	r.say("→ %s %s", methodOf(request), target)
	for _, name := range slices.Sorted(maps.Keys(request.Header)) {
		r.say("  %s: %s", name, r.hide.header(name, strings.Join(request.Header[name], ", "), request.Secrets))
	}
	if r.proof != "" {
		r.say("  %s", r.proof)
	}
	if sent != "" {
		r.say("  %s", clipped(sent, 400))
	}
	judge := request.Judge
	if judge == nil {
		judge = fetch.DefaultJudge
	}
	watched := *request
	watched.Judge = func(answer *fetch.Response) error { // it is called for every answer, also for those that are sent for again
		r.say("← %d, %d bytes, %s", answer.Status, len(answer.Body), answer.Received.Sub(answer.Sent).Round(time.Millisecond))
		if r.recorder != nil {
			r.broken = errors.Join(r.broken, r.recorder.write(request, answer))
		}
		return judge(answer)
	}
	answer, err := r.send(ctx, &watched)
	return answer, errors.Join(err, r.broken)
}

// say prints a line, without secrets.
func (r *trial) say(format string, args ...any) {
	fmt.Fprintln(r.p.out, r.hide(fmt.Sprintf(format, args...)))
}

// tested is what one reading of a stream came to.
type tested struct {
	pages, records   int
	ops              map[cdc.Op]int
	suppressed       int
	parked, filtered int
	held             int
	done             bool
	checkpoint       cdc.Checkpoint
	reached          cdc.Checkpoint // where the next pass would begin
	twice            []string       // keys that came again, with another content
}

func (n *tested) published() int {
	return n.ops[cdc.Created] + n.ops[cdc.Updated] + n.ops[cdc.Deleted] + n.ops[cdc.Read]
}

// trialRequest is a request that is being tested.
type trialRequest struct {
	*trial
	request *source.Request
	streams map[int]*trialStream // by index
	batch   uint64
	again   bool
	value   []byte
	review  *source.Review // of the first reading
}

// trialStream is what is known of a stream from page to page.
type trialStream struct {
	spec    *source.Stream
	table   *state.Table
	encoder *codec.Encoder
	values  map[string][]byte // as first read, to say what differs the second time
	seen    map[string]uint64 // the hash of each key in this reading
}

// remembered bounds the values that are kept to say what differs.
const remembered = 10_000

// try reads a request twice, and once more from the cursor that the first reading has found.
func (r *trial) try(ctx context.Context, request *source.Request, t trialFlags) error {
	spec, note, err := choose(request, t.partition, r.children[request])
	if errors.Is(err, errNoParent) {
		r.say("%s: nothing was asked for: %v", request.Name, err)
		return nil
	}
	if err != nil {
		return err
	}
	cp, err := since(request, spec, t.since, r.now)
	if err != nil {
		return err
	}
	b := &trialRequest{trial: r, request: request, streams: map[int]*trialStream{}, review: request.Review()}
	defer b.close()
	kinds, err := b.open()
	if err != nil {
		return err
	}
	name := request.Name
	r.say("%s%s: %s", name, note, strings.Join(kinds, "; "))
	first, err := b.read(ctx, spec, cp, t.pages)
	if err != nil {
		return err
	}
	r.say("%s: %s, %s: %s", name, counted(int64(first.pages), "page"), counted(int64(first.records), "record"), first)
	b.again = true
	r.say("%s, the second time:", name)
	second, err := b.read(ctx, spec, cp, t.pages)
	if err != nil {
		return err
	}
	b.judge(second.published(), append(first.twice, second.twice...))
	if second.published() == 0 {
		r.say("%s: %s suppressed, nothing would be published again", name, counted(int64(second.suppressed), "record"))
	}
	if first.parked > 0 {
		r.failed = true
		r.say("%s: FAIL: %s would go to the dead-letter topic", name, counted(int64(first.parked), "record"))
	}
	if err := b.onward(ctx, spec, cp, first, t.pages); err != nil {
		return err
	}
	b.remark()
	r.say("")
	return nil
}

// remark says what the definition names and the API does not have.
func (b *trialRequest) remark() {
	for _, m := range b.review.Remarks() {
		what := "note"
		if m.Wrong {
			b.failed, what = true, "FAIL"
		}
		b.say("%s: %s: %s", b.request.Name, what, m.Text)
	}
}

// open makes what is known of each stream, and says what streams there are.
func (b *trialRequest) open() (kinds []string, err error) {
	for _, st := range b.request.Streams {
		one := &trialStream{spec: st, values: map[string][]byte{}}
		if one.encoder, err = plainEncoder(st); err != nil {
			return nil, err
		}
		if one.table, err = state.New(); err != nil {
			return nil, err
		}
		b.streams[st.Index] = one
		kind := "schema " + st.Schema
		if st.Name != b.request.Name {
			kind = "stream " + st.Name + ", " + kind
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

func (b *trialRequest) close() {
	for _, s := range b.streams {
		s.table.Close()
	}
}

// judge says what is wrong when records that were read before would be published again, and when a key came twice.
func (b *trialRequest) judge(again int, twice []string) {
	switch {
	case len(twice) > 0:
		b.failed = true
		b.say("%s: FAIL: one reading had the key %s twice, with different contents: is `primary_key` unique? (A record that changed while it was read looks so, too.)",
			b.request.Name, twice[0])
	case again > 0:
		b.failed = true
		b.say("%s: FAIL: %s would be published again: either the API changed meanwhile, or `hash: {exclude: […]}` has to name what "+
			"differs from answer to answer", b.request.Name, counted(int64(again), "record"))
	}
}

// onward reads as the next pass will: from the cursor that the first reading has found, less the lookback. The readings before had no
// cursor, so a filter that the API refuses shows only here.
func (b *trialRequest) onward(ctx context.Context, spec source.Partition, began cdc.Checkpoint, first *tested, pages int) error {
	name, cursor := b.request.Name, first.reached.Cursor
	switch {
	case b.request.Streams[0].Snapshot:
		return nil
	case cursor == "" || cursor == began.Cursor:
		b.say("%s: no record has moved the cursor, so the next pass asks as this one did", name)
		return nil
	case b.cursorless:
		b.say("%s: the request from the cursor %s on is not in this recording: it was made before that was asked for. Record anew, to try it too", name, cursor)
		return nil
	}
	b.say("%s, from its cursor %s on, as the next pass asks:", name, cursor)
	next, err := b.read(ctx, spec, first.reached, pages)
	if err != nil {
		b.say("%s: FAIL: the first pass can be read, and the next one cannot", name)
		return err
	}
	b.judge(next.ops[cdc.Updated], next.twice)
	b.say("%s: the next pass: %s, %s, of which %d were not seen before", name, counted(int64(next.pages), "page"), counted(int64(next.records), "record"),
		next.ops[cdc.Created])
	return nil
}

// String says what a reading came to.
func (n *tested) String() string {
	parts := []string{fmt.Sprintf("%d would be published", n.published())}
	for _, op := range []cdc.Op{cdc.Read, cdc.Created, cdc.Updated, cdc.Deleted} {
		if n.ops[op] > 0 {
			parts[0] += fmt.Sprintf(" (%s: %d)", op, n.ops[op])
		}
	}
	for _, c := range []struct {
		n    int
		what string
	}{{n.suppressed, "suppressed"}, {n.filtered, "outside the filter"}, {n.held, "held as older versions"}, {n.parked, "parked"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if n.done {
		parts = append(parts, "the pass ended")
	} else {
		parts = append(parts, "the pass goes on (--pages)")
	}
	return strings.Join(parts, ", ") + "; cursor " + orDash(n.checkpoint.Cursor)
}

var errNoParent = errors.New("no parent was read whose children could be; --stream STREAM --partition name=value gives one")

// choose returns the partition to read, and how it is named to people. child is one of the first parent that was read.
func choose(request *source.Request, wanted string, child source.Partition) (source.Partition, string, error) {
	all := request.Partitions()
	if wanted == "" && len(all) == 0 {
		if child.Name == "" {
			return child, "", errNoParent
		}
		return child, fmt.Sprintf(", partition %s (of the first parent, --partition chooses)", child.Name), nil
	}
	if wanted == "" {
		if len(all) == 1 && all[0].Name == cdc.NoPartition {
			return all[0], "", nil
		}
		return all[0], fmt.Sprintf(", partition %s (1 of %d, --partition chooses)", all[0].Name, len(all)), nil
	}
	values := map[string]string{}
	for pair := range strings.SplitSeq(wanted, ",") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	var names []string
	for _, p := range all {
		if p.Name == wanted || p.Name == cdc.PartitionName(values) {
			return p, ", partition " + p.Name, nil
		}
		names = append(names, p.Name)
	}
	if l := request.Lineage(); l != nil { // P21: of a parent that need not have been read
		if p, ok := request.Revive(cdc.PartitionName(values), l.Named(values[l.Name()])); ok {
			return p, ", partition " + p.Name, nil
		}
	}
	return source.Partition{}, "", fmt.Errorf("%w: stream %s has no partition %s: it has %s", errUsage, request.Name, wanted, clipped(strings.Join(names, " "), 300))
}

// since makes the checkpoint that a text stands for: a cursor as the API writes it, or a time.
func since(request *source.Request, spec source.Partition, text string, now time.Time) (cdc.Checkpoint, error) {
	if text == "" {
		return cdc.Checkpoint{}, nil
	}
	cursor, err := request.CursorOf(text)
	cp := cdc.Checkpoint{Cursor: cursor, Passes: 1}
	if err == nil {
		_, err = request.Begin(spec, cp, now)
	}
	if err != nil {
		return cdc.Checkpoint{}, fmt.Errorf("%w: --since %s: nothing of stream %s begins there: %w", errUsage, text, request.Name, err)
	}
	return cp, nil
}

// readTime reads a time as people write it.
func readTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// read walks up to so many pages from cp, comparing with what was read before, as the connector does.
func (b *trialRequest) read(ctx context.Context, spec source.Partition, cp cdc.Checkpoint, pages int) (*tested, error) {
	n := &tested{ops: map[cdc.Op]int{}, checkpoint: cp, reached: cp}
	for _, s := range b.streams {
		s.seen = map[string]uint64{}
	}
	position, err := b.request.Begin(spec, cp, b.now)
	if err != nil {
		return n, err
	}
	defer position.Abandon()
	var page source.Page
	known := func(stream int) record.Known { return b.streams[stream].table }
	for n.pages < pages && !n.done {
		request, err := b.request.Compose(&position)
		if err != nil {
			return n, err
		}
		var answer *fetch.Response
		if request != nil { // P13: a spool is played without asking
			if stage := position.Stage(); stage != "page" {
				b.say("  (%s)", stage)
			}
			if answer, err = b.do(ctx, request); err != nil {
				return n, err
			}
		}
		if err = b.request.Split(&position, answer, known, &page); err == nil {
			b.batch++
			if !b.again {
				b.review.Note(&position, answer, &page)
			}
			b.compare(n, &page, cp.Passes)
			for _, s := range b.streams {
				s.table.Settle(b.batch)
			}
			position, n.done = page.Next, page.Done
			n.checkpoint, n.reached = position.Checkpoint(), position.Checkpoint()
			if !n.done {
				n.reached = position.Reached()
			}
			err = position.Park(n.parked - page.Parked)
		}
		answer.Release()
		if err != nil {
			return n, err
		}
		n.pages++
		for _, text := range page.Notices {
			b.say("  note: %s", text)
		}
	}
	return n, nil
}

// compare decides what each record of a page is (5) and shows the first ones.
func (b *trialRequest) compare(n *tested, page *source.Page, passes int64) {
	shown := 0
	for i := range page.Records {
		rec := &page.Records[i]
		n.records++
		b.beget(b.streams[rec.Stream].spec, rec, page.Body)
		op, why := b.decide(n, rec, page.Body, passes)
		if op == "" && rec.Err == nil && why == "" || shown >= b.trial.records && (rec.Err == nil || b.again) {
			continue
		}
		shown++
		text := ""
		if !rec.Value.IsZero() {
			text = clipped(b.hide(string(rec.Content(page.Body))), 120)
		}
		key := string(rec.Key)
		if len(b.streams) > 1 {
			key = b.streams[rec.Stream].spec.Name + " " + key
		}
		b.say("  %-2s %-12s hash %016x  version %-24s %s", orDash(string(op)), key, rec.Hash, rec.Version, text)
		if why != "" {
			b.say("     %s", why)
		}
	}
	if more := len(page.Records) - shown; more > 0 && !b.again {
		b.say("  … and %d more", more)
	}
}

// beget notes the children of the first parent (P21).
func (r *trial) beget(st *source.Stream, rec *source.Record, body []byte) {
	if rec.Kind != source.Live {
		return
	}
	for _, l := range st.Children {
		if _, ok := r.children[l.Child]; ok {
			continue
		}
		fields, err := l.Sight(rec, body)
		if err != nil || fields == nil {
			continue // Split has said what is wrong with it, or it has no children
		}
		if parts, err := l.Partitions(fields); err == nil && len(parts) > 0 {
			r.children[l.Child] = parts[0]
		}
	}
}

// decide is what the connector would do with a record: its operation, or "" where nothing is published.
func (b *trialRequest) decide(n *tested, rec *source.Record, body []byte, passes int64) (op cdc.Op, why string) {
	s := b.streams[rec.Stream]
	if s.twice(rec) {
		n.twice = append(n.twice, string(rec.Key))
	}
	if rec.Same {
		n.suppressed++
		return "", ""
	}
	known, ok := s.table.Get(rec.Key, rec.KeyHash)
	switch {
	case rec.Err != nil:
		n.parked++
		return "", "parked: " + rec.Err.Error()
	case rec.Kind == source.Filtered && !ok:
		n.filtered++
		return "", ""
	case rec.Kind != source.Live && !ok:
		n.suppressed++ // a deletion of what was never published
		return "", ""
	case rec.Kind != source.Live:
		n.ops[cdc.Deleted]++
		s.table.StageDelete(b.batch, rec.Key, rec.KeyHash)
		return cdc.Deleted, "upstream says that it is gone, or it left the filter"
	case ok && known.Hash == rec.Hash:
		n.suppressed++
		return "", ""
	case ok && rec.Version.Compare(known.Version) < 0: // P14
		n.held++
		return "", fmt.Sprintf("held: version %s is older than %s", rec.Version, known.Version)
	}
	value := rec.Content(body)
	var err error
	if b.value, err = s.encoder.Append(b.value[:0], value); err != nil {
		n.parked++
		return "", "parked: " + err.Error()
	}
	switch {
	case ok:
		op, why = cdc.Updated, s.difference(rec, value)
	case passes == 0:
		op = cdc.Read
	default:
		op = cdc.Created
	}
	n.ops[op]++
	s.table.Stage(b.batch, rec.Key, rec.KeyHash, state.Entry{
		Hash: rec.Hash, Raw: rec.RawHash, RawLen: uint32(rec.Raw.Len()), Version: rec.Version,
	})
	if len(s.values) < remembered {
		s.values[string(rec.Key)] = bytes.Clone(value)
	}
	return op, why
}

// twice reports whether this reading showed the record's key before, with another content. The entries of a log are meant to do that.
func (s *trialStream) twice(rec *source.Record) bool {
	if s.spec.LogFeed || rec.Err != nil || rec.Kind != source.Live || rec.Same {
		return false
	}
	before, ok := s.seen[string(rec.Key)]
	if len(s.seen) < remembered {
		s.seen[string(rec.Key)] = rec.Hash
	}
	return ok && before != rec.Hash
}

// difference names the members in which a record differs from what was read before.
func (s *trialStream) difference(rec *source.Record, value []byte) string {
	var before, after map[string]any
	if decode(s.values[string(rec.Key)], &before) != nil || decode(value, &after) != nil {
		return ""
	}
	names := slices.Collect(maps.Keys(after))
	for name := range before {
		if _, ok := after[name]; !ok {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return reflect.DeepEqual(before[name], after[name]) })
	slices.Sort(names)
	return "differs in " + strings.Join(names, ", ")
}

func decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(v); err != nil && err != io.EOF {
		return err
	}
	return nil
}
