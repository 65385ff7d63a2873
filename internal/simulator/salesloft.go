package simulator

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	_ "time/tzdata" // the team's zone, on machines that have no zones
)

// SalesLoft is a simulated SalesLoft team. Its methods may be called from any goroutine.
type SalesLoft struct {
	o       Options
	buffers sync.Pool // *[]byte: bodies of answers

	mu        sync.Mutex // guards all below; never held across I/O
	random    *rand.Rand
	resources []*resource
	pending   []pending // late commits, the next due first
	stamped   int64     // the latest updated_at given out, so that no two changes share one by chance
	frozen    bool
	faults    []Fault
	rate      rate
	grant     grant
	stats     Stats
}

// resource is one kind of record with all its records.
type resource struct {
	kind
	rows    []row    // by id less 1
	index   []entry  // what is visible, by (updated, id); null first
	history []moment // every state that was visible, in the order of time
	alive   int
}

// row is one record.
type row struct {
	moment           // the state that is visible
	created   int64  // microseconds since 1970
	fresh     uint32 // the highest content number that it had
	before    uint32 // the content before the present one
	committed bool   // there is a visible state at all
	late      bool   // a late commit of it is pending; nothing else changes it meanwhile
}

// moment is one state of a record; its JSON is a function of it. Times are microseconds since 1970.
type moment struct {
	id      int64
	at      int64  // when it became visible, by our clock
	updated int64  // updated_at, by the server's clock; null
	content uint32 // equal numbers of one record are equal content
	counts  uint32
	gone    bool
	spoil   Spoil
}

// entry is a place in the order by updated_at.
type entry struct{ updated, id int64 }

// null is an updated_at that is not there; it sorts before all others (APIS.md §1: ASC puts nulls first).
const null = -1 << 63

// pending is a change that was made but cannot be seen yet.
type pending struct {
	due int64
	r   *resource
	m   moment
}

// New returns a team as o describes it.
func New(o Options) *SalesLoft {
	if o.Zone == nil {
		zone, err := time.LoadLocation("America/New_York")
		if err != nil {
			panic(err) // the zones are compiled in
		}
		o.Zone = zone
	}
	o.PageCap = orElse(o.PageCap, 100)
	o.RateBudget = orElse(o.RateBudget, 600)
	o.Lateness = orElse(o.Lateness, 10*time.Second)
	o.TokenLife = orElse(o.TokenLife, 2*time.Hour)
	o.APIKey = orElse(o.APIKey, APIKey)
	s := &SalesLoft{o: o, random: rand.New(rand.NewPCG(uint64(o.Seed), 0x5a1e5_10f7))}
	s.grant = grant{refresh: map[string]bool{RefreshToken: true}, spends: map[string]string{}, access: map[string]time.Time{}}
	now := time.Now()
	s.stamped = micros(now.Add(o.Skew))
	for i, n := range []int{o.People, o.Accounts, o.Calls, o.Emails, o.Cadences, o.CadenceMemberships, o.Notes, o.Users} {
		r := &resource{kind: kinds()[i]}
		s.populate(r, n, micros(now))
		s.resources = append(s.resources, r)
	}
	return s
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// micros is t in microseconds since 1970, the granularity of the API.
func micros(t time.Time) int64 { return t.UnixMicro() }

// populate gives r n records that changed last within the thirty days before now.
func (s *SalesLoft) populate(r *resource, n int, now int64) {
	const day = int64(24 * time.Hour / time.Microsecond)
	updated := s.stamped
	for range n {
		if s.random.Float64() >= s.o.Ties || updated == s.stamped {
			updated = s.stamped - 60_000_000 - s.random.Int64N(30*day)
		}
		id := int64(len(r.rows) + 1)
		m := moment{id: id, at: now, updated: updated, content: 1}
		r.rows = append(r.rows, row{moment: m, created: updated - s.random.Int64N(200*day), fresh: 1, before: 1, committed: true})
		if id <= int64(s.o.NullUpdated) {
			m.updated = null
			r.rows[id-1].updated = null
		}
		r.index = append(r.index, entry{m.updated, id})
		r.history = append(r.history, m)
	}
	r.alive = n
	slices.SortFunc(r.index, entry.compare)
}

func (e entry) compare(o entry) int {
	switch {
	case e.updated != o.updated:
		return order(e.updated, o.updated)
	default:
		return order(e.id, o.id)
	}
}

func order(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// resource returns the resource of a name, or nil.
func (s *SalesLoft) resource(name string) *resource {
	for _, r := range s.resources {
		if r.path == name {
			return r
		}
	}
	return nil
}

// Resources returns the names of the resources, as paths below /v2.
func (s *SalesLoft) Resources() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.path)
	}
	return names
}

// Stats returns the counters.
func (s *SalesLoft) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.surface(micros(time.Now()))
	stats := s.stats
	stats.Pending, stats.Frozen, stats.Live = len(s.pending), s.frozen, map[string]int{}
	for _, r := range s.resources {
		stats.Live[r.path] = r.alive
	}
	return stats
}

// publish makes m the visible state of its record: row, index and history. The lock is held.
func (s *SalesLoft) publish(r *resource, m moment) {
	now := &r.rows[m.id-1]
	if now.committed && !now.gone {
		i, _ := slices.BinarySearchFunc(r.index, entry{now.updated, m.id}, entry.compare)
		r.index = slices.Delete(r.index, i, i+1)
		r.alive--
	}
	if !m.gone {
		e := entry{m.updated, m.id}
		i, _ := slices.BinarySearchFunc(r.index, e, entry.compare)
		r.index = slices.Insert(r.index, i, e)
		r.alive++
	}
	if n := len(r.history); n > 0 { // the history is in the order of time, whatever the clock does
		m.at = max(m.at, r.history[n-1].at)
	}
	if now.committed && now.content != m.content {
		now.before = now.content
	}
	now.moment, now.committed, now.late = m, true, false
	r.history = append(r.history, m)
	s.stats.Changes++
}

// surface makes visible what is due. Everything that looks at the team calls it first, so that a late commit is seen from
// its time on although nothing runs at that time. The lock is held.
func (s *SalesLoft) surface(now int64) {
	n := 0
	for n < len(s.pending) && s.pending[n].due <= now {
		p := s.pending[n]
		p.m.at = p.due
		s.publish(p.r, p.m)
		n++
	}
	s.pending = slices.Delete(s.pending, 0, n)
}
