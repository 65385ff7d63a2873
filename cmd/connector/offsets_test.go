package main

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

func TestOffsetsListShowsWhatKafkaHolds(t *testing.T) {
	s := newStage(t)
	s.want(0, []string{"offsets", "list"}, "Nothing is stored in topic stage.offsets yet")
	s.captured()
	s.want(0, []string{"offsets", "list"}, "CONNECTION", "crm", "sales", "crm/people", "250", s.holdings().cursors["people"]["-"].Cursor)
	s.want(1, []string{"offsets", "list", "crn"}, `holds nothing of a connection "crn"`)
	s.write("connections.yaml", "- {name: other, source: couchdb, config: {url: http://localhost, database: d}}\n")
	s.want(0, []string{"offsets", "list", "crm"}, "not in ")
	delete(s.env, "KAFKA_BROKERS")
	s.want(1, []string{"offsets", "list"}, "KAFKA_BROKERS is not set")
}

// P3: only rewind lowers a cursor. The running owner is fenced (3), owns again, and goes on from the new cursor; what did not
// change since is not published again (5).
func TestP3RewindUnderARunningOwner(t *testing.T) {
	s := newStage(t)
	r := s.captured()
	before := s.holdings().cursors["people"]["-"]
	target := time.Now().Add(-20 * 24 * time.Hour).UTC().Format(time.RFC3339)
	plan := []string{"offsets", "rewind", "crm/people", "--to", target}
	s.want(0, append(plan, "--dry-run"), before.Cursor, "SET BACK TO", "dry run: nothing was changed")
	s.want(2, plan, "nothing was changed; add --yes")
	if got := s.holdings().cursors["people"]["-"]; got.Cursor != before.Cursor {
		t.Fatalf("a plan changed the cursor: %+v", got)
	}
	s.want(0, append(plan, "--yes"), "done: 1 cursor of crm/people set back", "notices within a minute")
	read := s.sim.Stats().Records
	s.sim.Change("people", 1) // the owner has something to commit, and notices at once
	s.until("the owner reads from the new cursor", func() bool {
		h := s.holdings()
		return h.cursors["people"]["-"].Cursor > before.Cursor && s.sim.Stats().Records > read+100
	})
	s.until("the change is published", func() bool { events, _, _ := s.events(); return events >= 251 })
	if events, tombstones, _ := s.events(); events != 251 || tombstones != 0 {
		t.Errorf("%d events and %d tombstones after a rewind; 251 and 0 were to be", events, tombstones)
	}
	if strings.Contains(r.log.String(), "another deployment") {
		t.Error("K10: the command raised the alarm of a strange deployment")
	}
	if !strings.Contains(r.log.String(), "owned anew") {
		t.Error("the owner was never fenced")
	}
}

// What is rewound goes back, and nowhere else.
func TestRewindRefusesWhatWouldSkip(t *testing.T) {
	s := newStage(t)
	s.captured().stop()
	rewind := func(args ...string) []string { return append([]string{"offsets", "rewind"}, args...) }
	s.want(1, rewind("crm/people", "--to", "2126-01-01", "--yes"), "would be skipped")
	s.want(1, rewind("crm/people", "--to", "yesterday", "--yes"), "is no cursor of the stream")
	s.want(2, rewind("crm/people", "--partition", "view=x", "--to", "2026-01-01", "--yes"), "no checkpoint of partition")
	s.want(1, rewind("crm/cals", "--to", "2026-01-01", "--yes"), "nothing is stored of stream cals")
	s.want(1, rewind("crn/people", "--to", "2026-01-01", "--yes"), `has no connection "crn"`)
	s.want(2, rewind("crm", "--to", "2026-01-01", "--yes"), "is not CONNECTION/STREAM")
	s.want(2, rewind("crm/people"), "--to")
	s.want(0, rewind("crm/people", "--to", "start", "--yes"), "the start", "done")
	if cp := s.holdings().cursors["people"]["-"]; cp.Cursor != "" || cp.Passes == 0 || cp.Request == "" {
		t.Errorf("%+v", cp)
	}
	other := "marketing"
	for kafka.Shard(other, 2) == kafka.Shard("sales", 2) {
		other += "x"
	}
	s.write("connections.yaml", strings.Replace(read(t, s.env["CONNECTIONS"]), "sales", other, 1))
	s.want(1, rewind("crm/people", "--to", "start", "--yes"), "Put the account back")
}

