package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/schemas"
)

// The states of a finding.
const (
	fine    = "ok"
	warning = "warn"
	failing = "FAIL"
	skipped = "skip" // could not be looked at without doing harm, or because of what failed before
)

// finding is one line of the table, with the fix under it.
type finding struct{ state, item, detail, fix string }

// checkup looks at everything that run needs. It changes nothing anywhere: it creates no topics, registers no schemas, fences
// nobody and refreshes no token.
type checkup struct {
	p        *program
	d        *deployment
	rows     []finding
	all      []declared
	embedded bool
	brokers  int
	stored   []*holdings
	missing  []kafka.Topic
}

// check prints everything that run needs, as a table.
func check(ctx context.Context, p *program, args []string) error {
	f := p.flags("check", "[--commands]")
	commands := f.Bool("commands", false, "print only the commands that create the missing topics, for whoever has the right to")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	c := &checkup{p: p, d: &deployment{env: p.env, log: slog.New(slog.DiscardHandler)}}
	c.run(ctx, *commands)
	failed := slices.ContainsFunc(c.rows, func(r finding) bool { return r.state == failing })
	if *commands && !failed {
		for _, line := range kafka.Commands(c.d.kafka, c.brokers, c.missing) {
			fmt.Fprintln(p.out, line)
		}
		return nil
	}
	c.print(p.out)
	if failed {
		return errVerdict
	}
	return nil
}

func (c *checkup) run(ctx context.Context, topicsOnly bool) {
	if !c.environment() {
		return
	}
	c.connections()
	if !topicsOnly {
		for _, declared := range c.all {
			c.pages(ctx, declared)
		}
	}
	if c.kafka(ctx) {
		c.topics(ctx)
		c.states(ctx)
	}
	if !topicsOnly {
		c.schemas(ctx)
	}
}

func (c *checkup) add(state, item, detail, fix string) {
	c.rows = append(c.rows, finding{state, item, detail, fix})
}

// fail notes an error with its hint as the fix.
func (c *checkup) fail(item string, err error, fix string) {
	detail, hint := bare(err)
	if fix == "" {
		fix = hint
	}
	c.add(failing, item, detail, fix)
}

// bare returns an error without its hint, and the hint.
func bare(err error) (what, hint string) {
	var e *cdc.Error
	if !errors.As(err, &e) {
		return err.Error(), ""
	}
	short := *e
	short.Hint = ""
	return short.Error(), cdc.Hint(err)
}

func (c *checkup) print(w io.Writer) {
	var rows [][]string
	count := map[string]int{}
	for _, r := range c.rows {
		count[r.state]++
		rows = append(rows, []string{r.state, r.item, indented(r.detail, "      ")})
	}
	var b strings.Builder
	aligned(&b, rows)
	// The fix stands under its line; details of several lines take as many.
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	n := 0
	for _, r := range c.rows {
		for range 1 + strings.Count(r.detail, "\n") {
			fmt.Fprintln(w, lines[n])
			n++
		}
		if r.fix != "" {
			fmt.Fprintln(w, "      → "+indented(r.fix, "        "))
		}
	}
	switch {
	case count[failing] > 0:
		fmt.Fprintf(w, "\n%d of %d failed: mend what the arrows say, then check again\n", count[failing], len(c.rows))
	case count[warning] > 0:
		fmt.Fprintf(w, "\nconnector run will work; %s\n", counted(int64(count[warning]), "warning"))
	default:
		fmt.Fprintln(w, "\nconnector run has everything that it needs")
	}
}

// environment reads the settings; without them there is nothing else to look at.
func (c *checkup) environment() bool {
	s, err := loadSettings(c.p.env)
	if err != nil {
		c.fail("environment", err, "")
		return false
	}
	c.d.settings = s
	if c.embedded = len(s.Brokers) == 0; c.embedded {
		c.add(fine, "environment", fmt.Sprintf("deployment %s, values %s", s.Name, s.Format), "")
		return true
	}
	if err = c.d.connect(); err == nil {
		err = c.d.kafka.Validate()
	}
	if err != nil {
		c.fail("environment", err, "")
		return false
	}
	c.d.kafka.Deadlines.Admin = 10 * time.Second // who waits for a table should not wait for long
	c.add(fine, "environment", fmt.Sprintf("deployment %s, %d shards, values %s", s.Name, s.Shards, s.Format), "")
	return true
}

