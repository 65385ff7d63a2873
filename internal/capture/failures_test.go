package capture_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/capture"
	"tidemark/internal/codec"
	"tidemark/internal/judge"
	"tidemark/internal/simulator"
)

// upset is one failure of Shown 6: how it comes about after a first pass over a healthy world, what is said, and how it is
// mended.
type upset struct {
	fault simulator.Fault
	// stops is "connection", "stream", or "pass", which goes on by itself once it is mended.
	// "silence" is noticed although nothing changes.
	stops string
	says  []string // what, where, what to do
}

func upsets() map[string]upset {
	return map[string]upset{
		"401":  {simulator.Fault{Status: 401, Times: -1}, "connection", []string{"/v2/people", "401", "Invalid Bearer token", "credential", "restart"}},
		"403":  {simulator.Fault{Status: 403, Times: -1}, "stream", []string{"/v2/people", "403", "required scope", "lacks a right", "restart"}},
		"422":  {simulator.Fault{Status: 422, Times: -1}, "stream", []string{"/v2/people", "422", "iso8601", "source definition"}},
		"500s": {simulator.Fault{Status: 500, Times: -1}, "pass", []string{"/v2/people", "500", "Internal Server Error"}},
		"a login page with 200": {simulator.Fault{Kind: simulator.HTML, Times: -1}, "stream",
			[]string{"/v2/people", "200", "web page", "login page", "base_url or the credential"}},
		"truncated JSON":    {simulator.Fault{Kind: simulator.Truncated, Times: -1}, "pass", []string{"c/people", "cut off after"}},
		"a cut connection":  {simulator.Fault{Kind: simulator.Cut, Times: -1}, "pass", []string{"/v2/people"}},
		"an ignored filter": {simulator.Fault{Kind: simulator.IgnoreFilter, Times: -1}, "stream", []string{"c/people", "asked for records from", "filter was ignored"}},
		"an ignored order":  {simulator.Fault{Kind: simulator.IgnoreSort, Times: -1}, "stream", []string{"c/people", "not ascending", "sort parameters"}},
		"an empty lie (P11)": {simulator.Fault{Kind: simulator.Empty, Times: -1}, "silence",
			[]string{"c/people", "although there is one", "filter does not find"}},
	}
}

// TestShown6Upstream: whatever upstream answers, the pass or the stream stops with what, where and what to do, the cursor
// stays, and after mending the topic equals the truth.
func TestShown6Upstream(t *testing.T) {
	for name, u := range upsets() {
		t.Run(name, func(t *testing.T) {
			b := lay(t)
			api := b.team(simulator.Options{Seed: 6, People: 60, PageCap: 25})
			s := settings{definition: people, config: api.config()}
			c := b.start(s)
			c.passes(1)
			before := b.checkpoint("people")
			api.Fail(u.fault)
			if u.stops != "silence" {
				api.Change("people", 40)
			}
			c.stopped(u)
			if after := b.checkpoint("people"); after.Cursor != before.Cursor {
				t.Errorf("the cursor moved from %s to %s", before.Cursor, after.Cursor)
			}
			if n := len(b.read("test.dead-letters")); n != 0 {
				t.Errorf("%d records were parked", n)
			}
			api.Heal()
			if u.stops == "silence" {
				api.Change("people", 40)
			}
			if u.stops != "pass" {
				c.stop()
				<-c.done
				c = b.start(s)
			}
			c.await("the changes", func(s capture.Status) bool {
				return len(s.Streams) > 0 && counts(s).Updated == 40 && s.Partitions[0].LastError == ""
			})
			c.passes(1)
			c.end()
			b.clean(api)
			b.audit(b.sourceOf(s), false)
		})
	}
}

// stopped waits until the connection, the stream or the pass has stopped, and checks what it says.
func (c *connector) stopped(u upset) {
	c.Helper()
	said := ""
	c.until("a stop", func() bool {
		st := c.glance()
		for _, s := range st.Streams {
			if s.Halted != "" && (u.stops == "stream" || u.stops == "silence") {
				said = s.Halted
			}
		}
		for _, p := range st.Partitions {
			if p.LastError != "" && u.stops == "pass" {
				said = p.LastError
			}
		}
		if st.Phase.Name == "halted" && u.stops == "connection" {
			said = st.Phase.Error
		}
		return said != ""
	}, func() any { return c.glance() })
	c.says(said, u.says...)
	if u.stops != "connection" { // that is logged by who runs it
		c.says(c.log.String(), u.says[0])
	}
}

// TestP11WitnessSurvivesARestart: whoever owns the connection next knows which record an empty answer should have shown, so its
// first pass catches the lie as a pass of this process would have.
func TestP11WitnessSurvivesARestart(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 11, People: 60, PageCap: 25})
	s := settings{definition: people, config: api.config()}
	c := b.start(s)
	c.passes(1)
	c.stop()
	<-c.done
	before := b.checkpoint("people")
	api.Fail(simulator.Fault{Kind: simulator.Empty, Times: -1})
	c = b.start(s)
	st := c.await("the first pass", func(s capture.Status) bool {
		return len(s.Streams) > 0 && (s.Streams[0].Halted != "" || s.Partitions[0].Passes > before.Passes)
	})
	c.says(st.Streams[0].Halted, "c/people", "although there is one", "filter does not find")
	if after := b.checkpoint("people"); after.Cursor != before.Cursor || after.Passes != before.Passes {
		t.Errorf("%+v became %+v", before, after)
	}
	c.stop()
	<-c.done
}