func TestCursorsAreWrittenAsTheyStand(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for sample, want := range map[string]string{
		"1732164000": "1769860800", "1732164000000": "1769860800000", "1732164000000000": "1769860800000000", "2026-11-21T01:00:00.123456-05:00": "2026-01-31T12:00:00Z",
		"2026-11-21 01:00:00": "2026-01-31 12:00:00", "2026-11-21": "2026-01-31", "12": "", "12-abc": "", "": "",
	} {
		if got, ok := written(at, sample); got != want || ok != (want != "") {
			t.Errorf("like %q: %q %v, want %q", sample, got, ok, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"10", "9", true}, {"9", "10", false}, {"2026-01-31", "2026-01-30T23:00:00Z", true}, {"12-abc", "11-abc", false}} {
		if got := later(c.a, c.b); got != c.want {
			t.Errorf("later(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

// K10, K16, (1): a reset removes all state of the stream and every key's tombstone goes with its hash, under a running owner,
// in several transactions.
func TestResetWithTombstonesUnderARunningOwner(t *testing.T) {
	s := newStage(t)
	r := s.captured()
	s.env["TRANSACTION_RECORDS"] = "100"
	reset := []string{"offsets", "reset", "crm/people", "--tombstone-old"}
	s.want(0, append(reset, "--dry-run"), "hashes of keys", "250", "published to stage.crm.people (reason reset)", "dry run")
	s.want(0, append(reset, "--yes"), "done: 250 hashes removed and 250 tombstones published", "Next: topic stage.crm.people still holds events", "--rebaseline")
	if n := len(s.holdings().of("people")); n != 0 {
		t.Errorf("%d records of the stream stand in the offsets topic", n)
	}
	events, tombstones, reasons := s.events()
	if events != 250 || tombstones != 250 || reasons["reset"] != 250 {
		t.Errorf("%d events, %d tombstones, reasons %v", events, tombstones, reasons)
	}
	s.sim.Change("people", 1)
	s.until("the owner refuses the stream", func() bool { return strings.Contains(r.log.String(), "there is no checkpoint for them") })
	r.stop()
	s.want(1, []string{"check"}, "FAIL  state crm/people", "--rebaseline")
	s.want(1, reset, "nothing is stored of stream people")
	r = s.run("--rebaseline")
	s.until("everything is published anew", func() bool { events, _, _ := s.events(); return events == 500 })
	r.stop()
	s.want(0, []string{"check"}, "goes on with 250 keys")
}

// Without tombstones the events stay, and the stream is unknown until somebody says what to do (K10).
func TestResetLeavesTheEvents(t *testing.T) {
	s := newStage(t)
	s.env["VALUE_FORMAT"] = "json"
	s.captured().stop()
	s.want(0, []string{"offsets", "reset", "crm/people", "--yes"}, "done: 250 hashes removed and 0 tombstones published in 1 transaction", "until it is started once with --rebaseline")
	if events, tombstones, _ := s.events(); events != 250 || tombstones != 0 {
		t.Errorf("%d events and %d tombstones", events, tombstones)
	}
	r := s.run("--adopt")
	s.until("the stream goes on", func() bool { return s.holdings().streams["people"].Count == 250 })
	r.stop()
	if events, _, _ := s.events(); events != 250 {
		t.Errorf("%d events after --adopt", events)
	}
}

// K14, K16: a reset that is cut between two transactions, with its outcome unknown, goes on where it was: each key has one
// tombstone, and nothing of the state is left.
func TestResetGoesOnAfterACut(t *testing.T) {
	s := newStage(t)
	s.captured().stop()
	s.env["TRANSACTION_RECORDS"] = "100"
	ends := 0
	s.cluster.Kafka().ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.Kafka().KeepControl()
		if ends++; ends != 4 { // the owner record, two transactions of keys, and then
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.EndTxnResponse)
		answer.ErrorCode = kerr.ProducerFenced.Code
		return answer, nil, true
	})
	s.want(0, []string{"offsets", "reset", "crm/people", "--tombstone-old", "--yes"}, "begun again", "fenced", "done: 250 hashes removed and 250 tombstones published")
	if n := len(s.holdings().of("people")); n != 0 {
		t.Errorf("%d records of the stream stand in the offsets topic", n)
	}
	if events, tombstones, _ := s.events(); events != 250 || tombstones != 250 {
		t.Errorf("%d events, %d tombstones", events, tombstones)
	}
	hashes := map[string]bool{}
	d := s.deployment()
	err := kafka.Read(t.Context(), d.kafka, kafka.Query{Topics: []string{d.kafka.HashesTopic()}}, func(r kafka.Record) error {
		if _, _, _, owner, err := offsets.ParseHashKey(r.Key); owner || err != nil {
			return err
		}
		if hashes[string(r.Key)] = true; r.Value == nil {
			delete(hashes, string(r.Key))
		}
		return nil
	})
	if err != nil || len(hashes) != 0 {
		t.Errorf("%d hashes are left: %v", len(hashes), err)
	}
}
