package reconcile

import (
	"time"

	"tidemark/internal/cdc"
)

// Listing is a pass that was to list everything of a partition, after its end.
type Listing struct {
	Generation uint32 // of its sightings
	Began      time.Time
	Ended      time.Time
	Complete   bool   // D2, as far as the pass itself can tell
	Why        string // what it lacks, where it is not
	Print      string // the fingerprint of request, filter and credential (P23)
}

// SecondPass is how much later than the first a second complete pass has to begin, to confirm what both did not show (D4).
const SecondPass = 10 * time.Minute

// Silence is how many passes in a row may be incomplete before that is an alarm: silence must not mean "never deleted" (D2).
const Silence = 3

// Mark returns what survives of the listing: old moved along (D2, P23, D7). missing is how many keys it did not show.
func Mark(old *cdc.Reconciliation, l Listing, missing int64) cdc.Reconciliation {
	var m cdc.Reconciliation
	if old != nil {
		m = *old
	}
	if !l.Complete { // D2: it says nothing of what is missing
		m.Failed++
		m.Why = l.Why
		return m
	}
	if m.Listing != l.Print { // P23: what it lists may be less than before
		m.Listing, m.Agreed, m.Shown = l.Print, 0, nil
	}
	m.Agreed = min(m.Agreed+1, Agreement)
	m.Generation, m.Began, m.Ended = int64(l.Generation), l.Began.UTC(), l.Ended.UTC()
	m.Failed, m.Why, m.Missing, m.Unlisted, m.Held = 0, "", missing, 0, ""
	return m
}

// Agreement is how many complete passes under one fingerprint let deletions go (P23).
const Agreement = 2

// Case is what the verdict on one stream of a complete listing rests on.
type Case struct {
	Listing Listing
	Agreed  int    // of the mark, this listing counted (P23)
	Empty   string // the listing that showed nothing of the stream, "the listing"; "" where none did
	Missing int64  // live keys that it did not
	Lookup  bool   // upstream can be asked for one record (D4)
	Damaged bool   // the state was not what the last transaction promised: this listing mends it, and deletes nothing (K8 g)
	Guard   Guard
	Levels  []Level
	// Confirm is how much later a second pass has to begin (D4); 0: SecondPass.
	Confirm time.Duration
	// Approved is how many deletions an operator lets go, given at ApprovedAt; Shown is how many of the missing keys were
	// withheld, and so shown to him, before that (D6).
	Approved   int64
	ApprovedAt time.Time
	Shown      int64
}

// Verdict is what may happen to the keys that a complete listing did not show.
type Verdict struct {
	c     Case
	held  string
	empty bool // so it is not believed, and bears no witness (D5)
	let   bool // an approval lets go what was shown before it (D6)
}

// Judge gives the verdict on a complete listing (D4, D5, D6).
func Judge(c Case) Verdict {
	v := Verdict{c: c}
	if c.Confirm == 0 {
		v.c.Confirm = SecondPass
	}
	switch {
	case c.Missing == 0:
	case c.Empty != "" && !c.Lookup:
		v.empty, v.held = true, c.Empty+" is empty" // D5: it deletes only what lookups confirm or an approval names
	default:
		v.held = c.Guard.Holds(c.Missing, c.Levels)
	}
	// D6: after another complete pass, no more than approved, and nothing that was not shown.
	v.let = v.held != "" && c.Shown > 0 && c.Shown <= c.Approved && c.Listing.Began.After(c.ApprovedAt)
	return v
}

// Held says why what is missing is withheld; "" where it is not, or where an approval lets it go.
func (v *Verdict) Held() string {
	if v.let {
		return ""
	}
	return v.held
}

// Believed reports whether the listing is a witness: a second one may confirm what it did not show (D4, D5).
func (v *Verdict) Believed() bool { return !v.empty }

// Why says why what the guard holds back is withheld, be it that an approval lets the others go.
func (v *Verdict) Why() string { return v.held }

// Prior is what the state holds of a missing key from before.
type Prior struct {
	Found    time.Time // zero: nothing
	Withheld bool      // by the guard, and shown as such
	Believed bool      // by the listing that found it missing
}

// Decision is what happens to a key that a complete listing did not show.
type Decision uint8

// The decisions.
const (
	Wait     Decision = iota // it is or becomes a candidate, until a second pass agrees (D4)
	Ask                      // it is or becomes a candidate, and its lookup decides (D4)
	Withhold                 // the guard holds it back (D5)
	Delete                   // with the Deletion that comes with it
)

// Decide decides on one missing key. approved tells a deletion that goes because of an approval, and is counted against it.
func (v *Verdict) Decide(prior Prior) (d Decision, leave Deletion, approved bool) {
	c := &v.c
	named := v.let && prior.Withheld && !prior.Found.After(c.ApprovedAt)
	switch {
	case v.held != "" && !named:
		return Withhold, Deletion{}, false
	case c.Agreed < Agreement, c.Damaged: // P23, K8 g
		return Wait, Deletion{}, false
	case c.Lookup:
		return Ask, Deletion{}, named
	case named:
	case !prior.Believed, c.Listing.Began.Sub(prior.Found) < c.Confirm: // D4
		return Wait, Deletion{}, false
	}
	return Delete, Deletion{reason: cdc.Reconciled, generation: c.Listing.Generation}, named
}

// Answer is what the lookup of a candidate said.
type Answer struct {
	Gone bool // the API's own 404 or 410, or a state that lookup.gone names
}

// Evidence is a batch of lookups with the one that proves it: of a key that a listing has just shown (D4).
type Evidence struct {
	Generation uint32
	Control    bool // the key that must be found was found
}

// Confirm is leave to delete a candidate whose lookup says that it is gone, inside the guard. A moved endpoint, a lost
// permission or a proxy finds nothing at all, the control key neither: then nothing is confirmed (D4). guarded says why the
// guard holds it back all the same: what was declared deleted meanwhile has taken the day's room (D5).
func Confirm(e Evidence, a Answer, approved bool, g Guard, levels []Level) (d Deletion, guarded string) {
	if !a.Gone || !e.Control {
		return Deletion{}, ""
	}
	if why := g.Holds(1, levels); why != "" && !approved {
		return Deletion{}, why
	}
	return Deletion{reason: cdc.Reconciled, generation: e.Generation}, ""
}

// Admit is leave for a deletion that a verdict or an approval has already given, once more before it is published: the day's
// room may have been taken since by what upstream declared (D5).
func Admit(d Deletion, approved bool, g Guard, levels []Level) (Deletion, string) {
	if why := g.Holds(1, levels); why != "" && d.Holds() && !approved {
		return Deletion{}, why
	}
	return d, ""
}
