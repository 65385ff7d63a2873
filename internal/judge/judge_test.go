package judge_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/judge"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
)

// scenario is one of testdata/cases.json, which the Python twin is held against too.
type scenario struct {
	Name    string
	Options struct {
		AtRest         bool `json:"at_rest"`
		Deletions      bool
		Ops            bool
		Cursors        bool
		NullsAreAbsent bool `json:"nulls_are_absent"`
		Exclude        []string
		Passes         [][2]float64
	}
	History [][]json.RawMessage // key, second, value, spoil
	Events  [][]json.RawMessage // key, value, {id, op, partition, cursor}
	Want    string
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(second float64) time.Time { return epoch.Add(time.Duration(second * float64(time.Second))) }

func unmarshal(t *testing.T, raw json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
}

func value(raw json.RawMessage) []byte {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

func (s scenario) history(t *testing.T) []judge.State {
	t.Helper()
	var states []judge.State
	for _, row := range s.History {
		state := judge.State{Value: value(row[2]), Optional: len(row) > 3}
		unmarshal(t, row[0], &state.Key)
		var second float64
		unmarshal(t, row[1], &second)
		state.At = at(second)
		states = append(states, state)
	}
	return states
}

func (s scenario) events(t *testing.T) []judge.Event {
	t.Helper()
	var events []judge.Event
	for i, row := range s.Events {
		e := judge.Event{Value: value(row[1]), Offset: int64(i)}
		unmarshal(t, row[0], &e.Key)
		if len(row) > 2 {
			var more struct {
				ID, Op, Cursor, Reason string
				Partition              int32
			}
			unmarshal(t, row[2], &more)
			e.ID, e.Op, e.Cursor, e.Reason, e.Partition = more.ID, more.Op, more.Cursor, more.Reason, more.Partition
		}
		events = append(events, e)
	}
	return events
}

func scenarios(t *testing.T) []scenario {
	t.Helper()
	text, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []scenario
	unmarshal(t, text, &all)
	return all
}

func TestJudge(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.Name, func(t *testing.T) {
			o := judge.Options{AtRest: s.Options.AtRest, Deletions: s.Options.Deletions, Ops: s.Options.Ops,
				Cursors: s.Options.Cursors, NullsAreAbsent: s.Options.NullsAreAbsent}
			for _, p := range s.Options.Passes {
				o.Passes = append(o.Passes, judge.Pass{Began: at(p[0]), Ended: at(p[1])})
			}
			verdict, err := judge.Judge(record.Rules{Exclude: s.Options.Exclude}, s.history(t), s.events(t), o)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.String() != s.Want {
				t.Errorf("got  %v\nwant %s\n%s", verdict, s.Want, strings.Join(verdict.Examples, "\n"))
			}
			bad := verdict.Missing + verdict.Duplicate + verdict.OutOfOrder + verdict.Wrong
			if verdict.Clean() != (bad == 0) || len(verdict.Examples) != bad {
				t.Errorf("%d faults, clean %v, examples %q", bad, verdict.Clean(), verdict.Examples)
			}
		})
	}
}

func TestExamplesNameTheKey(t *testing.T) {
	history := []judge.State{{Key: "k7", At: epoch, Value: []byte(`{"v":1}`)}}
	events := []judge.Event{{Key: "k7", Value: []byte(`{"v":2}`), Partition: 3, Offset: 41}}
	for range 4 {
		events = append(events, judge.Event{Key: "k8", Value: []byte(`{`)})
	}
	verdict, err := judge.Judge(record.Rules{}, history, events, judge.Options{Examples: 2})
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Wrong != 5 || len(verdict.Examples) != 2 {
		t.Errorf("got %v, %q", verdict, verdict.Examples)
	}
	if want := "wrong: key k7: event 41 of partition 3 is no state that the key had"; verdict.Examples[0] != want {
		t.Errorf("got %q, want %q", verdict.Examples[0], want)
	}
}

