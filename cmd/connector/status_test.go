package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/simulator"
)

func TestStatusAsksTheRunningConnector(t *testing.T) {
	s := newStage(t)
	r := s.captured()
	s.want(0, []string{"status", "--address", r.address()}, "stage, instance", "shards 0 1", "crm: running since", "account sales", "people", "250", "due in")
	s.sim.Fail(simulator.Fault{Kind: simulator.Status, Status: 403, Times: -1})
	s.until("the stream halts", func() bool { return strings.Contains(r.log.String(), "stream halted") })
	s.want(0, []string{"status", "--address", strings.TrimPrefix(r.address(), "http://")}, "halted", "403", "→ The credential lacks a right")
	r.stop()
	s.want(1, []string{"status", "--address", r.address()}, "Is the connector running there?")
	s.want(1, []string{"status", "--address", s.url}, "Is it the admin server of a connector?")
}

// What is wrong stands under what it is about, each with what to do.
func TestStatusShowsTroubleWithHints(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var out shared
	p := &program{out: &out}
	p.showStatus(&shownStatus{Version: "1", FleetStatus: capture.FleetStatus{Name: "n", Instance: "i", Trouble: "no group", Connections: []capture.Status{{
		Connection: "crm", Account: "a", Phase: capture.Phase{Name: "running", Since: now.Add(-time.Hour)}, Alarm: "another deployment", Reopened: 2,
		Paused: now.Add(time.Hour), PausedWhy: "429",
		Streams: []capture.StreamStatus{{Name: "people", Keys: 7, Halted: "bad page. Mend it", Hint: "Mend it", Mismatch: true}},
		Partitions: []capture.PartitionStatus{
			{Stream: "people", Name: "-", Cursor: "2026", Halted: "bad page", Passes: 3, LastPass: now.Add(-2 * time.Minute)},
			{Stream: "calls", Name: "view=x", Failures: 2, LastError: "timed out", Hint: "Wait", Reading: true, Stage: "tie", Drifting: true},
			{Stream: "items", Name: "event=1", State: "parent gone?", Due: now.Add(time.Hour)},
			{Stream: "items", Name: "event=2", State: "parent gone"},
		},
	}}}}, now)
	for _, text := range []string{"! group: no group", "! another deployment", "! paused until 2026-01-31T13:00:00Z: 429", "! people: bad page\n    → Mend it", "owned anew 2 times",
		"calls view=x: timed out (2 failed in a row)\n    → Wait", "reading (tie), drifting", "2m ago", "running since 1h ago", "deletions wait", "parent gone?, due in 1h0m0s", "parent gone\n"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, out.String())
		}
	}
	if n := strings.Count(out.String(), "bad page"); n != 1 {
		t.Errorf("the trouble of people stands there %d times:\n%s", n, out.String())
	}
}

// What waits to be deleted, and what is listed, stands there too (D2 to D5).
func TestStatusShowsDeletionsAndListings(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var out shared
	p := &program{out: &out}
	p.showStatus(&shownStatus{FleetStatus: capture.FleetStatus{Connections: []capture.Status{{
		Connection: "crm", Phase: capture.Phase{Name: "running"},
		Streams: []capture.StreamStatus{
			{Name: "people", Keys: 250, Candidates: 4, Withheld: 30, Guarded: "more than 20", Sample: []string{"7", "8"}},
			{Name: "calls", Withheld: 25, Guarded: "the listing is empty", Approved: 25},
		},
		Partitions: []capture.PartitionStatus{
			{Stream: "people", Name: "-", Listing: capture.ListingStatus{
				Began: now.Add(-12 * time.Minute), Records: 1200, Pages: 1, Complete: now.Add(-3 * time.Hour), Missing: 34, Asking: 4,
			}},
			{Stream: "calls", Name: "view=x", Listing: capture.ListingStatus{Failed: 4, Alarm: true, Why: "drift", Unlisted: 2, Missing: 2}},
			{Stream: "calls", Name: "view=y", Halted: "bad", Listing: capture.ListingStatus{Failed: 1, Why: "it halted"}},
		},
	}}}}, now)
	got := out.String()
	var rows []string
	for line := range strings.Lines(got) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"STREAM KEYS CREATED UPDATED DELETED FIRST READ SUPPRESSED PARKED HELD CANDIDATES WITHHELD", "people 250 0 0 0 0 0 0 0 4 30", "people - 0 - - 0 3h ago waiting",
		`! people: 30 deletions are withheld: more than 20. Keys: "7", "8" and 28 more`,
		"→ Look at them: connector reconcile crm/people. If they are right, let them go: connector reconcile crm/people --approve 30",
		"! calls: 25 deletions are withheld: the listing is empty. An approval lets 25 go: what a listing missed, after another complete one",
		"people is listed since 12m ago: 1200 records on 1 page", "people: 34 keys missing in the last complete listing, 4 still to be looked up",
		"calls/view=x: 2 keys are alive but unlisted: the listing does not show what the lookup finds",
		"! calls/view=x: the last 4 listings were not complete, and none before: what disappears upstream is not deleted. The last one: drift",
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
	for _, not := range []string{"reconcile crm/calls", "it halted"} { // it is approved; the halt is told already
		if strings.Contains(got, not) {
			t.Errorf("%q in\n%s", not, got)
		}
	}
}
