package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// State is one state that a key had upstream.
type State struct {
	Key string
	// At is when the state became visible to a reader of the API.
	At time.Time
	// Value is what there is to publish of it, as JSON; nil: the record was gone.
	Value []byte
	// Optional states need not be published: they cannot be (parked, P19), or nobody could see them in time.
	Optional bool
}

// Event is one record of the events topic as a read-committed reader saw it, its value decoded to JSON.
type Event struct {
	Key, Op   string
	Value     []byte // JSON; nil: a tombstone
	Partition int32
	Offset    int64
	// Cursor, ID and Reason are ce_cursor, ce_id and ce_reason; empty where they are not known.
	Cursor, ID, Reason string
}

// Pass is one complete pass over the upstream API: from the sending of its first request to the arrival of its last answer.
type Pass struct{ Began, Ended time.Time }

// Options says what may be demanded of the events.
type Options struct {
	// AtRest demands that the last event of every key equals its last state: upstream was frozen, the connector caught up.
	AtRest bool
	// Deletions demands a tombstone, at rest, for every published key that is gone. Without it a tombstone must still be true,
	// but need not be there (a stream that publishes no deletions).
	Deletions bool
	// Passes are the complete passes after faults stopped, one after the other; every state that stood while two of them
	// covered it is demanded.
	Passes []Pass
	// NullsAreAbsent takes a member that is null for one that is not there: Avro cannot tell them apart.
	NullsAreAbsent bool
	// Ops checks the operations: c or r first, then u, d with a tombstone, c or r after it. Not for compacted topics.
	Ops bool
	// Cursors checks that ce_cursor of a key, where it is an instant or a whole number, never goes back (8).
	Cursors bool
	// Examples bounds Verdict.Examples; 0 is 10.
	Examples int
}

// Verdict counts what was found.
type Verdict struct {
	Events     int // events looked at
	Missing    int // states that are demanded and were not published
	Duplicate  int // events that say what the event before them said, or whose id was there before
	OutOfOrder int // events that are a state of their key, but not a later one than the event before
	Wrong      int // events that are no state of their key, in a second partition, or with an operation that cannot be
	Examples   []string
}

// Clean reports whether nothing is wrong.
func (v Verdict) Clean() bool { return v.Missing+v.Duplicate+v.OutOfOrder+v.Wrong == 0 }

// String is the verdict as one line, the same that the Python twin prints last.
func (v Verdict) String() string {
	return fmt.Sprintf("events=%d missing=%d duplicate=%d out_of_order=%d wrong=%d", v.Events, v.Missing, v.Duplicate, v.OutOfOrder, v.Wrong)
}

// run is a stretch of a key's history in which its content, under the rules, was one and the same.
type run struct {
	content  content
	from     time.Time
	until    time.Time // when the next began; zero: it still stands
	optional bool
}

// trial is what is known of one key.
type trial struct {
	runs   []run
	events []Event
}

// judgement is a verdict in the making.
type judgement struct {
	o       Options
	canon   canon
	passes  []Pass // by Began
	ids     map[string]bool
	keys    map[string]*trial
	verdict Verdict
}

func newJudgement(rules record.Rules, events []Event, o Options) (*judgement, error) {
	c, err := newCanon(rules, o.NullsAreAbsent)
	if err != nil {
		return nil, err
	}
	o.Examples = cmp.Or(o.Examples, 10)
	j := &judgement{
		o: o, canon: c, ids: map[string]bool{}, keys: map[string]*trial{}, passes: slices.Clone(o.Passes),
		verdict: Verdict{Events: len(events)},
	}
	slices.SortFunc(j.passes, func(a, b Pass) int { return a.Began.Compare(b.Began) })
	return j, nil
}

// Judge compares events, in the order of their partitions, with history, in the order of time, under a stream's content
// rules: what the rules leave out is not compared. The rules' Value is not looked at: history and events hold the published
// value. The error is that of a history or of rules that cannot be used; a value of an event that is no JSON is Wrong.
func Judge(rules record.Rules, history []State, events []Event, o Options) (Verdict, error) {
	j, err := newJudgement(rules, events, o)
	if err != nil {
		return Verdict{}, err
	}
	if err := j.read(history); err != nil {
		return Verdict{}, err
	}
	for _, e := range events {
		k := j.key(e.Key)
		k.events = append(k.events, e)
	}
	for _, name := range slices.Sorted(maps.Keys(j.keys)) {
		j.try(name, j.keys[name])
	}
	return j.verdict, nil
}

func (j *judgement) key(name string) *trial {
	k := j.keys[name]
	if k == nil {
		k = &trial{}
		j.keys[name] = k
	}
	return k
}

// read turns the history into runs.
func (j *judgement) read(history []State) error {
	for i, s := range history {
		c, err := j.canon.of(s.Value)
		if err != nil {
			return fmt.Errorf("history: state %d, key %s: %w", i, s.Key, err)
		}
		k := j.key(s.Key)
		if n := len(k.runs); n > 0 {
			last := &k.runs[n-1]
			if s.At.Before(last.from) {
				return fmt.Errorf("history: state %d, key %s: %v stands behind %v", i, s.Key, s.At, last.from)
			}
			if last.content == c {
				last.optional = last.optional && s.Optional
				continue
			}
			last.until = s.At
		}
		k.runs = append(k.runs, run{content: c, from: s.At, optional: s.Optional})
	}
	return nil
}

// try judges one key.
func (j *judgement) try(name string, k *trial) {
	accepted, last := j.follow(name, k)
	missing := j.demanded(k.runs, accepted)
	if n := len(k.runs) - 1; j.o.AtRest && n >= 0 && !k.runs[n].optional && !slices.Contains(missing, n) {
		switch end := k.runs[n].content; {
		case end == gone && !j.o.Deletions, end == gone && len(k.events) == 0, len(k.events) > 0 && last == end:
		default:
			missing = append(missing, n)
		}
	}
	for _, n := range missing {
		j.verdict.Missing++
		j.example("missing: key %s: its state of %s was not published", name, k.runs[n].from.Format(time.RFC3339Nano))
	}
}

