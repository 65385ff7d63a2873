package reconcile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// complete is a complete listing of generation n, that many minutes after noon.
func complete(n uint32, minutes int) Listing {
	at := noon.Add(time.Duration(minutes) * time.Minute)
	return Listing{Generation: n, Began: at, Ended: at.Add(time.Minute), Complete: true, Print: "p"}
}

// TestD2Mark: D2, P23. an incomplete listing moves nothing but its count and reason; a complete one under another fingerprint
// begins to count anew.
func TestD2Mark(t *testing.T) {
	first := Mark(nil, complete(5, 0), 0)
	if want := (cdc.Reconciliation{Generation: 5, Began: noon, Ended: noon.Add(time.Minute), Listing: "p", Agreed: 1}); !cmp.Equal(want, first) {
		t.Error(cmp.Diff(want, first))
	}
	second := Mark(&first, complete(6, 60), 3)
	if second.Agreed != 2 || second.Missing != 3 || Mark(&second, complete(7, 120), 0).Agreed != 2 {
		t.Errorf("%+v", second)
	}
	bad := complete(8, 180)
	bad.Complete, bad.Why = false, "rows moved"
	failed := Mark(&second, bad, 0)
	want := second
	want.Failed, want.Why = 1, "rows moved"
	if !cmp.Equal(want, failed) {
		t.Error(cmp.Diff(want, failed))
	}
	if again := Mark(&failed, bad, 0); again.Failed != 2 || again.Generation != 6 {
		t.Errorf("%+v", again)
	}
	other := complete(9, 240)
	other.Print = "q"
	if m := Mark(&failed, other, 0); m.Agreed != 1 || m.Failed != 0 || m.Why != "" || m.Listing != "q" {
		t.Errorf("%+v", m)
	}
}

// TestD4Decide: what happens to one missing key.
func TestD4Decide(t *testing.T) {
	early, late := Prior{Found: noon.Add(51 * time.Minute), Believed: true}, Prior{Found: noon.Add(50 * time.Minute), Believed: true}
	shown := Prior{Found: noon.Add(-time.Hour), Withheld: true}
	small := Case{Listing: complete(7, 60), Agreed: 2, Missing: 3, Guard: Guard{20, 0.05}, Levels: []Level{{"stream", 100, 0}}}
	with := func(change func(*Case)) Case {
		c := small
		change(&c)
		return c
	}
	large := func(c *Case) { c.Missing = 30 }
	approved := func(c *Case) { c.Missing, c.Shown, c.Approved, c.ApprovedAt = 30, 30, 30, noon.Add(30*time.Minute) }
	for name, c := range map[string]struct {
		of       Case
		prior    Prior
		want     Decision
		approved bool
	}{
		"first time":                         {small, Prior{}, Wait, false},
		"second pass too early (D4)":         {small, early, Wait, false},
		"second pass (D4)":                   {small, late, Delete, false},
		"the first was not believed (D5)":    {small, Prior{Found: noon}, Wait, false},
		"lookup (D4)":                        {with(func(c *Case) { c.Lookup = true }), Prior{}, Ask, false},
		"first pass under a new print (P23)": {with(func(c *Case) { c.Agreed, c.Lookup = 1, true }), late, Wait, false},
		"mended state deletes nothing (K8)":  {with(func(c *Case) { c.Damaged = true }), late, Wait, false},
		"more than the guard lets go (D5)":   {with(large), late, Withhold, false},
		"an empty listing (D5)":              {with(func(c *Case) { c.Empty = "the listing" }), late, Withhold, false},
		"an empty listing, lookup (D5)":      {with(func(c *Case) { c.Empty, c.Lookup = "the listing", true }), Prior{}, Ask, false},
		"approved and shown (D6)":            {with(approved), shown, Delete, true},
		"approved, to be looked up":          {with(func(c *Case) { approved(c); c.Lookup = true }), shown, Ask, true},
		"approved, and never shown (D6)":     {with(approved), Prior{}, Withhold, false},
		"withheld after the approval (D6)":   {with(approved), Prior{Found: noon.Add(40 * time.Minute), Withheld: true}, Withhold, false},
		"no listing since (D6)":              {with(func(c *Case) { approved(c); c.ApprovedAt = noon.Add(61 * time.Minute) }), shown, Withhold, false},
		"fewer approved than shown (D6)":     {with(func(c *Case) { approved(c); c.Approved = 29 }), shown, Withhold, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge(c.of)
			got, leave, approved := v.Decide(c.prior)
			if got != c.want || approved != c.approved || leave.Holds() != (c.want == Delete) {
				t.Errorf("%v with %v, approved %v", got, leave, approved)
			}
			if c.want == Delete && (leave.Reason() != cdc.Reconciled || leave.Generation() != 7) {
				t.Errorf("leave %+v", leave)
			}
		})
	}
}

// TestD4Confirm: D4. a lookup confirms a deletion only beside one that finds what must be there, and inside the guard.
func TestD4Confirm(t *testing.T) {
	g, room, full := Guard{20, 0.05}, []Level{{"stream", 100, 0}}, []Level{{"stream", 80, 20}}
	for _, c := range []struct {
		control, gone, approved bool
		levels                  []Level
		holds, guarded          bool
	}{
		{true, true, false, room, true, false},
		{false, true, false, room, false, false},
		{true, false, false, room, false, false},
		{true, true, false, full, false, true},
		{true, true, true, full, true, false},
	} {
		d, guarded := Confirm(Evidence{Generation: 3, Control: c.control}, Answer{Gone: c.gone}, c.approved, g, c.levels)
		if d.Holds() != c.holds || (guarded != "") != c.guarded {
			t.Errorf("%+v: %+v %q", c, d, guarded)
		}
	}
	leave := Deletion{reason: cdc.Reconciled}
	if d, why := Admit(leave, false, g, full); d.Holds() || why == "" {
		t.Error("the day's room was taken meanwhile")
	}
	if d, _ := Admit(leave, true, g, full); !d.Holds() {
		t.Error("an approval lets it go")
	}
}
