package capture_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// TestK3PartitionByTheRecordedCount: an event stands where murmur2 modulo the recorded count puts it, also after an operator
// has added a partition; at the next start the changed count is refused.
func TestK3PartitionByTheRecordedCount(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf()
	for i := range 30 {
		shop.put(row(i, "v", 1))
	}
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.passes(1)
	if _, err := b.admin().UpdatePartitions(t.Context(), 9, "test.c.things"); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		shop.put(row(i, "v", 2))
	}
	c.await("every change", func(s capture.Status) bool { return counts(s).Updated == 30 })
	c.end()
	oracle := kgo.StickyKeyPartitioner(nil).ForTopic("test.c.things") // Java's
	for _, e := range b.events("things") {
		if want := oracle.Partition(&kgo.Record{Key: []byte(e.Key)}, 6); int(e.Partition) != want {
			t.Errorf("key %s stands in partition %d, want %d", e.Key, e.Partition, want)
		}
	}
	c = b.start(s)
	c.halted("test.c.things", "9 partitions", "6", "offsets reset")
	c.end()
}

// otherName is a second deployment over the same events topics, which knows nothing of the first one's state.
func (b *bed) otherName(s settings) settings {
	b.Helper()
	before := s.change
	s.change = func(o *capture.Options) {
		o.Kafka.Name, o.Kafka.Prefix = "other", "test"
		if before != nil {
			before(o)
		}
	}
	other := b.kafka
	other.Name = "other"
	b.system(other)
	return s
}

// TestK10EventsWithoutCheckpoint: a topic with events and no checkpoint is refused; --adopt goes on from what it holds,
// --rebaseline publishes it all again.
func TestK10EventsWithoutCheckpoint(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf()
	for i := range 20 {
		shop.put(row(i, "v", 1))
	}
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	shop.put(row(0, "v", 2))
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	c.end()
	s := b.otherName(settings{definition: things, config: config})
	c = b.start(s)
	c.halted("c/things", "test.c.things", "holds events", "--adopt", "--rebaseline")
	c.end()
	if n := len(b.events("things")); n != 21 {
		t.Fatalf("%d events, want the 21 that were there", n)
	}
	s.change = with(s.change, func(o *capture.Options) { o.Adopt = true })
	shop.put(row(1, "v", 2)) // changed while nobody looked
	c = b.start(s)
	st := c.await("a pass", func(s capture.Status) bool { return len(s.Partitions) > 0 && s.Partitions[0].Passes > 2 })
	if p := counts(st); p.Published() != 1 || p.Updated != 1 {
		t.Errorf("adopted, then published %+v, want the one change", p)
	}
	c.end()
	if n := len(b.events("things")); n != 22 {
		t.Errorf("%d events, want 22", n)
	}
}

func with(before, more func(*capture.Options)) func(*capture.Options) {
	return func(o *capture.Options) {
		before(o)
		more(o)
	}
}

// TestK10Rebaseline publishes everything anew where there is no checkpoint.
func TestK10Rebaseline(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1), row(2))
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	c.end()
	s := b.otherName(settings{definition: things, config: config})
	s.change = with(s.change, func(o *capture.Options) { o.Rebaseline = true })
	c = b.start(s)
	c.await("both", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Read == 2 })
	c.end()
	if d := cmp.Diff([]string{`1 r {"id":1}`, `1 r {"id":1}`, `2 r {"id":2}`, `2 r {"id":2}`}, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
}

// TestK10AdoptAvro: what the registry's schema says of a record and the record itself hash alike.
func TestK10AdoptAvro(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 10, People: 40})
	s := avro(b, settings{definition: people, config: api.config()})
	c := b.start(s)
	c.passes(1)
	c.end()
	s = b.otherName(s)
	s.change = with(s.change, func(o *capture.Options) { o.Adopt = true })
	c = b.start(s)
	st := c.await("a pass", func(s capture.Status) bool { return len(s.Partitions) > 0 && s.Partitions[0].Passes > 1 })
	c.end()
	if n := counts(st).Published(); n != 0 {
		t.Errorf("%d of 40 unchanged records were published again", n)
	}
}

