package source

import (
	"strings"
	"testing"
	"time"
)

func TestTimetable(t *testing.T) {
	for _, c := range []struct{ cron, zone, after, want string }{
		{"0 2 * * *", "", "2026-03-10T12:00:00Z", "2026-03-11T02:00:00Z"},
		{"0 2 * * *", "", "2026-03-11T01:59:59Z", "2026-03-11T02:00:00Z"},
		{"0 2 * * *", "", "2026-03-11T02:00:00Z", "2026-03-12T02:00:00Z"},
		{"0 2 * * *", "Europe/Berlin", "2026-07-01T12:00:00Z", "2026-07-02T00:00:00Z"},
		{"0 2 * * *", "America/New_York", "2026-12-31T12:00:00Z", "2027-01-01T07:00:00Z"},
		{"*/15 * * * *", "", "2026-03-10T12:01:00Z", "2026-03-10T12:15:00Z"},
		{"5/20 8-10,22 * * *", "", "2026-03-10T10:46:00Z", "2026-03-10T22:05:00Z"},
		{"0 6 * * mon-fri", "", "2026-03-13T12:00:00Z", "2026-03-16T06:00:00Z"},
		{"0 6 * * 7", "", "2026-03-13T12:00:00Z", "2026-03-15T06:00:00Z"},
		{"0 6 * * SUN", "", "2026-03-13T12:00:00Z", "2026-03-15T06:00:00Z"},
		{"0 0 13 * fri", "", "2026-03-10T00:00:00Z", "2026-03-13T00:00:00Z"}, // either will do
		{"0 0 13 * fri", "", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"},
		{"0 0 */2 * fri", "", "2026-03-10T12:00:00Z", "2026-03-13T00:00:00Z"}, // a day that begins with * restricts like the other
		{"0 0 29 2 *", "", "2026-03-10T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 29 2 *", "", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"0 0 31 jan,dec *", "", "2026-02-01T00:00:00Z", "2026-12-31T00:00:00Z"},
		// Berlin skips 02:00 to 03:00 on 29 March 2026, and shows it twice on 25 October.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"},
		{"0 0 * * *", "America/Asuncion", "2024-10-05T12:00:00Z", "2024-10-06T04:00:00Z"}, // midnight is skipped
	} {
		tt, err := newTimetable(c.cron, c.zone)
		if err != nil {
			t.Errorf("%s: %v", c.cron, err)
			continue
		}
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.next(after).Format(time.RFC3339); got != c.want {
			t.Errorf("%s %s after %s: %s, want %s", c.cron, c.zone, c.after, got, c.want)
		}
	}
	for cron, say := range map[string]string{
		"0 2 * *": "4 fields", "": "0 fields", "60 * * * *": `"60" is no number from 0 to 59`, "* * 0 * *": "from 1 to 31", "a * * * *": `"a"`,
		"5-1 * * * *": "ends before it begins", "*/0 * * * *": "a step", "* * * * fry": `"fry"`, "0 0 30 2 *": "no such date", "0 0 31 4,6 *": "no such date",
		"1,,2 * * * *": "is no number", "*/99 * * * *": "a step", "-1 * * * *": "is no number", "* * * 007 *": "is no number",
	} {
		if _, err := newTimetable(cron, ""); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %s", cron, err, say)
		}
	}
}

func FuzzTimetable(f *testing.F) {
	f.Add("*/5 8-18 1,15 jan-jun mon", int64(1773144000))
	f.Add("30 2 * * *", int64(1774659600))
	f.Fuzz(func(t *testing.T, cron string, at int64) {
		after := time.Unix(at%(1<<34), 0)
		tt, err := newTimetable(cron, "Europe/Berlin")
		if err != nil {
			return
		}
		if next := tt.next(after); !next.After(after) || next.Second() != 0 {
			t.Errorf("%q: %s after %s", cron, next, after)
		}
	})
}

// P22: a schedule stands in the place of an interval, and a connection's interval in its place.
func TestP22Schedule(t *testing.T) {
	text := withStream("schedule: {cron: \"0 2 * * *\", zone: Europe/Berlin}")
	s := mustBind(t, text, nil)
	if at, ok := s.Requests[0].Scheduled(noon); !ok || !at.Equal(time.Date(2026, 3, 11, 1, 0, 0, 0, time.UTC)) {
		t.Errorf("%v %v", at, ok)
	}
	s, err := mustParse(t, text).Bind("c", nil, Overrides{Streams: map[string]StreamOverride{"orders": {Interval: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Requests[0].Scheduled(noon); ok {
		t.Error("a connection's own interval is not heard")
	}
}
