package capture

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// Options are what a connection is made of. Source, Kafka and Log must be given.
type Options struct {
	Source  *source.Source // bound to the connection's configuration
	Account string         // whose budget is shared, and which decides the shard; default: the connection's name
	Kafka   kafka.Options
	Fetch   fetch.Options // Origins, Credential and Secrets are filled in here
	// Schema returns the text of a shipped Avro schema by its name ("salesloft/person").
	Schema   func(name string) ([]byte, error)
	Registry *codec.Registry // nil: values are JSON (VALUE_FORMAT=json)
	Shape    codec.Shape
	// SealKey seals tokens; nil where no secret key is configured, which only grants that rotate need (K19).
	SealKey *[32]byte
	Folder  *fetch.Folder // of the files that records name; nil where there is none, which only definitions with `files` need
	Config  string        // fingerprint of the connection's configuration (K10)
	// Adopt builds the state of a stream from its events topic, Rebaseline publishes everything anew: what to do with a
	// topic that holds events while there is no checkpoint (K10).
	Adopt, Rebaseline bool
	// Records, Bytes and Open bound a transaction (K17); 0: 10,000, 16 MiB, 1 s.
	Records, Bytes int
	Open           time.Duration
	// Confirm is how much later than the first a second complete listing has to begin, to confirm a deletion (D4); 0: 10 min.
	Confirm time.Duration
	// Window is how often a listing in the order of the key notes what it has finished (D3); 0: 30 s.
	Window time.Duration
	Log    *slog.Logger
}

// Connection is a named instance of a source: unit of ownership, fencing and tokens. It outlives sessions: its schedule, its
// tables and checkpoints as last committed, its grant in hand. Run is called once; Status any time.
type Connection struct {
	name, account string
	options       Options
	kafka         kafka.Options
	source        *source.Source
	client        *fetch.Client
	log           *slog.Logger

	streams    []*stream
	partitions []*partition
	byName     map[string]*partition // by request/partition, as in keys
	schedule   schedule
	kin        kinship
	bound      *kafka.Bound
	vault      *vault

	applied      kafka.Mark  // where the next replay begins (K9)
	generation   uint32      // of sightings: the newest; one begins with every pass that lists everything (D3)
	generations  []time.Time // when each began, for ce_lastseen; see lastSeen
	generation0  uint32      // of generations[0]
	skew         time.Duration
	verified     time.Time
	lookedAround time.Time
	unguarded    time.Time
	exhumed      time.Time
	mail         mailbox // what operators ask (K1)
	lastCommit   time.Time
	drawAgain    time.Time // no window before that, of whichever listing (D3)
	commits      commitStats
	answered     map[keyed]uint64 // lookups of held versions that this process has an answer to: what was held (P14)
	refused      map[content]bool // content that the broker refuses by itself (K15)
	strangers    strangers
	reopened     int64

	asked        chan chan Status
	now          atomic.Pointer[Phase]
	running      atomic.Bool
	stopFetching context.CancelCauseFunc
}

// New returns a connection that has asked nothing of anybody yet. Errors halt it.
func New(o Options) (*Connection, error) {
	src := o.Source
	c := &Connection{
		name: src.Connection, account: o.Account, options: o, kafka: o.Kafka, source: src,
		log: o.Log.With("connection", src.Connection), byName: map[string]*partition{},
		bound: kafka.NewBound(o.Records, o.Bytes, o.Open), refused: map[content]bool{}, answered: map[keyed]uint64{}, generation: 1,
		asked: make(chan chan Status), kin: newKinship(), mail: mailbox{pending: map[string]offsets.Command{}, arrived: make(chan struct{}, 1), taken: map[string]bool{}},
	}
	if c.account == "" {
		c.account = c.name
	}
	if err := CheckFolder(src, o.Folder); err != nil {
		return nil, err
	}
	c.phase("waiting")
	c.vault = newVault(c.name, o.SealKey)
	if err := c.connect(); err != nil {
		return nil, err
	}
	for _, r := range src.Requests {
		for _, spec := range r.Streams {
			s, err := newStream(spec, r, codec.NewOrigin(o.Kafka.Name, c.name, src.Name, spec.Name))
			if err != nil {
				return nil, err
			}
			c.streams = append(c.streams, s)
		}
		for _, spec := range r.Partitions() {
			p := c.addPartition(r, spec)
			if r.Lineage() != nil {
				c.kin.given[p] = spec
			}
		}
	}
	for i, s := range c.streams {
		if s.spec.Index != i {
			return nil, fmt.Errorf("stream %s has index %d and stands at %d", s.spec.Name, s.spec.Index, i)
		}
	}
	return c, nil
}

// Close gives the tables' memory back. It is called after Run has returned; of a connection that was abandoned to the fence
// and still runs (K11) the memory goes with the process.
func (c *Connection) Close() {
	if c.running.Load() {
		return
	}
	for _, s := range c.streams {
		s.table.Close()
	}
	c.client.Close()
}

