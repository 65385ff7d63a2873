package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// offsetsCommand shows and changes what stands in the offsets topic.
func offsetsCommand(ctx context.Context, p *program, args []string) error {
	return p.verb(ctx, "offsets", args, []command{
		{name: "list", args: "[CONNECTION]", does: "owners, cursors and counts as Kafka holds them", run: offsetsList},
		{name: "rewind", args: "CONNECTION/STREAM --to TIME_OR_CURSOR --yes", does: "set a stream's cursors back: what changed since is read again", run: offsetsRewind},
		{name: "reset", args: "CONNECTION/STREAM --yes", does: "forget a stream: everything is published anew", run: offsetsReset},
	})
}

// offsetsList prints what the offsets topic holds.
func offsetsList(ctx context.Context, p *program, args []string) error {
	rest, err := parse(p.flags("offsets list", "[CONNECTION]"), args, 1)
	if err != nil {
		return err
	}
	d, err := p.distant("offsets list")
	if err != nil {
		return err
	}
	all, err := readHoldings(ctx, d.kafka)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		if all = slices.DeleteFunc(all, func(h *holdings) bool { return h.connection != rest[0] }); len(all) == 0 {
			return cdc.Errorf(cdc.Halt, cdc.Process, "offsets list", "`connector offsets list` shows all of them", "topic %s holds nothing of a connection %q",
				d.kafka.OffsetsTopic(), rest[0])
		}
	}
	if len(all) == 0 {
		fmt.Fprintf(p.out, "Nothing is stored in topic %s yet: connector run begins.\n", d.kafka.OffsetsTopic())
		return nil
	}
	p.owners(d, all)
	p.cursors(all)
	return nil
}

// owners prints a line for each connection.
func (p *program) owners(d *deployment, all []*holdings) {
	configured := map[string]bool{}
	declared, err := d.connections()
	for _, c := range declared {
		configured[c.Name] = true
	}
	rows := [][]string{{"CONNECTION", "ACCOUNT", "SHARD", "OWNER", "SINCE", "TOKEN", "NOTE"}}
	for _, h := range all {
		row := []string{h.connection, "-", strconv.Itoa(int(h.shard)), "-", "-", "-", ""}
		if o := h.owner; o != nil {
			row[1], row[3], row[4] = orDash(o.Account), o.Instance, o.At.Format(time.RFC3339)
		}
		if t := h.token; t != nil {
			if row[5] = "generation " + strconv.FormatInt(t.Generation, 10); t.Intent {
				row[5] += ", a refresh is under way or its outcome unknown"
			}
		}
		if err == nil && !configured[h.connection] {
			row[6] = "not in " + d.settings.Connections // K10: shown loudly
		}
		rows = append(rows, row)
	}
	aligned(p.out, rows)
}

// cursors prints a line for each partition.
func (p *program) cursors(all []*holdings) {
	rows := [][]string{{"STREAM", "PARTITION", "CURSOR", "PASSES", "ENDED", "KEYS", "PARKED", "HELD", "NOTE"}}
	for _, h := range all {
		names := slices.Collect(maps.Keys(h.cursors))
		for name := range h.streams {
			if h.cursors[name] == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			partitions := slices.Sorted(maps.Keys(h.cursors[name]))
			if len(partitions) == 0 {
				partitions = []string{cdc.NoPartition}
			}
			for i, partition := range partitions {
				cp := h.cursors[name][partition]
				row := []string{h.connection + "/" + name, partition, clipped(orDash(cp.Cursor), 60), strconv.FormatInt(cp.Passes, 10), "-", "", "", "", noteOf(cp)}
				if !cp.Ended.IsZero() {
					row[4] = cp.Ended.Format(time.RFC3339)
				}
				if i == 0 { // keys are the stream's, not the partition's
					row[5], row[6], row[7] = strconv.FormatInt(h.streams[name].Count, 10), strconv.Itoa(h.parked[name]), strconv.Itoa(h.held[name])
				}
				rows = append(rows, row)
			}
		}
	}
	fmt.Fprintln(p.out)
	aligned(p.out, rows)
}

