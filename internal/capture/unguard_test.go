package capture

import (
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/state"
)

// TestD6ApprovalNamesWhatWasShown: an operator approves what a listing missed, and while that waits for another listing upstream
// declares more deletions. He has not seen those, so his approval lets none of them go.
func TestD6ApprovalNamesWhatWasShown(t *testing.T) {
	o := bare(t, evening)
	o.session = &kafka.Session{}
	s := o.streams[0]
	s.topic.Partitions = 1
	s.spec.Reconcile.GuardKeys, s.spec.Reconcile.GuardShare, s.guarded = 0, 0, "the day is full"
	now := time.Now()
	s.meta.Approved = &offsets.Approval{ID: "a", N: 5, At: now, Until: now.Add(time.Hour)}
	for key, at := range map[string]time.Time{"1": now.Add(-time.Minute), "2": now.Add(time.Minute)} {
		s.table.Stage(1, []byte(key), record.KeyHash([]byte(key)), state.Entry{Hash: 1, Partition: s.ordinal(cdc.NoPartition)})
		s.held.committed[key] = offsets.Candidate{Kind: offsets.Withheld, Reason: cdc.Declared, Partition: cdc.NoPartition, At: at}
	}
	s.table.Settle(1)
	if err := o.unguard(now.Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, waits := s.held.get("1"); waits {
		t.Error("what he was shown still waits")
	}
	if _, waits := s.held.get("2"); !waits {
		t.Error("a deletion that he was not shown goes")
	}
	if left := s.approval().N; left != 4 {
		t.Errorf("%d of his 5 are left", left)
	}
}

// TestK17LetGoInSeveralBatches: what an approval lets go is more than a transaction takes; the rest goes with the next one, and
// not half a minute later.
func TestK17LetGoInSeveralBatches(t *testing.T) {
	o := bare(t, evening)
	o.session, o.bound = &kafka.Session{}, kafka.NewBound(6, 0, 0)
	s, now := o.streams[0], time.Now()
	s.topic.Partitions, s.spec.Reconcile.GuardKeys, s.spec.Reconcile.GuardShare, s.guarded = 1, 0, 0, "the day is full"
	s.meta.Approved = &offsets.Approval{ID: "a", N: 9, At: now, Until: now.Add(time.Hour)}
	for i := range 9 {
		key := []byte{'1' + byte(i)}
		s.table.Apply(key, record.KeyHash(key), state.Entry{Hash: 1, Partition: s.ordinal(cdc.NoPartition)})
		s.held.committed[string(key)] = offsets.Candidate{Kind: offsets.Withheld, Reason: cdc.Declared, Partition: cdc.NoPartition, At: now}
	}
	if err := o.unguard(now); err != nil {
		t.Fatal(err)
	}
	before := s.waiting()
	for range 9 { // the loop's turns, each with an empty batch
		o.filling = newBatch(o.filling.id+1, kafka.NewBatch())
		if err := o.pursue(); err != nil {
			t.Fatal(err)
		}
	}
	if before == 0 || before == 9 || s.waiting() != 0 {
		t.Errorf("%d of 9 wait after the first batch, %d in the end", before, s.waiting())
	}
}

// TestD6ApprovalExpires: D6. an approval that was not used in its time lets nothing go.
func TestD6ApprovalExpires(t *testing.T) {
	o := bare(t, evening)
	o.session = &kafka.Session{}
	s, now := o.streams[0], time.Now()
	s.topic.Partitions, s.spec.Reconcile.GuardKeys, s.spec.Reconcile.GuardShare, s.guarded = 1, 0, 0, "the day is full"
	s.meta.Approved = &offsets.Approval{ID: "a", N: 5, At: now, Until: now.Add(time.Hour)}
	key := []byte("1")
	s.table.Apply(key, record.KeyHash(key), state.Entry{Hash: 1, Partition: s.ordinal(cdc.NoPartition)})
	s.held.committed["1"] = offsets.Candidate{Kind: offsets.Withheld, Reason: cdc.Declared, Partition: cdc.NoPartition, At: now}
	for after, goes := range map[time.Duration]bool{2 * time.Hour: false, time.Minute: true} {
		if got := s.approved(now.Add(after)) > 0; got != goes {
			t.Errorf("it holds after %v: %v", after, got)
		}
	}
	if err := o.unguard(now.Add(2 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, waits := s.held.get("1"); !waits {
		t.Error("the deletion goes")
	}
}

// TestD6NamedByOneApproval: an approval named a candidate, and its lookup said that the record is there. When it does vanish, long
// after, that approval is over: the guard holds it back, and a later approval of others pays nothing for it.
func TestD6NamedByOneApproval(t *testing.T) {
	o := bare(t, evening)
	o.session = &kafka.Session{}
	s, p := o.streams[0], o.partitions[0]
	s.topic.Partitions = 1
	s.spec.Reconcile.GuardKeys, s.spec.Reconcile.GuardShare, s.guarded = 0, 0, "the day is full"
	now := time.Now()
	s.meta.Approved = &offsets.Approval{ID: "old", N: 1, At: now.Add(-time.Hour), Until: now.Add(time.Hour)}
	o.approve(s, []byte("1"))
	s.meta.Approved = &offsets.Approval{ID: "new", N: 7, At: now, Until: now.Add(time.Hour)}
	s.table.Stage(1, []byte("1"), record.KeyHash([]byte("1")), state.Entry{Hash: 1, Partition: s.ordinal(p.spec.Name)})
	s.table.Settle(1)
	s.held.committed["1"] = offsets.Candidate{Kind: offsets.Missing, Reason: cdc.Reconciled, Partition: p.spec.Name, Passes: 1, At: now}
	if err := o.confirm(&inquest{partition: p, stream: s, gone: []string{"1"}, proven: true, step: closing}); err != nil {
		t.Fatal(err)
	}
	if c, ok := s.held.get("1"); !ok || c.Kind != offsets.Withheld || s.approval().N != 7 {
		t.Errorf("it is %+v, and %d of 7 are left", c, s.approval().N)
	}
}

// TestD3NumberBeforeTombstones: D3. a generation's number is committed with the first tombstone that names it, though its mark
// follows the last one (D7): a process that dies in between would give the number to another listing.
func TestD3NumberBeforeTombstones(t *testing.T) {
	o := bare(t, evening)
	o.session, o.bound = &kafka.Session{}, kafka.NewBound(6, 0, 0)
	s, p, now := o.streams[0], o.partitions[0], time.Now()
	s.topic.Partitions, s.spec.Reconcile.GuardKeys, s.spec.Reconcile.GuardShare = 1, 100, 1
	p.committed.Reconciled = &cdc.Reconciliation{Listing: p.request.Listing(), Agreed: 2, Generation: 4}
	o.generation = 4
	for i := range 9 {
		key := []byte{'1' + byte(i)}
		s.table.Apply(key, record.KeyHash(key), state.Entry{Hash: 1, Partition: s.ordinal(p.spec.Name)})
		s.held.committed[string(key)] = offsets.Candidate{Kind: offsets.Missing, Reason: cdc.Reconciled, Partition: p.spec.Name, At: now.Add(-time.Hour)}
	}
	w := &walk{partition: p, began: now, generation: o.nextGeneration(now), census: o.census(p), listed: []int64{30, 0}}
	if err := o.judge(w, true, ""); err != nil {
		t.Fatal(err)
	}
	if p.verdict == nil || p.verdict.parts[0].next == 0 || p.verdict.parts[0].next == 9 {
		t.Fatalf("the verdict was not cut: %v", p.verdict)
	}
	if m := p.checkpoint().Reconciled; m.Generation != 5 || !m.Ended.IsZero() {
		t.Errorf("with the first tombstones of generation 5 the checkpoint says %+v", m)
	}
}
