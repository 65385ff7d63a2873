package capture

import (
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/source"
)

// partition is one cursor of a request, as the loop knows it. It outlives sessions; its staged checkpoint does not.
type partition struct {
	request *source.Request
	spec    source.Partition
	label   string // request/partition, for people
	key     []byte // of its checkpoint in the offsets topic

	recent recents // of a log feed

	committed cdc.Checkpoint // what Kafka holds
	staged    *cdc.Checkpoint
	stagedIn  uint64 // the batch that carries staged

	due  time.Time
	slot int // in the schedule's heap, -1 outside

	turn        bool // the key space is kept free for it (P1)
	reset       bool // what was restored of its streams was not what had been promised; a complete pass mends it (K8 g)
	walk        *walk
	interrupted bool   // an ownership ended before everything that its pass read was known to be committed
	written     uint64 // the newest batch that may hold records of it
	failures    int    // passes that failed in a row
	halted      error  // not nil: nothing is read until somebody mends it
	paused      error  // what the last failed pass said, until one succeeds

	last passReport
}

// passReport is what is shown of a partition's last pass.
type passReport struct {
	Began, Ended time.Time
	Records      int
	Complete     bool
}

// checkpoint reads staged over committed (P2).
func (p *partition) checkpoint() cdc.Checkpoint {
	if p.staged != nil {
		return *p.staged
	}
	return p.committed
}

// walk is a pass under way: a value that says which page is next, and what was counted on the way.
type walk struct {
	partition *partition
	position  source.Position
	page      source.Page // reused: Split fills it, the records of the page before are gone then
	began     time.Time
	records   int
	parked    int
	answer    source.Page      // of a lookup
	older     map[keyed]uint64 // held versions that this pass showed: their content (P14)
	lookups   []lookup         // records whose older version waits for a second opinion (P14); asked at page borders (P1)
	ended     bool             // the last page was split; only lookups are left
}

// lookup asks upstream for one record by its key.
type lookup struct {
	stream *stream
	key    []byte
}

// quiet takes what is worth no transaction: it lives in memory, and after a crash is observed again.
func (p *partition) quiet(cp cdc.Checkpoint) {
	if p.staged != nil {
		p.staged.Passes, p.staged.Ended, p.staged.Since = cp.Passes, cp.Ended, cp.Since
		return
	}
	p.committed.Passes, p.committed.Ended, p.committed.Since = cp.Passes, cp.Ended, cp.Since
}
