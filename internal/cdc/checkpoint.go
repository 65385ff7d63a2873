package cdc

import (
	"encoding/json"
	"time"
)

// Checkpoint is what survives of a partition: the cursor with all else that a pass needs to go on (K5, P3, P21, P23).
// It is committed with or after everything that its cursor passed (1). The zero checkpoint is that of a partition never read.
type Checkpoint struct {
	// Cursor is the partition's cursor in the server's own text (P16), opaque outside source; "" while there is none.
	// It only moves forward (P3).
	Cursor string `json:"cursor,omitempty"`
	// Anchor is where an unfinished pass reads (P3): the last record's cursor (keyset) or the page token (a stable one).
	// "" where no pass is unfinished, or where the pass has no page checkpoints (P4).
	Anchor string `json:"anchor,omitempty"`
	// Start is the lower end at which the unfinished pass began (the cursor less the lookback), "" otherwise.
	Start string `json:"start,omitempty"`
	// Began is the server time of the unfinished pass's first request; zero otherwise.
	Began time.Time `json:"began,omitzero"`
	// Passes counts the passes that ended; while it is 0 records are published as "r".
	Passes int64 `json:"passes,omitempty"`
	// Ended is the server time at which the last pass ended.
	Ended time.Time `json:"ended,omitzero"`
	// Since is the server time of the first request of the last pass that ended. What became visible later than that stands,
	// perhaps, behind where the pass had read already; so the next one looks back from here where the cursor has got further (P12).
	Since time.Time `json:"since,omitzero"`
	// Deep is the server time of the last pass that used deep_lookback (P12).
	Deep time.Time `json:"deep,omitzero"`
	// Sequence counts the changes of the cursor, so that a reader sees an old checkpoint for what it is.
	Sequence int64 `json:"sequence,omitempty"`
	// Request is the fingerprint under which the cursor was made (P23). Listing is no longer written: see Reconciliation.
	Request string `json:"request,omitempty"`
	Listing string `json:"listing,omitempty"`
	// Validator is what a snapshot's next pass may ask with whether anything has changed: an entity tag or a time, opaque
	// outside source (D10).
	Validator string `json:"validator,omitempty"`
	// Witness is the record that an inclusive filter has to show again; nil where none can be looked up (P11).
	Witness *Witness `json:"witness,omitempty"`
	// Reconciled is what survives of the partition's complete passes; nil before the first (D1 to D6).
	Reconciled *Reconciliation `json:"reconciled,omitempty"`
	// Deleted counts the deletions of the rolling day by the hour in which they were published (D5).
	Deleted map[string]int64 `json:"deleted,omitempty"`
	// Drifting marks a partition whose numbered pages never held still (P9).
	Drifting bool `json:"drifting,omitempty"`
	// Parent holds those fields of the parent record that the child's templates and cadence use, as "event.startTime", and under
	// "event" who the parents are; Pending is set when the parent was sighted as changed and cleared by the finished child
	// pass (P21).
	Parent  map[string]json.RawMessage `json:"parent,omitempty"`
	Pending bool                       `json:"pending,omitempty"`
}

// Witness is the record with the largest cursor that a partition has shown (P11). It does not change: another is another Witness.
type Witness struct {
	Stream string `json:"stream,omitempty"` // "" where the request has one
	Key    string `json:"key"`
	Cursor string `json:"cursor"` // the record's, in the server's own text (P16)
}

// Reconciliation is what survives of the passes that were to list everything of a partition. It commits with or after what the
// last of them decided (D7).
type Reconciliation struct {
	// Generation numbers the last complete pass; it only grows, over restarts too.
	Generation int64 `json:"generation,omitempty"`
	// Began and Ended are when that pass did, by our clock.
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Listing is the fingerprint under which it was made, and Agreed the number of complete passes in a row that were made
	// under it: after a change of request, filter or credential two have to agree before anything is deleted (P23).
	Listing string `json:"listing,omitempty"`
	Agreed  int    `json:"agreed,omitempty"`
	// Failed counts the passes since then that were not complete, and Why says what the last of them lacked (D2).
	Failed int    `json:"failed,omitempty"`
	Why    string `json:"why,omitempty"`
	// Missing is how many keys the complete pass did not show, Unlisted how many of them their lookups found alive (D4).
	Missing  int64 `json:"missing,omitempty"`
	Unlisted int64 `json:"unlisted,omitempty"`
	// Held says why what is missing is withheld; "" where it is not (D5).
	Held string `json:"held,omitempty"`
	// Shown are the streams of which a complete pass of this partition has ever shown a record, where partitions share their keys
	// (P24): from then on an empty one is not believed (D5).
	Shown []string `json:"shown,omitempty"`
}

// Window is what a listing in the order of the key has finished (D3): it showed every live key up to Last but those in Missing. It
// commits with or after what was found up to there, and goes with the mark of the listing. Of its texts only ours are bounded here.
type Window struct {
	// Listing is the fingerprint of the request, the filter and the credential under which it was made: under another one it is
	// void (P23).
	Listing string `json:"listing"`
	// Began is when the listing began, At when it had got so far, by our clock; Now is the server's time when it began, which its
	// requests go on to see.
	Began time.Time `json:"began"`
	At    time.Time `json:"at"`
	Now   time.Time `json:"now"`
	// Last is the key of the last record that was shown. Token asks for the page behind it; where there are no tokens Record does,
	// what the templates see of that record.
	Last   string          `json:"last"`
	Token  string          `json:"token,omitempty"`
	Record json.RawMessage `json:"record,omitempty"`
	// Pages, Records and Keys count what was read; Total is what the answers say that there is, -1 where they say nothing (D1).
	Pages   int   `json:"pages"`
	Records int   `json:"records"`
	Keys    int   `json:"keys"`
	Total   int64 `json:"total"`
	// Heard says that an answer had the sign that tells the last page (P10).
	Heard bool `json:"heard,omitempty"`
	// Missing are the live keys up to Last that nothing has shown since the listing began.
	Missing []string `json:"missing,omitempty"`
}
