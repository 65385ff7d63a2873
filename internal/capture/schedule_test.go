package capture

import (
	"fmt"
	"testing"
	"time"
)

// TestP22PhaseIsOfTheName: P22. whenever it is asked, a name's next moment lies on one place in the interval, and names are spread
// over it; so neither a restart nor neighbours bunch.
func TestP22PhaseIsOfTheName(t *testing.T) {
	const every = time.Hour
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	quarters := map[time.Duration]int{}
	for i := range 100 {
		name := fmt.Sprintf("c/stream%d", i)
		first := phase(name, every, start)
		if later := phase(name, every, start.Add(7*time.Hour+13*time.Minute)); later.Sub(first)%every != 0 {
			t.Errorf("%s: %v, and from another start %v", name, first, later)
		}
		if wait := first.Sub(start); wait <= 0 || wait > every {
			t.Errorf("%s waits %v", name, wait)
		}
		quarters[first.Sub(start)/(every/4)]++
	}
	for q := range time.Duration(4) {
		if quarters[q] < 10 {
			t.Errorf("%d of 100 in quarter %d of the interval", quarters[q], q+1)
		}
	}
}