func TestUnusableInput(t *testing.T) {
	live := []byte(`{"v":1}`)
	for want, do := range map[string]func() error{
		"state 0, key 1": func() error {
			_, err := judge.Judge(record.Rules{}, []judge.State{{Key: "1", Value: []byte(`{"v":`)}}, nil, judge.Options{})
			return err
		},
		"stands behind": func() error {
			_, err := judge.Judge(record.Rules{}, []judge.State{{Key: "1", At: at(2), Value: live}, {Key: "1", At: at(1)}}, nil, judge.Options{})
			return err
		},
		"content rules": func() error {
			_, err := judge.Judge(record.Rules{Include: []string{"a"}, Exclude: []string{"b"}}, nil, nil, judge.Options{})
			return err
		},
		"line 2": func() error {
			_, err := judge.ReadHistory(strings.NewReader("{\"key\":\"1\",\"at\":\"2026-01-01T00:00:00Z\",\"value\":null}\n{\"key\":"))
			return err
		},
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

func TestReadHistory(t *testing.T) {
	got, err := judge.ReadHistory(strings.NewReader(`{"key":"1","at":"2026-01-01T00:00:01-05:00","updated_at":"2026-01-01T00:00:00Z","value":{"a": 1}}
{"key":"2","at":"2026-01-01T00:00:02Z","spoil":"huge","value":{}}
{"key":"1","at":"2026-01-01T06:00:00Z","value":null}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []judge.State{
		{Key: "1", At: at(5*3600 + 1), Value: []byte(`{"a": 1}`)},
		{Key: "2", At: at(2), Value: []byte(`{}`), Optional: true},
		{Key: "1", At: at(6 * 3600)},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A faultless poller is never blamed: whatever the history and whenever it looks, what it publishes is in order, and the
// passes that it made owe nothing.
func TestFaultlessPollersAreClean(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		history, events, passes := poll(random, func(int) bool { return true })
		verdict, err := judge.Judge(record.Rules{}, history, events, judge.Options{AtRest: true, Deletions: true, Passes: passes, Ops: true})
		if err != nil {
			t.Fatal(err)
		}
		if !verdict.Clean() {
			t.Fatalf("%v: %q\nhistory %s\nevents %v\npasses %v", verdict, verdict.Examples, show(history), events, passes)
		}
	}
}

// A poller that loses one change is found out when the change stood for two passes and the content does not return.
func TestLossIsFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	found, lost := 0, 0
	for range 2000 {
		drop, dropped := random.IntN(4), false
		history, events, passes := poll(random, func(n int) bool {
			dropped = dropped || n == drop
			return n != drop
		})
		verdict, err := judge.Judge(record.Rules{}, history, events, judge.Options{AtRest: true, Deletions: true, Passes: passes})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !dropped && !verdict.Clean():
			t.Fatalf("nothing was lost: %v %q", verdict, verdict.Examples)
		case dropped:
			if lost++; !verdict.Clean() {
				found++
			}
		}
	}
	t.Logf("found %d of %d", found, lost)
	if found*3 < lost {
		t.Errorf("only %d of %d losses were found", found, lost)
	}
}

// poll makes up a history of one key with few contents, and what a poller sees of it that looks at every second or third
// moment and publishes every change that publish lets through.
func poll(random *rand.Rand, publish func(int) bool) ([]judge.State, []judge.Event, []judge.Pass) {
	var history []judge.State
	var events []judge.Event
	var passes []judge.Pass
	var now, published []byte
	changes := 0
	look := func(second float64) {
		passes = append(passes, judge.Pass{Began: at(second), Ended: at(second + 0.2)})
		if string(now) == string(published) {
			return
		}
		op := "u"
		switch {
		case now == nil:
			op = "d"
		case published == nil:
			op = "c"
		}
		published = now // a poller that lost it believes that it is published
		if changes++; publish(changes - 1) {
			events = append(events, judge.Event{Key: "1", Op: op, Value: now, Offset: int64(changes)})
		}
	}
	for second := range 12 {
		if random.IntN(2) == 0 {
			now = fmt.Appendf(nil, `{"v":%d}`, random.IntN(3))
			if random.IntN(8) == 0 && len(history) > 0 {
				now = nil
			}
			history = append(history, judge.State{Key: "1", At: at(float64(second)), Value: now})
		}
		for part := range random.IntN(3) {
			look(float64(second) + 0.1 + float64(part)*0.3)
		}
	}
	look(20)
	return history, events, passes
}

func show(history []judge.State) string {
	var b strings.Builder
	for _, s := range history {
		fmt.Fprintf(&b, "%v %s  ", s.At.Sub(epoch), s.Value)
	}
	return b.String()
}

func TestHashes(t *testing.T) {
	rules := record.Rules{Exclude: []string{"updated_at"}}
	hash := func(value string) uint64 {
		plan, err := record.NewPlan(nil, rules, 77)
		if err != nil {
			t.Fatal(err)
		}
		s := record.NewScanner(plan, record.Limits{})
		if _, err := s.Scan([]byte(value), 0); err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	events := []judge.Event{
		{Key: "1", Value: []byte(`{"v":1,"updated_at":"1"}`)}, {Key: "2", Value: []byte(`{"v":1}`)}, {Key: "1", Value: []byte(`{"v":2,"updated_at":"2"}`)},
		{Key: "3", Value: []byte(`{"v":3}`)}, {Key: "3"}, {Key: "4", Value: []byte(`{"v":4}`)}, {Key: "4"},
	}
	good := func() map[string]offsets.Hash {
		return map[string]offsets.Hash{
			"1": {Hash: hash(`{"updated_at":"9","v":2}`)}, "2": {Hash: hash(`{"v":1.0}`)},
			"3": offsets.Grave(epoch, cdc.Version{}, ""), "5": {Hash: 1, Flags: offsets.HashParked},
		}
	}
	check := func(want string, change func(map[string]offsets.Hash)) {
		t.Helper()
		hashes := good()
		change(hashes)
		found, err := judge.Hashes(rules, 77, events, hashes)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(found, "; "); want == "" && got != "" || !strings.Contains(got, want) || len(found) > 1 {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("", func(map[string]offsets.Hash) {})
	check("key 1: hash", func(h map[string]offsets.Hash) { h["1"] = offsets.Hash{Hash: hash(`{"v":1}`)} })
	check("key 2: an event, but no hash", func(h map[string]offsets.Hash) { delete(h, "2") })
	check("key 2: an event, but no hash", func(h map[string]offsets.Hash) { h["2"] = offsets.Grave(epoch, cdc.Version{}, "") })
	check("key 4: a hash, but its last event is a tombstone", func(h map[string]offsets.Hash) { h["4"] = offsets.Hash{Hash: 4} })
	check("key 6: a hash, but no event", func(h map[string]offsets.Hash) { h["6"] = offsets.Hash{Hash: 4} })
}

func TestP3CursorsNeverGoBack(t *testing.T) {
	good := []cdc.Checkpoint{{}, {Cursor: "2026-01-01T00:00:00Z", Sequence: 1}, {Cursor: "2026-01-01T00:00:00Z", Sequence: 1, Passes: 3}, {Cursor: "2026-01-01T01:00:01+01:00", Sequence: 2}}
	if found := judge.Cursors(good); len(found) > 0 {
		t.Errorf("got %q", found)
	}
	for name, bad := range map[string]cdc.Checkpoint{
		"an instant":  {Cursor: "2025-12-31T23:59:59Z", Sequence: 3},
		"to nothing":  {Sequence: 3},
		"no sequence": {Cursor: "2026-02-01T00:00:00Z", Sequence: 2},
		"an old one":  {Cursor: "2026-01-01T01:00:01+01:00", Sequence: 1},
	} {
		if found := judge.Cursors(append(good[:len(good):len(good)], bad)); len(found) != 1 {
			t.Errorf("%s: got %q, want one fault", name, found)
		}
	}
}
