package judge

import (
	"fmt"

	"tidemark/internal/record"
)

// Weave puts what lying answers showed into a history; both are in the order of time. After each the key is as it was before:
// who reads the API sees it so, and may publish both (the promise is about what the API showed). None of it is demanded.
func Weave(history, shown []State) []State {
	woven := make([]State, 0, len(history)+2*len(shown))
	last := map[string]State{}
	next := func() {
		s, was := shown[0], last[shown[0].Key]
		s.Optional = true
		woven = append(woven, s, State{Key: s.Key, At: s.At, Value: was.Value, Optional: was.Optional})
		shown = shown[1:]
	}
	for _, s := range history {
		for len(shown) > 0 && shown[0].At.Before(s.At) {
			next()
		}
		woven, last[s.Key] = append(woven, s), s
	}
	for len(shown) > 0 {
		next()
	}
	return woven
}

// Log judges the events of a log (P13), whose entries never change: each is there once, as it was, and no other is. They come in
// the order in which they were found, which is not that of the history where some were committed late.
func Log(rules record.Rules, history []State, events []Event, o Options) (Verdict, error) {
	j, err := newJudgement(rules, events, o)
	if err != nil {
		return Verdict{}, err
	}
	type entry struct {
		key string
		content
	}
	seen, known := map[entry]bool{}, map[entry]bool{}
	entries := make([]entry, len(history))
	for i, s := range history {
		content, err := j.canon.of(s.Value)
		if err != nil {
			return Verdict{}, fmt.Errorf("history: state %d, key %s: %w", i, s.Key, err)
		}
		entries[i] = entry{s.Key, content}
		known[entries[i]] = true
	}
	for _, e := range events {
		content, err := j.canon.of(e.Value)
		at := entry{e.Key, content}
		where := fmt.Sprintf("key %s: event %d of partition %d", e.Key, e.Offset, e.Partition)
		switch {
		case err != nil:
			j.wrong("%s: %v", where, err)
		case !known[at]:
			j.wrong("%s is no entry of the log", where)
		case seen[at], j.heard(e.ID):
			j.duplicate("%s was there before", where)
		}
		seen[at] = true
	}
	for i, s := range history {
		if o.AtRest && !s.Optional && !seen[entries[i]] {
			j.verdict.Missing++
			j.example("missing: key %s: its entry of %v was not published", s.Key, s.At)
		}
	}
	return j.verdict, nil
}
