package capture

import (
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
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

// TestP14OldSightingDeletesNothing: P14. what a stale replica says of a record's end is no newer than what is known of it: it is
// held, as an older state would be.
func TestP14OldSightingDeletesNothing(t *testing.T) {
	o := bare(t, evening)
	o.session = &kafka.Session{}
	s := o.streams[0]
	s.topic.Partitions = 1
	key := []byte("1")
	h := record.KeyHash(key)
	for version, gone := range map[int64]bool{4: false, 5: true} {
		s.table.Apply(key, h, state.Entry{Hash: 1, Version: cdc.IntegerVersion(5), Partition: s.ordinal(cdc.NoPartition)})
		w := &walk{partition: o.partitions[0], older: map[keyed]uint64{}}
		rec := &source.Record{Key: key, KeyHash: h, Kind: source.Deleted, Version: cdc.IntegerVersion(version)}
		if err := o.compare(w, rec, nil); err != nil {
			t.Fatal(err)
		}
		if e, ok := s.table.Get(key, h); (ok && e.Live()) == gone {
			t.Errorf("declared deleted as of version %d: %+v %v", version, e, ok)
		}
		if c, held := s.held.get("1"); held == gone || held && c.Kind != offsets.Older {
			t.Errorf("version %d: held %v %+v", version, held, c)
		}
		s.drop()
	}
}

// TestD8OrphansAreNotCounted: D8, D5. the guard counted their parent, so what goes with it takes no room of the day.
func TestD8OrphansAreNotCounted(t *testing.T) {
	for _, c := range []struct {
		leave reconcile.Deletion
		want  int64
	}{{reconcile.Orphan("delete"), 0}, {reconcile.Released(cdc.Declared, reconcile.Guard{}, 1, 1, nil), 1}} {
		o := bare(t, evening)
		o.session = &kafka.Session{}
		s, p := o.streams[0], o.partitions[0]
		s.topic.Partitions = 1
		key := []byte("1")
		e := state.Entry{Hash: 1, Partition: s.ordinal(p.spec.Name)}
		s.table.Apply(key, record.KeyHash(key), e)
		if err := o.bury(p, s, burial{key: key, hash: record.KeyHash(key), known: e}, c.leave); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if of, at := dayOf(s.deletions(), now), dayOf(p.checkpoint().Deleted, now); of != c.want || at != c.want {
			t.Errorf("%s: the day has %d deletions of the stream and %d of the partition", c.leave.Reason(), of, at)
		}
	}
}

// TestP24AbsentFromEveryPartition: P24. with one hash for all partitions a key is missing when the last complete pass of every one
// did not show it, however often one of them was listed meanwhile.
func TestP24AbsentFromEveryPartition(t *testing.T) {
	o := bare(t, `
source: test
base_url: https://api.test
authenticator: {type: none}
streams:
  things:
    path: /{{ partition.view }}
    records: data
    primary_key: id
    partition: {view: [one, two]}
    key_scope: stream
`)
	s := o.streams[0]
	one, two := o.byName["things/view=one"], o.byName["things/view=two"]
	key := []byte("1")
	s.table.Apply(key, record.KeyHash(key), state.Entry{Hash: 1, Seen: 4})
	for _, c := range []struct {
		one, two uint32 // generations of their last complete passes
		missing  int64
	}{{7, 3, 0}, {7, 0, 0}, {3, 7, 0}, {7, 5, 1}, {7, 4, 0}} {
		one.complete, two.complete = c.one, c.two
		if got := o.unseen(one, s).missing; got != c.missing {
			t.Errorf("seen in generation 4, complete passes of %d and %d: %d missing, want %d", c.one, c.two, got, c.missing)
		}
	}
}