// noteOf says what else a checkpoint tells.
func noteOf(cp cdc.Checkpoint) string {
	var notes []string
	if cp.Anchor != "" {
		notes = append(notes, "a pass is unfinished, at "+clipped(cp.Anchor, 40))
	}
	if cp.Drifting {
		notes = append(notes, "drifting")
	}
	return strings.Join(notes, ", ")
}

// surgery is a change of a stream's state from outside, by the protocol itself: the connection is owned, which fences whoever
// owns it now (3); its state is restored up to our own owner record; the change is committed. The owner before comes back by
// itself, and reads what we committed (K9).
type surgery struct {
	p         *program
	d         *deployment
	target    declared
	stream    string
	spec      *source.Stream  // nil: the definition has no such stream any more
	request   *source.Request // the same
	now       *holdings       // as it stood when the plan was made
	dry, sure bool
}

// prepare reads the command line's target and what stands of it.
func (s *surgery) prepare(ctx context.Context, name string) error {
	connection, stream, err := streamName(name)
	if err != nil {
		return err
	}
	if err := s.choose(connection); err != nil {
		return err
	}
	s.stream = stream
	for _, r := range s.target.bound.Requests {
		for _, st := range r.Streams {
			if st.Name == stream || r.Name == stream && s.request == nil {
				s.spec, s.request = st, r
			}
		}
	}
	err = s.look(ctx)
	switch {
	case err != nil:
		return err
	case s.now == nil:
		return cdc.Errorf(cdc.Halt, cdc.Connection, "offsets", "Is DEPLOYMENT right? `connector offsets list` shows what is stored",
			"nothing is stored of connection %s in topic %s", connection, s.d.kafka.OffsetsTopic())
	case len(s.now.of(stream))+len(s.now.of(s.cursors())) == 0:
		return cdc.Errorf(cdc.Halt, cdc.Stream, "offsets", "`connector offsets list "+connection+"` shows what is stored", "nothing is stored of stream %s of connection %s", stream, connection)
	}
	return nil
}

// choose makes a connection of the file the target.
func (s *surgery) choose(connection string) error {
	all, err := s.d.connections()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(c declared) bool { return c.Name == connection })
	if i < 0 {
		return cdc.Errorf(cdc.Halt, cdc.Process, "offsets", "Its account decides where its state stands: put the connection (back) into the file",
			"%s has no connection %q", s.d.settings.Connections, connection)
	}
	s.target = all[i]
	return nil
}

// look reads what stands of the target; now stays nil where nothing does.
func (s *surgery) look(ctx context.Context) error {
	stored, err := readHoldings(ctx, s.d.kafka)
	if err != nil {
		return err
	}
	shard := s.d.kafka.ShardOf(s.target.Account)
	for _, h := range stored {
		switch {
		case h.connection != s.target.Name:
		case h.shard == shard:
			s.now = h
		case s.now == nil:
			err = cdc.Errorf(cdc.Halt, cdc.Connection, "offsets", "Put the account back in "+s.d.settings.Connections, "the state of %s stands in shard %d, and account %q belongs to shard %d",
				h.connection, h.shard, s.target.Account, shard)
		}
	}
	if s.now != nil {
		return nil
	}
	return err
}

// cursors is the name under which the checkpoints of the stream stand: its request's, which may have other streams too.
func (s *surgery) cursors() string {
	if s.request != nil {
		return s.request.Name
	}
	return s.stream
}

// consent are the flags that agreed asks for.
func (s *surgery) consent(f *flag.FlagSet) {
	f.BoolVar(&s.dry, "dry-run", false, "show what would be done")
	f.BoolVar(&s.sure, "yes", false, "do it")
}

// agreed ends a dry run, and a command that nobody confirmed.
func (s *surgery) agreed() (bool, error) {
	switch {
	case s.dry:
		fmt.Fprintln(s.p.out, "dry run: nothing was changed")
		return false, nil
	case !s.sure:
		return false, fmt.Errorf("%w: nothing was changed; add --yes to do it", errUsage)
	}
	return true, nil
}

