package capture

import (
	"context"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
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
	Name     string `json:"name"`
	Topic    string `json:"topic"`
	Keys     int64  `json:"keys"`
	Counts   Counts `json:"counts"`
	Parked   int    `json:"parked"`   // records whose content stands in the dead-letter topic
	Held     int    `json:"held"`     // older versions that wait for confirmation (P14)
	Mismatch bool   `json:"mismatch"` // the restored state was not what the last transaction promised (K8 g)
	Halted   string `json:"halted,omitempty"`
	Hint     string `json:"hint,omitempty"`
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
	Drifting  bool          `json:"drifting,omitempty"`
	Failures  int           `json:"failures,omitempty"`
	LastError string        `json:"last_error,omitempty"`
	Halted    string        `json:"halted,omitempty"`
	Hint      string        `json:"hint,omitempty"`
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
		st.Streams = append(st.Streams, s.status())
	}
	for _, p := range c.partitions {
		st.Partitions = append(st.Partitions, p.status())
	}
	return st
}

func (s *stream) status() StreamStatus {
	st := StreamStatus{
		Name: s.spec.Name, Topic: s.topic.Name, Keys: s.table.Set().Count, Counts: s.total, Parked: s.parked.len(), Held: s.held.len(),
		Mismatch: s.mismatch,
	}
	if s.halted != nil {
		st.Halted, st.Hint = s.halted.Error(), cdc.Hint(s.halted)
	}
	return st
}

func (p *partition) status() PartitionStatus {
	cp := p.committed
	st := PartitionStatus{
		Stream: p.request.Name, Name: p.spec.Name, Cursor: cp.Cursor, Anchor: cp.Anchor, Passes: cp.Passes, Reading: p.walk != nil,
		Records: p.last.Records, LastPass: p.last.Ended, PassTook: p.last.Ended.Sub(p.last.Began), Complete: p.last.Complete, Drifting: cp.Drifting, Failures: p.failures,
	}
	if p.slot >= 0 {
		st.Due = p.due
	}
	if p.walk != nil {
		st.Records, st.Stage = p.walk.records, p.walk.position.Stage()
	}
	if p.paused != nil {
		st.LastError, st.Hint = p.paused.Error(), cdc.Hint(p.paused)
	}
	if p.halted != nil {
		st.Halted, st.Hint = p.halted.Error(), cdc.Hint(p.halted)
	}
	return st
}