// connections reads the file and binds each connection by itself, so that one mistake does not hide the next.
func (c *checkup) connections() {
	file := c.d.settings.Connections
	data, err := os.ReadFile(file)
	if err != nil {
		c.fail("connections", err, "Write one (docs/connections.md), or name it with CONNECTIONS")
		return
	}
	parsed, err := source.ParseConnections(file, data, c.p.env)
	if err != nil {
		c.fail("connections", err, "")
		return
	}
	if len(parsed) == 0 {
		c.add(warning, "connections", file+" is empty: there is nothing to do", "")
		return
	}
	c.add(fine, "connections", fmt.Sprintf("%s: %s", file, counted(int64(len(parsed)), "connection")), "")
	for _, connection := range parsed {
		item := "definition " + connection.Name
		bound, err := bind(connection)
		if err != nil {
			c.fail(item, err, "")
			continue
		}
		c.all = append(c.all, declared{connection, bound})
		c.add(fine, item, fmt.Sprintf("source %s, %s, %s", bound.Name, counted(int64(len(bound.Streams)), "stream"), authOf(bound)), "")
		for _, w := range bound.Warnings {
			c.add(warning, item, w, "")
		}
		if !bound.Auth.Rotates() {
			continue
		}
		if c.d.settings.sealKey() == nil {
			c.add(failing, "secret key "+connection.Name, "its grant rotates, and SECRET_KEY to seal the tokens with is not set",
				"Set SECRET_KEY to the output of `openssl rand -base64 32`, the same for every instance, and keep it")
		} else {
			c.add(fine, "secret key "+connection.Name, "SECRET_KEY seals its tokens", "")
		}
	}
	if err := oneOwnerPerGrant(file, c.all); err != nil {
		c.fail("grants", err, "")
	}
	c.files()
}

// files looks at the folder of files, and for whom there is none.
func (c *checkup) files() {
	if err := c.d.open(); err != nil {
		c.fail("files", err, "")
		return
	}
	if c.d.folder != nil {
		c.add(fine, "files", c.d.settings.FilesDir+" can be written", "")
	}
	for _, d := range c.all {
		if err := capture.CheckFolder(d.bound, c.d.folder); err != nil {
			c.fail("files "+d.Name, err, "")
		}
	}
}

// patience bounds one page.
const patience = 45 * time.Second

// pages asks for one page of every stream.
func (c *checkup) pages(ctx context.Context, d declared) {
	if d.bound.Auth.Rotates() {
		c.add(skipped, "pages "+d.Name, "nothing is asked: the refresh token is good for one use, which is run's", "")
		return
	}
	credential, err := credentialOf(d.bound, cdc.Secret{})
	if err != nil {
		c.fail("pages "+d.Name, err, "")
		return
	}
	client, err := fetch.New(d.client(newBudget(d.bound.Rate), credential))
	if err != nil {
		c.fail("pages "+d.Name, err, "")
		return
	}
	defer client.Close()
	for _, r := range d.bound.Requests {
		item := "page " + d.Name + "/" + r.Name
		state, detail, err := onePage(ctx, client, r)
		if until, why := client.Budget().Paused(); err != nil && until.After(time.Now()) { // P22: run waits for it
			c.add(warning, item, fmt.Sprintf("paused until %s: %s", until.Format(time.RFC3339), why), "")
			return
		}
		if err == nil {
			c.add(state, item, client.Hide(detail), "") // a key may quote one
			continue
		}
		c.fail(item, err, "")
		if _, scope := cdc.Verdict(err); scope >= cdc.Connection {
			return // 401: the other streams would hear the same
		}
	}
}