// TestK10P23AccountMoved: state that stands in another shard, since the account is another one, is not begun anew beside it.
func TestK10P23AccountMoved(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1))
	c := b.start(settings{definition: things, config: config})
	c.passes(1)
	c.end()
	moved := "m"
	for kafka.Shard(moved, 2) == kafka.Shard("c", 2) {
		moved += "m"
	}
	c = b.start(settings{definition: things, config: config, change: func(o *capture.Options) { o.Account = moved }})
	select {
	case <-c.done:
		b.says(fmt.Sprint(c.err), "own connection c", fmt.Sprint("shard ", kafka.Shard("c", 2)), moved, "another name")
	case <-time.After(patience):
		t.Fatal("a moved account is not refused")
	}
	if n := len(b.events("things")); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestK10TwoDeployments: two deployments with one name and different configurations fence each other, and say so.
func TestK10TwoDeployments(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 77, People: 20})
	for _, who := range []string{"one", "two"} {
		b.start(settings{definition: people, config: api.config(), change: func(o *capture.Options) {
			o.Kafka.Instance, o.Config = who, "config-"+who
		}})
	}
	b.until("the alarm", func() bool {
		api.Change("people", 1) // somebody has something to commit, and notices the fence
		return strings.Contains(b.alarms.String(), "another deployment")
	})
	b.says(b.alarms.String(), `c: another deployment uses the name "test"`, "instance", "config-one", "config-two", "Give one of them another DEPLOYMENT")
}

// TestK15LargeRecordIsParkedBefore: a record beyond max.message.bytes goes to the dead letters without a failed transaction.
func TestK15LargeRecordIsParkedBefore(t *testing.T) {
	b := lay(t)
	limit := "5000"
	if _, err := b.admin().CreateTopic(t.Context(), 6, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact"), "max.message.bytes": &limit}, "test.c.things"); err != nil {
		t.Fatal(err)
	}
	shop, config := b.shelf(row(1, "v", "a"), row(2, "v", strings.Repeat("large", 1200)), row(3, "v", "c"))
	s := settings{definition: things, config: config}
	c := b.start(s)
	st := c.passes(2)
	if st.Reopened != 0 || st.Streams[0].Parked != 1 || counts(st).Read != 2 {
		t.Errorf("reopened %d times, %d parked, %d published", st.Reopened, st.Streams[0].Parked, counts(st).Read)
	}
	letters := b.read("test.dead-letters")
	if len(letters) != 1 || string(letters[0].Key) != "c/things/2" || len(letters[0].Value) < 6000 {
		t.Fatalf("dead letters %v", letters)
	}
	b.says(header(letters[0], "reason"), "test.c.things", "max.message.bytes", "5000", "Raise")
	shop.put(row(2, "v", "small"))
	c.await("the mended record", func(s capture.Status) bool { return s.Streams[0].Parked == 0 && counts(s).Published() == 3 })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestK15RefusedByTheBroker: a record that the broker refuses for itself costs one try, then it is parked; nothing else is
// lost or repeated.
func TestK15RefusedByTheBroker(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf()
	for i := range 50 {
		shop.put(row(i, "v", "fine"))
	}
	shop.put(row(25, "v", "poison"))
	if err := b.cluster.Kafka().CreateTopic("test.c.things", 6, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	id := b.cluster.Kafka().TopicInfo("test.c.things").TopicID
	b.cluster.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "test.c.things", Err: kerr.InvalidRecord, Count: -1, When: func(r kmsg.Request) bool {
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				if (topic.TopicID == id || topic.Topic == "test.c.things") && strings.Contains(string(p.Records), "poison") {
					return true
				}
			}
		}
		return false
	}})
	s := settings{definition: things, config: config, change: func(o *capture.Options) { o.Kafka.Compression = "none" }}
	c := b.start(s)
	st := c.await("all but one", func(s capture.Status) bool {
		return len(s.Streams) > 0 && counts(s).Read == 49 && s.Streams[0].Parked == 1
	})
	c.passes(1)
	c.end()
	if st.Reopened != 1 {
		t.Errorf("reopened %d times, want once", st.Reopened)
	}
	if n := len(b.events("things")); n != 49 {
		t.Errorf("%d events, want 49", n)
	}
	if l := b.read("test.dead-letters"); len(l) != 1 || string(l[0].Key) != "c/things/25" {
		t.Errorf("dead letters %v", l)
	}
	b.audit(b.sourceOf(s), false)
}

