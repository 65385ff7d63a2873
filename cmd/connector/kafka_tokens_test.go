//go:build kafka

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/judge"
	"tidemark/internal/record"
	"tidemark/internal/simulator"
)

// booth stands before the token endpoint of a simulated team.
type booth struct {
	*simulator.SalesLoft
	handler http.Handler
	churn   bool // an access token ends with its first use

	mu       sync.Mutex
	token    string    // the newest access token, until its first use
	answered time.Time // when it was given out
	windows  []time.Duration
	held     chan struct{} // not nil: the next answer is held back for ever, and this closed
}

func open(t *testing.T, o simulator.Options, churn bool) (*booth, string) {
	o.Tokens, o.RateBudget = true, -1
	b := &booth{SalesLoft: simulator.New(o), churn: churn}
	b.handler = b.Handler()
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return b, server.URL
}

// hold keeps the next answer of the token endpoint back; the channel is closed when the server has made it.
func (b *booth) hold() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = make(chan struct{})
	return b.held
}

func (b *booth) measured() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.windows)
}

// ServeHTTP implements http.Handler.
func (b *booth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		b.exchange(w, r)
		return
	}
	b.mu.Lock()
	first := b.token != "" && r.Header.Get("Authorization") == "Bearer "+b.token
	if first {
		b.windows = append(b.windows, time.Since(b.answered))
		b.token = ""
	}
	b.mu.Unlock()
	b.handler.ServeHTTP(w, r)
	if first && b.churn {
		b.ExpireTokens()
	}
}

// exchange answers a token request, unless its answer is to be held back.
func (b *booth) exchange(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	b.handler.ServeHTTP(answer, r)
	var said struct {
		Access string `json:"access_token"`
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &said) // a refusal has none
	b.mu.Lock()
	held := b.held
	if b.held = nil; held == nil {
		b.token = said.Access
	}
	b.mu.Unlock()
	if held != nil {
		close(held)
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client may be gone
	b.mu.Lock()
	b.answered = time.Now()
	b.mu.Unlock()
}

// TestTokenWindow measures how long the window is in which a crash costs a grant that has no grace: from the answer of the token
// endpoint to the commit of its record. What is measured is a little more: to the first request with the new token, which leaves when
// the commit is known and not before (9).
func TestTokenWindow(t *testing.T) {
	refreshes := number(t, "REFRESHES", 200)
	b := newBed(t)
	for _, broker := range []string{"embedded", "Kafka"} {
		team, url := open(t, simulator.Options{Seed: 1, People: 5}, true)
		b.connections(url, "{people: {interval: 20ms, reconcile: false}}")
		env := []string{"VALUE_FORMAT=json", "LOG_LEVEL=warn"}
		if broker == "embedded" {
			env = append(env, "KAFKA_BROKERS=")
		}
		p := b.connector("one", env...)
		b.until(fmt.Sprintf("%d refreshes", refreshes), p, func() bool { return len(team.measured()) >= refreshes+5 })
		p.kill()
		all := team.measured()[5:] // those while everything is new
		slices.Sort(all)
		at := func(part float64) time.Duration {
			return all[int(part*float64(len(all)-1))].Round(10 * time.Microsecond)
		}
		fmt.Printf("window broker=%s refreshes=%d min=%v p50=%v p90=%v p99=%v max=%v\n", broker, len(all), at(0), at(0.5), at(0.9), at(0.99), at(1))
	}
}

// TestTokensKillNine kills the connector in that window, of a server without grace: the connection halts, and it alone; `tokens
// replace` mends it, and nothing is lost of either (K19).
func TestTokensKillNine(t *testing.T) {
	b := newBed(t)
	var file string
	teams := map[string]*booth{}
	for i, name := range []string{"crm", "ops"} {
		team, url := open(t, simulator.Options{Seed: int64(i), People: 300, TokenLife: time.Hour}, false)
		teams[name] = team
		file += salesloft(name, url, "{people: {interval: 500ms, reconcile: false}}")
	}
	b.write("connections.yaml", file)
	env := []string{"VALUE_FORMAT=json", "LOG_LEVEL=warn"}
	p := b.connector("one", env...)
	p.rest(2)
	held := teams["crm"].hold()
	teams["crm"].ExpireTokens()
	b.until("a refresh", p, func() bool {
		select {
		case <-held:
			return true
		default:
			return false
		}
	})
	p.kill()
	for _, team := range teams {
		team.Change("people", 40)
	}
	p = b.connector("one", env...)
	phase := func(name string) (phase, why string) {
		st, _ := p.status()
		for _, c := range st.Connections {
			if c.Connection == name {
				return c.Phase.Name, c.Phase.Error
			}
		}
		return "", ""
	}
	b.until("crm to halt", p, func() bool { now, _ := phase("crm"); return now == "halted" })
	if _, why := phase("crm"); !strings.Contains(why, "invalid_grant") || !strings.Contains(why, "tokens replace crm") && !strings.Contains(p.text(), "tokens replace crm") {
		t.Errorf("crm says %q", why)
	}
	seen := p.passes()["ops/people/-"]
	b.until("passes of ops", p, func() bool { return p.passes()["ops/people/-"] >= seen+3 })
	if now, why := phase("ops"); now != "running" {
		t.Errorf("ops is %s: %s", now, why)
	}
	teams["crm"].Change("people", 40)
	b.replace("crm", teams["crm"].Authorize())
	p.terminate()
	p = b.connector("one", env...)
	p.rest(3)
	p.terminate()
	for name, team := range teams {
		var history []judge.State
		for s := range team.History("people") {
			history = append(history, judge.State{Key: s.Key, At: s.At, Value: s.Value})
		}
		var events []judge.Event
		for _, r := range b.all(b.name + "." + name + ".people") {
			events = append(events, judge.Event{Key: string(r.Key), Op: header(r, "ce_op"), Value: r.Value, Partition: r.Partition, Offset: r.Offset, ID: header(r, "ce_id")})
		}
		v, err := judge.Judge(record.Rules{Algorithm: 1, Exclude: []string{"counts", "updated_at"}}, history, events, judge.Options{AtRest: true, Ops: true})
		if err != nil || !v.Clean() || v.Events < 300 {
			t.Errorf("%s: %v %v\n%s", name, err, v, strings.Join(v.Examples, "\n"))
		}
	}
}

// replace runs `connector tokens replace`.
func (b *bed) replace(connection, token string) {
	b.Helper()
	c := exec.Command(b.binary, "tokens", "replace", connection, "--yes")
	c.Dir, c.Stdin = b.dir, strings.NewReader(token+"\n")
	c.Env = append(c.Environ(), "VALUE_FORMAT=json", "DEPLOYMENT="+b.name, "KAFKA_BROKERS="+b.brokers, "SECRET_KEY="+b.seal, "CONNECTIONS="+b.dir+"/connections.yaml")
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("tokens replace: %v\n%s", err, out)
	}
}