// hands are a connection that is owned for a change.
type hands struct {
	*surgery
	session *kafka.Session
	held    *holdings    // as restored: nobody else can write any more (3)
	table   *state.Table // hashes of the stream
	there   map[string]looked
}

// turns is how often a change is begun again when a running owner took the connection back meanwhile.
const turns = 5

// operate owns the connection, restores it and has work change it. A running owner that is busy takes the connection back
// after a moment; every change can be cut anywhere and begun again.
func (s *surgery) operate(ctx context.Context, work func(ctx context.Context, h *hands) error) error {
	for turn := 1; ; turn++ {
		err := s.once(ctx, work)
		remedy, _ := cdc.Verdict(err)
		if err == nil || remedy == cdc.Halt || ctx.Err() != nil {
			return err
		}
		if turn == turns {
			return cdc.Errorf(cdc.Halt, cdc.Connection, "change state", "Does a running connector take the connection back each time? Stop it, and run the command again: "+
				"what was done of it stays, and it goes on from there", "%d tries failed, the last one: %w", turns, err)
		}
		fmt.Fprintf(s.p.out, "begun again (%v)\n", err)
	}
}

func (s *surgery) once(ctx context.Context, work func(context.Context, *hands) error) error {
	h := &hands{surgery: s}
	claim, err := h.claim(ctx)
	if err != nil {
		return err
	}
	o := s.d.kafka
	if owner := s.now.owner; owner != nil {
		// K10: the command is no other deployment. It owns in the name of the owner before, who would count a strange one.
		o.Instance, claim.Config = owner.Instance, owner.Config
	}
	if h.session, err = kafka.Own(ctx, o, claim); err != nil {
		return err
	}
	defer h.session.Close()
	if h.table, err = state.New(); err != nil {
		return err
	}
	defer h.table.Close()
	values := map[string][]byte{}
	if _, err = h.session.Restore(ctx, kafka.Mark{}, func(i kafka.Item) error { return h.apply(values, i) }); err != nil {
		return err
	}
	if h.held, err = newHoldings(s.target.Name, claim.Shard, values); err != nil {
		return err
	}
	return work(ctx, h)
}

// claim names the events topics that are fit to be looked at, so that lost markers and partitions without a leader are noticed
// (K8 b, d). One that was recreated is among them too: that is what a reset mends.
func (h *hands) claim(ctx context.Context) (kafka.Claim, error) {
	c := h.target
	claim := kafka.Claim{
		Connection: c.Name, Account: c.Account, Shard: h.d.kafka.ShardOf(c.Account), Config: c.fingerprint(h.d.settings),
	}
	var topics []kafka.Topic
	for _, st := range c.bound.Streams {
		topics = append(topics, capture.EventsTopic(h.d.kafka, c.Name, st))
	}
	if old := h.now.streams[h.stream].Topic; old != "" && !slices.ContainsFunc(topics, func(t kafka.Topic) bool { return t.Name == old }) {
		topics = append(topics, kafka.Topic{Name: old, Role: kafka.Events})
	}
	seen, err := lookAt(ctx, h.d.kafka, topics)
	h.there = map[string]looked{}
	for _, t := range seen {
		if !t.missing && t.err == nil {
			h.there[t.Name] = t
			claim.Streams = append(claim.Streams, kafka.StreamTopic{Topic: t.Name, Cleanup: t.Config["cleanup.policy"]})
		}
	}
	return claim, err
}

// apply takes one record of the shard.
func (h *hands) apply(values map[string][]byte, i kafka.Item) error {
	if !i.Hashes {
		if i.Value == nil {
			delete(values, string(i.Key))
		} else {
			values[string(i.Key)] = slices.Clone(i.Value)
		}
		return nil
	}
	_, stream, key, owner, err := offsets.ParseHashKey(i.Key)
	if err != nil || owner || string(stream) != h.stream {
		return err
	}
	if i.Value == nil {
		h.table.Remove(key, record.KeyHash(key))
		return nil
	}
	v, err := offsets.ParseHash(i.Value)
	if err != nil {
		return err
	}
	h.table.Apply(key, record.KeyHash(key), state.Entry{Hash: v.Hash, Version: v.Version, Rules: v.Rules, Flags: state.Flags(v.Flags)})
	return nil
}

