package simulator

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// History returns the states of the resource's records in the order in which they became visible, up to now. Each state's Value is its own.
func (s *SalesLoft) History(name string) iter.Seq[State] {
	return func(yield func(State) bool) {
		r, moments, created := s.snapshot(name)
		for _, m := range moments {
			state := State{Key: strconv.FormatInt(m.id, 10), At: time.UnixMicro(m.at).UTC(), Spoil: m.spoil}
			if m.updated != null {
				state.Updated = time.UnixMicro(m.updated).UTC()
			}
			if !m.gone {
				state.Value = s.render(nil, r, m, created[m.id-1])
			}
			if !yield(state) {
				return
			}
		}
	}
}

// snapshot returns what the history is rendered from. The moments are never changed once they are there, so they can be
// read without the lock; creation times stand in rows, which do change, and are copied.
func (s *SalesLoft) snapshot(name string) (*resource, []moment, []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.surface(micros(time.Now()))
	r := s.resource(name)
	if r == nil {
		return nil, nil, nil
	}
	created := make([]int64, len(r.rows))
	for i := range r.rows {
		created[i] = r.rows[i].created
	}
	return r, r.history[:len(r.history):len(r.history)], created
}

// line is a state as GET /_simulator/history?resource=people writes it, one a line.
type line struct {
	Key     string          `json:"key"`
	At      string          `json:"at"`
	Updated string          `json:"updated_at,omitempty"`
	Spoil   Spoil           `json:"spoil,omitempty"`
	Value   json.RawMessage `json:"value"` // null: it is gone
}

func (s *SalesLoft) getHistory(w http.ResponseWriter, q *http.Request) {
	name := q.URL.Query().Get("resource")
	if !slices.Contains(s.Resources(), name) {
		s.send(w, nil, reply{status: http.StatusNotFound, body: fmt.Appendf(nil, `{"error":"no resource %q; there are %q"}`, name, s.Resources())})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for state := range s.History(name) {
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

func (s *SalesLoft) getStats(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(s.Stats())
	if err != nil {
		panic(err) // texts and numbers
	}
	s.send(w, nil, reply{status: http.StatusOK, body: body})
}

// command is the body of POST /_simulator/control: the method of SalesLoft with that name, and its arguments.
type command struct {
	Action   string  `json:"action"`
	Resource string  `json:"resource"`
	N        int     `json:"n"`
	Seconds  float64 `json:"seconds"` // late
	How      Spoil   `json:"how"`     // spoil
	Kind     Kind    `json:"kind"`    // fail
	Status   int     `json:"status"`  // fail
	Skip     int     `json:"skip"`    // fail
	Times    int     `json:"times"`   // fail
}

func (s *SalesLoft) postControl(w http.ResponseWriter, q *http.Request) {
	var c command
	decoder := json.NewDecoder(http.MaxBytesReader(w, q.Body, 1<<16))
	decoder.DisallowUnknownFields()
	status, answer := http.StatusOK, map[string]any{}
	if err := decoder.Decode(&c); err != nil {
		status, answer = http.StatusBadRequest, map[string]any{"error": err.Error()}
	} else if names, ok := s.control(c); !ok {
		status, answer = http.StatusBadRequest, map[string]any{"error": fmt.Sprintf("no action %q", c.Action)}
	} else {
		answer["keys"] = append([]string{}, names...)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // texts
	}
	s.send(w, nil, reply{status: status, body: body})
}

// control runs a command; false: there is no such action.
func (s *SalesLoft) control(c command) ([]string, bool) {
	on := map[string]func(string, int) []string{
		"change": s.Change, "create": s.Create, "touch": s.Touch, "touch_counts": s.TouchCounts, "tie": s.Tie,
		"revert": s.Revert, "regress": s.Regress, "delete": s.Delete, "restore": s.Restore,
		"late":  func(r string, n int) []string { return s.Late(r, n, time.Duration(c.Seconds*float64(time.Second))) },
		"spoil": func(r string, n int) []string { return s.Spoil(r, n, c.How) },
	}
	plain := map[string]func(){
		"step": func() { s.Step(c.N) }, "freeze": s.Freeze, "thaw": s.Thaw, "settle": s.Settle, "heal": s.Heal,
		"spend": func() { s.Spend(c.N) }, "expire_tokens": s.ExpireTokens, "revoke_grant": s.RevokeGrant,
		"fail": func() {
			s.Fail(Fault{Kind: c.Kind, Resource: c.Resource, Status: c.Status, Skip: c.Skip, Times: c.Times})
		},
	}
	if f := on[c.Action]; f != nil {
		return f(c.Resource, c.N), true
	}
	f := plain[c.Action]
	if f != nil {
		f()
	}
	return nil, f != nil
}
