package simulator

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"
)

// History returns the states of the resource's records in the order in which they became visible, up to now. A record that
// leaves a partition has a state without Value there. Each state's Value is its own.
func (u *Upstream) History(name string) iter.Seq[State] {
	return func(yield func(State) bool) {
		r, moments, origins := u.snapshot(name)
		seed := uint64(u.o.Seed)
		listed := map[int64][]string{} // where each record was, if there are partitions
		for _, m := range moments {
			o := origins[m.id-1]
			state := State{ID: r.keyOf(seed, m.id), At: time.UnixMicro(m.at).UTC(), Spoil: m.spoil}
			if m.updated != null {
				state.Updated = time.UnixMicro(m.updated).UTC()
			}
			var value []byte
			if !m.gone {
				value = u.render(nil, r, m, o)
			}
			if r.places == nil {
				state.Key, state.Value = state.ID, value
				if !yield(state) {
					return
				}
				continue
			}
			before, now := listed[m.id], []string(nil)
			if !m.gone {
				now = r.places(seed, m, o)
			}
			listed[m.id] = now
			if !state.spread(yield, before, now, value) {
				return
			}
		}
	}
}

// showing is a state that an answer showed although it was not the present one.
type showing struct {
	name  string // of the resource
	m     moment // at is when it was shown
	other bool   // the record is another tenant's
}

// shows notes what a lying answer shows of a record. The lock is held.
func (u *Upstream) shows(r *resource, m moment, other bool) {
	if now := u.resource(r.name).rows[m.id-1].moment; !other && m == now {
		return
	}
	m.at = micros(time.Now())
	u.shown = append(u.shown, showing{r.name, m, other})
}

// Shown returns what answers showed of the resource that was not true when they did, in the order of time: states of long ago
// (Stale), records that a lookup did not find (Stale, Hidden; without Value), records of another tenant (Tenant). Who reads the
// API cannot tell them from the truth.
func (u *Upstream) Shown(name string) iter.Seq[State] {
	u.mu.Lock()
	shown := u.shown[:len(u.shown):len(u.shown)]
	u.mu.Unlock()
	return func(yield func(State) bool) {
		r, _, origins := u.snapshot(name)
		for _, s := range shown {
			if s.name == name && !s.state(u, r, origins[s.m.id-1], yield) {
				return
			}
		}
	}
}

// state yields what was shown, for every partition in which it could be.
func (s showing) state(u *Upstream, r *resource, o origin, yield func(State) bool) bool {
	seed, id := uint64(u.o.Seed), s.m.id
	out := State{At: time.UnixMicro(s.m.at).UTC(), Spoil: s.m.spoil}
	places := []string(nil)
	if r.places != nil {
		places = r.places(seed, s.m, o)
	}
	switch {
	case s.other:
		out.Value = u.renderOther(nil, r, s.m, o)
		if seed, id = mix(seed), id+1_000_000; r.log { // its partition is not what was asked for
			o.parent += 1_000_000
			places = r.places(seed, s.m, o)
		}
	case !s.m.gone:
		out.Value = u.render(nil, r, s.m, o)
	}
	out.ID = r.keyOf(seed, id)
	if r.places == nil {
		out.Key = out.ID
		return yield(out)
	}
	return out.spread(yield, nil, places, out.Value)
}

// spread yields the state for every partition in which the record is or was.
func (s State) spread(yield func(State) bool, before, now []string, value []byte) bool {
	for _, place := range before {
		if !slices.Contains(now, place) && !yield(s.in(place, nil)) {
			return false
		}
	}
	for _, place := range now {
		if !yield(s.in(place, slices.Clone(value))) {
			return false
		}
	}
	return true
}

// in is the state in a partition. The key is what the partition's value and the identity are together.
func (s State) in(place string, value []byte) State {
	s.Partition, s.Value = place, value
	s.Key = string(encoded(nil, []string{place, s.ID}))
	return s
}

// snapshot returns what the history is rendered from. The moments are never changed once they are there, so they can be
// read without the lock; origins stand in rows, which do change, and are copied.
func (u *Upstream) snapshot(name string) (*resource, []moment, []origin) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.surface(micros(time.Now()))
	r := u.resource(name)
	if r == nil {
		return nil, nil, nil
	}
	origins := make([]origin, len(r.rows))
	for i := range r.rows {
		origins[i] = r.rows[i].origin
	}
	return r, r.history[:len(r.history):len(r.history)], origins
}