// TestShown6BadRecords: a record without a key, with a type that the schema does not allow, and one that is too large for the
// topic are parked with their reason; the cursor passes them; mended, they are published.
func TestShown6BadRecords(t *testing.T) {
	for how, says := range map[simulator.Spoil][]string{
		simulator.NoKey:     {"c/people", "no usable key", "id"},
		simulator.WrongType: {"first_name", "wanted string, got object", "schema"},
		simulator.Huge:      {"test.c.people", "max.message.bytes", "Raise"},
	} {
		t.Run(string(how), func(t *testing.T) {
			b := lay(t)
			api := b.team(simulator.Options{Seed: 66, People: 60})
			s := avro(b, settings{definition: people, config: api.config()})
			c := b.start(s)
			c.passes(1)
			api.Spoil("people", 1, how)
			api.Change("people", 5)
			c.await("one parked, five published, the cursor behind them", func(s capture.Status) bool {
				return s.Streams[0].Parked == 1 && counts(s).Updated >= 4 && s.Partitions[0].Cursor > "2" && s.Streams[0].Halted == ""
			})
			letters := b.read("test.dead-letters")
			if len(letters) != 1 {
				t.Fatalf("%d dead letters", len(letters))
			}
			b.says(header(letters[0], "reason"), says...)
			b.says(c.log.String(), "record parked", "test.dead-letters")
			api.Spoil("people", 1, simulator.Sound)
			api.Change("people", 1)
			c.passes(2)
			c.end()
			b.cleanAvro(api)
		})
	}
}

// cleanAvro judges a topic of Avro against the truth.
func (b *bed) cleanAvro(api *team) {
	b.Helper()
	registry, err := codec.NewRegistry(b.cluster.RegistryURL(), codec.RegistryOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer registry.Close()
	decoders := registry.Decoders()
	events := b.events("people")
	for i := range events {
		if events[i].Value != nil {
			if events[i].Value, err = decoders.Append(b.Context(), nil, events[i].Value); err != nil {
				b.Fatal(err)
			}
		}
	}
	v := b.try(api, events, judge.Options{AtRest: true, Ops: true, NullsAreAbsent: true})
	if !v.Clean() {
		b.Errorf("%v\n%s", v, strings.Join(v.Examples, "\n"))
	}
}

// TestShown6ForeignNext: a next URL that leads to another origin halts the stream; nothing is sent there.
func TestShown6ForeignNext(t *testing.T) {
	b := lay(t)
	var mu sync.Mutex
	strangers := 0
	foreign := b.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		strangers++
		answer(w, http.StatusOK, map[string]any{"data": []any{}})
	}))
	shop, config := b.shelf(row(1))
	lies := true
	shop.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		body := map[string]any{"data": []any{row(1)}, "next": foreign + "/things?page=2"}
		if !lies {
			body["next"] = fmt.Sprintf("http://%s/things?page=2", r.Host)
		}
		if r.URL.Query().Get("page") == "2" {
			body = map[string]any{"data": []any{row(2)}, "next": nil}
		}
		answer(w, http.StatusOK, body)
		return true
	})
	s := settings{definition: things + "    paginator: {type: link, next: next}\n", config: config}
	c := b.start(s)
	c.halted("foreign URL", strings.TrimPrefix(foreign, "http://"))
	c.end()
	mu.Lock()
	defer mu.Unlock()
	if b.checkpoint("things").Passes != 0 || strangers != 0 {
		t.Errorf("the pass counts as ended, or %d requests went elsewhere", strangers)
	}
	shop.mu.Lock()
	lies = false
	shop.mu.Unlock()
	c = b.start(s)
	c.passes(1)
	c.end()
	if d := cmp.Diff([]string{`1 r {"id":1}`, `2 r {"id":2}`}, sorted(b.lines("things"))); d != "" {
		t.Error(d)
	}
	b.audit(b.sourceOf(s), false)
}

