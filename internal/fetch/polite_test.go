package fetch

import (
	"context"
	"errors"
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

// near compares durations that the network in the bubble may add a little to.
func near(got, want time.Duration) bool { return got >= want && got < want+want/10+time.Second }

func nearAll(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.EqualFunc(got, want, near) {
		t.Errorf("pauses %v, want about %v", got, want)
	}
}

// P22: Retry-After is obeyed, in seconds and as a date by the server's clock, also when it is long, and shown as paused.
func TestP22RetryAfter(t *testing.T) {
	date := func(d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			wrong := time.Now().Add(-3 * time.Hour).UTC() // the server's clock is late: only the difference counts
			status(429, "Date", wrong.Format(http.TimeFormat), "Retry-After", wrong.Add(d).Format(http.TimeFormat))(w, r)
		}
	}
	for _, c := range []struct {
		name string
		step http.HandlerFunc
		want time.Duration
	}{
		{"seconds", status(429, "Retry-After", "7"), 7 * time.Second},
		{"fraction", status(429, "Retry-After", " 1.5 "), 2 * time.Second},
		{"hours", status(429, "Retry-After", "72000"), 20 * time.Hour},
		{"date", date(90 * time.Second), 90 * time.Second},
		{"past date", date(-time.Hour), time.Minute},
		{"negative", status(429, "Retry-After", "-5"), time.Minute},
		{"garbage", status(429, "Retry-After", "soon"), time.Minute},
		{"zero", status(429, "Retry-After", "0"), time.Second},
		{"silent", status(429), time.Minute},
		{"503", status(503, "Retry-After", "120"), 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []http.HandlerFunc{c.step, ok}}
				cl := client(t, s.ServeHTTP, nil)
				done := make(chan error)
				go func() { _, err := cl.Do(t.Context(), get("/people")); done <- err }()
				<-time.After(500 * time.Millisecond)
				if until, why := cl.Budget().Paused(); until.IsZero() || why == "" {
					t.Error("the pause is not shown")
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				nearAll(t, s.gaps(), c.want)
				if until, _ := cl.Budget().Paused(); !until.IsZero() {
					t.Error("still paused")
				}
				if n := cl.Stats().Throttled; n != 1 {
					t.Errorf("%d throttled", n)
				}
			})
		})
	}
}

// P22: a year is an error, and so is a day of 429s without an answer in between.
func TestP22PastADayIsAnError(t *testing.T) {
	for _, after := range []string{"31536000", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			cl := client(t, status(429, "Retry-After", after), nil)
			_, err := cl.Do(t.Context(), get("/people"))
			want(t, err, cdc.Halt, cdc.Connection, "more than a day", "/people")
			_, err = cl.Do(t.Context(), get("/people")) // nobody else waits for a year either
			want(t, err, cdc.Halt, cdc.Connection, "more than a day")
			if n := cl.Stats().Requests; n != 1 {
				t.Errorf("%d requests", n)
			}
			cl.Budget().Resume() // until somebody says so
			_, err = cl.Do(t.Context(), get("/people"))
			want(t, err, cdc.Halt, cdc.Connection, "more than a day")
			if n := cl.Stats().Requests; n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := client(t, status(429), nil).Do(t.Context(), get("/people"))
		want(t, err, cdc.Halt, cdc.Connection, "more than a day")
		if d := time.Since(began); d < 24*time.Hour || d > 25*time.Hour {
			t.Errorf("after %v", d)
		}
	})
}

// P22: silent 429s double from a minute to a quarter of an hour, and an answer ends that. Pauses are no attempts.
func TestP22SilentDoubling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: slices.Concat(slices.Repeat([]http.HandlerFunc{status(429)}, 7), []http.HandlerFunc{ok, status(429), ok})}
		cl := client(t, s.ServeHTTP, nil)
		for range 2 {
			if _, err := cl.Do(t.Context(), get("/people")); err != nil {
				t.Fatal(err)
			}
		}
		const m = time.Minute
		nearAll(t, s.gaps(), m, 2*m, 4*m, 8*m, 15*m, 15*m, 15*m, 0, m)
	})
}

