package simulator

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
	_ "time/tzdata" // the team's zone, on machines that have no zones
)

// Upstream is what every simulated system is made of: seeded records that keep changing, all that they ever were, and
// faults on demand. Its methods may be called from any goroutine.
type Upstream struct {
	o       Options
	routes  func(*http.ServeMux)                // the system's own addresses
	failure func(dst []byte, status int) []byte // the system's own body of an error
	instant func(dst []byte, at int64) []byte   // the system's own text of an instant, with its quotes
	logout  func()                              // ends what logins gave out, under the lock; nil: there is no login
	actions map[string]func(n int) []string     // of /_simulator/control, beside those of all systems
	window  int64                               // how many seconds of the clock a budget is for
	buffers sync.Pool                           // *[]byte: bodies of answers

	mu        sync.Mutex // guards all below; never held across I/O
	random    *rand.Rand
	resources []*resource
	pending   []pending // late commits, the next due first
	stamped   int64     // the latest change time given out, so that no two changes share one by chance
	frozen    bool
	faults    []planted
	shown     []showing // what lying answers showed
	rate      rate
	epoch     int64 // of cursors: those of an older one are expired
	stats     Stats
}

// resource is one kind of record with all its records.
type resource struct {
	name  string
	write func(*writer) // the members of a record
	// key is the identity of a record; nil: its number.
	key func(seed uint64, id int64) string
	// places are the values of the partition in which a record is listed; nil: there are no partitions.
	places func(seed uint64, m moment, o origin) []string
	parent *resource              // each record belongs to one of these, and goes and comes with it
	born   func(*moment, *origin) // gives a new record what only this system has
	move   func(*moment)          // moves a record to another partition
	follow func(moment)           // hears every state as it becomes visible
	log    bool                   // entries of a log: they are made, and never change

	seeded  int      // how many states there were at the start
	rows    []row    // by id less 1
	index   []entry  // what is visible, by (updated, id); null first
	history []moment // every state that was visible, in the order of time
	alive   int
}

// row is one record.
type row struct {
	moment // the state that is visible
	origin
	fresh     uint32 // the highest content number that it had
	before    uint32 // the content before the present one
	committed bool   // there is a visible state at all
	late      bool   // a late commit of it is pending; nothing else changes it meanwhile
}

// origin is what a record has from its beginning.
type origin struct {
	created int64 // microseconds since 1970
	parent  int64 // id of the record of resource.parent that it belongs to
	start   int64 // Givergy: when an event starts
}

// moment is one state of a record; its JSON is a function of it. Times are microseconds since 1970.
type moment struct {
	id      int64
	at      int64  // when it became visible, by our clock
	updated int64  // when it changed, by the server's clock; null
	content uint32 // equal numbers of one record are equal content
	counts  uint32
	views   uint8 // CRF: where it is listed
	gone    bool
	orphan  bool // gone because its parent is
	spoil   Spoil
}

// entry is a place in the order by the time of change.
type entry struct{ updated, id int64 }

// null is an updated_at that is not there; it sorts before all others (APIS.md §1: ASC puts nulls first).
const null = -1 << 63

// pending is a change that was made but cannot be seen yet.
type pending struct {
	due int64
	r   *resource
	m   moment
}

// build returns a system without resources. Where the options say nothing, a page has pageCap records, and a minute allows budget.
func build(o Options, pageCap, budget int) *Upstream {
	o.PageCap, o.RateBudget = cmp.Or(o.PageCap, pageCap), cmp.Or(o.RateBudget, budget)
	o.APIKey, o.TokenLife = cmp.Or(o.APIKey, APIKey), cmp.Or(o.TokenLife, time.Hour)
	o.Lateness = cmp.Or(o.Lateness, 10*time.Second)
	u := &Upstream{o: o, window: 60, random: rand.New(rand.NewPCG(uint64(o.Seed), 0x5a1e5_10f7))}
	u.stamped = micros(time.Now().Add(o.Skew))
	u.actions = map[string]func(int) []string{}
	return u
}

// add adds a resource with n records.
func (u *Upstream) add(r *resource, n int) *resource {
	u.populate(r, n, micros(time.Now()))
	u.resources = append(u.resources, r)
	return r
}

// micros is t in microseconds since 1970, the granularity of everything here.
func micros(t time.Time) int64 { return t.UnixMicro() }

const day = int64(24 * time.Hour / time.Microsecond)

