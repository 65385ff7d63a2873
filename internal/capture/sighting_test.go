package capture

import (
	"testing"

	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// TestP20FilteredIsSighted: P20. a record outside the filter is there all the same: with on_leave: keep a listing that shows it
// does not find its key missing.
func TestP20FilteredIsSighted(t *testing.T) {
	o := bare(t, evening)
	s := o.streams[0]
	s.spec.OnLeave = "keep"
	key := []byte("1")
	h := record.KeyHash(key)
	s.table.Apply(key, h, state.Entry{Hash: 1})
	o.generation = 7
	w := &walk{partition: o.partitions[0], older: map[keyed]uint64{}}
	if err := o.compare(w, &source.Record{Key: key, KeyHash: h, Kind: source.Filtered}, nil); err != nil {
		t.Fatal(err)
	}
	if e, ok := s.table.Get(key, h); !ok || e.Seen != 7 {
		t.Errorf("sighted in generation %d, in the table: %v", e.Seen, ok)
	}
	for range s.table.Unseen(7, state.AnyPartition) {
		t.Error("it counts as missing")
	}
}
