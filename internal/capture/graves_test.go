package capture

import (
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// TestD7OldGravesAreRemoved: D7. a grave goes when no consumer can see its tombstone any more; until then it keeps a stale replica
// from bringing the key back.
func TestD7OldGravesAreRemoved(t *testing.T) {
	o := bare(t, evening)
	s, now := o.streams[0], time.Now()
	put := func(key string, e state.Entry) { s.table.Apply([]byte(key), record.KeyHash([]byte(key)), e) }
	put("live", state.Entry{Hash: 1})
	put("old", state.Entry{Hash: uint64(now.Add(-kafka.Retention - time.Hour).Unix()), Flags: state.Grave})
	put("young", state.Entry{Hash: uint64(now.Add(-time.Hour).Unix()), Flags: state.Grave})
	o.exhume(s, now)
	s.settle(o.filling.id)
	for key, there := range map[string]bool{"live": true, "old": false, "young": true} {
		if _, ok := s.table.Get([]byte(key), record.KeyHash([]byte(key))); ok != there {
			t.Errorf("%s: %v", key, ok)
		}
	}
	if s.table.Graves() != 1 || o.filling.records.Len() != 1 {
		t.Errorf("%d graves, %d records", s.table.Graves(), o.filling.records.Len())
	}
}

// TestD5StaleReplicaTakesNoDeletionBack: D5, P14. a declared deletion that the guard withholds stays when a stale replica shows
// the record as it was before; a newer state of it takes the deletion back.
func TestD5StaleReplicaTakesNoDeletionBack(t *testing.T) {
	o := bare(t, evening)
	s := o.streams[0]
	key := []byte("k")
	for version, stays := range map[int64]bool{4: true, 5: false, 6: false} {
		c := offsets.Candidate{Kind: offsets.Withheld, Reason: cdc.Declared, Version: offsets.Version{Version: cdc.IntegerVersion(5)}, At: time.Now()}
		s.held.apply("k", c, false)
		s.held.drop()
		o.unexcept(s, key, cdc.IntegerVersion(version))
		if _, ok := s.held.get("k"); ok != stays {
			t.Errorf("version %d: the deletion of version 5 waits: %v", version, ok)
		}
	}
	w := &walk{partition: o.partitions[0], older: map[keyed]uint64{}}
	s.held.apply("k", offsets.Candidate{Kind: offsets.Withheld, Reason: cdc.Declared, At: time.Now()}, false)
	s.held.drop()
	if agreed, err := o.hold(w, s, &source.Record{Key: key, KeyHash: record.KeyHash(key), Hash: 9}); agreed || err != nil {
		t.Error(agreed, err)
	}
	if c, _ := s.held.get("k"); c.Kind != offsets.Withheld {
		t.Errorf("what is held is %+v", c)
	}
}
