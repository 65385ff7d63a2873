package judge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
)

// ReadHistory reads a history as the simulator serves it: one state a line, {"key", "at", "value", "spoil"}. A spoiled state
// is optional.
func ReadHistory(r io.Reader) ([]State, error) {
	var history []State
	decoder := json.NewDecoder(r)
	for {
		var line struct {
			Key   string          `json:"key"`
			At    time.Time       `json:"at"`
			Spoil string          `json:"spoil"`
			Value json.RawMessage `json:"value"`
		}
		switch err := decoder.Decode(&line); {
		case errors.Is(err, io.EOF):
			return history, nil
		case err != nil:
			return nil, fmt.Errorf("history: line %d: %w", len(history)+1, err)
		}
		s := State{Key: line.Key, At: line.At, Optional: line.Spoil != ""}
		if string(line.Value) != "null" {
			s.Value = line.Value
		}
		history = append(history, s)
	}
}

// Hashes compares the hashes that a stream's state holds, by key, with the last events of its topic, and returns what does not
// fit (1), (5): every live key has the hash of its last event, every tombstoned one has none or a grave, and there are no
// others but parked ones. The values must be the published JSON itself; what went through Avro has lost the difference between null and absent.
func Hashes(rules record.Rules, seed uint64, events []Event, hashes map[string]offsets.Hash) ([]string, error) {
	rules.Value = ""
	plan, err := record.NewPlan(nil, rules, seed)
	if err != nil {
		return nil, fmt.Errorf("content rules: %w", err)
	}
	scanner := record.NewScanner(plan, record.Limits{})
	last := map[string]Event{}
	for _, e := range events {
		last[e.Key] = e
	}
	var found []string
	for _, key := range slices.Sorted(maps.Keys(last)) {
		h, stored := hashes[key]
		live := stored && h.Flags&offsets.HashGrave == 0
		switch value := last[key].Value; {
		case value == nil && live:
			found = append(found, fmt.Sprintf("key %s: a hash, but its last event is a tombstone", key))
		case value == nil:
		case !live:
			found = append(found, fmt.Sprintf("key %s: an event, but no hash", key))
		default:
			if _, err := scanner.Scan(value, 0); err != nil {
				found = append(found, fmt.Sprintf("key %s: %v", key, err))
			} else if scanner.Hash != h.Hash {
				found = append(found, fmt.Sprintf("key %s: hash %016x, its last event has %016x", key, h.Hash, scanner.Hash))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(hashes)) {
		if _, published := last[key]; !published && hashes[key].Flags == 0 {
			found = append(found, fmt.Sprintf("key %s: a hash, but no event", key))
		}
	}
	return found, nil
}

// Cursors looks at the checkpoints of one partition in the order in which they were committed, and returns where the cursor
// goes back (P3) or the sequence does not rise with it. A rewind by an operator goes back and is the caller's to cut out.
func Cursors(checkpoints []cdc.Checkpoint) []string {
	var found []string
	for i := 1; i < len(checkpoints); i++ {
		before, after := checkpoints[i-1], checkpoints[i]
		if backwards(before.Cursor, after.Cursor) || before.Cursor != "" && after.Cursor == "" {
			found = append(found, fmt.Sprintf("checkpoint %d: cursor %q after %q", i, after.Cursor, before.Cursor))
		}
		if after.Sequence < before.Sequence || before.Cursor != after.Cursor && after.Sequence == before.Sequence {
			found = append(found, fmt.Sprintf("checkpoint %d: sequence %d after %d", i, after.Sequence, before.Sequence))
		}
	}
	return found
}
