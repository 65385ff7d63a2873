package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// rate is what was spent in the present minute of the server's clock. Others spend from the same budget (Spend).
type rate struct {
	minute int64 // minutes since 1970
	used   int
}

// turn starts the budget anew with every minute of the clock. The lock is held.
func (u *Upstream) turn(now time.Time) {
	if minute := now.Unix() / 60; minute != u.rate.minute {
		u.rate = rate{minute: minute}
	}
}

// take charges a call; false: it is over the budget and costs nothing. The lock is held.
func (u *Upstream) take(price int, now time.Time) bool {
	u.turn(now)
	if u.o.RateBudget < 0 {
		return true
	}
	if u.rate.used+price > u.o.RateBudget {
		u.stats.Throttled++
		return false
	}
	u.rate.used += price
	return true
}

// Spend takes cost from the present minute's budget, as another integration of the same customer would.
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
