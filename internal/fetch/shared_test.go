package fetch

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// P22: a 429 without Retry-After waits until the server's window begins anew, where a header tells that.
func TestP22ResetHeaderOfA429(t *testing.T) {
	for _, c := range []struct {
		name  string
		reset func() string
		want  time.Duration
	}{
		{"seconds", func() string { return "300" }, 5 * time.Minute},
		{"unix", func() string { return fmt.Sprint(time.Now().Add(10 * time.Minute).Unix()) }, 10 * time.Minute},
		{"garbage", func() string { return "soon" }, time.Minute},
		{"date", func() string { return time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat) }, 10 * time.Minute},
		{"none", func() string { return "" }, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { status(429, "X-Reset", c.reset())(w, r) }, ok}}
				cl := client(t, s.ServeHTTP, func(o *Options) { o.Budget = NewBudget(BudgetOptions{ResetHeader: "x-reset"}) })
				if _, err := cl.Do(t.Context(), get("/people")); err != nil {
					t.Fatal(err)
				}
				nearAll(t, s.gaps(), c.want)
			})
		})
	}
}

// P22: what waits when the account is paused beyond a day is told so too, not only who heard it from the server.
func TestP22PastADayEndsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{MaxConcurrent: 1})
		first, err := b.Take(t.Context(), Claim{Flow: "people"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, flow := range []string{"people", "notes", "notes"} {
			wg.Go(func() {
				_, err := b.Take(t.Context(), Claim{Flow: flow})
				want(t, err, cdc.Halt, cdc.Connection, "more than a day")
			})
		}
		synctest.Wait()
		if _, err := b.Throttled(&first, 48*time.Hour, true, "test"); err == nil {
			t.Error("no error")
		}
		wg.Wait()
		b.Done(first)
		if s := b.Stats(); s.Waiting != 0 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		b.Resume()
		if _, err := b.Take(t.Context(), Claim{}); err != nil {
			t.Error(err)
		}
	})
}

// P22: connections that share an account share it fairly too, whatever their streams are called.
func TestP22FairAmongConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		east, west := new(Client), new(Client)
		a, b := Claim{Flow: "people", owner: east}, Claim{Flow: "people", owner: west}
		budget := NewBudget(BudgetOptions{MaxConcurrent: 1})
		first, err := budget.Take(t.Context(), Claim{Flow: "first"})
		if err != nil {
			t.Fatal(err)
		}
		var order []string // written by one at a time
		var wg sync.WaitGroup
		for _, c := range []Claim{a, a, a, a, b, b} {
			wg.Go(func() {
				ticket, err := budget.Take(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, map[*Client]string{east: "east", west: "west"}[c.owner])
				budget.Done(ticket)
			})
			synctest.Wait()
		}
		budget.Done(first)
		wg.Wait()
		if d := cmp.Diff([]string{"east", "west", "east", "west", "east", "east"}, order); d != "" {
			t.Error(d)
		}
	})
}

// P22: a client's requests carry whose they are.
func TestP22ClaimsAreOfTheirClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{MaxConcurrent: 1})
		var clients []*Client
		for range 2 {
			clients = append(clients, client(t, ok, func(o *Options) { o.Budget = b }))
		}
		first, err := b.Take(t.Context(), Claim{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, cl := range clients {
			wg.Go(func() {
				if err := ask(t.Context(), cl); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.mu.Lock()
		if n := len(b.flows); n != 2+1 { // and that of the first
			t.Errorf("%d flows", n)
		}
		b.mu.Unlock()
		b.Done(first)
		wg.Wait()
	})
}

// P22: max_concurrent holds over all clients of an account, and all of it is used.
func TestP22MaxConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		flying, most := 0, 0
		add := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			flying += n
			most = max(most, flying)
		}
		slow := func(w http.ResponseWriter, r *http.Request) {
			add(1)
			<-time.After(time.Second)
			add(-1)
			ok(w, r)
		}
		b := NewBudget(BudgetOptions{MaxConcurrent: 3})
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			cl := client(t, slow, func(o *Options) { o.Budget = b })
			for range 15 {
				wg.Go(func() {
					if err := ask(t.Context(), cl); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if d := time.Since(began); most != 3 || d < 10*time.Second || d > 11*time.Second {
			t.Errorf("%d at a time, in %v", most, d)
		}
	})
}

// Background requests never have the last of the places, and are not starved of them either.
func TestBackgroundLeavesAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{MaxConcurrent: 2})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		back := make(chan Ticket, 10)
		for range 3 {
			wg.Go(func() {
				if ticket, err := b.Take(ctx, Claim{Flow: "full", Background: true}); err == nil {
					back <- ticket
				}
			})
		}
		synctest.Wait()
		if n := b.Stats().InFlight; n != 1 {
			t.Errorf("%d requests of the background are under way", n)
		}
		front, err := b.Take(t.Context(), Claim{Flow: "people"}) // at once: nothing else goes on in this bubble
		if err != nil {
			t.Fatal(err)
		}
		b.Done(<-back) // and its second one goes beside the other
		synctest.Wait()
		if n := b.Stats().InFlight; n != 2 || len(back) != 1 {
			t.Errorf("%d under way, %d of them of the background", n, len(back))
		}
		b.Done(front)
	})
}

// Background requests leave the last of what the server says is left, also where only the server knows how much that is.
func TestBackgroundLeavesTheServersLastTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{RemainingHeader: "X-Left"})
		say := func(left string) {
			ticket, err := b.Take(t.Context(), Claim{})
			if err != nil {
				t.Fatal(err)
			}
			b.Observe(ticket, &Response{Status: 200, Header: http.Header{"X-Left": {left}}, Received: time.Now(), Began: time.Now()})
			b.Done(ticket)
		}
		say("40")
		say("6")
		began := time.Now()
		var took []time.Duration
		for _, background := range []bool{true, true, false, false, false, false, true} {
			ticket, err := b.Take(t.Context(), Claim{Background: background})
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began).Round(time.Second))
			b.Done(ticket)
		}
		if d := cmp.Diff(append(slices.Repeat([]time.Duration{0}, 6), time.Minute), took); d != "" {
			t.Error(d) // of forty four stay for the others, and then nothing is left of six
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{RemainingHeader: "X-Left"})
		ticket, _ := b.Take(t.Context(), Claim{})
		b.Observe(ticket, &Response{Status: 200, Header: http.Header{"X-Left": {"1"}}, Received: time.Now(), Began: time.Now()})
		b.Done(ticket)
		began := time.Now()
		if _, err := b.Take(t.Context(), Claim{Background: true}); err != nil || time.Since(began) < time.Minute {
			t.Errorf("the last one went to the background after %v, %v", time.Since(began), err)
		}
	})
}