// rewinding is what `offsets rewind` is asked.
type rewinding struct {
	surgery
	to, partition string
	cursors       map[string]string // the new cursor of each partition
}

// offsetsRewind sets cursors back. Only this lowers a cursor (P3).
func offsetsRewind(ctx context.Context, p *program, args []string) error {
	r := rewinding{surgery: surgery{p: p}}
	f := p.flags("offsets rewind", "CONNECTION/STREAM [--partition P] --to TIME_OR_CURSOR [--dry-run] --yes")
	f.StringVar(&r.to, "to", "", "a time (2026-01-31T12:00:00Z, 2026-01-31), a cursor as `offsets list` shows it, or start")
	f.StringVar(&r.partition, "partition", "", "as `offsets list` shows it; default: all of the stream")
	r.consent(f)
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 || r.to == "" {
		return fmt.Errorf("%w: connector offsets rewind CONNECTION/STREAM --to TIME_OR_CURSOR", errUsage)
	}
	if r.d, err = p.distant("offsets rewind"); err != nil {
		return err
	}
	if err := r.prepare(ctx, rest[0]); err != nil {
		return err
	}
	if err := r.plan(); err != nil {
		return err
	}
	if ok, err := r.agreed(); !ok {
		return err
	}
	if err := r.operate(ctx, r.work); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "done: %s of %s set back\n%s\n", counted(int64(len(r.cursors)), "cursor"), rest[0], whenNoticed)
	return nil
}

// whenNoticed says when a running connector hears of a change: with its next commit, or when it looks at its fence.
const whenNoticed = "A connector that is running notices within a minute, and goes on from here."

// plan decides on the new cursors and prints them.
func (r *rewinding) plan() error {
	name := r.target.Name + "/" + r.stream
	if r.request == nil || r.spec.Snapshot {
		return cdc.Errorf(cdc.Halt, cdc.Stream, "offsets rewind", "A stream without a cursor lists everything at every pass; `connector offsets reset` forgets what was published",
			"%s has no cursor to set back", name)
	}
	stored := r.now.cursors[r.request.Name]
	if r.partition != "" {
		if _, ok := stored[r.partition]; !ok {
			return fmt.Errorf("%w: %s has no checkpoint of partition %q; it has %s", errUsage, name, r.partition,
				orDash(strings.Join(slices.Sorted(maps.Keys(stored)), " ")))
		}
		stored = map[string]cdc.Checkpoint{r.partition: stored[r.partition]}
	}
	r.cursors = map[string]string{}
	rows := [][]string{{"PARTITION", "CURSOR NOW", "SET BACK TO"}}
	for _, partition := range slices.Sorted(maps.Keys(stored)) {
		to, err := r.cursor(partition, stored[partition])
		if err != nil {
			return err
		}
		r.cursors[partition] = to
		rows = append(rows, []string{partition, clipped(orDash(stored[partition].Cursor), 60), cmp.Or(to, "the start")})
	}
	if len(r.cursors) == 0 {
		return cdc.Errorf(cdc.Halt, cdc.Stream, "offsets rewind", "It begins at the start by itself", "%s was never read", name)
	}
	fmt.Fprintf(r.p.out, "rewind %s (shard %d):\n", name, r.now.shard)
	aligned(r.p.out, rows)
	fmt.Fprintln(r.p.out, "What changed since is read again; unfinished passes begin anew. Records that are as they were published are not published again.")
	if r.spec.LogFeed { // P13
		fmt.Fprintln(r.p.out, "The stream is a log feed: its entries since then are published again, in their order.")
	}
	return nil
}

