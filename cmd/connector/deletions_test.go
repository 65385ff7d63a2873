package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestD5D6PageOnDeletions runs the commands of docs/deletions.md, in their order, over 40 people who vanished: they are withheld,
// shown, named by a dry run, approved, and then deleted, each once.
func TestD5D6PageOnDeletions(t *testing.T) {
	page, err := os.ReadFile("../../docs/deletions.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands [][]string
	for _, m := range regexp.MustCompile("(?m)^```\nconnector (.*)\n```$").FindAllStringSubmatch(string(page), -1) {
		commands = append(commands, strings.Fields(m[1]))
	}
	if len(commands) != 4 {
		t.Fatalf("the page has %d commands: %q", len(commands), commands)
	}
	s := newStage(t)
	team, err := os.ReadFile("testdata/team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.write("team.yaml", string(team)+"    reconcile: {every: 24h, lookup: {path: \"/people/{{ key.id }}\"}}\n")
	s.captured()
	s.sim.Delete("people", 40)
	s.want(0, []string{"reconcile", "crm/people", "--now"}, "records listed, 40 keys missing", "withheld: 40 deletions in a day, of 250 keys")
	texts := map[string][]string{
		"":          {"250 keys", "withheld", "reconciled", "… and 20 more"},
		"--dry-run": {"40 keys missing", "withheld", "approve them", "… and 20 more"},
		"--approve": {"40 deletions approved"},
		"--now":     {"records listed"},
	}
	for _, c := range commands {
		kind := ""
		if len(c) > 2 {
			kind = c[2]
		}
		s.want(0, c, texts[kind]...)
		if kind == "--approve" {
			s.until("the approved deletions", func() bool { _, tombstones, _ := s.events(); return tombstones == 40 })
		} else if _, tombstones, _ := s.events(); tombstones != 0 && kind != "--now" {
			t.Errorf("%d tombstones after %q", tombstones, c)
		}
	}
	s.want(1, []string{"reconcile", "crm/people", "--approve", "40"}, "no deletion of the stream is withheld")
	if _, tombstones, reasons := s.events(); tombstones != 40 || reasons["reconciled"] != 40 {
		t.Errorf("%d tombstones, for %v", tombstones, reasons)
	}
	s.want(0, []string{"reconcile", "crm/people"}, "210 keys", "No deletion waits")
}

func TestReconcileIsCalledRightly(t *testing.T) {
	s := newStage(t)
	for _, args := range [][]string{{"reconcile"}, {"reconcile", "crm"}, {"reconcile", "crm/people", "--now", "--dry-run"}, {"reconcile", "crm/people", "--approve", "-1"}} {
		s.want(2, args, "CONNECTION/STREAM")
	}
	s.want(1, []string{"reconcile", "crm/people"}, "nothing is stored of a stream crm/people")
	s.captured()
	s.want(1, []string{"reconcile", "crm/people", "--now"}, "nothing is declared of how its live records are listed")
	s.want(0, []string{"reconcile", "crm/people"}, "250 keys", "none yet", "No deletion waits")
}
