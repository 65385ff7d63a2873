package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// rate is what was spent in the present window of the server's clock: a minute, for most systems. Others spend from the same
// budget (Spend).
type rate struct {
	window int64 // windows since 1970
	used   int
}

// turn starts the budget anew with every window of the clock. The lock is held.
func (u *Upstream) turn(now time.Time) {
	if window := now.Unix() / u.window; window != u.rate.window {
		u.rate = rate{window: window}
	}
}

// take charges a call; false: it is over the budget and costs nothing. The lock is held.
func (u *Upstream) take(price int, now time.Time) bool {
	u.turn(now)
	if u.o.RateBudget < 0 {
		return true
	}
	if u.rate.used+price > u.o.RateBudget*int(u.window)/60 {
		u.stats.Throttled++
		return false
	}
	u.rate.used += price
	return true
}

// Spend takes cost from the present window's budget, as another integration of the same customer would.
func (u *Upstream) Spend(cost int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn(time.Now().Add(u.o.Skew))
	u.rate.used += cost
}

// untilTheMinute is Retry-After: how many seconds until the budget starts anew.
func untilTheMinute(header http.Header, now time.Time) {
	header.Set("Retry-After", strconv.Itoa(60-now.Second()))
}
