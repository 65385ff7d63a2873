//go:build synctests

package supervisor

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

var (
	tokenSeeds = flag.Int("tokens.seeds", 2, "kill the process so often at each step of a refresh, with grace and without")
	tokenSeed  = flag.Int("tokens.seed", 0, "run this seed alone")
)

// step is a moment of a refresh at which the process dies (K19).
type step struct {
	name string
	ways []way // each seed takes the next
	lost bool  // the server has given the new token out, and nobody has it: the grant needs the server's grace
}

// way is how the process dies at a request of a refresh.
type way struct{ at, do string }

// The requests of a refresh, in their order.
const (
	intentWrite  = "the intent's Produce"
	intentCommit = "the intent's EndTxn"
	tokenCall    = "the call"
	recordWrite  = "the record's Produce"
	recordCommit = "the record's EndTxn"
	firstUse     = "the first use"
)

var steps = []step{
	{"before the intent", []way{{intentWrite, crashBefore}, {intentCommit, crashBefore}, {intentWrite, crashAfter}}, false},
	{"after the intent, before the call", []way{{intentCommit, crashAfter}, {tokenCall, crashBefore}}, false},
	{"during the call, the request is lost", []way{{tokenCall, swallow}}, false},
	{"during the call, the answer is lost", []way{{tokenCall, crashAfter}}, true},
	{"after the call, before the record commits", []way{{recordWrite, crashBefore}, {recordCommit, crashBefore}, {recordWrite, crashAfter}}, true},
	{"after the record", []way{{recordCommit, crashAfter}, {firstUse, crashBefore}, {firstUse, crashAfter}}, false},
}

// outcome counts the runs of a step.
type outcome struct{ runs, survived, mended, failed int }

// TestTokens kills the process at each step of a refresh of one connection's grant, beside another connection. Before the call and
// after the record the grant survives. In between it survives where the server grants grace; where it does not, that connection
// alone halts, another grant in its place mends it, and nothing is lost of either (K19, 9).
func TestTokens(t *testing.T) {
	began, cpu := time.Now(), cpuTime()
	var table strings.Builder
	fmt.Fprintf(&table, "%-44s %-6s %5s %9s %18s %7s", "killed", "grace", "runs", "survived", "halted and mended", "failed")
	for _, st := range steps {
		for _, grace := range []bool{true, false} {
			var o outcome
			for seed := range *tokenSeeds {
				if *tokenSeed != 0 && seed != *tokenSeed {
					continue
				}
				t.Run(fmt.Sprintf("%s, grace %t, seed %d", st.name, grace, seed), func(t *testing.T) { o.add(refreshed(t, st, grace, seed)) })
			}
			fmt.Fprintf(&table, "\n%-44s %-6t %5d %9d %18d %7d", st.name, grace, o.runs, o.survived, o.mended, o.failed)
		}
	}
	t.Logf("\n%s\nreal %v, cpu %v", &table, time.Since(began).Round(time.Second), (cpuTime() - cpu).Round(time.Second))
}

func (o *outcome) add(halted bool, found []string) {
	switch o.runs++; {
	case len(found) > 0:
		o.failed++
	case halted:
		o.mended++
	default:
		o.survived++
	}
}

// refreshed kills the process once and returns whether its grant was lost, and what is wrong.
func refreshed(t *testing.T, st step, grace bool, seed int) (halted bool, found []string) {
	var k *keeper
	synctest.Test(t, func(t *testing.T) {
		k = keep(t, st.ways[seed%len(st.ways)], grace, seed)
		k.play(st.lost && !grace)
		k.close()
	})
	for _, s := range k.result.Streams {
		for _, f := range s.judge(k.result.Owners[s.Connection]) {
			found = append(found, s.Connection+"/"+s.Name+": "+f)
		}
	}
	found = append(append(found, k.result.Notes...), k.result.Letters...)
	if halted = len(k.result.Halts) > 0; halted != (st.lost && !grace) {
		found = append(found, fmt.Sprintf("%s: halts: %q", st.ways[seed%len(st.ways)], k.result.Halts))
	}
	for _, f := range found {
		t.Error(f)
	}
	if len(found) > 0 {
		log := k.log.String()
		t.Logf("fired %q\n%s", k.plan.fired, log[max(0, len(log)-6000):])
	}
	return halted, found
}

// keeper is a world in a bubble: a broker, two teams, and one process with a connection to each, of which the first is to be hit.
type keeper struct {
	*world
	seed   int
	teams  []*simulator.SalesLoft
	result *history
	life   *tokenLife
}

