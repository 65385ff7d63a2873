package capture_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/codec"
	"tidemark/internal/judge"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// The shipped definitions against the simulated systems that they are for: as they are, but for how often things happen.

// system is a simulated system with a connection that reads it by the shipped definition, in Avro.
type system struct {
	*connector
	*simulator.Upstream
	source    *source.Source
	resources map[string]string // by stream
	decoders  *codec.Decoders
	dir       string // of files
}

// how says how often things happen, and what else is not as the definition has it.
type how struct {
	config  map[string]any
	streams []string      // nil: all
	every   time.Duration // of reconciliation
}

// connect runs the shipped definition against a simulated system.
func (b *bed) connect(name string, up *simulator.Upstream, resources map[string]string, h how) *system {
	b.Helper()
	text, err := source.CatalogFile(name)
	if err != nil {
		b.Fatal(err)
	}
	chosen := h.streams
	if chosen == nil {
		chosen = slices.Collect(maps.Keys(resources))
	}
	s := settings{definition: string(text), config: h.config, overrides: source.Overrides{Rate: &source.RateOverride{Budget: 1e6}}}
	definition, err := source.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	bound, err := definition.Bind("c", s.config, s.overrides)
	if err != nil {
		b.Fatal(err)
	}
	s.overrides.Streams = map[string]source.StreamOverride{}
	for _, st := range bound.Streams {
		if slices.Contains(chosen, st.Name) && st.Reconcile.Every > 0 {
			s.overrides.Streams[st.Name] = source.StreamOverride{ReconcileEvery: h.every}
		} else if slices.Contains(chosen, st.Name) {
			s.overrides.Streams[st.Name] = source.StreamOverride{}
		}
	}
	for _, r := range bound.Requests {
		if o, ok := s.overrides.Streams[r.Name]; ok || slices.ContainsFunc(r.Streams, func(st *source.Stream) bool { return slices.Contains(chosen, st.Name) }) {
			o.Interval = 300 * time.Millisecond
			s.overrides.Streams[r.Name] = o
		}
	}
	registry, err := codec.NewRegistry(b.cluster.RegistryURL(), codec.RegistryOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(registry.Close)
	dir := b.TempDir()
	s.change = func(o *capture.Options) {
		o.Registry, o.Confirm, o.Folder = registry, 400*time.Millisecond, b.folder(dir)
	}
	out := &system{Upstream: up, dir: dir, resources: resources, decoders: registry.Decoders(), source: b.sourceOf(s)}
	out.connector = b.start(s)
	out.await("the loop", func(s capture.Status) bool { return len(s.Streams) > 0 })
	return out
}

// told are the events of a stream, decoded.
func (s *system) told(stream string) []judge.Event {
	s.Helper()
	all := s.events(stream)
	for i := range all {
		if all[i].Value != nil {
			text, err := s.decoders.Append(s.Context(), nil, all[i].Value)
			if err != nil {
				s.Fatal(err)
			}
			all[i].Value = text
		}
	}
	return all
}

// verdict compares a stream with what its resource was.
func (s *system) verdict(stream string) judge.Verdict {
	s.Helper()
	i := slices.IndexFunc(s.source.Streams, func(st *source.Stream) bool { return st.Name == stream })
	var history []judge.State
	views := s.views()
	for state := range s.History(s.resources[stream]) {
		key, optional := state.Key, state.Spoil != simulator.Sound
		if s.source.Streams[i].LogFeed { // it is read when its loan is seen to change: what came just before the loan went, is not
			key, optional = state.Partition, len(views[state.Partition]) == 0
		}
		history = append(history, judge.State{Key: key, At: state.At, Value: state.Value, Optional: optional})
	}
	v, err := judge.Judge(s.source.Streams[i].Rules, history, s.told(stream), judge.Options{
		AtRest: true, Deletions: !s.source.Streams[i].LogFeed, NullsAreAbsent: true, Ops: true,
	})
	if err != nil {
		s.Fatal(err)
	}
	return v
}

// rests waits until every topic equals the truth, which is at rest, and looks whether it stays so.
func (s *system) rests(streams ...string) {
	s.Helper()
	var v judge.Verdict
	for _, stream := range streams {
		s.slowly(stream+" to equal the truth", func() bool {
			v = s.verdict(stream)
			return v.Missing == 0
		}, func() any { return v.String() + "\n" + strings.Join(v.Examples, "\n") })
	}
	s.turns(2)
	for _, stream := range streams {
		if v := s.verdict(stream); !v.Clean() || v.Events == 0 {
			s.Errorf("%s: %v\n%s", stream, v, strings.Join(v.Examples, "\n"))
		}
	}
	for _, st := range s.look().Streams {
		if st.Parked > 0 || st.Halted != "" || st.Mismatch {
			s.Errorf("%+v", st)
		}
	}
}

// slowly is until for conditions that read topics.
func (s *system) slowly(what string, is func() bool, show ...func() any) {
	s.Helper()
	last, yes := time.Time{}, false
	s.until(what, func() bool {
		if time.Since(last) > 300*time.Millisecond {
			yes, last = is(), time.Now()
		}
		select {
		case <-s.done:
			s.Fatalf("%s: the connection ended: %v", what, s.err)
		default:
		}
		return yes
	}, show...)
}

// turns waits until every partition that has listings has ended so many more complete ones.
func (s *system) turns(n int) {
	s.Helper()
	type turn struct {
		at time.Time
		n  int
	}
	seen := map[string]turn{}
	s.await("listings", func(st capture.Status) bool {
		done := len(st.Partitions) > 0
		for _, p := range st.Partitions {
			if p.Listing.Complete.IsZero() || p.State != "" {
				continue
			}
			t := seen[p.Stream+p.Name]
			if p.Listing.Complete.After(t.at) {
				t = turn{p.Listing.Complete, t.n + 1}
				seen[p.Stream+p.Name] = t
			}
			done = done && t.n > n
		}
		return done
	})
}

// graves are the keys whose last event is a tombstone, sorted.
func (s *system) graves(stream string) []string {
	s.Helper()
	last := map[string][]byte{}
	for _, r := range s.bed.read("test.c." + stream) {
		last[string(r.Key)] = bytes.Clone(r.Value)
	}
	var keys []string
	for key, value := range last {
		if value == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// live is a while of changes and faults, after which nothing changes any more. The fault Logout ends tokens and sessions in it; by
// themselves they live for a minute: one that ended between two requests of a machine short of time would be refused twice, which halts.
func (s *system) live(steps int, faults ...simulator.Fault) {
	s.Helper()
	for _, f := range faults {
		s.Fail(f)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range steps {
		s.Step(2)
		<-tick.C
	}
	s.Heal()
	s.Freeze()
}

func (b *bed) exchange(o simulator.Options) *system {
	b.Helper()
	o.RateBudget = -1
	up := simulator.NewCRF(o).Upstream
	return b.exchangeAt(up, up.Handler())
}

// exchangeAt connects to an exchange behind a handler of the test's.
func (b *bed) exchangeAt(up *simulator.Upstream, h http.Handler) *system {
	b.Helper()
	resources := map[string]string{"loans": "loans", "loan_events": "loan/events"}
	return b.connect("crf-exchange", up, resources, how{every: 500 * time.Millisecond, config: map[string]any{
		"base_url": b.serve(h) + "/api", "api_key": simulator.APIKey, "partner_id": simulator.PartnerID,
	}})
}

// TestCatalogCRFLife: loans of four views and their logs, while loans change, move and go, cursors end and answers fail.
func TestCatalogCRFLife(t *testing.T) {
	b := lay(t)
	s := b.exchange(simulator.Options{
		Seed: 3, Records: map[string]int{"loans": 350}, PageCap: 45, Creates: 0.1, CountsOnly: 0.1, Touches: 0.05, Reverts: 0.05, Ties: 0.02,
		LateCommits: 0.05, Lateness: time.Second, Deletes: 0.02, Restores: 0.02, Moves: 0.05,
	})
	s.live(60,
		simulator.Fault{Kind: simulator.Status, Status: 503, Times: -1, Every: 17},
		simulator.Fault{Kind: simulator.Status, Status: 429, RetryAfter: "1", Times: 2, Every: 40},
		simulator.Fault{Kind: simulator.Truncated, Times: -1, Every: 23},
		simulator.Fault{Kind: simulator.Reset, Times: -1, Every: 29},
		simulator.Fault{Kind: simulator.Capped, Times: -1, Every: 7},
		simulator.Fault{Kind: simulator.Expired, Times: 3, Every: 31},
	)
	s.rests("loans", "loan_events")
	s.end()
}

// TestCatalogCRFDocuments: each document of a loan is there, under the digest that its event names, when the event is; one that
// cannot be had at first comes later, and its loan is published once more.
func TestCatalogCRFDocuments(t *testing.T) {
	b := lay(t)
	up := simulator.NewCRF(simulator.Options{Seed: 4, Records: map[string]int{"loans": 60}, RateBudget: -1}).Upstream
	var bad atomic.Value // the one document that cannot be had
	var asked sync.Map
	s := b.exchangeAt(up, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("documentId")
		if id != "" && bad.CompareAndSwap(nil, id) || id != "" && bad.Load() == id {
			http.Error(w, "the document store is closed", http.StatusForbidden)
			return
		}
		if id != "" {
			n, _ := asked.LoadOrStore(id+r.Header.Get("Accept"), new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
		up.Handler().ServeHTTP(w, r)
	}))
	s.rests("loans")
	failed := s.documents()
	if failed == 0 || failed > 2 { // of one loan, in one view or two
		t.Errorf("%d documents failed", failed)
	}
	bad.Store("none")
	s.Change("loans", 5)
	s.await("the document that failed", func(st capture.Status) bool { return st.Streams[0].FilesMissed == 0 && st.Streams[0].Files > 0 })
	s.rests("loans")
	if n := s.documents(); n > 0 {
		t.Errorf("%d documents are not there", n)
	}
	s.end()
	asked.Range(func(id, n any) bool {
		if n := n.(*atomic.Int64).Load(); n > 2 { // once for each view that its loan stands in
			t.Errorf("%s was asked for %d times", id, n)
		}
		return true
	})
}

// documents looks at what the last event of each loan says of its documents, and counts those that are not there.
func (s *system) documents() (failed int) {
	s.Helper()
	last := map[string][]byte{}
	for _, e := range s.told("loans") {
		last[e.Key] = e.Value
	}
	for key, value := range last {
		var loan struct {
			Documents []struct {
				ID   string `json:"documentId"`
				Size int
			}
			Files []struct {
				Index               int
				SHA256, Path, Error string
				Size                int
			} `json:"_files"`
		}
		if err := json.Unmarshal(value, &loan); err != nil || len(loan.Files) != len(loan.Documents) {
			s.Errorf("%s: %v: %s", key, err, value)
			continue
		}
		for i, f := range loan.Files {
			if f.Error != "" {
				failed++
				continue
			}
			content, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(f.Path)))
			d := loan.Documents[i]
			if err != nil || digest(string(content)) != f.SHA256 || len(content) != d.Size || f.Size != d.Size || !strings.Contains(string(content), d.ID) {
				s.Errorf("%s: document %s, file %+v: %v", key, d.ID, f, err)
			}
		}
	}
	return failed
}

// TestCatalogCRFLeavesAView: a loan that leaves a view is deleted in that view's keys alone (P24), one that is gone in all of its
// views; nobody signals either.
func TestCatalogCRFLeavesAView(t *testing.T) {
	b := lay(t)
	s := b.exchange(simulator.Options{Seed: 5, Records: map[string]int{"loans": 200}})
	s.rests("loans", "loan_events")
	before := s.views()
	moved := s.Move("loans", 12)
	between := s.views()
	ids := slices.Concat(moved, s.Delete("loans", 3))
	want, passing := map[string]bool{}, map[string]bool{} // passing: moved into a view and deleted; one may have looked in between
	for _, id := range ids {
		left := func(of map[string]bool, keys map[string]bool) {
			for view := range of {
				if !s.views()[id][view] {
					keys[judgeKey(view, id)] = true
				}
			}
		}
		left(before[id], want)
		left(between[id], passing)
	}
	s.rests("loans", "loan_events")
	s.end()
	got := slices.DeleteFunc(s.graves("loans"), func(key string) bool { return passing[key] && !want[key] })
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) || len(got) < 12 {
		t.Errorf("tombstones %q, want %q", got, slices.Sorted(maps.Keys(want)))
	}
}

// views says in which views each loan is now.
func (s *system) views() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for state := range s.History("loans") {
		if all[state.ID] == nil {
			all[state.ID] = map[string]bool{}
		}
		if state.Value != nil {
			all[state.ID][state.Partition] = true
		} else {
			delete(all[state.ID], state.Partition)
		}
	}
	return all
}

