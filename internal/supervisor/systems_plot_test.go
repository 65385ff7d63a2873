//go:build synctests

package supervisor

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"tidemark/internal/simulator"
)

// playedSystem is one of the four systems as the simulator plays it, with how its connection reads it.
type playedSystem struct {
	name    string
	streams map[string]string // the resources that are judged, by stream
	build   func(simulator.Options) *simulator.Upstream
	config  func(url string) map[string]any
	live    simulator.Options
	every   time.Duration // reconciliation
	poll    time.Duration // of every request
	// What is planted for this resource alone: "" is all of them. A log that is read when its owner was seen to change is not read
	// again before that, so a lie about it alone would stand.
	lies string
	// opaque cursors are behind what is committed late: only a listing finds it (P12).
	opaque bool
	token  string // what a login is called
}

func playedSystems() []playedSystem {
	mixed := simulator.Options{
		ChangesPerSecond: 0.15, Creates: 0.06, CountsOnly: 0.1, Touches: 0.05, Reverts: 0.08, Ties: 0.05, LateCommits: 0.1, Lateness: 90 * time.Second,
		Deletes: 0.02, Restores: 0.01, Moves: 0.05, Latency: 200 * time.Millisecond, Tokens: true, TokenGrace: true, TokenLife: 9 * time.Minute, Gzip: true,
	}
	with := func(change func(*simulator.Options)) simulator.Options { o := mixed; change(&o); return o }
	return []playedSystem{
		{
			name: "salesloft", every: 4 * time.Minute, poll: 40 * time.Second, token: "oauth/token",
			streams: map[string]string{
				"people": "people", "accounts": "accounts", "calls": "activities/calls", "notes": "notes", "successes": "successes",
				"users": "users", "tasks": "tasks",
			},
			build: func(o simulator.Options) *simulator.Upstream { return simulator.New(o).Upstream },
			config: func(url string) map[string]any {
				return map[string]any{
					"client_id": simulator.ClientID, "client_secret": simulator.ClientSecret, "refresh_token": simulator.RefreshToken,
					"base_url": url + "/v2", "token_url": url + "/oauth/token",
				}
			},
			live: with(func(o *simulator.Options) {
				o.People, o.Accounts, o.Calls, o.Notes, o.Users, o.PageCap, o.NullUpdated = 150, 40, 40, 40, 40, 40, 2
				o.Records = map[string]int{"successes": 40, "tasks": 40}
			}),
		},
		{
			name: "crf-exchange", every: 4 * time.Minute, poll: time.Minute, opaque: true, lies: "loans",
			streams: map[string]string{"loans": "loans", "loan_events": "loan/events"},
			build:   func(o simulator.Options) *simulator.Upstream { return simulator.NewCRF(o).Upstream },
			config: func(url string) map[string]any {
				return map[string]any{"base_url": url + "/api", "api_key": simulator.APIKey, "partner_id": simulator.PartnerID}
			},
			live: with(func(o *simulator.Options) {
				o.Records, o.PageCap, o.Creates = map[string]int{"loans": 120}, 30, 0.03 // each loan is a partition
			}),
		},
		{
			name: "focus", every: 3 * time.Minute, poll: 15 * time.Second, opaque: true, token: "authWithApiKey",
			streams: map[string]string{"recordings": "client/recording"},
			build:   func(o simulator.Options) *simulator.Upstream { return simulator.NewFocus(o).Upstream },
			config: func(url string) map[string]any {
				return map[string]any{
					"base_url": url + "/api", "client_id": simulator.FocusClientID, "api_key": simulator.APIKey, "username": simulator.FocusUsername,
				}
			},
			live: with(func(o *simulator.Options) { o.Records, o.PageCap = map[string]int{"client/recording": 300}, 50 }),
		},
		{
			name: "givergy", every: 6 * time.Minute, poll: 2 * time.Minute, token: "auth/login",
			streams: map[string]string{
				"events": "events", "guests": "guests",
				"buy_now_items": "items/buyNows", "auction_items": "items/auctionItems", "pledges": "items/pledges",
				"prize_draws": "items/prizeDraws", "gli_raffles": "items/gliRaffles", "tickets": "items/tickets",
				"buy_now_purchases": "purchases/buyNows", "auction_bids": "purchases/auctionItems", "donations": "purchases/donations",
				"raffle_purchases": "purchases/prizeDraws", "gli_raffle_purchases": "purchases/gliRaffles", "ticket_purchases": "purchases/tickets",
			},
			build: func(o simulator.Options) *simulator.Upstream { return simulator.NewGivergy(o).Upstream },
			config: func(url string) map[string]any {
				return map[string]any{
					"base_url": url, "namespace": simulator.GivergyNamespace, "username": simulator.GivergyUsername, "password": simulator.GivergyPassword,
				}
			},
			live: with(func(o *simulator.Options) {
				o.Records = map[string]int{"events": 4, "items": 10, "purchases": 12, "guests": 60}
				o.Creates, o.Deletes, o.Restores = 0.02, 0.01, 0.01 // each event is three partitions, of a request a second
			}),
		},
	}
}