// TestShown6RegistryDown: without the registry nothing is owned and nothing read; with it the connection goes on by itself.
func TestShown6RegistryDown(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 67, People: 10})
	var mu sync.Mutex
	down := true
	proxy := b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		b.cluster.Registry().ServeHTTP(w, r)
	}))
	registry, err := codec.NewRegistry(proxy, codec.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	s := avro(b, settings{definition: people, config: api.config()})
	s.change = with(s.change, func(o *capture.Options) { o.Registry = registry })
	c := b.start(s)
	st := c.await("trouble", func(s capture.Status) bool { return s.Phase.Name == "owning again" })
	b.says(st.Phase.Error+st.Phase.Hint, "test.c.people-value", strings.TrimPrefix(proxy, "http://"))
	if n := api.Stats().Requests; n != 0 {
		t.Errorf("%d requests upstream", n)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	c.passes(1)
	c.end()
	b.cleanAvro(api)
}

// TestShown6RegistryRefuses: a schema that is not compatible with the registered one halts the stream with the registry's
// reasons, before the first event.
func TestShown6RegistryRefuses(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 68, People: 10})
	subject := b.cluster.RegistryURL() + "/subjects/test.c.people-value"
	post := func(method, url, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %v %v", method, url, resp, err)
		}
		resp.Body.Close()
	}
	post("POST", subject+"/versions", `{"schema": "{\"type\":\"record\",\"name\":\"Person\",\"namespace\":\"salesloft\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}]}"}`)
	s := avro(b, settings{definition: people, config: api.config()})
	c := b.start(s)
	c.halted("test.c.people-value", "compatib")
	c.end()
	if n := len(b.events("people")); n != 0 || b.checkpoint("people").Passes != 0 {
		t.Errorf("%d events, checkpoint %+v", n, b.checkpoint("people"))
	}
	post("DELETE", subject, "")
	c = b.start(s)
	c.passes(1)
	c.end()
	b.cleanAvro(api)
}

// TestShown6BrokerDown: at the start, and in the middle. Both are said, both go on by themselves, and nothing is lost or twice.
func TestShown6BrokerDown(t *testing.T) {
	b := lay(t)
	api := b.team(simulator.Options{Seed: 69, People: 40})
	s := settings{definition: people, config: api.config()}
	b.wire.sever(true)
	c := b.start(s)
	host, _, err := net.SplitHostPort(b.cluster.Brokers()[0])
	if err != nil {
		t.Fatal(err)
	}
	st := c.await("trouble", func(s capture.Status) bool { return s.Phase.Name == "owning again" })
	b.says(st.Phase.Error+" "+st.Phase.Hint, host, "the cable is cut", "KAFKA_BROKERS", "by itself")
	b.wire.sever(false)
	c.passes(1)
	b.wire.sever(true)
	api.Change("people", 20)
	st = c.await("trouble", func(s capture.Status) bool { return s.Phase.Name == "owning again" })
	if st.Phase.Error == "" {
		t.Error("nothing is said of the broker")
	}
	api.Change("people", 20)
	b.wire.sever(false)
	c.passes(2)
	c.end()
	b.clean(api)
	b.audit(b.sourceOf(s), false)
}

// TestShown6TopicForbidden: without the right to write into a stream's topic that stream halts, nothing of it is parked, and
// the other streams go on (K15).
func TestShown6TopicForbidden(t *testing.T) {
	b := lay(t)
	_, config := b.shelf(row(1, "v", 1))
	s := settings{definition: things + "  others:" + strings.SplitAfter(things, "  things:")[1], config: config}
	fault := b.cluster.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "test.c.things", Err: kerr.TopicAuthorizationFailed, Count: -1})
	c := b.start(s)
	c.halted("test.c.things", "TOPIC_AUTHORIZATION_FAILED", "Grant", "Write")
	c.await("the other stream", func(s capture.Status) bool {
		return len(s.Streams) > 1 && s.Streams[1].Counts.Read == 1 && s.Streams[1].Halted == ""
	})
	c.end()
	if n := len(b.read("test.dead-letters")); n != 0 || b.checkpoint("things").Passes != 0 || len(b.events("things")) != 0 {
		t.Errorf("%d parked, checkpoint %+v", n, b.checkpoint("things"))
	}
	fault.Remove()
	c = b.start(s)
	c.passes(1)
	c.end()
	for _, stream := range []string{"things", "others"} {
		if d := cmp.Diff([]string{`1 r {"id":1,"v":1}`}, b.lines(stream)); d != "" {
			t.Errorf("%s: %s", stream, d)
		}
	}
	b.audit(b.sourceOf(s), false)
}

// TestShown6WrongCleanupPolicy: a topic that would lose events is refused, and nothing is written into it (K2).
func TestShown6WrongCleanupPolicy(t *testing.T) {
	b := lay(t)
	policy := "delete"
	if _, err := b.admin().CreateTopic(t.Context(), 6, 1, map[string]*string{"cleanup.policy": &policy}, "test.c.things"); err != nil {
		t.Fatal(err)
	}
	_, config := b.shelf(row(1))
	s := settings{definition: things, config: config}
	c := b.start(s)
	c.halted("test.c.things", "cleanup.policy", `"delete"`, `"compact"`, "kafka-configs.sh")
	c.end()
	if n := len(b.events("things")); n != 0 {
		t.Errorf("%d events", n)
	}
	compact := "compact"
	if _, err := b.admin().AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &compact}}, "test.c.things"); err != nil {
		t.Fatal(err)
	}
	c = b.start(s)
	c.passes(1)
	c.end()
	if d := cmp.Diff([]string{`1 r {"id":1}`}, b.lines("things")); d != "" {
		t.Error(d)
	}
}