// onePage reads the first page of a request and says what is on it.
func onePage(ctx context.Context, client *fetch.Client, r *source.Request) (state, detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	parts := r.Partitions()
	if len(parts) == 0 { // P21
		return fine, "its partitions are the records of stream " + r.Lineage().Parent.Name, nil
	}
	position, err := r.Begin(parts[0], cdc.Checkpoint{}, time.Now().UTC())
	if err != nil {
		return "", "", err
	}
	var page source.Page
	for rows := 0; ; position = page.Next {
		request, err := r.Compose(&position)
		if err != nil {
			return "", "", err
		}
		answer, err := client.Do(ctx, request)
		if err != nil {
			return "", "", err
		}
		defer answer.Release()
		if err := r.Split(&position, answer, func(int) record.Known { return nil }, &page); err != nil {
			return "", "", err
		}
		if len(page.Records) > 0 || !page.Next.Incomplete() {
			detail = fmt.Sprintf("status %d, %s", answer.Status, counted(int64(max(rows, len(page.Records))), "record"))
			break
		}
		rows = page.Rows // parts: the first of them is asked for whole (hydrate)
	}
	var bad error
	for _, rec := range page.Records {
		if rec.Err != nil {
			bad = rec.Err
		}
	}
	switch {
	case bad != nil && page.Parked == len(page.Records):
		return "", "", fmt.Errorf("%s, and none of them can be published: %w", detail, bad)
	case bad != nil: // P19
		what, _ := bare(bad)
		return warning, fmt.Sprintf("%s, %d of them for the dead-letter topic: %s", detail, page.Parked, what), nil
	case len(page.Records) > 0:
		detail += ", the first has key " + string(page.Records[0].Key)
	}
	return fine, detail, nil
}

// kafka looks at the brokers, and at what stands in the offsets topic. It reports whether there is a cluster to look at.
func (c *checkup) kafka(ctx context.Context) bool {
	if c.embedded {
		c.add(warning, "kafka", "KAFKA_BROKERS is not set: run starts an embedded broker, in memory, which forgets everything when it ends",
			"Set KAFKA_BROKERS for more than a first look")
		return false
	}
	cluster, err := kafka.Inspect(ctx, c.d.kafka)
	if err != nil {
		c.fail("kafka", err, "")
		return false
	}
	c.brokers = cluster.Brokers
	c.add(fine, "kafka", fmt.Sprintf("%s: %s, version %s, cluster %s", strings.Join(c.d.settings.Brokers, ","),
		counted(int64(cluster.Brokers), "broker"), cluster.Version, cluster.ID), "")
	for _, w := range cluster.Warnings {
		c.add(warning, "kafka", w, "")
	}
	if c.stored, err = readHoldings(ctx, c.d.kafka); err != nil {
		c.fail("state", err, "")
	}
	return true
}

// of returns what is stored of a connection in its shard.
func (d *deployment) of(stored []*holdings, c declared) *holdings {
	shard := d.kafka.ShardOf(c.Account)
	for _, h := range stored {
		if h.connection == c.Name && h.shard == shard {
			return h
		}
	}
	return &holdings{}
}

// topics looks at every topic that run will use (K1, K2).
func (c *checkup) topics(ctx context.Context) {
	wanted := c.d.kafka.SystemTopics()
	for _, d := range c.all {
		for _, st := range d.bound.Streams {
			t := capture.EventsTopic(c.d.kafka, d.Name, st)
			recorded := c.d.of(c.stored, d).streams[st.Name]
			t.Recorded, t.Count = recorded.TopicID, recorded.Partitions
			wanted = append(wanted, t)
		}
	}
	seen, err := lookAt(ctx, c.d.kafka, wanted)
	if err != nil {
		c.fail("topics", err, "")
		return
	}
	var absent, blocked []kafka.Topic
	for _, t := range seen {
		item := "topic " + t.Name
		switch {
		case t.missing:
			absent = append(absent, t.Topic)
			c.add(fine, item, fmt.Sprintf("will be created with %s", counted(int64(max(1, t.Partitions)), "partition")), "")
		case t.err != nil && t.info.Name == "": // nothing was seen of it
			if blocked = append(blocked, t.Topic); t.Recorded == "" {
				absent = append(absent, t.Topic)
			}
			c.add(failing, item, t.err.Error(), c.unseen(t))
		case t.err != nil:
			c.add(failing, item, t.err.Error(), c.mend(t))
		default:
			c.add(fine, item, fmt.Sprintf("%s, cleanup.policy %s", counted(int64(t.info.Partitions), "partition"), orDash(t.info.Cleanup)), "")
		}
		for _, w := range t.info.Warnings {
			c.add(warning, item, w, "")
		}
	}
	c.missing = absent
	if len(absent) > 0 && len(blocked) == 0 {
		c.add(fine, "topics", fmt.Sprintf("%d are missing and run creates them; where it has no right to, `connector check --commands` prints the commands", len(absent)), "")
	}
}