// confirm is how long after the first a second listing has to begin (D4), and more than a window of lies lasts: two listings that
// confirm each other never lie both.
const (
	sysConfirm = 2 * time.Minute
	sysWindow  = 90 * time.Second
)

// honest faults do not say anything that is untrue: they may strike at any time.
var honest = []simulator.Fault{
	{Kind: simulator.Status, Status: 500, Times: 2}, {Kind: simulator.Status, Status: 502, Times: 4}, {Kind: simulator.Status, Status: 503, Times: 8},
	{Kind: simulator.Status, Status: 429, RetryAfter: "7", Times: 2}, {Kind: simulator.Status, Status: 429},
	{Kind: simulator.Status, Status: 401}, {Kind: simulator.Logout}, {Kind: simulator.Truncated}, {Kind: simulator.Cut}, {Kind: simulator.Reset, Times: 2},
	{Kind: simulator.Hang}, {Kind: simulator.Slow}, {Kind: simulator.Gzip, Times: 3}, {Kind: simulator.Duplicate}, {Kind: simulator.Expired},
	{Kind: simulator.LateCommits, N: 3}, {Kind: simulator.Ties, N: 60}, {Kind: simulator.Drift}, {Kind: simulator.Capped, N: 7, Times: 6},
}

// tellTales are lies that one answer tells. Those of lookups are told beside true listings, and those of listings beside true
// lookups: what both deny is gone for whoever asks (D9).
var tellTales = [][]simulator.Fault{
	{{Kind: simulator.DropPage, Times: 2}, {Kind: simulator.HTML}, {Kind: simulator.IgnoreSort}},
	{{Kind: simulator.CutListing, N: 15, Times: 4}, {Kind: simulator.Status, Status: 404}, {Kind: simulator.Shuffle}},
	{{Kind: simulator.Moved, Times: 5}, {Kind: simulator.FalseGone, Times: 5}, {Kind: simulator.Stale, Times: 3, N: 30}},
	{{Kind: simulator.Tenant}, {Kind: simulator.Status, Status: 403}, {Kind: simulator.IgnoreFilter, Times: 2}},
	{{Kind: simulator.Hidden, Times: 4}, {Kind: simulator.RepeatPage, Times: 2}, {Kind: simulator.Empty, Times: 3}},
	{{Kind: simulator.Stale, Times: 6}, {Kind: simulator.Status, Status: 422}, {Kind: simulator.Empty}},
}

// tokenFaults strike whoever asks for a token or logs in. A refusal of the client is final, and a person's to mend.
var tokenFaults = []simulator.Fault{
	{Kind: simulator.Reset}, {Kind: simulator.Cut}, {Kind: simulator.Truncated}, {Kind: simulator.Hang}, {Kind: simulator.Slow},
	{Kind: simulator.Status, Status: 503}, {Kind: simulator.Status, Status: 429},
}

// mischief is what a seed lets happen to a system.
type mischief struct {
	*playedSystem
	random *rand.Rand
	turn   int // of the lies
}

func (m *mischief) draw(faults []simulator.Fault) simulator.Fault {
	f := faults[m.random.IntN(len(faults))]
	f.Skip = m.random.IntN(6)
	return f
}

// minute plants what is honest, and lets the client's own world have trouble: commits, connections, the process.
func (m *mischief) minute(up *simulator.Upstream, wires *plan) {
	stats := up.Stats()
	for range 1 + m.random.IntN(2) {
		if stats.Failed*8 > stats.Requests { // else nothing but faults happens to who asks seldom
			break
		}
		f := m.draw(honest)
		if f.Kind == simulator.Duplicate || f.Kind == simulator.Capped { // what a log left out for once stays out, or is a dead letter
			f.Resource = m.lies
		}
		up.Fail(f)
	}
	if m.token != "" && m.random.IntN(4) == 0 {
		f := m.draw(tokenFaults)
		f.Resource, f.Skip = m.token, 0
		up.Fail(f)
	}
	if m.random.IntN(3) > 0 {
		return
	}
	apis := strings.Fields("EndTxn EndTxn EndTxn Produce Produce InitProducerID Fetch GET POST_token")
	does := []string{loseRequest, loseAnswer, loseAnswer, deliverLate, freeze, crashBefore, crashAfter, crashAfter, terminate}
	f := wireFault{
		API: strings.ReplaceAll(apis[m.random.IntN(len(apis))], "_", " "), Do: does[m.random.IntN(len(does))],
		For: time.Duration(m.random.IntN(40)) * time.Second,
	}
	if m.name == "focus" && f.API == "GET" {
		f.API = "POST token" // it reads with POST
	}
	wires.soon(f, 1+m.random.IntN(4))
}

// lie plants the next lies.
func (m *mischief) lie(up *simulator.Upstream) {
	for _, f := range tellTales[m.turn%len(tellTales)] {
		f.Resource, f.Skip = m.lies, m.random.IntN(4)
		up.Fail(f)
	}
	m.turn++
}

func (m *playedSystem) resources() (all []string) {
	for _, r := range m.streams {
		all = append(all, r)
	}
	return all
}

func (m *playedSystem) String() string { return fmt.Sprintf("%s, %d streams", m.name, len(m.streams)) }