// line is a state as GET /_simulator/history?resource=people writes it, one a line.
type line struct {
	Key     string          `json:"key"`
	At      string          `json:"at"`
	Updated string          `json:"updated_at,omitempty"`
	Spoil   Spoil           `json:"spoil,omitempty"`
	Value   json.RawMessage `json:"value"` // null: it is gone
}

func (u *Upstream) getHistory(w http.ResponseWriter, q *http.Request) {
	name := q.URL.Query().Get("resource")
	if !slices.Contains(u.Resources(), name) {
		u.send(w, nil, reply{status: http.StatusNotFound, body: fmt.Appendf(nil, `{"error":"no resource %q; there are %q"}`, name, u.Resources())})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for state := range u.History(name) {
		l := line{Key: state.Key, At: state.At.Format(layout), Spoil: state.Spoil, Value: state.Value}
		if !state.Updated.IsZero() {
			l.Updated = state.Updated.Format(layout)
		}
		if l.Value == nil {
			l.Value = json.RawMessage("null")
		}
		if encoder.Encode(l) != nil {
			return // the client is gone
		}
	}
	_ = out.Flush() // as above
}

func (u *Upstream) getStats(w http.ResponseWriter, _ *http.Request) {
	u.send(w, nil, reply{status: http.StatusOK, body: encoded(nil, u.Stats())})
}

// command is the body of POST /_simulator/control: the method with that name, and its arguments.
type command struct {
	Action     string  `json:"action"`
	Resource   string  `json:"resource"`
	N          int     `json:"n"`
	Seconds    float64 `json:"seconds"`     // late
	How        Spoil   `json:"how"`         // spoil
	Kind       Kind    `json:"kind"`        // fail
	Status     int     `json:"status"`      // fail
	RetryAfter string  `json:"retry_after"` // fail
	Skip       int     `json:"skip"`        // fail
	Times      int     `json:"times"`       // fail
	Every      int     `json:"every"`       // fail
}

func (u *Upstream) postControl(w http.ResponseWriter, q *http.Request) {
	var c command
	decoder := json.NewDecoder(http.MaxBytesReader(w, q.Body, 1<<16))
	decoder.DisallowUnknownFields()
	status, answer := http.StatusOK, map[string]any{}
	if err := decoder.Decode(&c); err != nil {
		status, answer = http.StatusBadRequest, map[string]any{"error": err.Error()}
	} else if names, ok := u.control(c); !ok {
		status, answer = http.StatusBadRequest, map[string]any{"error": fmt.Sprintf("no action %q", c.Action)}
	} else {
		answer["keys"] = append([]string{}, names...)
	}
	u.send(w, nil, reply{status: status, body: encoded(nil, answer)})
}

// control runs a command; false: there is no such action.
func (u *Upstream) control(c command) ([]string, bool) {
	on := map[string]func(string, int) []string{
		"change": u.Change, "create": u.Create, "touch": u.Touch, "touch_counts": u.TouchCounts, "tie": u.Tie,
		"revert": u.Revert, "regress": u.Regress, "delete": u.Delete, "restore": u.Restore, "move": u.Move,
		"late":  func(r string, n int) []string { return u.Late(r, n, time.Duration(c.Seconds*float64(time.Second))) },
		"spoil": func(r string, n int) []string { return u.Spoil(r, n, c.How) },
	}
	plain := map[string]func(){
		"step": func() { u.Step(c.N) }, "freeze": u.Freeze, "thaw": u.Thaw, "settle": u.Settle, "heal": u.Heal,
		"spend": func() { u.Spend(c.N) },
		"fail": func() {
			u.Fail(Fault{Kind: c.Kind, Resource: c.Resource, Status: c.Status, RetryAfter: c.RetryAfter, N: c.N, Skip: c.Skip, Times: c.Times, Every: c.Every})
		},
	}
	if f := on[c.Action]; f != nil {
		return f(c.Resource, c.N), true
	}
	if f := u.actions[c.Action]; f != nil {
		return f(c.N), true
	}
	f := plain[c.Action]
	if f != nil {
		f()
	}
	return nil, f != nil
}
