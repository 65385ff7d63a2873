//go:build synctests

package supervisor

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
)

// trial is everything that a run of the deletions is judged by. It is saved whole.
//
// What counts as true. A tombstone is true when its key was not there for this credential at some time between the event before
// it and itself, and not longer ago than agesAgo: deleted, or hidden from list and lookup alike (D9: no longer visible), or
// declared deleted, or outside the filter; and its reason has to be that. A record that only a list or only a lookup conceals is
// there. One that is restored from a backup is there as well, and what the restoring took away is gone.
type trial struct {
	Plot     plot
	Virtual  time.Duration
	Calm     time.Time // from here on nothing lies and nothing changes
	Settled  time.Time // two complete listings and their lookups later; zero: that never came
	LetGo    bool      // after that the operator approved what was withheld
	Notes    []string
	Halts    []string
	Fired    []string
	Truths   []truth
	Told     map[string]int
	Listings []string // each that was begun upstream: when, of which view, and the lie that it tells
	Events   []happening
	Held     []holding
	Stream   offsets.Stream
	Hashes   map[string]offsets.Hash
	Commands []offsets.Command
	Rules    record.Rules

	Passes     int64
	Complete   int
	Incomplete map[string]int
	Crashes    int
	Log        string

	mu sync.Mutex
}

// happening is an event with its time and reason.
type happening struct {
	judge.Event
	At         time.Time
	Reason     string
	Generation int64
}

// holding is what the state said of a key from a time on; nil: nothing.
type holding struct {
	At        time.Time
	Key       string
	Candidate *offsets.Candidate
}

// agesAgo bounds how long a tombstone may come after its key was there again.
const agesAgo = time.Hour

func (h *trial) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Notes = append(h.Notes, fmt.Sprintf(format, args...))
}

func (h *trial) halted(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Halts = append(h.Halts, time.Now().UTC().Format(time.RFC3339)+" "+what)
}

func (h *trial) event(r kafka.Record) error {
	header := map[string]string{}
	for _, x := range r.Headers {
		header[x.Key] = string(x.Value)
	}
	generation, _ := strconv.ParseInt(header["ce_generation"], 10, 64)
	h.Events = append(h.Events, happening{judge.Event{
		Key: string(r.Key), Op: header["ce_op"], Value: bytes.Clone(r.Value), Partition: r.Partition, Offset: r.Offset, ID: header["ce_id"],
	}, r.At, header["ce_reason"], generation})
	return nil
}

func (h *trial) offset(r kafka.Record) error {
	k, err := offsets.ParseKey(r.Key)
	switch {
	case err != nil:
	case k.Kind == offsets.KindCandidate && r.Value == nil:
		h.Held = append(h.Held, holding{r.At, k.Name, nil})
	case k.Kind == offsets.KindCandidate:
		var c offsets.Candidate
		c, err = offsets.Decode[offsets.Candidate](r.Value)
		h.Held = append(h.Held, holding{r.At, k.Name, &c})
	case k.Kind == offsets.KindStream:
		h.Stream, err = offsets.Decode[offsets.Stream](r.Value)
	}
	return err
}

func (h *trial) hash(r kafka.Record) error {
	_, _, key, owner, err := offsets.ParseHashKey(r.Key)
	if err != nil || owner {
		return err
	}
	if h.Hashes == nil {
		h.Hashes = map[string]offsets.Hash{}
	}
	if r.Value == nil {
		delete(h.Hashes, string(key))
		return nil
	}
	h.Hashes[string(key)], err = offsets.ParseHash(r.Value)
	return err
}

// count is what a run came to.
type count struct {
	Seeds, Complete, Crashes, True, False, Missed, Withheld, Halts, Approvals int
	Passes                                                                    int64
	Incomplete, Told                                                          map[string]int
}

func (c *count) add(o count) {
	c.Seeds, c.Complete, c.Crashes, c.Passes = c.Seeds+o.Seeds, c.Complete+o.Complete, c.Crashes+o.Crashes, c.Passes+o.Passes
	c.True, c.False, c.Missed, c.Withheld = c.True+o.True, c.False+o.False, c.Missed+o.Missed, c.Withheld+o.Withheld
	c.Halts, c.Approvals = c.Halts+o.Halts, c.Approvals+o.Approvals
	for _, pair := range []struct{ to, from map[string]int }{{c.Incomplete, o.Incomplete}, {c.Told, o.Told}} {
		for what, n := range pair.from {
			pair.to[what] += n
		}
	}
}