// salesloft are the settings of the shipped definition, with the team's single-use tokens.
func (b *bed) salesloft(t *team) settings {
	b.Helper()
	file, err := source.CatalogFile("salesloft")
	if err != nil {
		b.Fatal(err)
	}
	text := string(file)
	for _, p := range [][2]string{{"  interval: 30s", "  interval: 200ms"}, {"    schema: salesloft/person\n", ""}} {
		text = strings.Replace(text, p[0], p[1], 1)
	}
	cut := strings.Index(text, "  accounts:\n    path:")
	key := [32]byte{7}
	return settings{definition: text[:cut], config: map[string]any{
		"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
		"base_url": t.url + "/v2", "token_url": t.url + "/oauth/token",
	}, change: func(o *capture.Options) { o.SealKey = &key }}
}

// TestK19TokenInHandSurvives: the session dies on the transaction that carries a new token, before and after it has reached
// the broker. The token in hand is stored by the next session before it is used; the used-up one is never shown again.
func TestK19TokenInHandSurvives(t *testing.T) {
	for _, lose := range []string{"request", "answer"} {
		t.Run(lose, func(t *testing.T) {
			b := lay(t)
			var mu sync.Mutex
			armed, asked, early := false, 0, 0
			api := b.team(simulator.Options{Seed: 9, People: 20, Tokens: true}, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					if armed = armed || r.Method == http.MethodPost; r.Method == http.MethodGet {
						if asked++; b.wire.hits() == 0 {
							early++
						}
					}
					mu.Unlock()
					h.ServeHTTP(w, r)
				})
			})
			plan := lost(lose, 1)
			b.wire.strikes(func(k kmsg.Key, p []byte) strike {
				mu.Lock()
				defer mu.Unlock()
				if !armed {
					return strike{}
				}
				return plan(k, p)
			})
			s := b.salesloft(api)
			c := b.start(s)
			st := c.passes(1)
			mu.Lock()
			if n := api.Stats().Refreshes; n != 1 || st.Reopened != 1 || early != 0 || asked == 0 {
				t.Errorf("%d refreshes, %d reopened, %d pages of %d asked for before the token was stored; want 1, 1, 0", n, st.Reopened, early, asked)
			}
			mu.Unlock()
			api.ExpireTokens()
			api.Change("people", 1)
			c.await("the change, with the next token", func(s capture.Status) bool { return counts(s).Updated == 1 })
			c.end()
			if n := api.Stats().Refreshes; n != 2 {
				t.Errorf("%d refreshes, want 2", n)
			}
			c = b.start(s) // what is stored is good
			c.passes(1)
			c.end()
			if n := api.Stats().Refreshes; n != 2 {
				t.Errorf("%d refreshes after a restart, want 2", n)
			}
			b.audit(b.sourceOf(s), false)
			for _, secret := range []string{"simulated-refresh-token", "simulated-access-token"} {
				if strings.Contains(fmt.Sprint(b.state()), secret) || strings.Contains(c.log.String(), secret) {
					t.Errorf("%s stands in the offsets topic or the log in clear", secret)
				}
			}
		})
	}
}