func judgeKey(partition, id string) string { return `["` + partition + `","` + id + `"]` }

func (b *bed) focus(o simulator.Options) (*system, *simulator.Focus) {
	b.Helper()
	f := simulator.NewFocus(o)
	return b.connect("focus", f.Upstream, map[string]string{"recordings": "client/recording"}, how{every: 500 * time.Millisecond, config: map[string]any{
		"base_url": b.serve(f.Handler()) + "/api", "client_id": simulator.FocusClientID, "api_key": simulator.APIKey, "username": simulator.FocusUsername,
	}}), f
}

// TestCatalogFocusLife: tokens and cursors end, answers fail, and what is committed late falls behind the cursor.
func TestCatalogFocusLife(t *testing.T) {
	b := lay(t)
	s, f := b.focus(simulator.Options{
		Seed: 7, Records: map[string]int{"client/recording": 450}, TokenLife: time.Minute, Creates: 0.1, CountsOnly: 0.1, Touches: 0.05,
		Reverts: 0.05, Ties: 0.05, LateCommits: 0.05, Lateness: time.Second, Deletes: 0.05, Restores: 0.03,
	})
	s.live(30,
		simulator.Fault{Kind: simulator.Status, Status: 503, Times: -1, Every: 17},
		simulator.Fault{Kind: simulator.Truncated, Times: -1, Every: 23},
		simulator.Fault{Kind: simulator.Reset, Times: -1, Every: 29, Resource: "client/recording"},
		simulator.Fault{Kind: simulator.Capped, Times: -1, Every: 3},
		simulator.Fault{Kind: simulator.Logout, Times: 5, Every: 13, Resource: "client/recording"},
		simulator.Fault{Kind: simulator.Expired, Times: 2, Every: 31},
	)
	s.rests("recordings")
	f.ExpireCursors() // all of them are 410 from now on
	f.ExpireTokens()
	s.Thaw()
	changed := s.Change("client/recording", 5)
	s.rests("recordings")
	s.end()
	if len(changed) != 5 {
		t.Errorf("changed %q", changed)
	}
}

