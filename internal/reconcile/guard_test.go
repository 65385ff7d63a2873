package reconcile

import (
	"strings"
	"testing"

	"tidemark/internal/cdc"
)

// TestD5Guard: D5. more than 20 and more than 5 %, of any level, counted with the day's; the share is one of what there was.
func TestD5Guard(t *testing.T) {
	g := Guard{Keys: 20, Share: 0.05}
	for _, c := range []struct {
		n             int64
		live, deleted int64
		holds         bool
	}{
		{20, 100, 0, false}, // 20 % of them, and not more than 20
		{21, 100, 0, true},  // both
		{21, 420, 0, false}, // more than 20, and exactly 5 %
		{22, 420, 0, true},  // both
		{1, 80, 20, true},   // with the day's it is the 21st of 100
		{1, 400, 20, false}, // the 21st of 420: 5 % of what there was, and not of what is left
		{5000, 100000, 0, false},
		{5001, 100000, 0, true},
		{30, 0, 0, true},
		{0, 100, 30, true},
	} {
		if got := g.Holds(c.n, []Level{{Name: "stream", Live: c.live, Deleted: c.deleted}}); (got != "") != c.holds {
			t.Errorf("%d of %d with %d before: %q", c.n, c.live, c.deleted, got)
		}
	}
	levels := []Level{{Name: "stream", Live: 10_000}, {Name: "connection", Live: 100_000}, {Name: "partition", Live: 100}}
	if why := g.Holds(21, levels); !strings.Contains(why, "of the partition") {
		t.Errorf("one level is enough, and it is named: %q", why)
	}
	if why := (Guard{Keys: 0, Share: 1}).Holds(99, levels); why != "" {
		t.Errorf("a share of 100 %% lets everything go: %q", why)
	}
}

// TestD5Declared: the guard holds for what upstream declares, together with what waits already; orphans are not counted, and those
// that are withheld wait for a person (D8).
func TestD5Declared(t *testing.T) {
	g := Guard{Keys: 20, Share: 0.05}
	full, room := []Level{{Name: "stream", Live: 80, Deleted: 20}}, []Level{{Name: "stream", Live: 90, Deleted: 10}}
	if d, why := Declared(cdc.Declared, g, 0, full); d.Holds() || why == "" {
		t.Error(d, why)
	}
	if d, why := Declared(cdc.Filtered, g, 0, room); d.Reason() != cdc.Filtered || why != "" {
		t.Error(d, why)
	}
	if d, _ := Declared(cdc.Declared, g, 10, room); d.Holds() {
		t.Error("what waits goes first, as a whole or not at all")
	}
	for _, c := range []struct {
		reason      cdc.Reason
		n, approved int64
		levels      []Level
		holds       bool
	}{
		{cdc.Declared, 10, 0, room, true}, {cdc.Declared, 11, 0, room, false}, {cdc.Declared, 11, 11, room, true}, {cdc.Declared, 12, 11, room, false},
		{cdc.Orphan, 1, 0, room, false}, {cdc.Orphan, 1, 1, full, true},
	} {
		if d := Released(c.reason, g, c.n, c.approved, c.levels); d.Holds() != c.holds {
			t.Errorf("%+v: %v", c, d)
		}
	}
	for setting, want := range map[string]bool{"delete": true, "keep": false, "withhold": false, "": false} {
		if d := Orphan(setting); d.Holds() != want {
			t.Errorf("orphans: %s gives %v", setting, d)
		}
	}
	if (Deletion{}).Holds() {
		t.Error("(6): nobody's leave holds")
	}
}
