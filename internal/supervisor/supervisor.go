package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// Options are what a process runs. Everything must be given.
type Options struct {
	Kafka       kafka.Options
	Connections []*capture.Connection
	Log         *slog.Logger
}

// Supervisor runs the connections of the shards that are assigned to this process. Run is called once; Status any time.
type Supervisor struct {
	kafka kafka.Options
	log   *slog.Logger
	fatal chan error

	mu      sync.Mutex // never held across I/O
	fleet   []*member
	shards  []int32
	trouble string
	hanging []kafka.Hanging
	foreign []string                   // K10: what other configurations have to do with our name
	refused error                      // why the configuration that was tried last does not run
	open    map[string]offsets.Command // that wait for their outcome, by id: a connection that comes is told of its own
	ctx     context.Context            // of Run
}

// member is a connection with what runs it.
type member struct {
	connection *capture.Connection
	shard      int32
	assigned   bool
	unowned    time.Time          // since when the shard is ours and the connection is not; zero: it is, or it has halted
	stop       context.CancelFunc // nil: not running
	done       chan struct{}
}

// New returns a supervisor that has not joined the group yet.
func New(o Options) *Supervisor {
	s := &Supervisor{kafka: o.Kafka, log: o.Log, fatal: make(chan error, 1), open: map[string]offsets.Command{}}
	for _, c := range o.Connections {
		s.fleet = append(s.fleet, s.member(c))
	}
	return s
}

func (s *Supervisor) member(c *capture.Connection) *member {
	return &member{connection: c, shard: s.kafka.ShardOf(c.Account())}
}

// members is a copy of the fleet.
func (s *Supervisor) members() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.fleet)
}

// Run joins the group and runs the connections of the assigned shards until ctx ends. It returns nil then, and an error
// where the process cannot go on: the topics of the deployment are wrong, or another process has our instance id.
func (s *Supervisor) Run(ctx context.Context) error {
	if _, err := kafka.EnsureTopics(ctx, s.kafka, s.kafka.SystemTopics()); err != nil {
		return err
	}
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	group, err := kafka.Join(ctx, s.kafka, kafka.Assignment{Gained: s.gained, Lost: s.lost, Trouble: s.heard})
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var aside sync.WaitGroup
	aside.Go(func() { s.watch(watching) })    // the watch for hanging transactions
	aside.Go(func() { s.controls(watching) }) // commands of operators
	select {
	case <-ctx.Done():
	case err = <-s.fatal:
	}
	stop()
	// SIGTERM: the connections commit what they began, then the group is left, so that others take over at once (K6).
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveFor)
	defer cancel()
	s.lost(leaving, s.assigned())
	if e := group.Leave(leaving); e != nil {
		s.log.Warn("the group was not left in order; its session timeout will tell the others", "error", e)
	}
	aside.Wait()
	return err
}

// leaveFor bounds the end of a process (KAFKA.md: SIGTERM).
const leaveFor = 9 * time.Second

func (s *Supervisor) assigned() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.shards)
}

// gained starts the connections of shards.
func (s *Supervisor) gained(shards []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range shards {
		if !slices.Contains(s.shards, shard) {
			s.shards = append(s.shards, shard)
		}
	}
	slices.Sort(s.shards)
	s.trouble = "" // the group answers again
	s.log.Info("shards assigned", "shards", s.shards)
	if s.ctx.Err() != nil {
		return
	}
	for _, m := range s.fleet {
		if !slices.Contains(shards, m.shard) {
			continue
		}
		// One that was abandoned when the shard was lost may still be ending; it starts again when it has.
		if m.assigned = true; m.stop == nil {
			s.start(m)
		}
	}
}

