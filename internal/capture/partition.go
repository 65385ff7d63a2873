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

	recent recents          // of a log feed
	window overlay[stretch] // under "": what a listing in the order of the key has finished (D3)

	committed cdc.Checkpoint // what Kafka holds
	staged    *cdc.Checkpoint
	stagedIn  uint64 // the batch that carries staged

	poll, list entry  // when its next pass is due, and its next listing
	space      *space // whose turns it takes (P1)

	reset       bool                 // what was restored of its streams was not what had been promised; a complete pass mends it (K8 g)
	walk        *walk                // the pass under way
	listing     *walk                // the listing under way; it outlives ownerships (D3)
	verdict     *verdict             // on a complete listing, while it is carried out (D7)
	orphans     *orphaning           // its parents are gone, and something is still to be done about its keys (D8)
	inquest     *inquest             // the lookups of its candidates, while they are asked (D4)
	complete    uint32               // generation of the last complete pass of this process whose sightings stand; 0: none
	lists       []int64              // records of each stream, by index, that it showed
	orders      []*order             // commands that the next listing answers (K1)
	seen        map[*stream][][]byte // keys that were seen lately (D4)
	asked       map[*stream]bool     // the candidates were looked up since the last complete pass (D4)
	askAgain    time.Time            // not before that, after lookups that failed
	interrupted bool                 // an ownership ended before everything that its pass read was known to be committed
	written     uint64               // the newest batch that may hold records of it
	failures    int                  // passes that failed in a row
	halted      error                // not nil: nothing is read until somebody mends it
	paused      error                // what the last failed pass said, until one succeeds

	kin  kin // of one whose value is a parent's record (P21)
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
	partition  *partition
	generation uint32     // of its sightings, where it lists everything; else 0
	census     *census    // how much was live when it began (D5); nil where it does not list everything
	listed     []int64    // records of each stream, by index, that it showed
	orders     []*order   // that it answers (K1)
	told       time.Time  // when the log last said how far it has got
	failures   int        // of a listing: how often it failed and went on
	going      bool       // of a listing: it has its turns (P1), and is not to be begun again
	safe       standing   // of a listing: from where it goes on after an ownership that ended here (D3)
	unsafe     []standing // the same, once the batch that it waits for is committed; oldest first
	drawAgain  time.Time  // when the next window of it is due (D3)
	rejoined   string     // it went on behind this key, where another one had got to (D3); ""

	position source.Position
	page     source.Page // reused: Split fills it, the records of the page before are gone then
	began    time.Time
	records  int
	parked   int
	answer   source.Page      // of a lookup
	older    map[keyed]uint64 // held versions that this pass showed: their content (P14)
	lookups  []lookup         // records whose older version waits for a second opinion (P14); asked at page borders (P1)
	ended    bool             // the last page was split; only lookups are left

	gathering gathering // the files of its page
}

// standing is how far a listing has got.
type standing struct {
	position source.Position
	batch    uint64 // what was found up to here stands in this batch or in those before it
	ended    bool
	complete bool
	why      string
	records  int
	listed   []int64
}

// lookup asks upstream for one record by its key.
type lookup struct {
	stream  *stream
	key     []byte
	inquest *inquest // nil: the second opinion on a held version (P14)
}

// quiet takes what is worth no transaction: it lives in memory, and after a crash is observed again.
func (p *partition) quiet(cp cdc.Checkpoint) {
	now := &p.committed
	if p.staged != nil {
		now = p.staged
	}
	now.Passes, now.Ended, now.Since, now.Reconciled, now.Witness = cp.Passes, cp.Ended, cp.Since, cp.Reconciled, cp.Witness
}