// TestCatalogFocusSecondPass: nothing tells that a recording is gone but two complete listings without it (D4).
func TestCatalogFocusSecondPass(t *testing.T) {
	b := lay(t)
	s, _ := b.focus(simulator.Options{Seed: 8, Records: map[string]int{"client/recording": 250}})
	s.rests("recordings")
	gone := s.Delete("client/recording", 9)
	s.rests("recordings")
	back := s.Restore("client/recording", 2)
	s.rests("recordings")
	s.end()
	want := slices.DeleteFunc(gone, func(key string) bool { return slices.Contains(back, key) })
	if got := s.graves("recordings"); !slices.Equal(got, slices.Sorted(slices.Values(want))) || len(got) != 7 {
		t.Errorf("tombstones %q, want %q", got, want)
	}
}

// givergyStreams are the resources by stream.
var givergyStreams = map[string]string{
	"events": "events", "guests": "guests",
	"buy_now_items": "items/buyNows", "auction_items": "items/auctionItems", "pledges": "items/pledges",
	"prize_draws": "items/prizeDraws", "gli_raffles": "items/gliRaffles", "tickets": "items/tickets",
	"buy_now_purchases": "purchases/buyNows", "auction_bids": "purchases/auctionItems", "donations": "purchases/donations",
	"raffle_purchases": "purchases/prizeDraws", "gli_raffle_purchases": "purchases/gliRaffles", "ticket_purchases": "purchases/tickets",
}