// Name returns the connection's name.
func (c *Connection) Name() string { return c.name }

// Config returns the fingerprint of its configuration (K10).
func (c *Connection) Config() string { return c.options.Config }

// Account returns whose budget it shares; it decides the shard (K6).
func (c *Connection) Account() string { return c.account }

// connect makes the HTTP client with the credential that the definition asks for.
func (c *Connection) connect() error {
	o := c.options.Fetch
	o.Origins, o.Secrets, o.Log = c.source.Origins, c.source.Secrets, c.log
	credential, err := c.credential()
	if err != nil {
		return err
	}
	o.Credential = credential
	c.client, err = fetch.New(o)
	return err
}

func (c *Connection) credential() (fetch.Credential, error) {
	if c.source.Auth.Rotates() && c.options.SealKey == nil {
		return nil, errNoSeal(c.name)
	}
	return c.source.Credential(c.vault)
}

// Run owns the connection and captures until ctx ends, assigned says no, or something halts it: it returns nil in the first
// two cases. Every other trouble ends the ownership and begins another (K9, K14): that is the only way of recovery.
func (c *Connection) Run(ctx context.Context, assigned func() bool) error {
	c.running.Store(true)
	defer c.running.Store(false)
	for failures := 0; ; {
		began := time.Now()
		err := c.own(ctx, assigned)
		switch remedy, scope := cdc.Verdict(err); {
		case ctx.Err() != nil:
			c.phase("stopped")
			return nil // what the ownership died of is that
		case assigned != nil && !assigned():
			c.phase("waiting")
			return nil
		case remedy == cdc.Halt && (scope >= cdc.Connection || !c.haltTopics(err)): // K15: a topic's trouble is its stream's alone
			c.fault("halted", err)
			return err
		}
		if time.Since(began) > settled {
			failures = 0
		}
		failures++
		c.reopened++
		wait := backoff(c.name, failures-1)
		c.fault("owning again", err)
		c.log.Warn("the connection is owned anew", "in", wait.Round(time.Millisecond), "error", err)
		if !c.rest(ctx, wait) {
			c.phase("stopped")
			return nil
		}
	}
}

// settled is how long an ownership must have lasted for the next trouble to count as the first.
const settled = time.Minute

// rest waits before the next owning, and answers meanwhile. It reports whether there is a next one.
func (c *Connection) rest(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case reply := <-c.asked:
			reply <- c.status()
		case <-ctx.Done():
			return false
		}
	}
}

// claim is what the connection brings to be owned: its topics, with what state has recorded of them.
func (c *Connection) claim(assigned func() bool) kafka.Claim {
	claim := kafka.Claim{
		Connection: c.name, Shard: c.kafka.ShardOf(c.account), Config: c.options.Config, Assigned: assigned, Account: c.account,
	}
	for _, s := range c.streams {
		if s.halted != nil {
			continue
		}
		t := kafka.StreamTopic{Topic: s.topic.Name, Cleanup: s.spec.Topic.Cleanup}
		if s.known {
			t.ID, t.Partitions = s.meta.TopicID, s.meta.Partitions
		}
		claim.Streams = append(claim.Streams, t)
	}
	return claim
}

// topics creates and verifies the events topics (K1, K2) and prepares the encoders, before anything is owned. A stream whose
// topic or schema cannot be used halts; the others go on.
func (c *Connection) topics(ctx context.Context) error {
	var wanted []kafka.Topic
	for _, s := range c.streams {
		wanted = append(wanted, c.topicOf(s))
	}
	infos, err := kafka.EnsureTopics(ctx, c.kafka, wanted)
	bad := map[string]error{}
	for _, b := range kafka.BadTopics(err) {
		bad[b.Topic] = err
	}
	if err != nil && len(bad) == 0 {
		return err
	}
	for i, s := range c.streams {
		s.topic.Name = wanted[i].Name
		if e := bad[wanted[i].Name]; e != nil {
			c.haltStream(s, e)
			continue
		}
		s.topic = infos[i]
		for _, w := range infos[i].Warnings {
			c.log.Warn(w, "topic", infos[i].Name)
		}
		if s.encoder != nil {
			continue
		}
		if s.encoder, err = c.encoder(ctx, s); err != nil {
			if remedy, scope := cdc.Verdict(err); remedy == cdc.Halt && scope <= cdc.Stream {
				c.haltStream(s, err)
				continue
			}
			return err
		}
	}
	return nil
}

// topicOf says what a stream's events topic should be, with what state has recorded of it.
func (c *Connection) topicOf(s *stream) kafka.Topic {
	want := EventsTopic(c.kafka, c.name, s.spec)
	if s.known {
		want.Recorded, want.Count = s.meta.TopicID, s.meta.Partitions
	}
	return want
}

