package main

import (
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
		},
	}}}}, now)
	for _, text := range []string{"! group: no group", "! another deployment", "! paused until 2026-01-31T13:00:00Z: 429", "! people: bad page\n    → Mend it", "owned anew 2 times",
		"calls view=x: timed out (2 failed in a row)\n    → Wait", "reading (tie), drifting", "2m ago", "running since 1h ago", "deletions wait"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, out.String())
		}
	}
	if n := strings.Count(out.String(), "bad page"); n != 1 {
		t.Errorf("the trouble of people stands there %d times:\n%s", n, out.String())
	}
}
