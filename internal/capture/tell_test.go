package capture

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// TestD5WithheldDeletionsAreToldWithTheCommandThatLetsThemGo: how many, why, which, and what to do.
func TestD5WithheldDeletionsAreToldWithTheCommandThatLetsThemGo(t *testing.T) {
	s := StreamStatus{Name: "people", Withheld: 30, Guarded: "more than 20", Sample: []string{"7", "8\x1b[2J"}}
	text, hint := s.Withholding("crm")
	if want := `30 deletions are withheld: more than 20. Keys: "7", "8\x1b[2J" and 28 more`; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if want := "Look at them: connector reconcile crm/people. If they are right, let them go: connector reconcile crm/people --approve 30"; hint != want {
		t.Errorf("%s, want %s", hint, want)
	}
	s.Approved = 29 // D6: a set that has grown is not what was approved
	if _, hint := s.Withholding("crm"); !strings.HasSuffix(hint, "--approve 30") {
		t.Errorf("too small an approval: %q", hint)
	}
	s.Approved = 30
	if text, hint := s.Withholding("crm"); hint != "" || !strings.Contains(text, "An approval lets 30 go") {
		t.Errorf("approved: %q, %q", text, hint)
	}
	if text, hint := (StreamStatus{Name: "people", Candidates: 3}).Withholding("crm"); text+hint != "" {
		t.Errorf("nothing is withheld: %q, %q", text, hint)
	}
}

// TestD2IncompleteListingsAreTold: once, some, and so many that it is an alarm.
func TestD2IncompleteListingsAreTold(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for want, l := range map[string]ListingStatus{
		"": {Complete: at},
		"the last listing was not complete. The last one: 503":                                                                 {Failed: 1, Why: "503", Complete: at},
		"the last 2 listings were not complete. The last one: 503":                                                             {Failed: 2, Why: "503", Complete: at},
		"the last 4 listings were not complete: what has disappeared upstream since 2026-01-31T12:00:00Z is not deleted":       {Failed: 4, Alarm: true, Complete: at},
		"the last 3 listings were not complete, and none before: what disappears upstream is not deleted. The last one: drift": {Failed: 3, Alarm: true, Why: "drift"},
	} {
		if got := l.Incomplete(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, l := range map[string]ListingStatus{
		"": {},
		"1 key is alive but unlisted: the listing does not show what the lookup finds":   {Unlisted: 1},
		"2 keys are alive but unlisted: the listing does not show what the lookup finds": {Unlisted: 2},
	} {
		if got := l.Alive(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestStatusNamesTheSameWithheldKeysEachTime: a page that is fetched every two seconds must not shuffle them.
func TestStatusNamesTheSameWithheldKeysEachTime(t *testing.T) {
	s, err := newStream(&source.Stream{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.table.Close()
	for i := range 100 {
		s.held.apply(fmt.Sprintf("key-%02d", (i*37)%100), offsets.Candidate{Kind: offsets.Withheld}, false)
	}
	s.held.apply("a", offsets.Candidate{Kind: offsets.Missing}, false)
	s.held.apply("b", offsets.Candidate{Kind: offsets.Older}, false)
	st := s.status(time.Now())
	if want := []string{"key-00", "key-01", "key-02", "key-03", "key-04"}; !slices.Equal(st.Sample, want) {
		t.Errorf("named are %v, want %v", st.Sample, want)
	}
	if d := cmp.Diff([]int{100, 1, 1}, []int{st.Withheld, st.Candidates, st.Held}); d != "" {
		t.Error(d)
	}
}

// TestD5WhyDeletionsAreWithheldSurvivesARestart: the mark of the listing says it.
func TestD5WhyDeletionsAreWithheldSurvivesARestart(t *testing.T) {
	r := &source.Request{}
	people, calls := &stream{request: r, spec: &source.Stream{Name: "people"}}, &stream{request: r, spec: &source.Stream{Name: "calls"}}
	c := &Connection{partitions: []*partition{
		{request: r},
		{request: &source.Request{}, committed: cdc.Checkpoint{Reconciled: &cdc.Reconciliation{Held: "people: another request"}}},
		{request: r, committed: cdc.Checkpoint{Reconciled: &cdc.Reconciliation{Held: "people: more than 20"}}},
	}}
	if got := c.guardedBefore(people); got != "more than 20" {
		t.Errorf("people: %q", got)
	}
	if got := c.guardedBefore(calls); got != "the guard held them back before this ownership" { // what was declared has no mark
		t.Errorf("calls: %q", got)
	}
}