func (b *bed) givergy(o simulator.Options, h how) *system {
	b.Helper()
	o.RateBudget = -1
	up := simulator.NewGivergy(o).Upstream
	h.every = time.Second
	config := map[string]any{
		"base_url": b.serve(up.Handler()), "namespace": simulator.GivergyNamespace,
		"username": simulator.GivergyUsername, "password": simulator.GivergyPassword,
	}
	maps.Copy(config, h.config)
	h.config = config
	return b.connect("givergy", up, givergyStreams, h)
}

// TestCatalogGivergyLife: three requests for each event, bundles of six, while rows change and leave, sessions end and answers fail.
func TestCatalogGivergyLife(t *testing.T) {
	b := lay(t)
	s := b.givergy(simulator.Options{
		Seed: 11, Records: map[string]int{"events": 6, "items": 40, "purchases": 60, "guests": 300}, TokenLife: time.Minute, Creates: 0.1,
		CountsOnly: 0.1, Touches: 0.05, Reverts: 0.05, Ties: 0.05, LateCommits: 0.05, Lateness: time.Second, Deletes: 0.05, Restores: 0.03,
	}, how{})
	s.live(50,
		simulator.Fault{Kind: simulator.Status, Status: 500, Times: -1, Every: 31},
		simulator.Fault{Kind: simulator.Truncated, Times: -1, Every: 43},
		simulator.Fault{Kind: simulator.Reset, Times: -1, Every: 47, Resource: "items"},
		simulator.Fault{Kind: simulator.Drift, Times: 5, Every: 10, Resource: "guests"},
		simulator.Fault{Kind: simulator.Logout, Times: 4, Every: 41, Resource: "purchases"},
	)
	s.rests(slices.Sorted(maps.Keys(givergyStreams))...)
	s.end()
}

