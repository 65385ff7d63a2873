package capture

import (
	"context"
	"slices"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
	"tidemark/internal/reconcile"
)

// Phase is what a connection is doing, and what it last stumbled over.
type Phase struct {
	Name  string    `json:"name"` // waiting, owning, restoring, running, owning again, halted, stopped
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	Hint  string    `json:"hint,omitempty"`
}

// Status is a copy of what a connection knows of itself, made by its loop.
type Status struct {
	Connection string            `json:"connection"`
	Account    string            `json:"account"`
	Shard      int32             `json:"shard"`
	Phase      Phase             `json:"phase"`
	Alarm      string            `json:"alarm,omitempty"` // K10
	Streams    []StreamStatus    `json:"streams"`
	Partitions []PartitionStatus `json:"partitions"`
	Commits    int64             `json:"commits"`
	Written    int64             `json:"written"` // records in all transactions
	LastCommit time.Time         `json:"last_commit,omitzero"`
	CommitTook time.Duration     `json:"commit_took"`
	Reopened   int64             `json:"reopened"` // ownerships after the first
	Memory     int64             `json:"memory"`   // bytes of the tables
	HTTP       fetch.Stats       `json:"http"`
	Paused     time.Time         `json:"paused_until,omitzero"` // P22
	PausedWhy  string            `json:"paused_why,omitempty"`
}

// StreamStatus is what is known of a stream.
type StreamStatus struct {
	Name   string `json:"name"`
	Topic  string `json:"topic"`
	Keys   int64  `json:"keys"`
	Counts Counts `json:"counts"`
	Parked int    `json:"parked"` // records whose content stands in the dead-letter topic
	Held   int    `json:"held"`   // older versions that wait for confirmation (P14)
	// Candidates are missing keys that wait for a second listing or their lookup (D4), Withheld deletions that the guard holds
	// back, Guarded why it does, and Sample some of their keys (D5). Approved is how many of them an operator lets go (D6).
	Candidates int      `json:"candidates"`
	Withheld   int      `json:"withheld"`
	Guarded    string   `json:"guarded,omitempty"`
	Sample     []string `json:"sample,omitempty"`
	Approved   int64    `json:"approved,omitempty"`
	// Files are those of records that stand in the folder, FilesMissed those that could not be had yet, FilesError why the first of
	// them could not, and which it is.
	Files       int    `json:"files,omitempty"`
	FilesMissed int    `json:"files_missed,omitempty"`
	FilesError  string `json:"files_error,omitempty"`
	Mismatch    bool   `json:"mismatch"` // the restored state was not what the last transaction promised (K8 g)
	Halted      string `json:"halted,omitempty"`
	Hint        string `json:"hint,omitempty"`
}

// Counts are what a stream did since the process began; published ones count when their commit is known.
type Counts struct {
	Created    int64 `json:"created"`
	Updated    int64 `json:"updated"`
	Deleted    int64 `json:"deleted"`
	Read       int64 `json:"read"`
	Suppressed int64 `json:"suppressed"`
	Parked     int64 `json:"parked"`
	Held       int64 `json:"held"`
	Rehashed   int64 `json:"rehashed"` // under new content rules, in silence (P23)
}

// Published counts the events of c.
func (c Counts) Published() int64 { return c.Created + c.Updated + c.Deleted + c.Read }

func (c *Counts) add(o Counts) {
	c.Created += o.Created
	c.Updated += o.Updated
	c.Deleted += o.Deleted
	c.Read += o.Read
	c.Suppressed += o.Suppressed
	c.Parked += o.Parked
	c.Held += o.Held
	c.Rehashed += o.Rehashed
}

func (c *Counts) event(op cdc.Op) {
	switch op {
	case cdc.Created:
		c.Created++
	case cdc.Updated:
		c.Updated++
	case cdc.Deleted:
		c.Deleted++
	case cdc.Read:
		c.Read++
	}
}

// PartitionStatus is what is known of a partition.
type PartitionStatus struct {
	Stream    string        `json:"stream"`
	Name      string        `json:"name"`
	Cursor    string        `json:"cursor,omitempty"`
	Anchor    string        `json:"anchor,omitempty"`
	Passes    int64         `json:"passes"`
	Reading   bool          `json:"reading"`
	Stage     string        `json:"stage,omitempty"` // what the next request is for
	Records   int           `json:"records"`         // of the pass under way, or of the last one
	LastPass  time.Time     `json:"last_pass,omitzero"`
	PassTook  time.Duration `json:"pass_took"` // of the last pass
	Complete  bool          `json:"complete"`
	Due       time.Time     `json:"due,omitzero"`
	Listing   ListingStatus `json:"listing"`
	State     string        `json:"state,omitempty"` // of its parent, where that is not there: "parent gone?", … (P21)
	Drifting  bool          `json:"drifting,omitempty"`
	Failures  int           `json:"failures,omitempty"`
	LastError string        `json:"last_error,omitempty"`
	Halted    string        `json:"halted,omitempty"`
	Hint      string        `json:"hint,omitempty"`
}

// ListingStatus is what is known of a partition's listings (D1 to D6).
type ListingStatus struct {
	Began    time.Time `json:"began,omitzero"` // of the one under way (D3); zero: none is
	Records  int       `json:"records,omitempty"`
	Pages    int       `json:"pages,omitempty"`
	Asking   int       `json:"asking,omitempty"` // candidates that are still to be looked up
	Due      time.Time `json:"due,omitzero"`
	Complete time.Time `json:"complete,omitzero"` // end of the last complete one
	Missing  int64     `json:"missing"`           // keys that it did not show
	Unlisted int64     `json:"unlisted"`          // of these, found alive by their lookups (D4)
	Failed   int       `json:"failed"`            // since then, not complete (D2)
	Why      string    `json:"why,omitempty"`
	Held     string    `json:"held,omitempty"` // why what is missing is withheld (D5)
	Alarm    bool      `json:"alarm"`          // too many in a row were not complete: nothing is deleted (D2)
}