// P22: ten requests under way when the account is throttled are one pause, and after it one request goes first.
func TestP22OnePauseForAllInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		cl := client(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			at = append(at, time.Since(began).Round(time.Second))
			n := len(at)
			mu.Unlock()
			<-time.After(2 * time.Second)
			if n <= 10 {
				status(429)(w, r)
				return
			}
			ok(w, r)
		}, nil)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := cl.Do(t.Context(), get("/people")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(at)
		s := time.Second
		wanted := slices.Concat(slices.Repeat([]time.Duration{0}, 10), []time.Duration{62 * s}, slices.Repeat([]time.Duration{64 * s}, 9))
		if d := cmp.Diff(wanted, at); d != "" {
			t.Error(d)
		}
	})
}

// P22: the identical request is repeated.
func TestP22IdenticalRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{status(429), status(500), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ok}}
		cl := client(t, s.ServeHTTP, nil)
		r := &Request{Method: "POST", URL: api + "/search?a=1&b=%2B#part", Header: http.Header{"X-Test": {"x"}}, Body: []byte(`{"q":1}`)}
		resp, err := cl.Do(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
		if len(s.seen) != 4 {
			t.Fatalf("%d requests, want 4", len(s.seen))
		}
		for _, got := range s.seen {
			if want := `POST /search?a=1&b=%2B x {"q":1}`; got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		}
		if r.Header.Get("User-Agent") != "" {
			t.Error("the caller's header was changed")
		}
	})
}

// Passing errors are repeated with a growing pause, so many times, and then returned.
func TestRetryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []http.HandlerFunc{status(502)}}
		cl := client(t, s.ServeHTTP, func(o *Options) { o.Attempts, o.BackoffMax = 5, 3*time.Second })
		_, err := cl.Do(t.Context(), get("/people"))
		want(t, err, cdc.Retry, cdc.Stream, "502", "GET "+api+"/people")
		for i, most := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			if d := s.gaps()[i]; d < most/2 || d > most+time.Millisecond {
				t.Errorf("pause %d is %v, want from half of %v to it", i, d, most)
			}
		}
		if len(s.at) != 5 {
			t.Errorf("%d requests, want 5", len(s.at))
		}
	})
}

// P22: within any stretch of Per no more than the budget is spent, and all of it is.
func TestP22RateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{Budget: 60, Per: time.Minute})
		var at []time.Time
		for i := range 400 {
			tk, err := b.Take(t.Context(), Claim{Cost: float64(1 + i%3)})
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, time.Now())
			b.Done(tk)
			if i%50 == 17 {
				<-time.After(time.Duration(i) * 100 * time.Millisecond)
			}
		}
		for i := range at {
			spent := 0.0
			for j := i; j < len(at) && at[j].Sub(at[i]) < time.Minute; j++ {
				spent += float64(1 + j%3)
			}
			if spent > 60 {
				t.Fatalf("%v spent in the minute from %v", spent, at[i])
			}
		}
		if d := at[len(at)-1].Sub(at[0]); d > 16*time.Minute {
			t.Errorf("800 at 60 a minute took %v", d)
		}
	})
}

// A cost beyond the budget is the whole budget, not a wait for ever.
func TestBudgetSmallerThanCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{Budget: 1, Per: time.Second})
		began := time.Now()
		for _, bg := range []bool{false, true, false} {
			tk, err := b.Take(t.Context(), Claim{Cost: 30, Background: bg})
			if err != nil {
				t.Fatal(err)
			}
			b.Done(tk)
		}
		if d := time.Since(began); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("took %v, want about 2 s", d)
		}
	})
}

// turns lets the claims wait in the order given for a budget of one at a time, and returns the order in which they went.
func turns(t *testing.T, b *Budget, claims ...Claim) []string {
	t.Helper()
	first, err := b.Take(t.Context(), Claim{Flow: "first"})
	if err != nil {
		t.Fatal(err)
	}
	var order []string // written by one at a time
	var wg sync.WaitGroup
	for _, c := range claims {
		wg.Go(func() {
			tk, err := b.Take(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, c.Flow)
			b.Done(tk)
		})
		synctest.Wait()
	}
	b.Done(first)
	wg.Wait()
	return order
}