// unseen is the fix for a topic that we may not see, or that is gone.
func (c *checkup) unseen(t looked) string {
	if t.Recorded != "" {
		return "Create it again and start the stream over: connector offsets reset. What was published into it is gone"
	}
	return "Grant the connector's user Describe, Read, Write (and Create) on its topics; or, if it is missing, have somebody with the right run\n" +
		strings.Join(kafka.Commands(c.d.kafka, c.brokers, []kafka.Topic{t.Topic}), "\n")
}

// mend is the fix for a topic that is not as it should be.
func (c *checkup) mend(t looked) string {
	if strings.Contains(t.err.Error(), "cleanup.policy") {
		policy := "compact"
		if p := t.Config["cleanup.policy"]; p != "" {
			policy = p
		} else if t.Role == kafka.DeadLetters {
			policy = "delete"
		}
		return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config cleanup.policy=%s",
			strings.Join(c.d.settings.Brokers, ","), t.Name, policy)
	}
	if t.Role != kafka.Events {
		return fmt.Sprintf("Set SHARDS to the number of its partitions (%d), with which the state was written", t.info.Partitions)
	}
	return "Restore the topic as it was, or start the stream over with `connector offsets reset CONNECTION/STREAM`"
}

// states compares what is stored with the definitions of today (P23, K10).
func (c *checkup) states(ctx context.Context) {
	for _, d := range c.all {
		mine := c.d.of(c.stored, d)
		c.grant(d, mine)
		if mine.connection == "" {
			for _, h := range c.stored {
				if h.connection == d.Name { // P23: Place
					c.add(failing, "state "+d.Name, fmt.Sprintf("it stands in shard %d, and account %q belongs to shard %d", h.shard, d.Account, c.d.kafka.ShardOf(d.Account)),
						"Put the account back: it decides where the state stands")
				}
			}
		}
		for _, r := range d.bound.Requests {
			for _, st := range r.Streams {
				c.state(ctx, d, r, st, mine)
			}
		}
	}
}

// grant looks at what there is of a grant that rotates (K19).
func (c *checkup) grant(d declared, h *holdings) {
	item := "grant " + d.Name
	switch {
	case !d.bound.Auth.Rotates():
	case h.token != nil:
		if _, err := c.d.unseal(h); err != nil && c.d.settings.sealKey() != nil { // without a key its own line says so
			c.fail(item, err, "")
			return
		}
		c.add(fine, item, fmt.Sprintf("generation %d is stored", h.token.Generation), "")
	case d.bound.Auth.RefreshToken.IsZero():
		fix := "Give it a refresh token: `connector tokens replace " + d.Name + "`"
		if d.bound.Auth.AuthorizeURL != "" {
			fix = "Get one: `connector login " + d.Name + "`"
		}
		c.add(failing, item, "no refresh token is configured and none is stored", fix)
	}
}