// follow walks through the events of a key beside its runs, counts what is wrong, and returns the contents of the events that
// are states in order, and the content of the very last one.
func (j *judgement) follow(name string, k *trial) (accepted []content, last content) {
	at, known, cursor := -1, false, ""
	for i, e := range k.events {
		c, err := j.canon.of(e.Value)
		later := func() int { // the earliest later run leaves most room to what follows
			return slices.IndexFunc(k.runs[at+1:], func(r run) bool { return r.content == c })
		}
		where := fmt.Sprintf("key %s: event %d of partition %d", name, e.Offset, e.Partition)
		switch {
		case err != nil:
			j.wrong("%s: %v", where, err)
			c = content{1} // of no value: what comes after it is no duplicate
		case i > 0 && c == last && e.Reason == string(cdc.Filed) && !j.heard(e.ID):
			// What it says beside the content is new: of a file of the record.
		case i > 0 && c == last:
			j.duplicate("%s says what the event before it said", where)
		case j.heard(e.ID):
			j.duplicate("%s has the id %s, which was there before", where, e.ID)
		case later() < 0 && slices.ContainsFunc(k.runs[:at+1], func(r run) bool { return r.content == c }):
			j.outOfOrder("%s is an older state than the event before it", where)
		case later() < 0:
			j.wrong("%s is no state that the key had", where)
		default:
			at += 1 + later()
			accepted = append(accepted, c)
			j.check(e, k.events[0], known, cursor, where)
		}
		last, known, cursor = c, e.Value != nil, cmp.Or(e.Cursor, cursor)
	}
	return accepted, last
}

// check looks at what surrounds a value that is right.
func (j *judgement) check(e, first Event, known bool, cursor, where string) {
	switch {
	case e.Partition != first.Partition: // K3
		j.wrong("%s: the key was in partition %d before", where, first.Partition)
	case j.o.Ops && !fits(e, known):
		j.wrong("%s: operation %q, value %t, key known before %t", where, e.Op, e.Value != nil, known)
	case j.o.Cursors && backwards(cursor, e.Cursor): // (8)
		j.outOfOrder("%s: its cursor %s is before %s", where, e.Cursor, cursor)
	}
}

// fits reports whether an event's operation can be, where the key was known before it or not.
func fits(e Event, known bool) bool {
	switch e.Op {
	case "c", "r":
		return e.Value != nil && !known
	case "u":
		return e.Value != nil && known
	case "d":
		return e.Value == nil && known
	default:
		return false
	}
}

// heard reports whether an event's id was there before.
func (j *judgement) heard(id string) bool {
	if id == "" {
		return false
	}
	before := j.ids[id]
	j.ids[id] = true
	return before
}

// demanded returns the runs that two passes covered and that the events, which are states in order, cannot have shown.
//
// Where contents return (A, B, A) events can be laid onto runs in several ways. A run was shown if there is one way in which
// the event that was the last one during the run says what the run was: the events up to it fit before the run's end, and
// those after it fit behind the run. earliest and latest are the two extreme ways, and bound all others.
func (j *judgement) demanded(runs []run, events []content) []int {
	if len(j.passes) < 2 {
		return nil
	}
	earliest, latest := make([]int, len(events)), make([]int, len(events))
	at := -1
	for i, c := range events {
		at += 1 + slices.IndexFunc(runs[at+1:], func(r run) bool { return r.content == c })
		earliest[i] = at
	}
	at = len(runs)
	for i, c := range slices.Backward(events) {
		for at--; runs[at].content != c; at-- { // follow accepted it, so it is there
		}
		latest[i] = at
	}
	var missing []int
	for n, r := range runs {
		if r.optional || r.content == gone || !j.covered(r) {
			continue
		}
		shown := false
		for i := range events {
			shown = shown || events[i] == r.content && earliest[i] <= n && (i+1 == len(events) || latest[i+1] > n)
		}
		if !shown {
			missing = append(missing, n)
		}
	}
	return missing
}

// covered reports whether two complete passes began and ended while the run stood.
func (j *judgement) covered(r run) bool {
	i := sort.Search(len(j.passes), func(i int) bool { return !j.passes[i].Began.Before(r.from) })
	return i+1 < len(j.passes) && (r.until.IsZero() || !j.passes[i+1].Ended.After(r.until))
}

func (j *judgement) wrong(format string, args ...any) {
	j.verdict.Wrong++
	j.example("wrong: "+format, args...)
}

func (j *judgement) duplicate(format string, args ...any) {
	j.verdict.Duplicate++
	j.example("duplicate: "+format, args...)
}

func (j *judgement) outOfOrder(format string, args ...any) {
	j.verdict.OutOfOrder++
	j.example("out of order: "+format, args...)
}

func (j *judgement) example(format string, args ...any) {
	if len(j.verdict.Examples) < j.o.Examples {
		j.verdict.Examples = append(j.verdict.Examples, fmt.Sprintf(format, args...))
	}
}

// backwards reports whether cursor b is before a. Cursors of other kinds, and none, are not compared.
func backwards(a, b string) bool {
	before, err := time.Parse(time.RFC3339Nano, a)
	after, err2 := time.Parse(time.RFC3339Nano, b)
	if err == nil && err2 == nil {
		return after.Before(before)
	}
	m, err := strconv.ParseInt(a, 10, 64)
	n, err2 := strconv.ParseInt(b, 10, 64)
	return err == nil && err2 == nil && n < m
}
