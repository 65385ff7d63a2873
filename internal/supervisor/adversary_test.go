//go:build synctests

package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// adversary is an API that lies about what there is, and knows the truth: which keys exist at each moment, and what of them the
// credential may see.
type adversary struct {
	plot   *plot
	random *rand.Rand

	mu      sync.Mutex
	things  map[string]*thing // by key
	buried  []string          // keys that were deleted
	newest  time.Time
	names   int
	truths  []truth
	last    map[string]truth
	walks   map[string]*stroll // by view: the listing under way
	walked  int
	looked  int
	lies    []*telling
	shy     map[string]bool // keys that one listing has missed, where a second one would make that the truth
	replica map[string]thing
	backup  map[string]thing
	token   int  // of the present login
	calm    bool // no more lies
	frozen  bool // no more changes
	told    map[string]int
	begun   []string // the listings, with the lie that each tells
}

// thing is one record upstream.
type thing struct {
	ID     string
	Views  []string
	At     time.Time
	N      int
	Open   bool
	Gone   bool // it says so itself
	Hidden bool // the credential may not see it, neither in a list nor alone
}

func (t thing) json() []byte {
	return fmt.Appendf(nil, `{"id":%q,"at":%q,"n":%d,"open":%t,"deleted":%t}`, t.ID, t.At.UTC().Format(stamp), t.N, t.Open, t.Gone)
}

const stamp = "2006-01-02T15:04:05.000Z"

// truth is what became true of a key for this credential.
type truth struct {
	At       time.Time
	Key      string
	Value    string // "": it is not there, and Why
	Why      string // gone, hidden, declared, filtered
	Optional bool   // it was shown, but is not what there is
}

// stroll is a listing of one view, as far as it has got.
type stroll struct {
	n, page int
	ended   bool
	less    bool // it goes on with a login that sees less
	at      time.Time
	lie     *telling
}

// telling is a lie that is being told.
type telling struct {
	lie
	since   time.Time // zero: not yet
	victims map[string]bool
	strange []thing // of another tenant
	struck  int
}

// String is what it does; the truth where there is no lie.
func (l *telling) String() string {
	if l == nil {
		return "the truth"
	}
	return l.Do
}

func (l *telling) of(view string) bool { return l.View == "" || l.View == view }

func newAdversary(p *plot) *adversary {
	a := &adversary{
		plot: p, random: rand.New(rand.NewPCG(uint64(p.Seed), 0xadf)), things: map[string]*thing{}, last: map[string]truth{},
		walks: map[string]*stroll{}, shy: map[string]bool{}, token: 1, told: map[string]int{},
	}
	for _, l := range p.Lies {
		a.lies = append(a.lies, &telling{lie: l})
	}
	for range p.Size {
		a.create()
	}
	return a
}

func (a *adversary) keyOf(t *thing) string {
	if a.plot.Views == 0 || a.plot.Shared {
		return t.ID
	}
	return fmt.Sprintf("[%q,%q]", t.Views[0], t.ID)
}

// tick is the time of a change; no two changes share one.
func (a *adversary) tick() time.Time {
	now := time.Now().Truncate(time.Millisecond)
	if !now.After(a.newest) {
		now = a.newest.Add(time.Millisecond)
	}
	a.newest = now
	return now
}

// state is what is true of a key now.
func (a *adversary) state(key string) truth {
	t := a.things[key]
	now := truth{At: time.Now(), Key: key}
	switch {
	case t == nil:
		now.Why = "gone"
	case t.Hidden:
		now.Why = "hidden"
	case t.Gone:
		now.Why = "declared"
	case a.plot.Filter == "delete" && !t.Open:
		now.Why = "filtered"
	default:
		now.Value = string(t.json())
		now.Optional = !t.Open && a.plot.Filter == "keep" // it is left as it was
	}
	return now
}

// note writes down what is true of a key now, where that is news.
func (a *adversary) note(key string) {
	now, before := a.state(key), a.last[key]
	if before.Key != "" && before.Value == now.Value && before.Why == now.Why {
		return
	}
	a.last[key] = now
	a.truths = append(a.truths, now)
}

// shown notes that a list shows a record that is not what there is: of another tenant, or of another time. It may be published,
// and what there is after it.
func (a *adversary) shown(key string, t thing) {
	if a.state(key).Value == string(t.json()) || a.plot.Filter != "" && !t.Open || t.Gone {
		return
	}
	a.truths = append(a.truths, truth{At: time.Now(), Key: key, Value: string(t.json()), Optional: true}, a.state(key))
	a.last[key] = a.state(key)
}