// start runs m's connection; the caller holds the lock.
func (s *Supervisor) start(m *member) {
	ctx, stop := context.WithCancel(s.ctx)
	done := make(chan struct{})
	m.stop, m.done = stop, done
	go func() { // runs the connection
		defer close(done)
		err := m.connection.Run(ctx, func() bool { return s.has(m) })
		stop()
		if err != nil {
			s.log.Error("connection halted", "connection", m.connection.Name(), "error", err)
			if _, scope := cdc.Verdict(err); scope == cdc.Process {
				s.fail(err)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		m.stop = nil
		if m.assigned && err == nil && s.ctx.Err() == nil {
			s.start(m)
		}
	}()
}

func (s *Supervisor) has(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.assigned
}

// lost stops the connections of shards and waits until they are closed, or until ctx ends: what is not closed by then is
// fenced by the next owner (K11).
func (s *Supervisor) lost(ctx context.Context, shards []int32) {
	stopping := map[*member]chan struct{}{}
	s.mu.Lock()
	for _, m := range s.fleet {
		if !slices.Contains(shards, m.shard) {
			continue
		}
		if m.assigned = false; m.stop != nil {
			m.stop()
			stopping[m] = m.done
		}
	}
	s.shards = slices.DeleteFunc(s.shards, func(n int32) bool { return slices.Contains(shards, n) })
	s.mu.Unlock()
	for m, done := range stopping {
		select {
		case <-done:
		case <-ctx.Done():
			s.log.Warn("the connection did not end in time and is abandoned to the fence", "connection", m.connection.Name())
		}
	}
}

// heard takes errors of the group.
func (s *Supervisor) heard(err error) {
	s.mu.Lock()
	s.trouble = err.Error()
	s.mu.Unlock()
	if remedy, scope := cdc.Verdict(err); remedy == cdc.Halt && scope == cdc.Process {
		s.fail(err)
		return
	}
	s.log.Warn("trouble with the group", "error", err)
}

func (s *Supervisor) fail(err error) {
	select {
	case s.fatal <- err:
	default: // the first is enough
	}
}

// watchEvery is how often the events partitions are looked at (K20).
const watchEvery = 30 * time.Second

// watch looks for transactions of others that stop the readers of our topics (K20).
func (s *Supervisor) watch(ctx context.Context) {
	w, err := kafka.NewWatcher(s.kafka)
	if err != nil {
		s.log.Error("hanging transactions are not watched", "error", err)
		return
	}
	defer w.Close()
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var compared time.Time
	for {
		if now := time.Now(); now.Sub(compared) >= strangersEvery {
			compared = now
			s.strangers(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		status := s.Status(ctx)
		s.idle(status, time.Now())
		hanging, err := w.Check(ctx, topics(status))
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.log.Warn("hanging transactions could not be looked for", "error", err)
			}
			continue
		}
		for _, h := range hanging {
			s.log.Error("a transaction that is not ours stops the readers of a topic: find its producer, or end it with "+
				"kafka-transactions.sh abort", "topic", h.Topic, "partition", h.Partition, "offset", h.Offset, "producer", h.ProducerID)
		}
		s.mu.Lock()
		s.hanging = hanging
		s.mu.Unlock()
	}
}

// topics are the events topics of the connections that run here.
func topics(st capture.FleetStatus) []string {
	var all []string
	for _, c := range st.Connections {
		for _, st := range c.Streams {
			if st.Topic != "" {
				all = append(all, st.Topic)
			}
		}
	}
	return all
}

// ownWithin is how long a shard may be assigned to us without its connections being owned (K6).
const ownWithin = 10 * time.Minute

// idle ends the process, and with it its membership, when it cannot own what the group has given to it: another instance may
// be able to (K6). A connection that has halted is not owned by intention, and would halt elsewhere too.
func (s *Supervisor) idle(st capture.FleetStatus, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	phases := map[string]capture.Phase{}
	for _, c := range st.Connections {
		phases[c.Connection] = c.Phase
	}
	for _, m := range s.fleet {
		phase := phases[m.connection.Name()] // none: it came after the status
		switch {
		case !m.assigned, phase.Name == "running", phase.Name == "restoring", phase.Name == "halted":
			m.unowned = time.Time{}
		case m.unowned.IsZero():
			m.unowned = now
		case now.Sub(m.unowned) > ownWithin:
			s.fail(cdc.Errorf(cdc.Halt, cdc.Process, "own connection", "Look at the error, and at what this machine reaches of Kafka; the group gives the shard "+
				"to another instance now", "%s is assigned to this process and was not owned for %v: %s", m.connection.Name(), ownWithin, phase.Error))
		}
	}
}

// Status asks every connection for a copy of what it knows.
func (s *Supervisor) Status(ctx context.Context) capture.FleetStatus {
	s.mu.Lock()
	st := capture.FleetStatus{
		Name: s.kafka.Name, Instance: s.kafka.Instance, Shards: slices.Clone(s.shards), Trouble: s.trouble,
		Hanging: slices.Clone(s.hanging), Foreign: slices.Clone(s.foreign),
	}
	if s.refused != nil {
		st.Refused, st.RefusedHint = s.refused.Error(), cdc.Hint(s.refused)
	}
	fleet := slices.Clone(s.fleet)
	s.mu.Unlock()
	for _, m := range fleet {
		st.Connections = append(st.Connections, m.connection.Status(ctx))
	}
	return st
}