// cursor returns the new cursor of a partition, in the form of the present one.
func (r *rewinding) cursor(partition string, cp cdc.Checkpoint) (string, error) {
	if r.to == "start" {
		return "", nil
	}
	wrong := func(format string, args ...any) error {
		e := cdc.Errorf(cdc.Halt, cdc.Stream, "offsets rewind", "Give the cursor as `connector offsets list` shows it, or start", format, args...)
		e.Where = r.target.Name + "/" + r.stream + "/" + partition
		return e
	}
	to := r.to
	if at, ok := readTime(to); ok {
		if to, ok = written(at, cp.Cursor); !ok {
			return "", wrong("the present cursor %q is no time that %q could be written like", clipped(cp.Cursor, 60), r.to)
		}
	}
	if later(to, cp.Cursor) {
		return "", wrong("%s is beyond the present cursor %s: what lies between would be skipped (4)", to, cp.Cursor)
	}
	for _, spec := range r.request.Partitions() {
		if spec.Name != partition {
			continue
		}
		if _, err := r.request.Begin(spec, cdc.Checkpoint{Cursor: to, Passes: 1}, time.Now()); err != nil {
			return "", wrong("%q is no cursor of the stream: %w", to, err)
		}
	}
	if len(r.now.cursors[r.request.Name]) > 1 && r.partition == "" {
		if _, ok := instant(to); !ok {
			return "", wrong("a cursor that is no time belongs to one partition; say which with --partition")
		}
	}
	return to, nil
}

// written writes a time as the sample is written; false where the sample is no time.
func written(at time.Time, sample string) (string, bool) {
	if n, err := strconv.ParseInt(sample, 10, 64); err == nil && n > 0 {
		switch len(sample) {
		case 9, 10:
			return strconv.FormatInt(at.Unix(), 10), true
		case 12, 13:
			return strconv.FormatInt(at.UnixMilli(), 10), true
		case 15, 16:
			return strconv.FormatInt(at.UnixMicro(), 10), true
		}
		return "", false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if _, err := time.Parse(layout, sample); err == nil {
			return at.Format(layout), true
		}
	}
	return "", false
}

// instant reads a cursor as a time, where it is one.
func instant(cursor string) (time.Time, bool) {
	if t, ok := readTime(cursor); ok {
		return t, true
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	switch {
	case err != nil:
		return time.Time{}, false
	case len(cursor) == 9, len(cursor) == 10:
		return time.Unix(n, 0), true
	case len(cursor) == 12, len(cursor) == 13:
		return time.UnixMilli(n), true
	case len(cursor) == 15, len(cursor) == 16:
		return time.UnixMicro(n), true
	}
	return time.Time{}, false
}

// later reports whether cursor a is known to lie beyond b: both are times, or both are integers.
func later(a, b string) bool {
	x, err1 := strconv.ParseInt(a, 10, 64)
	y, err2 := strconv.ParseInt(b, 10, 64)
	if err1 == nil && err2 == nil {
		return x > y
	}
	s, ok1 := instant(a)
	t, ok2 := instant(b)
	return ok1 && ok2 && s.After(t)
}

// work commits the checkpoints with their new cursors. The ids of a log feed that were kept beside a checkpoint go: an entry
// that is skipped as known, behind older ones that are published again, would leave its key with an older state (P13).
func (r *rewinding) work(ctx context.Context, h *hands) error {
	b := kafka.NewBatch()
	for partition, to := range r.cursors {
		cp, ok := h.held.cursors[r.request.Name][partition]
		if !ok {
			return cdc.Errorf(cdc.Halt, cdc.Stream, "offsets rewind", "Somebody reset it meanwhile: see `connector offsets list`", "partition %s has no checkpoint any more", partition)
		}
		cp = source.Expire(cp) // without its unfinished pass, whose anchor would lead beyond the new cursor
		cp.Cursor, cp.Request = to, r.request.RequestPrint
		value, err := offsets.Encode(cp)
		if err != nil {
			return err
		}
		b.Offset(offsets.Key{Kind: offsets.KindCursor, Connection: r.target.Name, Stream: r.request.Name, Name: partition}.Append(nil), value)
		for _, k := range h.held.of(r.request.Name, offsets.KindRecent, offsets.KindWindow) {
			if k.Name == partition {
				b.Offset(k.Append(nil), nil)
			}
		}
	}
	return h.session.Commit(ctx, b)
}