// TestInvariantsOverLostCommits: EndTxn gets lost on its way there and back and is refused, Produce is refused, while the team
// keeps changing: each state once, in order, and every transaction whole ((1), (2), (4), (5), K9, K13, K14, K16).
func TestInvariantsOverLostCommits(t *testing.T) {
	for name, hit := range map[string]func(*bed){
		"lost request": func(b *bed) { b.wire.strikes(lost("request", 4, 14)) },
		"lost answer":  func(b *bed) { b.wire.strikes(lost("answer", 4, 14)) },
		"refused": func(b *bed) {
			fault := kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidTxnState, TopLevel: true, When: after(5)}
			b.cluster.Kafka().Fault(fault)
			fault.When = after(14)
			b.cluster.Kafka().Fault(fault)
		},
		"produce refused": func(b *bed) {
			b.cluster.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "test.c.people", Err: kerr.InvalidProducerEpoch, When: after(30)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			api := b.team(simulator.Options{Seed: 12, People: 150, Ties: 0.2, CountsOnly: 0.2, Reverts: 0.1, Creates: 0.05, PageCap: 20})
			hit(b)
			s := settings{definition: people, config: api.config(), change: func(o *capture.Options) { o.Records = 30 }}
			c := b.start(s)
			for range 12 {
				api.Step(15)
				c.passes(1)
			}
			st := c.passes(2)
			c.end()
			if st.Reopened == 0 {
				t.Fatal("nothing was lost: the test shows nothing")
			}
			if v := b.trial(api, judge.Options{AtRest: true, Ops: true}); !v.Clean() {
				t.Errorf("%v\n%s", v, strings.Join(v.Examples, "\n"))
			}
			b.audit(b.sourceOf(s), false)
		})
	}
}

// after is true from the n-th request on.
func after(n int) func(kmsg.Request) bool {
	seen := 0
	return func(kmsg.Request) bool { seen++; return seen >= n }
}

