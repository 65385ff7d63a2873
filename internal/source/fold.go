package source

import "time"

// folds reports whether t lies inside a fold of the format's zone, or just after one: a clock there shows the texts of an
// hour twice, and a text without an offset does not say which it means (P16).
func (f *format) folds(t time.Time) bool {
	if !f.ambiguous() {
		return false
	}
	_, before := t.Add(-2 * time.Hour).In(f.zone).Zone()
	_, after := t.Add(time.Hour).In(f.zone).Zone()
	return before > after
}

// ambiguous reports whether texts of the format may lack an offset in a zone that puts its clocks back.
func (f *format) ambiguous() bool { return f != nil && f.zone != nil && f.zone != time.UTC && !f.whole }

// fold returns the stretch of time that shares its texts with t: an hour before the clocks are put back and the hour after.
// A text of either is read as an instant of the first, so inside the fold nothing can be said of the order: to us it is one
// long tie (P8, P16).
func (f *format) fold(t time.Time) (from, to time.Time, ok bool) {
	if !f.ambiguous() {
		return from, to, false
	}
	local := t.In(f.zone)
	_, end := local.ZoneBounds()
	if end.IsZero() {
		return from, to, false
	}
	_, before := local.Zone()
	_, after := end.Zone()
	back := time.Duration(before-after) * time.Second
	if back <= 0 || t.Before(end.Add(-back)) {
		return from, to, false
	}
	return end.Add(-back).UTC(), end.Add(back).UTC(), true
}