func (c *checkup) state(ctx context.Context, d declared, r *source.Request, st *source.Stream, h *holdings) {
	item := "state " + d.Name + "/" + st.Name
	name := d.Name + "/" + st.Name
	meta, known := h.streams[st.Name]
	topic := capture.EventsTopic(c.d.kafka, d.Name, st)
	if !known || meta.Topic == "" {
		c.fresh(ctx, item, topic)
		return
	}
	switch {
	case meta.Key != st.KeyPrint: // P23: Key
		c.add(failing, item, "the definition makes another key than the one that its records were published under",
			"Put primary_key and key_scope back, or run `connector offsets reset "+name+" --tombstone-old`")
		return
	case meta.Topic != topic.Name:
		c.add(failing, item, fmt.Sprintf("its events stand in topic %s, the configuration names %s", meta.Topic, topic.Name),
			"Put the topic's name back, or start the stream over: `connector offsets reset "+name+"`")
		return
	}
	for partition, cp := range h.cursors[r.Name] {
		switch {
		case cp.Request != "" && cp.Request != r.RequestPrint: // P23: Request
			c.add(warning, item, "partition "+partition+": the request changed, so its cursor is void: a full pass begins, which publishes only what differs", "")
		case cp.Reconciled != nil && cp.Reconciled.Listing != r.Listing(): // P23: Listing
			c.add(warning, item, "partition "+partition+": the listing changed: deletions wait for two complete passes", "")
		}
	}
	if !slices.ContainsFunc(meta.Rules, func(s offsets.RuleSet) bool {
		old := record.Rules{Algorithm: s.Algorithm, Value: s.Value, Include: s.Include, Exclude: s.Exclude, Fields: s.Fields}
		return old.Fingerprint() == st.Rules.Fingerprint()
	}) { // P23: Content
		c.add(warning, item, "the content rules (value, fields, hash) changed: records are hashed anew as they are seen, and nothing is published for that alone", "")
	}
	c.add(fine, item, fmt.Sprintf("goes on with %s, %d parked", counted(meta.Count, "key"), h.parked[st.Name]), "")
}

// fresh judges a stream that Kafka knows nothing of (K10).
func (c *checkup) fresh(ctx context.Context, item string, topic kafka.Topic) {
	seen, err := lookAt(ctx, c.d.kafka, []kafka.Topic{topic})
	if err != nil || seen[0].err != nil {
		return // the topic's own line says it
	}
	empty := seen[0].missing
	if !empty {
		if empty, err = kafka.IsEmpty(ctx, c.d.kafka, topic.Name); err != nil {
			c.fail(item, err, "")
			return
		}
	}
	if empty {
		c.add(fine, item, "begins at the start", "")
		return
	}
	c.add(failing, item, fmt.Sprintf("topic %s holds events, and there is no checkpoint for them", topic.Name),
		"Start once with `connector run --adopt` to go on from what it holds, or with `--rebaseline` to publish everything anew")
}

// schemas looks at the registry, and asks it about the schema of every stream without registering one.
func (c *checkup) schemas(ctx context.Context) {
	if c.d.settings.Format == "json" {
		return
	}
	probe := newRegistryProbe(c.d.settings)
	if !c.embedded {
		if err := probe.reach(ctx); err != nil {
			c.fail("registry", err, "Is SCHEMA_REGISTRY_URL right (Apicurio's ends in /apis/ccompat/v7), and the registry up? Or set VALUE_FORMAT=json")
			return
		}
		c.add(fine, "registry", probe.shown(), "")
	}
	for _, d := range c.all {
		for _, st := range d.bound.Streams {
			if st.Schema == "json" {
				continue
			}
			detail, err := c.schema(ctx, probe, d, st)
			if err != nil {
				c.fail("schema "+d.Name+"/"+st.Name, err, "")
				continue
			}
			c.add(fine, "schema "+d.Name+"/"+st.Name, st.Schema+": "+detail, "")
		}
	}
}

func (c *checkup) schema(ctx context.Context, probe *registryProbe, d declared, st *source.Stream) (string, error) {
	if _, err := plainEncoder(st); err != nil {
		return "", err
	}
	if c.embedded {
		return "can be used", nil
	}
	text, err := st.Avro(schemas.Get)
	if err != nil {
		return "", err
	}
	full, err := codec.Schema(text, c.d.shape)
	if err != nil {
		return "", err
	}
	return probe.ask(ctx, codec.Subject(capture.EventsTopic(c.d.kafka, d.Name, st).Name), full)
}