// TestLostCommitIsReadAgainAtOnce: what a lost transaction held is read again when the connection is owned again, and not
// after the interval, which may be a day.
func TestLostCommitIsReadAgainAtOnce(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", 1))
	s := settings{definition: strings.Replace(things, "interval: 200ms", "interval: 24h", 1), config: config}
	c := b.start(s)
	c.await("the first pass", func(s capture.Status) bool {
		return len(s.Streams) > 0 && counts(s).Read == 1 && s.Partitions[0].Passes == 1
	})
	c.end()
	shop.put(row(1, "v", 2))
	b.wire.strikes(lost("request", 2)) // the first is the owner record's
	c = b.start(s)
	c.await("the change", func(s capture.Status) bool { return len(s.Streams) > 0 && s.Reopened == 1 && counts(s).Updated == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
}

// TestDrain: SIGTERM in the middle of a pass ends it soon, with the transaction that had begun committed, and what was staged behind
// it as far as the time allows; the next start goes on where that stood and reads no more again than the lookback.
func TestDrain(t *testing.T) {
	b := lay(t)
	var pages atomic.Int64
	given := make(chan struct{}, 100)
	api := b.team(simulator.Options{Seed: 15, People: 3000}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.UserAgent() != "second" && pages.Add(1) > 15 {
				<-r.Context().Done() // its client has given it up
				given <- struct{}{}
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	hold := make(chan struct{})
	b.wire.strikes(nth(kmsg.EndTxn, strike{hold: hold}, 2)) // the first is the owner record's
	s := settings{definition: people, config: api.config(), change: func(o *capture.Options) { o.Kafka.Deadlines.EndTxn = 35 * time.Second }}
	c := b.start(s)
	b.until("a commit under way in mid-pass", func() bool { return b.wire.hits() == 1 && pages.Load() > 15 })
	began := time.Now()
	c.stop()
	close(hold)
	c.end()
	took := time.Since(began)
	if took > 30*time.Second {
		t.Errorf("it took %v to end", took)
	}
	select {
	case <-given:
	case <-time.After(patience):
		t.Fatal("reading goes on")
	}
	half := b.events("people")
	if n := len(half); n < 100 || n > 1500 || n < 1200 && took < 5*time.Second {
		t.Errorf("%d events of 1500 records that were read, after %v: what had begun was not committed, or what was staged was forgotten", n, took)
	}
	cp := b.checkpoint("people")
	if cp.Anchor == "" {
		t.Error("the pass leaves no anchor")
	}
	read := api.Stats().Records
	s.change, s.definition = second, strings.Replace(people, "interval: 200ms", "interval: 24h", 1)
	c = b.start(s)
	c.await("the rest", func(s capture.Status) bool { return len(s.Partitions) > 0 && s.Partitions[0].Passes == 1 })
	c.end()
	if again := int(api.Stats().Records-read) - (3000 - len(half)); again > 300 {
		t.Errorf("%d records were read again", again)
	}
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestK8gK9FalseTail: somebody wrote into our state. The tail does not lead to what the stream record promises, so all of the
// shard is read; that does not either, which is said, and a full pass begins. Nothing is lost.
func TestK8gK9FalseTail(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "v", 1), row(2, "v", 1))
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.passes(1)
	session, err := kafka.Own(t.Context(), b.kafka, kafka.Claim{Connection: "c", Shard: b.kafka.ShardOf("c"), Config: "one"})
	if err != nil {
		t.Fatal(err)
	}
	batch := kafka.NewBatch()
	batch.Hash(offsets.AppendHashKey(nil, "c", "things", []byte("99")), offsets.AppendHash(nil, offsets.Hash{Hash: 99, Rules: 1, Partition: "-"}))
	batch.Offset([]byte("stream/c/things"), []byte(b.state()["stream/c/things"]))
	if err := session.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	session.Close()
	shop.put(row(1, "v", 2))
	st := c.await("the change", func(s capture.Status) bool { return len(s.Streams) > 0 && counts(s).Updated == 1 })
	if n := strings.Count(c.log.String(), "the shard is read again from its start"); n != 1 || st.Reopened < 2 {
		t.Errorf("read in full %d times, reopened %d times; want one full read after the tail", n, st.Reopened)
	}
	c.await("the full pass to mend it", func(s capture.Status) bool { return len(s.Streams) > 0 && !s.Streams[0].Mismatch })
	c.end()
	b.says(c.log.String(), "the shard is read again from its start", "the hashes topic does not hold what the last transaction promised")
	if d := cmp.Diff([]string{`1 r {"id":1,"v":1}`, `1 u {"id":1,"v":2}`, `2 r {"id":2,"v":1}`}, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
}

// TestK12NewerStateIsRefused: state that a newer version wrote halts the connection with what to do.
func TestK12NewerStateIsRefused(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1))
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.passes(1)
	c.end()
	b.forge("cursor/c/things/-", []byte(`{"v":99}`))
	c = b.start(s)
	select {
	case <-c.done:
		b.says(fmt.Sprint(c.err), "99", "pgrade")
	case <-time.After(patience):
		t.Fatal("newer state is not refused")
	}
}

// TestEveryEventSaysWhoAndWhere: the headers of an event name its source, key, operation, cursor and a unique id.
func TestEveryEventSaysWhoAndWhere(t *testing.T) {
	b := lay(t)
	shop, config := b.shelf(row(1, "at", "2020-01-01T00:00:00Z"))
	c := b.start(settings{definition: feed, config: config})
	c.passes(1)
	shop.put(row(1, "at", "2020-01-02T00:00:00Z", "v", 2))
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	c.end()
	var ids []string
	for i, r := range b.read("test.c.things") {
		want := map[string]string{"ce_specversion": "1.0", "ce_subject": "1", "ce_op": []string{"r", "u"}[i],
			"ce_cursor": fmt.Sprintf("2020-01-0%dT00:00:00Z", i+1), "ce_time": fmt.Sprintf("2020-01-0%dT00:00:00Z", i+1), "content-type": "application/json"}
		for k, v := range want {
			if got := header(r, k); got != v {
				t.Errorf("event %d: %s is %q, want %q", i, k, got, v)
			}
		}
		ids = append(ids, header(r, "ce_id"))
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 2 {
		t.Errorf("ids %q", ids)
	}
}