// TestCatalogGivergyArchive: what is archived vanishes without a sign, an event with all that belongs to it, whether the vendor
// answers 404 or nothing under it: both are gone from the topics, and what was never archived is not (D4, D8).
func TestCatalogGivergyArchive(t *testing.T) {
	b := lay(t)
	s := b.givergy(simulator.Options{Seed: 12, Records: map[string]int{"events": 8, "items": 30, "purchases": 30, "guests": 200}}, how{})
	streams := slices.Sorted(maps.Keys(givergyStreams))
	s.rests(streams...)
	for _, resource := range []string{"guests", "items/tickets", "purchases/donations"} {
		if n := len(s.Delete(resource, 2)); n != 2 {
			t.Fatalf("%d of %s archived", n, resource)
		}
	}
	events := s.Delete("events", 2)
	s.rests(streams...)
	s.end()
	if got := s.graves("events"); !slices.Equal(got, slices.Sorted(slices.Values(events))) {
		t.Errorf("tombstones of events %q, want %q", got, events)
	}
	reasons := map[string]int{}
	for _, key := range s.graves("guests") {
		reasons[header(s.grave("guests", key), "ce_reason")]++
	}
	if reasons["orphan"] < 2 || reasons["reconciled"] == 0 {
		t.Errorf("reasons of the guests' tombstones: %v", reasons)
	}
}

// TestCatalogGivergyFamilies: two of the three families list no events: those of the configuration are read, and a choice of the
// list says what to do instead.
func TestCatalogGivergyFamilies(t *testing.T) {
	b := lay(t)
	records := map[string]int{"events": 3, "items": 5, "purchases": 5, "guests": 60}
	var ids []any
	for state := range simulator.NewGivergy(simulator.Options{Seed: 13, Records: records}).History("events") {
		ids = append(ids, map[string]any{"id": state.ID, "startTime": 0, "endTime": 1})
	}
	s := b.givergy(simulator.Options{Seed: 13, Records: records}, how{
		config:  map[string]any{"namespace": "salesforce", "event_ids": ids},
		streams: slices.DeleteFunc(slices.Collect(maps.Keys(givergyStreams)), func(name string) bool { return name == "events" }),
	})
	s.Change("guests", 5)
	s.rests("guests", "donations", "tickets")
	s.end()
	all := b.givergy(simulator.Options{Seed: 13, Records: records}, how{config: map[string]any{"namespace": "blackbaud"}})
	all.halted("404", "give event_ids")
	all.end()
}