// populate gives r n records that changed last within the thirty days before now.
func (u *Upstream) populate(r *resource, n int, now int64) {
	updated := u.stamped
	for range n {
		if u.random.Float64() >= u.o.Ties || updated == u.stamped {
			updated = u.stamped - 60_000_000 - u.random.Int64N(30*day)
		}
		id := int64(len(r.rows) + 1)
		m := moment{id: id, at: now, updated: updated, content: 1}
		o := origin{created: updated - u.random.Int64N(200*day)}
		if id <= int64(u.o.NullUpdated) {
			m.updated = null
		}
		if r.parent != nil {
			if o.parent = u.anyParent(r); o.parent == 0 {
				break
			}
		}
		if r.born != nil {
			r.born(&m, &o)
		}
		r.rows = append(r.rows, row{moment: m, origin: o, fresh: 1, before: 1, committed: true})
		r.index = append(r.index, entry{m.updated, id})
		r.history = append(r.history, m)
		if r.follow != nil {
			r.follow(m)
		}
	}
	r.alive, r.seeded = len(r.rows), len(r.rows)
	slices.SortFunc(r.index, entry.compare)
}

// anyParent draws a living record of r.parent; 0: there is none.
func (u *Upstream) anyParent(r *resource) int64 {
	if living := u.pick(r.parent, 1); len(living) > 0 {
		return living[0].id
	}
	return 0
}

func (e entry) compare(o entry) int {
	if c := cmp.Compare(e.updated, o.updated); c != 0 {
		return c
	}
	return cmp.Compare(e.id, o.id)
}

// resource returns the resource of a name, or nil.
func (u *Upstream) resource(name string) *resource {
	for _, r := range u.resources {
		if r.name == name {
			return r
		}
	}
	return nil
}

// keyOf is the identity of a record.
func (r *resource) keyOf(seed uint64, id int64) string {
	if r.key == nil {
		return strconv.FormatInt(id, 10)
	}
	return r.key(seed, id)
}

// at returns the record of a number if it can be seen, or nil.
func (r *resource) at(id int64) *row {
	if id < 1 || id > int64(len(r.rows)) || !r.rows[id-1].committed || r.rows[id-1].gone {
		return nil
	}
	return &r.rows[id-1]
}

// past returns the resource as it was so many changes ago, but not before its start: what a replica shows that lags.
func (r *resource) past(changes int) *resource {
	old := *r
	old.history = r.history[:max(r.seeded, len(r.history)-changes)]
	old.rows, old.index = make([]row, len(r.rows)), nil
	for _, m := range old.history {
		old.rows[m.id-1] = row{moment: m, origin: r.rows[m.id-1].origin, committed: true}
	}
	for i := range old.rows {
		if w := old.at(int64(i + 1)); w != nil {
			old.index = append(old.index, entry{w.updated, w.id})
		}
	}
	slices.SortFunc(old.index, entry.compare)
	return &old
}

// Resources returns the names of the resources.
func (u *Upstream) Resources() []string {
	var names []string
	for _, r := range u.resources {
		names = append(names, r.name)
	}
	return names
}

// Stats returns the counters.
func (u *Upstream) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.surface(micros(time.Now()))
	stats := u.stats
	stats.Pending, stats.Frozen, stats.Live, stats.Struck = len(u.pending), u.frozen, map[string]int{}, maps.Clone(u.stats.Struck)
	for _, r := range u.resources {
		stats.Live[r.name] = r.alive
	}
	return stats
}

// publish makes m the visible state of its record: row, index and history. The lock is held.
func (u *Upstream) publish(r *resource, m moment) {
	now := &r.rows[m.id-1]
	if r.parent != nil && r.parent.at(now.parent) == nil && !m.gone {
		m.gone, m.orphan = true, true // its parent went while the change was under way
	}
	was := now.committed && !now.gone
	if was {
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
	now.moment, now.committed = m, true
	r.history = append(r.history, m)
	u.stats.Changes++
	if r.follow != nil {
		r.follow(m)
	}
	if was != !m.gone {
		u.cascade(r, m)
	}
}

// cascade takes the children of a record with it, or brings those back that went with it. Nothing about them changes.
func (u *Upstream) cascade(r *resource, m moment) {
	for _, child := range u.resources {
		if child.parent != r || child.log {
			continue
		}
		for i := range child.rows {
			w := &child.rows[i]
			if w.parent != m.id || !w.committed || w.gone != w.orphan || w.gone == m.gone {
				continue
			}
			next := w.moment
			next.at, next.gone, next.orphan = m.at, m.gone, m.gone
			u.publish(child, next)
		}
	}
}

// surface makes visible what is due. Everything that looks at the system calls it first, so that a late commit is seen from
// its time on although nothing runs at that time. The lock is held.
func (u *Upstream) surface(now int64) {
	n := 0
	for n < len(u.pending) && u.pending[n].due <= now {
		p := u.pending[n]
		p.m.at = p.due
		p.r.rows[p.m.id-1].late = false
		u.publish(p.r, p.m)
		n++
	}
	u.pending = slices.Delete(u.pending, 0, n)
}