// EventsTopic says what the events topic of a connection's stream should be: named by the stream's settings or by the
// deployment's rule, with 6 partitions unless they say otherwise (K1).
func EventsTopic(o kafka.Options, connection string, st *source.Stream) kafka.Topic {
	t := st.Topic
	want := kafka.Topic{
		Name: cmp.Or(t.Name, o.EventsTopic(connection, st.Name)), Partitions: cmp.Or(t.Partitions, 6), Role: kafka.Events,
		Config: map[string]string{},
	}
	if t.Cleanup != "" {
		want.Config["cleanup.policy"] = t.Cleanup
	}
	millis := strconv.FormatInt(t.Retention.Milliseconds(), 10)
	switch {
	case t.Retention < 0:
		want.Config["retention.ms"] = "-1"
	case t.Retention > 0 && t.Cleanup != "":
		want.Config["retention.ms"] = millis
	case t.Retention > 0:
		want.Config["min.compaction.lag.ms"], want.Config["delete.retention.ms"] = millis, millis
	}
	return want
}

// encoder registers the stream's schema, after the registry has checked that it is compatible, and compiles its plan.
func (c *Connection) encoder(ctx context.Context, s *stream) (*codec.Encoder, error) {
	shape := codec.WithShape(c.options.Shape)
	if c.options.Registry == nil || s.spec.Schema == "json" {
		return codec.NewJSON(shape), nil
	}
	text, err := s.spec.Avro(c.options.Schema)
	if err != nil {
		return nil, err
	}
	full, err := codec.Schema(text, c.options.Shape)
	if err != nil {
		return nil, err
	}
	id, err := c.options.Registry.Register(ctx, codec.Subject(s.topic.Name), full)
	if err != nil {
		return nil, err
	}
	return codec.NewAvro(text, id, shape)
}

// haltRequest stops what r reads: its streams have one cursor.
func (c *Connection) haltRequest(r *source.Request, err error) {
	c.haltStream(c.streamOf(r), err)
}

// haltedBy is why the streams of r are halted, all of them (haltStream); nil where they are not.
func (c *Connection) haltedBy(r *source.Request) error { return c.streamOf(r).halted }

// streamOf is the stream of r, or the first of several.
func (c *Connection) streamOf(r *source.Request) *stream { return c.streams[r.Streams[0].Index] }

// haltStream stops a stream, and all that its request reads, until the connection is started again.
func (c *Connection) haltStream(s *stream, err error) {
	if s.halted == nil {
		c.log.Error("stream halted", "stream", s.spec.Name, "error", err)
	}
	for _, other := range c.streams {
		if other.request == s.request {
			other.halted = err
		}
	}
	for _, p := range c.partitions {
		if p.request == s.request {
			p.halted = err
			p.stop(&c.schedule)
		}
	}
}

func (c *Connection) addPartition(r *source.Request, spec source.Partition) *partition {
	p := &partition{request: r, spec: spec, label: r.Name, space: &space{}}
	p.poll, p.list = entry{partition: p, slot: -1}, entry{partition: p, listing: true, slot: -1}
	if i := slices.IndexFunc(c.partitions, func(o *partition) bool { return o.request == r }); i >= 0 && r.SharesKeys() {
		p.space = c.partitions[i].space // P1
	}
	if spec.Name != cdc.NoPartition {
		p.label += "/" + spec.Name
	}
	p.key = cursorKey(c.name, r.Name, spec.Name)
	c.partitions = append(c.partitions, p)
	c.byName[r.Name+"/"+spec.Name] = p
	return p
}

// strangers remembers owners that were not us (K10).
type strangers struct {
	met   []time.Time // lately
	alarm string
}

// The alarm for another deployment goes off when so many foreign owners stood before us within this time (K10); a shard that
// moves, or a restart with another configuration, is one.
const (
	strangeTurns  = 3
	strangeWithin = 10 * time.Minute
)

// witness looks at the owner before us (K10). A foreign instance once is a shard that moved; again and again, while the group
// gives the shard to us, it is another deployment of the same name; an alternating configuration says the same.
func (c *Connection) witness(session *kafka.Session) {
	s, now := &c.strangers, time.Now()
	s.met = slices.DeleteFunc(s.met, func(t time.Time) bool { return now.Sub(t) > strangeWithin })
	if len(s.met) == 0 {
		s.alarm = ""
	}
	before, ok := session.Previous()
	if !ok || before.Instance == session.Owner().Instance && before.Config == c.options.Config {
		return
	}
	if s.met = append(s.met, now); len(s.met) < strangeTurns {
		return
	}
	s.alarm = fmt.Sprintf("another deployment uses the name %q: instance %s (configuration %s) and we (%s) fence each other. "+
		"Give one of them another DEPLOYMENT, or stop it", c.kafka.Name, before.Instance, before.Config, c.options.Config)
	c.log.Error(s.alarm)
	if c.kafka.Alarm != nil {
		c.kafka.Alarm(c.name, s.alarm)
	}
}