// P22: streams share fairly: one with many requests does not keep another waiting; within a stream they go in order.
func TestP22FairAmongStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := Claim{Flow: "a"}, Claim{Flow: "b"}, Claim{Flow: "c", Cost: 3}
		got := turns(t, NewBudget(BudgetOptions{MaxConcurrent: 1}), a, a, a, a, a, a, b, b, c, c)
		if d := cmp.Diff([]string{"a", "b", "c", "a", "b", "a", "a", "c", "a", "a"}, got); d != "" {
			t.Error(d)
		}
	})
}

// Reconciliation gets a share: of four turns one.
func TestBackgroundGetsAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, a := Claim{Flow: "full", Background: true}, Claim{Flow: "a"}
		got := turns(t, NewBudget(BudgetOptions{MaxConcurrent: 1}), full, full, full, a, a, a, a, a, a, a, a)
		if d := cmp.Diff([]string{"full", "a", "a", "a", "a", "full", "a", "a", "a", "a", "full"}, got); d != "" {
			t.Error(d)
		}
	})
}

// Reconciliation gets a share of the budget, never the last token.
func TestBackgroundLeavesTheLastTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{Budget: 100, Per: time.Minute})
		began := time.Now()
		var back []time.Duration
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 91 {
				tk, err := b.Take(t.Context(), Claim{Flow: "full", Background: true})
				if err != nil {
					t.Error(err)
				}
				back = append(back, time.Since(began))
				b.Done(tk)
			}
		})
		synctest.Wait() // its 91st waits
		for range 10 {
			tk, err := b.Take(t.Context(), Claim{Flow: "people"})
			if err != nil {
				t.Fatal(err)
			}
			b.Done(tk)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the others waited %v", d)
		}
		wg.Wait()
		if back[89] != 0 || back[90] < time.Minute {
			t.Errorf("the last two went after %v and %v", back[89], back[90])
		}
	})
}

// A claim that is given up leaves the queue, and hands back what it was just given.
func TestBudgetCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{MaxConcurrent: 1})
		tk, _ := b.Take(t.Context(), Claim{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := b.Take(ctx, Claim{}); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := b.Stats().Waiting; n != 3 {
			t.Errorf("%d wait", n)
		}
		cancel()
		wg.Wait()
		b.Done(tk)
		if s := b.Stats(); s.Waiting != 0 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		if _, err := b.Take(t.Context(), Claim{}); err != nil {
			t.Error(err)
		}
	})
}

// A claim that is let go in the very moment in which it is given up hands its ticket back.
func TestBudgetCancelAgainstGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{MaxConcurrent: 1})
		tk, _ := b.Take(t.Context(), Claim{})
		ctx, cancel := context.WithCancel(t.Context())
		err := make(chan error)
		go func() { _, e := b.Take(ctx, Claim{}); err <- e }()
		synctest.Wait()
		b.mu.Lock()
		cancel() // the claim wakes up by this,
		b.done(tk)
		b.advance() // and is granted before it can say so
		b.mu.Unlock()
		if e := <-err; !errors.Is(e, context.Canceled) {
			t.Error(e)
		}
		if n := b.Stats().InFlight; n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

// P22: a server's count does not hold the requests that are still on their way to it.
func TestP22RemainingLessInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{RemainingHeader: "X-Left"})
		var tickets []Ticket
		for range 3 {
			tk, _ := b.Take(t.Context(), Claim{Cost: 5})
			tickets = append(tickets, tk)
		}
		b.Observe(tickets[0], &Response{Status: 200, Header: http.Header{"X-Left": {"12"}}, Received: time.Now(), Began: time.Now()})
		b.Done(tickets[0])
		began := time.Now()
		for _, wait := range []time.Duration{0, time.Minute} {
			if _, err := b.Take(t.Context(), Claim{Cost: 2}); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != wait {
				t.Errorf("waited %v, want %v", d, wait)
			}
		}
	})
}

