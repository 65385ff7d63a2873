//go:build synctests

package supervisor

import (
	"math/rand/v2"
	"time"

	"tidemark/internal/simulator"
)

// scenario is what a seed fixes: topology, workload and faults. It fixes no interleaving: kgo and kfake choose for themselves.
type scenario struct {
	Seed      int64
	Instances int
	Brokers   int
	KIP848    bool
	OneShard  bool // both accounts in one shard
	Bound     int  // records of a transaction; 0: the default
	Chaos     time.Duration
	Calm      time.Duration // without faults, while upstream still changes
	Interval  time.Duration
	Teams     []simulator.Options // one for each connection
	Wire      []wireFault
	Brokered  []brokerFault
	HTTP      []httpFault
	Ops       []timedOp
}

// wireFault strikes the N-th request of an API that an instance sends, counted over its restarts.
type wireFault struct {
	Instance int
	API      string // a Kafka API, or "GET" and "POST token" upstream
	N        int
	Do       string
	For      time.Duration // how long it is frozen or late, or how long the instance stays down
}

// What a wireFault does.
const (
	loseRequest = "lose request" // it does not arrive, and the connection breaks
	loseAnswer  = "lose answer"  // it arrives, and the connection breaks before the answer
	deliverLate = "late"         // the connection breaks at once, and the request arrives long after that
	freeze      = "freeze"       // nothing passes in either direction for a while: a zombie
	crashBefore = "crash before" // the instance dies before it is sent
	crashAfter  = "crash after"  // the instance dies when it was received
	terminate   = "terminate"    // SIGTERM
	swallow     = "swallow"      // it does not arrive, and the instance dies while it waits for the answer
)

// brokerFault lets the brokers answer with an error.
type brokerFault struct {
	API   string
	Error string
	Skip  int
	Count int
}

// httpFault is planted in the simulated API of a team.
type httpFault struct {
	Team int
	simulator.Fault
}

// timedOp is something that happens to a team at a time of the chaos.
type timedOp struct {
	At   time.Duration
	Team int
	Do   string // expire tokens, tie, late, spend
	N    int
}

func imagine(seed int64) scenario {
	r := rand.New(rand.NewPCG(uint64(seed), 0x51))
	s := scenario{
		Seed: seed, Instances: 1 + r.IntN(3), Brokers: 1 + r.IntN(3), KIP848: r.IntN(2) == 0, OneShard: r.IntN(4) == 0,
		Chaos: time.Duration(6+r.IntN(8)) * time.Minute, Calm: 3 * time.Minute,
		Interval: time.Duration(5+r.IntN(20)) * time.Second,
	}
	if r.IntN(3) == 0 {
		s.Bound = 10 + r.IntN(60)
	}
	for i := range 2 {
		s.Teams = append(s.Teams, simulator.Options{
			Seed: seed*10 + int64(i), People: 40 + r.IntN(160), Users: 5 + r.IntN(40), Notes: 10 + r.IntN(60),
			ChangesPerSecond: 0.3 + 1.2*r.Float64(), Creates: 0.1, CountsOnly: 0.15, Touches: 0.05, Reverts: 0.15, Ties: 0.1 + 0.2*r.Float64(),
			LateCommits: 0.1, Lateness: time.Duration(5+r.IntN(90)) * time.Second, PageCap: 8 + r.IntN(60), RateBudget: 200 + r.IntN(600),
			Latency: time.Duration(r.IntN(1500)) * time.Millisecond, Gzip: r.IntN(2) == 0,
			Skew:   time.Duration(r.IntN(7)-3) * time.Second,
			Tokens: true, TokenLife: time.Duration(2+r.IntN(10)) * time.Minute, TokenGrace: true,
		})
	}
	switch seed % 8 {
	case 0:
		s.imagineAbsence(r)
		return s
	case 4:
		s.imagineCrowd()
		return s
	}
	s.imagineWire(r)
	s.imagineBrokers(r)
	s.imagineHTTP(r)
	for range r.IntN(6) {
		s.Ops = append(s.Ops, timedOp{
			At: time.Duration(r.Int64N(int64(s.Chaos))), Team: r.IntN(2), N: 5 + r.IntN(60),
			Do: []string{"expire tokens", "tie", "tie", "late", "spend"}[r.IntN(5)],
		})
	}
	return s
}

// imagineAbsence is a seed of its own kind: everybody is away in the middle of a pass, for longer than a lookback, while many
// changes become visible late.
func (s *scenario) imagineAbsence(r *rand.Rand) {
	s.Instances, s.Chaos = 1, 14*time.Minute
	for i := range s.Teams {
		t := &s.Teams[i]
		t.People, t.LateCommits, t.Lateness, t.Ties = 300, 0.5, 100*time.Second, 0
		t.PageCap, t.Latency, t.RateBudget, t.ChangesPerSecond = 10, time.Second, 600, 1
	}
	if r.IntN(2) == 0 {
		s.Wire = []wireFault{{API: "GET", N: 150 + r.IntN(150), Do: crashAfter, For: 7 * time.Minute}}
		return
	}
	for i := range s.Teams { // or it is told to wait for a minute, two, four
		s.HTTP = append(s.HTTP, httpFault{Team: i, Fault: simulator.Fault{
			Kind: simulator.Status, Status: 429, Resource: "people", Skip: 60 + r.IntN(100), Times: 3}})
	}
}