func (a *adversary) any(fits func(*thing) bool) string {
	var keys []string
	for key, t := range a.things {
		if fits(t) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return keys[a.random.IntN(len(keys))]
}

func (a *adversary) create() {
	a.names++
	letters := "abcdefghijklmnopqrstuvwxyz"
	t := &thing{ID: fmt.Sprintf("%c%05d", letters[a.random.IntN(26)], a.names), At: a.tick(), N: 1, Open: a.random.IntN(4) > 0}
	if p := a.plot; p.Views > 0 {
		views := p.views()
		at := a.random.IntN(len(views))
		t.Views = []string{views[at]}
		if p.Shared && a.random.IntN(3) == 0 {
			t.Views = append(t.Views, views[(at+1)%len(views)])
		}
	}
	a.put(t)
}

func (a *adversary) put(t *thing) {
	key := a.keyOf(t)
	a.things[key] = t
	a.note(key)
}

// drop deletes a record without a trace.
func (a *adversary) drop(key string) bool {
	if a.things[key] == nil || !a.mayLeave(key) {
		return false
	}
	delete(a.things, key)
	a.buried = append(a.buried, key)
	a.note(key)
	return true
}

// mayLeave reports whether a row may leave its place in the list. Where a listing is read by numbers, the first row of the next
// page moves to the page that was read already, and this listing misses it. If nothing betrays that and no lookup tells, a second
// listing that misses the same record makes it gone for good, for every connector: so that is done to a record once.
func (a *adversary) mayLeave(key string) bool {
	if !a.plot.fragile() || a.plot.Pages != "page" {
		return true
	}
	for _, view := range a.things[key].viewsOf() {
		s := a.walks[view]
		if s == nil || s.over() {
			continue
		}
		rows := a.rows(view)
		at := slices.IndexFunc(rows, func(t thing) bool { return a.keyOf(&t) == key })
		border := s.page * a.plot.Page
		if at < 0 || at >= border || border >= len(rows) {
			continue
		}
		next := a.keyOf(&rows[border])
		if a.shy[next] || s.lie != nil {
			return false
		}
		a.shy[next] = true
	}
	return true
}

func (t *thing) viewsOf() []string {
	if len(t.Views) == 0 {
		return []string{""}
	}
	return t.Views
}

func (s *stroll) over() bool { return s.ended || time.Since(s.at) > 2*time.Minute }

// idle reports whether no listing is under way.
func (a *adversary) idle() bool {
	for _, s := range a.walks {
		if !s.over() {
			return false
		}
	}
	return true
}

// change lets one thing happen upstream.
func (a *adversary) change() {
	p := a.plot
	n := a.random.IntN(100)
	if !p.listed() && (n >= 40 && n < 62 || n >= 70 && n < 78 || n >= 96) { // nothing disappears in silence where nobody lists
		n = 85
	}
	switch {
	case n < 22:
		a.create()
	case n < 40:
		a.update()
	case n < 62:
		a.drop(a.any(func(*thing) bool { return true }))
	case n < 70:
		a.recreate()
	case n < 75:
		a.rename(func(id string) string { a.names++; return fmt.Sprintf("z%05d", a.names) })
	case n < 78:
		a.rename(func(id string) string {
			if up := strings.ToUpper(id); up != id {
				return up
			}
			return strings.ToLower(id)
		})
	case n < 86 && p.Filter != "":
		a.revise(func(t *thing) { t.Open = !t.Open })
	case n < 86 && p.Views > 0:
		a.move()
	case n < 86 && p.Declare:
		a.revise(func(t *thing) { t.Gone = true })
	case n < 90:
		a.purge()
	case n < 96 || !a.idle():
		a.update()
	case n < 98:
		a.upheave()
	default:
		a.permission()
	}
}

func (a *adversary) update() { a.revise(func(t *thing) { t.N++ }) }

// revise changes a record, which gets a new time and with it another place in what is sorted by that.
func (a *adversary) revise(do func(*thing)) {
	key := a.any(func(t *thing) bool { return !t.Gone })
	if key == "" || a.plot.Reads != "" && !a.mayLeave(key) {
		return
	}
	t := *a.things[key]
	do(&t)
	t.At = a.tick()
	a.things[key] = &t
	a.note(key)
}

// recreate brings a deleted key back with another content.
func (a *adversary) recreate() {
	if len(a.buried) == 0 {
		return
	}
	key := a.buried[a.random.IntN(len(a.buried))]
	if a.things[key] != nil {
		return
	}
	t := &thing{ID: key, At: a.tick(), N: a.random.IntN(5), Open: true}
	if a.plot.Views > 0 && !a.plot.Shared {
		parts := strings.Split(strings.Trim(key, `[]"`), `","`)
		t.ID, t.Views = parts[1], parts[:1]
	} else if a.plot.Views > 0 {
		t.Views = a.plot.views()[:1]
	}
	a.put(t)
}

// rename gives a record another key.
func (a *adversary) rename(other func(string) string) {
	key := a.any(func(t *thing) bool { return !t.Gone && !t.Hidden })
	if key == "" {
		return
	}
	t := *a.things[key]
	t.ID, t.At = other(t.ID), a.tick()
	if a.things[a.keyOf(&t)] == nil && a.drop(key) {
		a.put(&t)
	}
}

// move takes a record to another view: with a key of its own, unless the views share theirs.
func (a *adversary) move() {
	key := a.any(func(t *thing) bool { return !t.Hidden })
	if key == "" || a.plot.Shared && a.plot.fragile() && a.shy[key] || !a.mayLeave(key) {
		return
	}
	a.shy[key] = true // a round of listings may miss it on its way, as above
	views := a.plot.views()
	t := *a.things[key]
	t.Views = []string{views[a.random.IntN(len(views))]}
	if t.At = a.tick(); a.plot.Shared {
		a.things[key] = &t
		a.note(key)
	} else if a.things[a.keyOf(&t)] == nil && a.drop(key) {
		a.put(&t)
	}
}

// purge takes records out of the list that have said for long enough that they are deleted.
func (a *adversary) purge() {
	for key, t := range a.things {
		if t.Gone && time.Since(t.At) > 30*time.Minute {
			a.drop(key)
		}
	}
}

// upheave changes much at once.
func (a *adversary) upheave() {
	switch a.random.IntN(5) {
	case 0: // ids renumbered
		for _, key := range a.keys() {
			t := *a.things[key]
			a.drop(key)
			a.names++
			t.ID, t.At = fmt.Sprintf("n%05d", a.names), a.tick()
			a.put(&t)
		}
	case 1, 2:
		for range 5 + a.random.IntN(30) {
			a.drop(a.any(func(*thing) bool { return true }))
		}
	case 3:
		a.backup = map[string]thing{}
		for key, t := range a.things {
			a.backup[key] = *t
		}
	default:
		a.restore()
	}
}

// restore puts a backup back: what came after it is gone, and what has gone since is there again, as it was.
func (a *adversary) restore() {
	if a.backup == nil {
		return
	}
	before := a.things
	a.things = map[string]*thing{}
	for key, t := range a.backup {
		a.things[key] = &t
		a.note(key)
	}
	for key := range before {
		if a.things[key] == nil {
			a.buried = append(a.buried, key)
			a.note(key)
		}
	}
}

func (a *adversary) keys() []string {
	var keys []string
	for key := range a.things {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// permission takes some records from the sight of the credential, or gives them back.
func (a *adversary) permission() {
	share := []float64{0.02, 0.05, 0.4}[a.random.IntN(3)]
	give := a.random.IntN(2) == 0
	for _, key := range a.keys() {
		if t := a.things[key]; give && t.Hidden || !give && a.random.Float64() < share {
			t.Hidden = !give
			a.note(key)
		}
	}
}

// run changes things until it is told to stop.
func (a *adversary) run(stop <-chan struct{}) {
	for {
		a.mu.Lock()
		wait := time.Duration(a.random.ExpFloat64() * float64(a.plot.Pace))
		a.mu.Unlock()
		select {
		case <-time.After(min(wait, 10*time.Minute)):
		case <-stop:
			return
		}
		a.mu.Lock()
		if !a.frozen {
			a.change()
		}
		a.mu.Unlock()
	}
}

// heal ends the lies.
func (a *adversary) heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calm = true
}

// crowded reports whether a view has so many records that its listing is cut.
func (a *adversary) crowded() bool {
	for _, view := range append(a.plot.views(), "") {
		if len(a.rows(view)) >= a.plot.Cap {
			return true
		}
	}
	return false
}

// freeze ends the changes, once no listing is under way and none is cut off. It reports whether that was so.
func (a *adversary) freeze() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = a.idle()
	for a.frozen && a.plot.Cap > 0 && a.crowded() {
		a.drop(a.any(func(*thing) bool { return true }))
	}
	return a.frozen
}