// P22: what the server says is left is obeyed until its window ends, by its clock, whoever used it up.
func TestP22RemainingHeader(t *testing.T) {
	for _, c := range []struct {
		name   string
		header func(server time.Time) []string
		want   time.Duration
	}{
		{"clock minute", func(time.Time) []string { return []string{"X-Left", "0"} }, 20 * time.Second},
		{"some left", func(time.Time) []string { return []string{"X-Left", "2"} }, 0},
		{"too few", func(time.Time) []string { return []string{"X-Left", "1.5"} }, 20 * time.Second},
		{"garbage", func(time.Time) []string { return []string{"X-Left", "-"} }, 0},
		{"not a number", func(time.Time) []string { return []string{"X-Left", "NaN"} }, 0},
		{"reset in seconds", func(time.Time) []string { return []string{"X-Left", "0", "X-Reset", "45"} }, 45 * time.Second},
		{"reset as unix time", func(s time.Time) []string {
			return []string{"X-Left", "0", "X-Reset", fmt.Sprint(s.Unix() + 50)}
		}, 50 * time.Second},
		{"reset in milliseconds", func(s time.Time) []string {
			return []string{"X-Left", "0", "X-Reset", fmt.Sprint(s.UnixMilli() + 50500)}
		}, 50500 * time.Millisecond},
		{"reset as a date", func(s time.Time) []string {
			return []string{"X-Left", "0", "X-Reset", s.Add(75 * time.Second).Format(http.TimeFormat)}
		}, 75 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
					server := time.Now().Add(-7*time.Hour + 40*time.Second).UTC() // the bubble begins at a full minute
					status(200, append(c.header(server), "Date", server.Format(http.TimeFormat))...)(w, r)
				}, ok}}
				cl := client(t, s.ServeHTTP, func(o *Options) {
					o.Budget = NewBudget(BudgetOptions{Budget: 600, RemainingHeader: "x-left", ResetHeader: "x-reset"})
				})
				for range 2 {
					r := get("/people")
					r.Cost = 2
					if _, err := cl.Do(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				nearAll(t, s.gaps(), c.want)
			})
		})
	}
}

// FuzzRetryAfter proves that no header makes a pause that is negative or longer than the clock can hold, and that a reset
// header never blocks the account for more than a day.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "1e400", "NaN", "0x10", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "1700000000", "1700000000000", "2006-01-02T15:04:05Z"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, after, date string) {
		r := &Response{Header: http.Header{"Retry-After": {after}, "Date": {date}}, Began: time.Unix(1.7e9, 0)}
		wait, told := retryAfter(r)
		if told && (wait < 0 || !r.Began.Add(wait).After(r.Began.Add(-1))) || !told && wait > 0 {
			t.Errorf("%q: %v, %v", after, wait, told)
		}
		if d, ok := resetIn(after, r.Began); ok && (d < 0 || d > 24*time.Hour) {
			t.Errorf("reset %q: %v", after, d)
		}
		until, err := NewBudget(BudgetOptions{}).Throttled(&Ticket{}, wait, told, "test")
		if left := time.Until(until); left <= 0 || (left > 24*time.Hour) != (err != nil) {
			t.Errorf("%q: paused for %v, %v", after, left, err)
		}
	})
}

// TestP22LimitsChange: a budget changes its limits while it is shared; what waits for the old ones goes by the new, and what was
// spent counts on.
func TestP22LimitsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{Budget: 1, Per: time.Hour})
		ticket, err := b.Take(t.Context(), Claim{Flow: "a"})
		if err != nil {
			t.Fatal(err)
		}
		b.Done(ticket)
		began, waited := time.Now(), make(chan error, 1)
		go func() {
			_, err := b.Take(t.Context(), Claim{Flow: "a"})
			waited <- err
		}()
		synctest.Wait()
		b.Limit(BudgetOptions{Budget: 2, Per: 30 * time.Minute})
		if err := <-waited; err != nil || !time.Now().Equal(began) {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if st := b.Stats(); st.Spent != 2 || st.Budget != 2 {
			t.Errorf("%+v", st)
		}
	})
}