// Status asks the connection's loop for a copy of what it knows. While the loop is busy owning or restoring, and when ctx
// ends first, the answer holds the phase alone.
func (c *Connection) Status(ctx context.Context) Status {
	reply := make(chan Status, 1)
	now := *c.now.Load()
	if now.Name == "running" || now.Name == "owning again" {
		timer := time.NewTimer(answerWithin) // its loop may end in this very moment, and then nobody answers
		defer timer.Stop()
		select {
		case c.asked <- reply:
			return <-reply
		case <-ctx.Done():
		case <-timer.C:
		}
		now = *c.now.Load()
	}
	return Status{Connection: c.name, Account: c.account, Shard: c.kafka.ShardOf(c.account), Phase: now}
}

// answerWithin bounds the wait for a loop.
const answerWithin = 2 * time.Second

// phase notes what the connection does now.
func (c *Connection) phase(name string) { c.now.Store(&Phase{Name: name, Since: time.Now()}) }

// fault notes what stopped it.
func (c *Connection) fault(name string, err error) {
	c.now.Store(&Phase{Name: name, Since: time.Now(), Error: err.Error(), Hint: cdc.Hint(err)})
}

// status makes the copy; it runs on the loop.
func (c *Connection) status() Status {
	st := Status{
		Connection: c.name, Account: c.account, Shard: c.kafka.ShardOf(c.account), Phase: *c.now.Load(), Alarm: c.strangers.alarm,
		Commits: c.commits.Count, Written: c.commits.Records, LastCommit: c.commits.Last, CommitTook: c.commits.Took,
		Reopened: c.reopened, HTTP: c.client.Stats(),
	}
	if b := c.options.Fetch.Budget; b != nil {
		st.Paused, st.PausedWhy = b.Paused()
	}
	for _, s := range c.streams {
		st.Memory += s.table.Bytes()
		st.Streams = append(st.Streams, s.status(time.Now()))
	}
	for _, p := range c.partitions {
		ps := p.status()
		if why := c.rests(p); why != "" {
			ps.State = why
		}
		st.Partitions = append(st.Partitions, ps)
	}
	return st
}

func (s *stream) status(now time.Time) StreamStatus {
	st := StreamStatus{
		Name: s.spec.Name, Topic: s.topic.Name, Keys: s.table.Set().Count, Counts: s.total, Parked: s.parked.len(),
		Mismatch: s.mismatch, Guarded: s.guarded, Approved: s.approved(now),
	}
	for key, c := range s.held.committed {
		switch c.Kind {
		case offsets.Older:
			st.Held++
		case offsets.Missing:
			st.Candidates++
		case offsets.Withheld:
			st.Withheld++
			st.Sample = sampled(st.Sample, key)
		}
	}
	s.filesStatus(&st)
	for i, key := range st.Sample {
		st.Sample[i] = clip(key)
	}
	if s.halted != nil {
		st.Halted, st.Hint = s.halted.Error(), cdc.Hint(s.halted)
	}
	return st
}

// sampled returns the first few keys of those in the sample and key: the same ones each time.
func sampled(sample []string, key string) []string {
	const few = 5
	i, _ := slices.BinarySearch(sample, key)
	if i == few {
		return sample
	}
	sample = slices.Insert(sample, i, key)
	return sample[:min(len(sample), few)]
}

func (p *partition) status() PartitionStatus {
	cp := p.committed
	st := PartitionStatus{
		Stream: p.request.Name, Name: p.spec.Name, Cursor: cp.Cursor, Anchor: cp.Anchor, Passes: cp.Passes, Reading: p.walk != nil,
		Records: p.last.Records, LastPass: p.last.Ended, PassTook: p.last.Ended.Sub(p.last.Began), Complete: p.last.Complete, Drifting: cp.Drifting, Failures: p.failures,
	}
	if p.poll.slot >= 0 {
		st.Due = p.poll.due
	}
	st.Listing = p.listingStatus()
	if p.poll.slot >= 0 && p.kin.wanted.After(p.poll.due) {
		st.Due = p.kin.wanted
	}
	if p.kin.gone {
		st.State = maybeGone
	}
	if p.walk != nil {
		st.Records, st.Stage = p.walk.records, p.walk.position.Stage()
		if p.walk.gathering.half != nil {
			st.Stage = "files"
		}
	}
	if p.paused != nil {
		st.LastError, st.Hint = p.paused.Error(), cdc.Hint(p.paused)
	}
	if p.halted != nil {
		st.Halted, st.Hint = p.halted.Error(), cdc.Hint(p.halted)
	}
	return st
}

func (p *partition) listingStatus() ListingStatus {
	var st ListingStatus
	if m := p.committed.Reconciled; m != nil {
		st.Complete, st.Missing, st.Unlisted, st.Failed, st.Why, st.Held = m.Ended, m.Missing, m.Unlisted, m.Failed, m.Why, m.Held
		st.Alarm = m.Failed >= reconcile.Silence
	}
	if w := p.listing; w != nil {
		st.Began, st.Records, st.Pages = w.began, w.records, w.position.Pages()
	}
	if p.inquest != nil {
		st.Asking = len(p.inquest.keys) + len(p.inquest.batch)
	}
	if p.list.slot >= 0 {
		st.Due = p.list.due
	}
	return st
}