// imagineCrowd is another: runs of equal cursors over many pages, beyond every lookback, that rows leave while they are walked.
func (s *scenario) imagineCrowd() {
	s.Chaos, s.Calm = time.Minute, time.Minute
	for i := range s.Teams {
		t := &s.Teams[i]
		t.People, t.Ties, t.ChangesPerSecond = 400, 0.97, 0.15
		t.PageCap, t.Latency, t.RateBudget = 8, 700*time.Millisecond, -1
	}
}

func (s *scenario) imagineWire(r *rand.Rand) {
	apis := []struct {
		name   string
		weight int
		most   int
	}{
		{"EndTxn", 10, 60}, {"Produce", 6, 120}, {"InitProducerID", 4, 8}, {"Fetch", 3, 40}, {"Metadata", 1, 40},
		{"GET", 3, 150}, {"POST token", 4, 6}, {"Heartbeat", 2, 80}, {"DescribeProducers", 1, 8},
	}
	total := 0
	for _, a := range apis {
		total += a.weight
	}
	does := []string{loseRequest, loseRequest, loseAnswer, loseAnswer, loseAnswer, deliverLate, deliverLate, freeze, crashBefore, crashAfter, crashAfter, terminate}
	for range 3 + r.IntN(10) {
		draw, a := r.IntN(total), 0
		for draw >= apis[a].weight {
			draw -= apis[a].weight
			a++
		}
		f := wireFault{Instance: r.IntN(s.Instances), API: apis[a].name, N: 1 + r.IntN(apis[a].most), Do: does[r.IntN(len(does))]}
		switch f.Do {
		case freeze:
			f.For = time.Duration(1+r.IntN(100)) * time.Second
		case deliverLate:
			f.For = time.Duration(1+r.IntN(30)) * time.Second
		default:
			f.For = time.Duration(r.IntN(30)) * time.Second
			if r.IntN(6) == 0 { // longer than a lookback
				f.For = time.Duration(5+r.IntN(5)) * time.Minute
			}
		}
		s.Wire = append(s.Wire, f)
	}
}

func (s *scenario) imagineBrokers(r *rand.Rand) {
	choice := []struct{ api, err string }{
		{"Produce", "NOT_ENOUGH_REPLICAS"}, {"Produce", "NOT_LEADER_FOR_PARTITION"}, {"Produce", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"},
		{"Produce", "UNKNOWN_SERVER_ERROR"}, {"Produce", "REQUEST_TIMED_OUT"}, {"EndTxn", "NOT_COORDINATOR"}, {"EndTxn", "COORDINATOR_NOT_AVAILABLE"},
		{"EndTxn", "UNKNOWN_SERVER_ERROR"}, {"EndTxn", "INVALID_TXN_STATE"}, {"EndTxn", "PRODUCER_FENCED"}, {"EndTxn", "CONCURRENT_TRANSACTIONS"},
		{"InitProducerID", "CONCURRENT_TRANSACTIONS"}, {"InitProducerID", "COORDINATOR_LOAD_IN_PROGRESS"}, {"InitProducerID", "UNKNOWN_SERVER_ERROR"},
		{"Fetch", "NOT_LEADER_FOR_PARTITION"}, {"Fetch", "UNKNOWN_SERVER_ERROR"}, {"Fetch", "OFFSET_NOT_AVAILABLE"}, {"ListOffsets", "NOT_LEADER_FOR_PARTITION"},
		{"FindCoordinator", "COORDINATOR_NOT_AVAILABLE"}, {"DescribeProducers", "NOT_LEADER_FOR_PARTITION"}, {"Heartbeat", "COORDINATOR_NOT_AVAILABLE"},
		{"Metadata", "LEADER_NOT_AVAILABLE"},
	}
	for range r.IntN(6) {
		c := choice[r.IntN(len(choice))]
		s.Brokered = append(s.Brokered, brokerFault{API: c.api, Error: c.err, Skip: r.IntN(60), Count: 1 + r.IntN(4)})
	}
}

func (s *scenario) imagineHTTP(r *rand.Rand) {
	resources := []string{"people", "people", "people", "users", "notes", "oauth/token"}
	for range r.IntN(8) {
		f := httpFault{Team: r.IntN(2), Fault: simulator.Fault{Resource: resources[r.IntN(len(resources))], Skip: r.IntN(40), Times: 1}}
		switch r.IntN(9) {
		case 0, 1:
			f.Kind, f.Status = simulator.Status, 429
			f.Times = 1 + r.IntN(4) // a minute, two, four, eight
		case 2, 3:
			f.Kind, f.Status = simulator.Status, []int{500, 502, 503}[r.IntN(3)]
			f.Times = 1 + r.IntN(8)
		case 4:
			f.Kind = simulator.HTML
		case 5:
			f.Kind = simulator.Truncated
		case 6:
			f.Kind = simulator.Cut
		case 7:
			f.Kind = simulator.Reset
		default:
			f.Kind = simulator.Hang
			if r.IntN(2) == 0 {
				f.Kind, f.Status = simulator.Status, 401
			}
		}
		if f.Resource == "oauth/token" {
			f.Skip = r.IntN(4)
			if f.Status == 401 || f.Kind == simulator.HTML { // a refusal of the client is final, and a person's to mend
				f.Kind, f.Status = simulator.Cut, 0
			}
		}
		s.HTTP = append(s.HTTP, f)
	}
}