// salesloftStreams are the resources by stream: all but two are called like their path.
func salesloftStreams(up *simulator.Upstream) map[string]string {
	all := map[string]string{}
	for _, resource := range up.Resources() {
		all[strings.TrimPrefix(resource, "activities/")] = resource
	}
	return all
}

func (b *bed) wholeTeam(o simulator.Options, config map[string]any) *system {
	b.Helper()
	o.RateBudget = -1
	o.Records = map[string]int{}
	for _, resource := range simulator.New(simulator.Options{}).Resources() {
		o.Records[resource] = 60
	}
	up := simulator.New(o)
	url := b.serve(up.Handler())
	config["base_url"], config["token_url"] = url+"/v2", url+"/oauth/token"
	return b.connect("salesloft", up.Upstream, salesloftStreams(up.Upstream), how{every: time.Second, config: config})
}

// TestCatalogSalesLoftLife: all twenty-four lists at once, with client credentials whose tokens end.
func TestCatalogSalesLoftLife(t *testing.T) {
	b := lay(t)
	s := b.wholeTeam(simulator.Options{
		Seed: 21, People: 300, Accounts: 60, Calls: 60, Emails: 60, Cadences: 12, CadenceMemberships: 60, Notes: 60, Users: 40, NullUpdated: 2,
		PageCap: 25, Tokens: true, TokenLife: time.Minute, Creates: 0.1, CountsOnly: 0.1, Touches: 0.05, Reverts: 0.05, Ties: 0.05,
		LateCommits: 0.05, Lateness: time.Second, Deletes: 0.04, Restores: 0.02,
	}, map[string]any{"grant_type": "client_credentials", "client_id": simulator.ClientID, "client_secret": simulator.ClientSecret})
	s.live(50,
		simulator.Fault{Kind: simulator.Status, Status: 502, Times: -1, Every: 37},
		simulator.Fault{Kind: simulator.Truncated, Times: -1, Every: 61},
		simulator.Fault{Kind: simulator.Cut, Times: -1, Every: 67},
		simulator.Fault{Kind: simulator.Ties, N: 40, Times: 2, Every: 20, Resource: "people"},
		simulator.Fault{Kind: simulator.Logout, Times: 2, Every: 97, Resource: "people"},
	)
	s.rests(slices.Sorted(maps.Keys(s.resources))...)
	s.end()
}

// TestCatalogSalesLoftLookup: records vanish without a sign; their own addresses say so (D4), and a second listing where there are
// none. What is hidden from the lists for a while is found alive, and stays.
func TestCatalogSalesLoftLookup(t *testing.T) {
	b := lay(t)
	s := b.wholeTeam(simulator.Options{
		Seed: 22, People: 150, Accounts: 60, Calls: 60, Emails: 60, Cadences: 60, CadenceMemberships: 60, Notes: 60, Users: 60,
	}, map[string]any{"api_key": simulator.APIKey})
	streams := slices.Sorted(maps.Keys(s.resources))
	s.rests(streams...)
	want := map[string][]string{}
	for _, stream := range []string{"people", "accounts", "calls", "users", "tasks", "tags", "successes"} {
		want[stream] = slices.Sorted(slices.Values(s.Delete(s.resources[stream], 2)))
	}
	s.Fail(simulator.Fault{Kind: simulator.CutListing, N: 50, Times: 20, Resource: "notes"})
	s.rests(streams...)
	s.end()
	for _, stream := range streams {
		if got := s.graves(stream); !slices.Equal(got, want[stream]) {
			t.Errorf("tombstones of %s: %q, want %q", stream, got, want[stream])
		}
	}
}
