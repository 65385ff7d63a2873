package capture

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// batch is what one transaction will hold, and what memory learns when it is known to be committed (2).
type batch struct {
	id          uint64
	records     *kafka.Batch
	since       time.Time                  // when its first record came
	sent        time.Time                  // when the committer got it
	events      int                        // events, dead letters and state that should not wait
	checkpoints map[*partition]written     // the newest staged of each partition
	recent      map[*partition][]string    // ids that may come again, as of its checkpoints (P13)
	streams     map[*stream]*Counts        // streams it writes to, and what will have been published
	promised    map[*stream]offsets.Stream // their records, filled in when it is sent: count and digest as of this batch (K16)
	contents    []indexed                  // what its events say, should the broker refuse one (K15)
	urgent      bool                       // a pass ended, or somebody waits: not held back for company
	token       *tokenWrite                // a token travels alone (K19)
	heartbeat   bool                       // the owner record again (K12)
}

// content is one content of one key; the hashes stand for both.
type content struct {
	stream    *stream
	key, hash uint64
}

// indexed is the content of the record at an index of a batch.
type indexed struct {
	index int
	content
}

func newBatch(id uint64, records *kafka.Batch) *batch {
	return &batch{
		id: id, records: records, checkpoints: map[*partition]written{},
		streams: map[*stream]*Counts{}, promised: map[*stream]offsets.Stream{}, recent: map[*partition][]string{},
	}
}

// empty reports whether there is nothing to commit.
func (b *batch) empty() bool { return b.records.Len() == 0 && len(b.checkpoints) == 0 }

// of returns what b counts of stream s, and notes that s is written to.
func (b *batch) of(s *stream) *Counts {
	c := b.streams[s]
	if c == nil {
		c = &Counts{}
		b.streams[s] = c
	}
	return c
}

// press notes that b holds something of s that should not wait.
func (b *batch) press(s *stream) {
	b.of(s)
	b.events++
	b.touch(time.Now())
}

// touch notes when the first record came.
func (b *batch) touch(now time.Time) {
	if b.since.IsZero() {
		b.since = now
	}
}

// written is a checkpoint with its stored form.
type written struct {
	checkpoint cdc.Checkpoint
	value      []byte
}

// checkpoint stages cp as p's newest; it commits with this batch, after everything that it passed (1). One beyond the limits
// of K5 halts its stream here, before a transaction.
func (b *batch) checkpoint(p *partition, cp cdc.Checkpoint, now time.Time) error {
	value, err := offsets.Encode(cp)
	if err != nil {
		return err
	}
	p.staged, p.stagedIn = &cp, b.id
	b.checkpoints[p] = written{cp, value}
	b.touch(now)
	return nil
}

// patience is how long a batch that holds nothing but moved checkpoints waits for company: what is lost with it after a
// crash is only reading, so a pass over unchanged pages need not pay for a transaction a page.
const patience = time.Second

// ready reports whether b should go to the committer now.
func (b *batch) ready(now time.Time) bool {
	return !b.empty() && (b.events > 0 || b.urgent || now.Sub(b.since) >= patience)
}