// judge returns everything that is wrong, and the counts.
func (h *trial) judge() (found []string, c count) {
	c = count{Seeds: 1, Complete: h.Complete, Crashes: h.Crashes, Passes: h.Passes, Halts: len(h.Halts), Incomplete: h.Incomplete, Told: h.Told}
	found = append(found, h.Notes...)
	found = append(found, h.contents()...)
	found = append(found, h.graves(&c)...)
	found = append(found, h.missed(&c)...)
	found = append(found, h.guard()...)
	for _, cmd := range h.Commands {
		if cmd.Outcome.Error == "" {
			c.Approvals++
		}
	}
	for _, halt := range h.Halts {
		if text, _, _ := strings.Cut(halt, " "); !h.Calm.IsZero() && text > h.Calm.Add(2*time.Minute).UTC().Format(time.RFC3339) {
			found = append(found, "halted although nothing is wrong any more: "+halt)
		}
	}
	for line := range strings.Lines(h.Log) {
		if strings.Contains(line, "the hashes topic does not hold") || strings.Contains(line, "defect of the connector") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found, c
}

// contents holds the events against what was true: each is a state that its key had, in order, none twice in a row, and in the
// end every live key is there as it is.
func (h *trial) contents() []string {
	var found []string
	var states []judge.State
	for _, t := range h.Truths {
		s := judge.State{Key: t.Key, At: t.At, Optional: t.Optional}
		if t.Value != "" {
			s.Value = []byte(t.Value)
		}
		states = append(states, s)
	}
	var events []judge.Event
	for _, e := range h.Events {
		events = append(events, e.Event)
	}
	v, err := judge.Judge(h.Rules, states, events, judge.Options{AtRest: !h.Settled.IsZero(), Ops: true, Examples: 5})
	switch {
	case err != nil:
		found = append(found, err.Error())
	case !v.Clean():
		found = append(found, v.String()+"\n\t"+strings.Join(v.Examples, "\n\t"))
	}
	wrong, err := judge.Hashes(h.Rules, uint64(h.Stream.Seed), events, h.Hashes)
	if err != nil {
		found = append(found, err.Error())
	}
	for _, w := range firstFew(wrong) {
		found = append(found, "hashes: "+w)
	}
	return found
}

// graves tells true tombstones from false ones.
func (h *trial) graves(c *count) (found []string) {
	var newest int64
	for _, e := range h.Events {
		if e.Value != nil {
			continue
		}
		// A candidate that is looked up keeps its own; partitions do not end in the order in which they begin.
		if !h.Plot.Lookup && h.Plot.Views == 0 && e.Generation != 0 && e.Generation < newest {
			found = append(found, fmt.Sprintf("D3: the tombstone of %s is of generation %d, after one of %d", e.Key, e.Generation, newest))
		}
		newest = max(newest, e.Generation)
		if why := h.untrue(e); why != "" {
			c.False++
			found = append(found, fmt.Sprintf("false tombstone of %s at %s, %s: %s", e.Key, e.At.UTC().Format(time.RFC3339), e.Reason, why))
			continue
		}
		c.True++
	}
	return firstFew(found)
}

// untrue says why a tombstone is false; "" where it is true.
func (h *trial) untrue(e happening) string {
	since := e.At.Add(-agesAgo)
	for _, x := range h.Held { // a withheld one was decided when it was withheld
		if x.Key == e.Key && x.Candidate != nil && x.Candidate.Kind == offsets.Withheld && x.At.Before(e.At) {
			since = earliest(since, x.Candidate.At.Add(-agesAgo))
		}
	}
	whys := map[string]bool{}
	var last truth
	for _, t := range h.Truths {
		if t.Key != e.Key || t.At.After(e.At) {
			continue
		}
		if t.At.After(since) && last.Key != "" && last.Value == "" {
			whys[last.Why] = true // it stood until then
		}
		last = t
	}
	if last.Key != "" && last.Value == "" {
		whys[last.Why] = true
	}
	fits := false
	for why := range whys {
		switch cdc.Reason(e.Reason) {
		case cdc.Declared:
			fits = fits || why == "declared"
		case cdc.Filtered:
			fits = fits || why == "filtered"
		default:
			fits = true
		}
	}
	switch {
	case len(whys) == 0:
		return "the record was there all the time"
	case !fits:
		return fmt.Sprintf("it was %v", whys)
	}
	return ""
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// missed counts the keys that are gone since the calm and had no tombstone after two complete listings, unless their deletion is
// listed as withheld.
func (h *trial) missed(c *count) (found []string) {
	if h.Settled.IsZero() {
		return nil
	}
	last, held, end := map[string]happening{}, map[string]*offsets.Candidate{}, map[string]*offsets.Candidate{}
	final := map[string]happening{}
	for _, e := range h.Events {
		if final[e.Key] = e; !e.At.After(h.Settled) {
			last[e.Key] = e
		}
	}
	for _, x := range h.Held {
		if end[x.Key] = x.Candidate; !x.At.After(h.Settled) {
			held[x.Key] = x.Candidate
		}
	}
	truths := map[string]truth{}
	for _, t := range h.Truths {
		truths[t.Key] = t
	}
	for key, e := range last {
		t := truths[key]
		if e.Value == nil || t.Value != "" {
			continue
		}
		if x := held[key]; x == nil || x.Kind != offsets.Withheld {
			c.Missed++
			found = append(found, fmt.Sprintf("missed: %s is %s since %s, and there is no tombstone; the state says %+v", key, t.Why, t.At.UTC().Format(time.RFC3339), held[key]))
			continue
		}
		if c.Withheld++; h.LetGo && final[key].Value != nil {
			found = append(found, fmt.Sprintf("%s is withheld although it was approved: %+v", key, end[key]))
		}
	}
	for key, x := range end {
		if t := truths[key]; x != nil && (x.Kind != offsets.Withheld || t.Value != "" && !t.Optional) {
			found = append(found, fmt.Sprintf("left in the state: %s %+v, while %s %q is true", key, x, t.Value, t.Why))
		}
	}
	return firstFew(found)
}

// guard looks at D5 and D6: what is deleted in a rolling day stays inside the guard, but for what was withheld when an operator
// approved it, and of that no more than he approved.
func (h *trial) guard() (found []string) {
	type approval struct {
		at, until time.Time
		left      int64
		named     map[string]bool
	}
	var approvals []*approval
	for _, cmd := range h.Commands {
		if cmd.Outcome.Error != "" {
			continue
		}
		a := &approval{cmd.Outcome.At, cmd.Expires, cmd.N, map[string]bool{}}
		for _, x := range h.Held {
			if x.At.Before(a.at.Truncate(time.Millisecond)) {
				a.named[x.Key] = x.Candidate != nil && x.Candidate.Kind == offsets.Withheld
			}
		}
		approvals = append(approvals, a)
	}
	live := map[string]bool{}
	type size struct {
		at time.Time
		n  int
	}
	var sizes []size
	var day []time.Time
	for _, e := range h.Events {
		if e.Value != nil {
			live[e.Key] = true
			sizes = append(sizes, size{e.At, len(live)})
			continue
		}
		delete(live, e.Key)
		day = append(day, e.At)
		var n int64
		most := 0
		for _, at := range day {
			if e.At.Sub(at) < 24*time.Hour {
				n++
			}
		}
		for _, s := range sizes {
			if e.At.Sub(s.at) < 24*time.Hour {
				most = max(most, s.n)
			}
		}
		if n <= h.Plot.GuardKeys || float64(n) <= h.Plot.GuardPercent/100*float64(int64(most)+n) {
			continue
		}
		let := false
		for _, a := range approvals {
			if !let && a.named[e.Key] && a.left > 0 && !e.At.Before(a.at.Add(-time.Second)) && !e.At.After(a.until.Add(time.Hour)) {
				let = true
				a.left--
			}
		}
		if !let {
			found = append(found, fmt.Sprintf("D5: deletion %d of a day, of %d keys, of %s at %s, %s: the guard is %d and %g %%, and nobody approved it",
				n, most, e.Key, e.At.UTC().Format(time.RFC3339), e.Reason, h.Plot.GuardKeys, h.Plot.GuardPercent))
		}
	}
	return firstFew(found)
}
