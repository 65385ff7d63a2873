package fetch

import "time"

const slots = 64 // into which a window is cut: an expense is forgotten at most 1/64 of the window late

// window counts what was spent in the last per: never more than the budget in any stretch of that length, and all of it at
// once where nothing was spent before. The expenses of a slot are forgotten when its youngest is as old as the window.
type window struct {
	width time.Duration
	base  time.Time
	first int64 // number of the oldest slot that is kept, since base
	spent [slots + 1]float64
	total float64
}

func newWindow(per time.Duration) window { return window{width: (per + slots - 1) / slots} }

// slot returns the number of now's slot and forgets what is too old. A clock that is set back stays in the newest slot.
func (w *window) slot(now time.Time) int64 {
	if w.base.IsZero() {
		w.base = now
	}
	at := max(int64(now.Sub(w.base)/w.width), w.first)
	for n := 0; w.first < at-slots; w.first++ {
		if n++; n > len(w.spent) {
			w.first, w.total = at-slots, 0 // all of them are empty already
			break
		}
		w.total -= w.spent[w.first%int64(len(w.spent))]
		w.spent[w.first%int64(len(w.spent))] = 0
	}
	return at
}

// spend books cost at now.
func (w *window) spend(now time.Time, cost float64) {
	w.spent[w.slot(now)%int64(len(w.spent))] += cost
	w.total += cost
}

// free returns the first moment, from now on, at which no more than allowed is booked.
func (w *window) free(now time.Time, allowed float64) time.Time {
	at := w.slot(now)
	left := w.total
	const dust = 1e-9 // of adding and taking away fractions
	for i := w.first; left > allowed+dust && i <= at; i++ {
		if left -= w.spent[i%int64(len(w.spent))]; left <= allowed+dust || i == at {
			return w.base.Add(time.Duration(i+slots+1) * w.width)
		}
	}
	return now
}