// tokenLife is a process between a start and its end.
type tokenLife struct {
	link  *link
	fleet []*capture.Connection
	stop  context.CancelFunc
	ended sync.WaitGroup
}

var tokenTeams = []string{"crm", "ops"}

func keep(t testing.TB, w way, grace bool, seed int) *keeper {
	k := &keeper{world: newWorld(t, 1, nil), seed: seed, result: &history{}}
	k.plan.aim = aimed(w, 1+seed/3%3)
	for i := range tokenTeams {
		team := simulator.New(simulator.Options{
			Seed: int64(seed*10 + i), People: 30, ChangesPerSecond: 0.3, Creates: 0.1, CountsOnly: 0.1, Reverts: 0.1, Ties: 0.05, RateBudget: -1,
			Tokens: true, TokenGrace: grace, TokenLife: []time.Duration{time.Minute, time.Hour}[i], Latency: 50 * time.Millisecond,
		})
		k.teams = append(k.teams, team)
		k.serve(team.Handler(), 8081+i)
	}
	k.topics()
	return k
}

// aimed returns what strikes the n-th refresh of crm. It knows the requests of a refresh by what stands in them: the key of the
// token, the transactional id, the host.
func aimed(w way, n int) func(string, []byte) *wireFault {
	tokens, last, done := 0, "", false
	return func(api string, request []byte) *wireFault {
		at := ""
		switch {
		case api == "Produce" && bytes.Contains(request, []byte("token/crm")):
			tokens++
			at = map[bool]string{true: intentWrite, false: recordWrite}[tokens%2 == 1]
		case api == "EndTxn" && bytes.Contains(request, []byte("sim.crm")) && last == intentWrite:
			at = intentCommit
		case api == "EndTxn" && bytes.Contains(request, []byte("sim.crm")) && last == recordWrite:
			at = recordCommit
		case api == "POST token" && bytes.Contains(request, []byte("127.0.0.1:8081")):
			at = tokenCall
		case api == "GET" && bytes.Contains(request, []byte("127.0.0.1:8081")) && last == recordCommit:
			at = firstUse
		}
		if at == "" {
			return nil
		}
		last = at
		if done || at != w.at || (tokens+1)/2 != n {
			return nil
		}
		done = true
		return &wireFault{Do: w.do}
	}
}

func (k *keeper) bind(team int) *source.Source {
	definition, err := source.Open("salesloft")
	if err != nil {
		k.t.Fatal(err)
	}
	url := fmt.Sprint("http://127.0.0.1:", 8081+team)
	bound, err := definition.Bind(tokenTeams[team], map[string]any{
		"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
		"base_url": url + "/v2", "token_url": url + "/oauth/token",
	}, source.Overrides{Streams: map[string]source.StreamOverride{"people": {Interval: 10 * time.Second}}})
	if err != nil {
		k.t.Fatal(err)
	}
	return bound
}

var tokenSeal = [32]byte{7}

// start begins a life of the process.
func (k *keeper) start() {
	l := &tokenLife{link: newLink(k.network, k.plan, 0)}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for i := range tokenTeams {
		o := k.kafka(l.link.dial)
		o.Log = k.log.logger(tokenTeams[i])
		c, err := capture.New(capture.Options{Source: k.bind(i), Kafka: o, SealKey: &tokenSeal, Config: "one", Log: o.Log, Fetch: fetch.Options{Dial: l.link.dial}})
		if err != nil {
			k.t.Fatal(err)
		}
		l.fleet = append(l.fleet, c)
	}
	k.life = l
	k.run(ctx, 1)
	k.more(1, 1) // its own first refresh is over: it is not what the process is killed in
	k.run(ctx, 0)
}

// run lets a connection of this life run.
func (k *keeper) run(ctx context.Context, team int) {
	l := k.life
	c := l.fleet[team]
	l.ended.Go(func() {
		if err := c.Run(ctx, nil); err != nil {
			k.result.halted(c.Name() + ": " + err.Error())
		}
	})
}

// end ends a life: in order, or where the cable is cut already, as a crash does.
func (k *keeper) end() {
	k.life.stop()
	k.life.ended.Wait()
	k.life.link.sever()
	for _, c := range k.life.fleet {
		c.Close()
	}
}

// passes are those of a connection that runs; 0 otherwise.
func (k *keeper) passes(team int) int64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st := k.life.fleet[team].Status(ctx)
	if st.Phase.Name != "running" || len(st.Partitions) == 0 {
		return 0
	}
	return st.Partitions[0].Passes
}

