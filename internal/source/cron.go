package source

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// timetable is a schedule as cron writes it: minute, hour, day of the month, month, day of the week, each a set of numbers, in
// a zone. Where both days are given, either will do, as everywhere since Vixie's cron.
type timetable struct {
	minutes, hours, days, months, weekdays uint64 // bit n: n is in the set
	everyDay, everyWeekday                 bool
	zone                                   *time.Location
}

var (
	monthNames = []string{"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// timetable reads {cron, zone}; nil for a key that is not there.
func (r *linter) timetable(n *yaml.Node, what string) *timetable {
	if n == nil {
		return nil
	}
	f := r.fields(n, what, scheduleTable)
	if f["cron"] == nil {
		if f != nil {
			r.fail(n, "%s needs `cron`, such as \"0 2 * * *\" for two o'clock every night", what)
		}
		return nil
	}
	t, err := newTimetable(r.text(f["cron"], "cron"), r.text(f["zone"], "zone"))
	if err != nil {
		r.fail(f["cron"], "%s: %v", what, err)
		return nil
	}
	return t
}

func newTimetable(cron, zone string) (*timetable, error) {
	loc, err := zoneNamed(zone)
	if err != nil {
		return nil, err
	}
	t := &timetable{zone: loc}
	fields := strings.Fields(strings.ToLower(cron))
	if len(fields) != 5 {
		return nil, fmt.Errorf("%q has %d fields, and cron has 5: minute, hour, day of the month, month, day of the week", cron, len(fields))
	}
	for i, f := range []struct {
		set       *uint64
		low, high int
		names     []string
		what      string
	}{
		{&t.minutes, 0, 59, nil, "minute"}, {&t.hours, 0, 23, nil, "hour"}, {&t.days, 1, 31, nil, "day of the month"},
		{&t.months, 1, 12, monthNames, "month"}, {&t.weekdays, 0, 7, dayNames, "day of the week"},
	} {
		for part := range strings.SplitSeq(fields[i], ",") {
			set, err := cronSet(part, f.low, f.high, f.names)
			if err != nil {
				return nil, fmt.Errorf("the %s %q: %w", f.what, part, err)
			}
			*f.set |= set
		}
	}
	t.weekdays |= t.weekdays >> 7 & 1 // 7 is Sunday too
	t.everyDay, t.everyWeekday = fields[2][0] == '*', fields[4][0] == '*'
	if t.next(time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC)).IsZero() { // the longest wait for a 29 February begins there
		return nil, errors.New("there is no such date")
	}
	return t, nil
}

// cronSet reads *, 5, 1-5, mon-fri, */15, 10-40/10 or 5/15.
func cronSet(text string, low, high int, names []string) (uint64, error) {
	text, by, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		var err error
		if step, err = strconv.Atoi(by); err != nil || step < 1 || step > high {
			return 0, fmt.Errorf("a step is a number from 1 to %d", high)
		}
	}
	from, to := low, high
	if text != "*" {
		first, last, isRange := strings.Cut(text, "-")
		number := func(s string) (int, error) {
			if i := slices.Index(names, s); i >= 0 && s != "" {
				return i, nil
			}
			n, err := strconv.Atoi(s)
			if err != nil || n < low || n > high || len(s) > 2 {
				return 0, fmt.Errorf("%q is no number from %d to %d", s, low, high)
			}
			return n, nil
		}
		var err error
		if from, err = number(first); err != nil {
			return 0, err
		}
		if to = from; isRange {
			if to, err = number(last); err != nil {
				return 0, err
			}
		} else if stepped {
			to = high
		}
		if to < from {
			return 0, errors.New("it ends before it begins")
		}
	}
	var set uint64
	for n := from; n <= to; n += step {
		set |= 1 << n
	}
	return set, nil
}

// cronYears is how far into the future a schedule is looked up: the 29 February of some weekday may be that far away.
const cronYears = 40

// next returns the first moment of the schedule after a time; zero where there is none. A time of day that the clocks skip in
// spring comes when they have skipped it, and one that they show twice in autumn comes once, the first time.
func (t *timetable) next(after time.Time) time.Time {
	day := after.In(t.zone)
	day = time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, time.UTC)
	for range cronYears * 366 {
		if t.on(day) {
			for hour := range 24 {
				for minute := range 60 {
					if t.hours>>hour&1 == 0 || t.minutes>>minute&1 == 0 {
						continue
					}
					if at := clockTime(day.Add(time.Duration(hour)*time.Hour+time.Duration(minute)*time.Minute), t.zone); at.After(after) {
						return at
					}
				}
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return time.Time{}
}

func (t *timetable) on(day time.Time) bool {
	date, weekday := t.days>>day.Day()&1 == 1, t.weekdays>>int(day.Weekday())&1 == 1
	switch {
	case t.months>>int(day.Month())&1 == 0:
		return false
	case t.everyDay || t.everyWeekday:
		return date && weekday
	default:
		return date || weekday
	}
}

// clockTime returns the instant at which a clock in zone shows what t shows in UTC: the first such, or, where the clocks skip
// it, the instant of the skip.
func clockTime(t time.Time, zone *time.Location) time.Time {
	guess := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, zone)
	if guess.Hour() == t.Hour() && guess.Minute() == t.Minute() {
		return earliest(t, zone)
	}
	start, end := guess.ZoneBounds()
	if !start.IsZero() && guess.Sub(start) < 24*time.Hour {
		return start.UTC()
	}
	return end.UTC()
}
