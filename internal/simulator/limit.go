package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// rate is the team's budget in the present minute of the server's clock. Other integrations share it (Spend).
type rate struct {
	minute int64 // minutes since 1970
	used   int
}

// cost is what a call costs, by its page (APIS.md §1).
func cost(page int) int {
	switch {
	case page <= 100:
		return 1
	case page <= 150:
		return 3
	case page <= 250:
		return 8
	case page <= 500:
		return 10
	default:
		return 30
	}
}

// take charges a call and writes the two headers; false: it is over the budget and costs nothing. The lock is held.
func (s *SalesLoft) take(header http.Header, page int, now time.Time) bool {
	s.turn(now)
	price := cost(page)
	header.Set("x-ratelimit-endpoint-cost", strconv.Itoa(price))
	if s.o.RateBudget < 0 {
		return true
	}
	granted := s.rate.used+price <= s.o.RateBudget
	if granted {
		s.rate.used += price
	} else {
		s.stats.Throttled++
	}
	header.Set("x-ratelimit-remaining-minute", strconv.Itoa(max(0, s.o.RateBudget-s.rate.used)))
	return granted
}

// turn starts the budget anew with every minute of the clock.
func (s *SalesLoft) turn(now time.Time) {
	if minute := now.Unix() / 60; minute != s.rate.minute {
		s.rate = rate{minute: minute}
	}
}

// Spend takes cost from the present minute's budget, as another integration of the team would.
func (s *SalesLoft) Spend(cost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(time.Now().Add(s.o.Skew))
	s.rate.used += cost
}