func (k *keeper) await(what string, is func() bool) {
	if !within(30*time.Minute, 2*time.Second, is) {
		k.result.note("waited for %s", what)
	}
}

// more waits for n passes more of a connection.
func (k *keeper) more(team int, n int64) {
	first := int64(-1)
	k.await(fmt.Sprintf("%d passes of %s", n, tokenTeams[team]), func() bool {
		now := k.passes(team)
		if first < 0 && now > 0 {
			first = now
		}
		return first >= 0 && now >= first+n
	})
}

// play lets the teams live, the process die once and be started again, and everything come to rest.
func (k *keeper) play(lost bool) {
	ctx, stop := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	for _, team := range k.teams {
		busy.Go(func() { team.Run(ctx) })
	}
	k.start()
	select {
	case <-k.life.link.trouble:
	case <-time.After(30 * time.Minute):
		k.result.note("the process was never killed")
	}
	k.life.link.sever()
	k.end()
	<-time.After(time.Duration(k.seed%5) * 7 * time.Second)
	k.start()
	k.teams[1].ExpireTokens() // the other one refreshes, too
	if lost {
		k.await("crm to halt", func() bool { return k.phase(0) == "halted" })
		k.more(1, 8) // the other goes on
		k.end()
		k.replace()
		k.start()
	}
	for team := range k.teams {
		k.more(team, 8)
	}
	for _, team := range k.teams {
		team.Freeze()
	}
	stop()
	busy.Wait()
	for team := range k.teams {
		k.more(team, 3)
	}
	k.end()
	k.collect()
}

func (k *keeper) phase(team int) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return k.life.fleet[team].Status(ctx).Phase.Name
}

// replace is what `connector tokens replace crm` does when a person has agreed anew: it owns the connection and stores the grant.
func (k *keeper) replace() {
	o := k.kafka(k.network.DialContext)
	var stored offsets.Token
	k.result.read(o, o.OffsetsTopic(), func(r kafka.Record) error {
		if string(r.Key) != "token/crm" {
			return nil
		}
		var err error
		stored, err = offsets.Decode[offsets.Token](bytes.Clone(r.Value))
		return err
	})
	if !stored.Intent {
		k.result.note("crm halted, and its token record is %+v", stored)
	}
	generation := stored.Generation + 1
	sealed, err := offsets.Grant{Refresh: cdc.NewSecret(k.teams[0].Authorize())}.Seal(tokenSeal, "crm", generation)
	if err != nil {
		k.t.Fatal(err)
	}
	value, err := offsets.Encode(offsets.Token{Generation: generation, Sealed: sealed, At: time.Now().UTC()})
	if err != nil {
		k.t.Fatal(err)
	}
	session, err := kafka.Own(context.Background(), o, kafka.Claim{Connection: "crm", Shard: o.ShardOf("crm"), Config: "one", Account: "crm"})
	if err != nil {
		k.t.Fatal(err)
	}
	defer session.Close()
	b := kafka.NewBatch()
	b.Offset(offsets.Key{Kind: offsets.KindToken, Connection: "crm"}.Append(nil), value)
	if err := session.Commit(context.Background(), b); err != nil {
		k.t.Fatal(err)
	}
}

// collect reads the topics, and what the teams had.
func (k *keeper) collect() {
	o := k.kafka(k.network.DialContext)
	h := k.result
	h.Owners = map[string][]string{}
	for team, name := range tokenTeams {
		st := k.bind(team).Streams[0]
		s := h.stream(name + "/" + st.Name)
		s.Rules = st.Rules
		for state := range k.teams[team].History(st.Name) {
			s.States = append(s.States, judge.State{Key: state.Key, At: state.At, Value: state.Value})
		}
		h.read(o, o.EventsTopic(name, st.Name), s.event)
	}
	h.read(o, o.OffsetsTopic(), h.offset)
	h.read(o, o.HashesTopic(), h.hash)
	h.read(o, o.DeadLettersTopic(), func(r kafka.Record) error {
		h.Letters = append(h.Letters, string(r.Key))
		return nil
	})
	expected := func(halt string) bool {
		return strings.Contains(halt, "invalid_grant") && strings.Contains(halt, "crm")
	}
	if strange := slices.DeleteFunc(slices.Clone(h.Halts), expected); len(strange) > 0 {
		h.note("halted for another reason than its grant, or another connection: %q", strange)
	}
}
