package judge_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/judge"
	"tidemark/internal/record"
)

func TestWeave(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0).UTC() }
	history := []judge.State{
		{Key: "a", At: at(1), Value: []byte("1")}, {Key: "b", At: at(2), Value: []byte("1")}, {Key: "a", At: at(5), Value: []byte("2")},
	}
	got := judge.Weave(history, []judge.State{
		{Key: "b", At: at(3)}, {Key: "other", At: at(4), Value: []byte("9")}, {Key: "a", At: at(6), Value: []byte("1")},
	})
	want := []judge.State{
		history[0], history[1],
		{Key: "b", At: at(3), Optional: true}, {Key: "b", At: at(3), Value: []byte("1")},
		{Key: "other", At: at(4), Value: []byte("9"), Optional: true}, {Key: "other", At: at(4)},
		history[2],
		{Key: "a", At: at(6), Value: []byte("1"), Optional: true}, {Key: "a", At: at(6), Value: []byte("2")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// What was shown may be published and need not be: a stale state, a record that vanished for a moment, one of another tenant.
	for _, events := range [][]judge.Event{
		{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
		{
			{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("1")}, {Key: "b"}, {Key: "b", Value: []byte("1")}, {Key: "other", Value: []byte("9")},
			{Key: "other"}, {Key: "a", Value: []byte("2")}, {Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")},
		},
	} {
		v, err := judge.Judge(record.Rules{Algorithm: 1}, got, events, judge.Options{AtRest: true, Deletions: true})
		if err != nil || !v.Clean() {
			t.Errorf("%v: %v %v", err, v, v.Examples)
		}
	}
	left := []judge.Event{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("1")}, {Key: "other", Value: []byte("9")}}
	if v, err := judge.Judge(record.Rules{Algorithm: 1}, got, left, judge.Options{AtRest: true, Deletions: true}); err != nil || v.Missing != 2 {
		t.Errorf("another tenant's record stays, and a change is missing: %v %v", err, v)
	}
}

func TestLog(t *testing.T) {
	history := []judge.State{
		{Key: "a", Value: []byte(`{"id":1}`)}, {Key: "a", Value: []byte(`{"id":2}`)}, {Key: "b", Value: []byte(`{"id":3}`), Optional: true},
	}
	event := func(key, value string) judge.Event { return judge.Event{Key: key, Value: []byte(value)} }
	for name, c := range map[string]struct {
		events []judge.Event
		want   judge.Verdict
	}{
		"all, in another order": {[]judge.Event{event("a", `{"id":2}`), event("a", `{"id":1}`)}, judge.Verdict{Events: 2}},
		"one twice":             {[]judge.Event{event("a", `{"id":2}`), event("a", `{"id":1}`), event("a", `{"id":2}`)}, judge.Verdict{Events: 3, Duplicate: 1}},
		"another key's":         {[]judge.Event{event("a", `{"id":2}`), event("a", `{"id":1}`), event("b", `{"id":1}`)}, judge.Verdict{Events: 3, Wrong: 1}},
		"one is missing":        {[]judge.Event{event("a", `{"id":2}`), event("b", `{"id":3}`)}, judge.Verdict{Events: 2, Missing: 1}},
		"no JSON":               {[]judge.Event{event("a", `{"id":2}`), event("a", `{"id":1}`), event("a", `{`)}, judge.Verdict{Events: 3, Wrong: 1}},
	} {
		got, err := judge.Log(record.Rules{Algorithm: 1}, history, c.events, judge.Options{AtRest: true})
		if got.Examples = nil; err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, err, got, c.want)
		}
	}
}
