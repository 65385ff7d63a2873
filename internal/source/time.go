package source

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are part of a definition's meaning, and small containers have none
)

// format is how a time is written (P16): rfc3339, date, unix, unix_ms, unix_us, unix_ns, or a pattern of % signs.
type format struct {
	name  string         // as the definition has it
	unit  time.Duration  // unix formats: the unit of one; else 0
	items []item         // patterns
	zone  *time.Location // what a text without an offset is in; UTC by default
	whole bool           // patterns: %s or %Q says the instant by itself, whatever the zone
}

// item is one piece of a pattern: a verb, or text.
type item struct {
	verb   byte // 0: text
	digits int  // %f: how many are printed
	text   string
}

// verb is one % of a time pattern. The patterns are read by this table, and the reference page is made of it.
type verb struct {
	name, is, example string
	digits            int           // of a number that has so many, and no others
	unit              time.Duration // of one that is a whole time
}

var verbs = []verb{
	{name: "%Y", is: "year, four digits", example: "2024", digits: 4},
	{name: "%m", is: "month, two digits", example: "02", digits: 2},
	{name: "%d", is: "day of the month, two digits", example: "29", digits: 2},
	{name: "%H", is: "hour from 00 to 23", example: "12", digits: 2},
	{name: "%M", is: "minute", example: "05", digits: 2},
	{name: "%S", is: "second", example: "09", digits: 2},
	{name: "%f", is: "fraction of a second: 1 to 9 digits are read, 6 are written; `%1f` to `%9f`: so many are written", example: "550510"},
	{name: "%z", is: "offset: `Z`, `±hhmm` and `±hh:mm` are read, `±hhmm` is written", example: "+0100"},
	{name: "%s", is: "seconds since 1970, `-` before that", example: "1709208309", unit: time.Second},
	{name: "%Q", is: "milliseconds since 1970, `-` before that; .NET's times are `/Date(%Q)/` or `/Date(%Q%z)/`", example: "1709208309550", unit: time.Millisecond},
	{name: "%%", is: "a percent sign", example: "%"},
}

// verbOf returns the verb of that letter; nil where there is none.
func verbOf(letter byte) *verb {
	if i := slices.IndexFunc(verbs, func(v verb) bool { return v.name[1] == letter }); i >= 0 {
		return &verbs[i]
	}
	return nil
}

var unixUnits = map[string]time.Duration{"unix": time.Second, "unix_ms": time.Millisecond, "unix_us": time.Microsecond, "unix_ns": 1}

var patterns = map[string]string{"rfc3339": "", "date": "%Y-%m-%d"}

// newFormat returns the format of that name, which names instants: it can be read as well as written. zone is an IANA name,
// "" for UTC.
func newFormat(name, zone string) (*format, error) {
	f, err := newLayout(name, zone)
	if err != nil || f.items == nil || f.whole {
		return f, err
	}
	for _, verb := range []byte("Ymd") {
		if !slices.ContainsFunc(f.items, func(it item) bool { return it.verb == verb }) {
			return nil, fmt.Errorf("the time pattern %q names no instant: it has no %%%c", name, verb)
		}
	}
	return f, nil
}

// newLayout returns a format that may be a part of a time only, for format_time.
func newLayout(name, zone string) (*format, error) {
	loc, err := zoneNamed(zone)
	if err != nil {
		return nil, err
	}
	f := &format{name: name, zone: loc, unit: unixUnits[name]}
	pattern, known := patterns[name]
	switch {
	case f.unit > 0 || known && pattern == "":
		return f, nil
	case !known && !strings.Contains(name, "%"):
		names := []string{"rfc3339", "date", "unix", "unix_ms", "unix_us", "unix_ns"}
		return nil, fmt.Errorf("unknown time format %q%s: %s, or a pattern such as %%Y-%%m-%%d %%H:%%M:%%S.%%3fZ",
			name, suggest(name, names), strings.Join(names, ", "))
	case !known:
		pattern = name
	}
	return f, f.compile(pattern)
}

// daily reports whether the format has no time of the day.
func (f *format) daily() bool {
	return f.items != nil && !slices.ContainsFunc(f.items, func(it item) bool { return it.verb == 'H' })
}

// zoneNamed returns the zone of an IANA name; UTC for "".
func zoneNamed(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("unknown zone %q: an IANA name such as Europe/Berlin", name)
	}
	return loc, nil
}

func (f *format) compile(pattern string) error {
	var seen []byte
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			end := i
			for end < len(pattern) && pattern[end] != '%' {
				end++
			}
			f.items = append(f.items, item{text: pattern[i:end]})
			i = end - 1
			continue
		}
		it := item{digits: 6}
		if i++; i < len(pattern) && pattern[i] >= '1' && pattern[i] <= '9' && i+1 < len(pattern) && pattern[i+1] == 'f' {
			it.digits = int(pattern[i] - '0')
			i++
		}
		if i == len(pattern) || verbOf(pattern[i]) == nil {
			var names []string
			for _, v := range verbs {
				names = append(names, v.name)
			}
			return fmt.Errorf("the time pattern %q has an unknown verb at %d: there are %s (%%3f: three digits)", pattern, i, strings.Join(names, " "))
		}
		if it.verb = pattern[i]; it.verb == '%' {
			it.verb, it.text = 0, "%"
		} else if it.verb != 'z' {
			seen = append(seen, it.verb)
		}
		f.items = append(f.items, it)
	}
	f.whole = slices.ContainsFunc(seen, func(letter byte) bool { return verbOf(letter).unit > 0 })
	if f.whole && len(seen) > 1 {
		return fmt.Errorf("the time pattern %q says its time twice: %%s and %%Q are a whole time, and only %%z may stand beside them", pattern)
	}
	return nil
}

// same reports whether a text that f wrote may be sent back where o is wanted (P16).
func (f *format) same(o *format) bool {
	return f.name == o.name && f.zone.String() == o.zone.String()
}

// parse reads a time: the unescaped content of a JSON string, or a number's literal. It allocates nothing but errors.
func (f *format) parse(text []byte) (time.Time, error) {
	var t time.Time
	var err error
	switch {
	case len(text) == 0:
		err = errors.New("it is empty")
	case len(text) > 64:
		err = fmt.Errorf("it has %d bytes", len(text))
	case f.unit > 0:
		t, err = f.parseUnix(text)
	case f.items == nil:
		t, err = f.parseRFC3339(text)
	default:
		t, err = f.parsePattern(text)
	}
	if err == nil && (t.Year() < 1 || t.Year() > 9999) {
		err = fmt.Errorf("it lies in the year %d", t.Year())
		switch {
		case f.unit == time.Second:
			err = fmt.Errorf("%w; if these are milliseconds, the format is unix_ms", err)
		case f.whole:
			err = fmt.Errorf("%w; %%s reads seconds, %%Q milliseconds", err)
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%.64q is not a time in the format %s: %w", text, f.name, err)
	}
	return t, nil
}

// clock is a wall clock's reading.
type clock struct {
	year, month, day, hour, minute, second, nano int
	offset                                       int  // seconds east of UTC
	fixed                                        bool // there was an offset
}

// cutDigits reads exactly n digits at i.
func cutDigits(text []byte, i, n int) (int, bool) {
	if i+n > len(text) {
		return 0, false
	}
	x := 0
	for _, c := range text[i : i+n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		x = x*10 + int(c-'0')
	}
	return x, true
}

// cutFraction reads 1 to 9 digits at i as nanoseconds, and returns the index after them.
func cutFraction(text []byte, i int) (nano, end int, err error) {
	end = i
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	if end == i || end-i > 9 {
		return 0, i, fmt.Errorf("it has %d fractional digits, and 1 to 9 are understood", end-i)
	}
	for j := range 9 {
		nano *= 10
		if i+j < end {
			nano += int(text[i+j] - '0')
		}
	}
	return nano, end, nil
}

// cutWhole reads a whole number of units since 1970 at i.
func cutWhole(text []byte, i int, unit time.Duration) (t time.Time, end int, ok bool) {
	end = i
	if end < len(text) && text[end] == '-' {
		end++
	}
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(text[i:end]), 10, 64)
	return sinceEpoch(n, unit), end, err == nil
}

// sinceEpoch returns the time that lies so many units after 1970.
func sinceEpoch(n int64, unit time.Duration) time.Time {
	per := int64(time.Second / unit)
	return time.Unix(n/per, n%per*int64(unit)).UTC()
}

// cutOffset reads Z, ±hh:mm or ±hhmm at i.
func cutOffset(text []byte, i int) (seconds, end int, ok bool) {
	if i < len(text) && (text[i] == 'Z' || text[i] == 'z') {
		return 0, i + 1, true
	}
	if i >= len(text) || text[i] != '+' && text[i] != '-' {
		return 0, i, false
	}
	h, ok := cutDigits(text, i+1, 2)
	j := i + 3
	if ok && j < len(text) && text[j] == ':' {
		j++
	}
	m, ok2 := cutDigits(text, j, 2)
	if !ok || !ok2 || h > 23 || m > 59 {
		return 0, i, false
	}
	seconds = h*3600 + m*60
	if text[i] == '-' {
		seconds = -seconds
	}
	return seconds, j + 2, true
}

// parseRFC3339 reads 2018-03-13T00:41:41.550510-04:00. Without an offset it is in the format's zone, if one was declared.
func (f *format) parseRFC3339(text []byte) (time.Time, error) {
	var c clock
	ok := len(text) >= 19 && text[4] == '-' && text[7] == '-' && (text[10] == 'T' || text[10] == 't') && text[13] == ':' && text[16] == ':'
	for _, p := range [...]struct {
		to   *int
		i, n int
	}{{&c.year, 0, 4}, {&c.month, 5, 2}, {&c.day, 8, 2}, {&c.hour, 11, 2}, {&c.minute, 14, 2}, {&c.second, 17, 2}} {
		if ok {
			*p.to, ok = cutDigits(text, p.i, p.n)
		}
	}
	if !ok {
		return time.Time{}, errors.New("it does not begin as 2006-01-02T15:04:05")
	}
	i := 19
	if i < len(text) && text[i] == '.' {
		var err error
		if c.nano, i, err = cutFraction(text, i+1); err != nil {
			return time.Time{}, err
		}
	}
	if c.offset, i, c.fixed = cutOffset(text, i); i != len(text) {
		return time.Time{}, fmt.Errorf("%q at its end is no offset", text[i:])
	}
	if !c.fixed && f.zone == time.UTC {
		return time.Time{}, errors.New("it has no offset; if it is in a known zone, say so: format: {record: rfc3339, zone: ZONE}")
	}
	return f.instant(c)
}

func (f *format) parsePattern(text []byte) (time.Time, error) {
	var c clock
	var whole time.Time
	i := 0
	for _, it := range f.items {
		ok := true
		switch it.verb {
		case 0:
			ok = strings.HasPrefix(string(text[i:]), it.text)
			i += len(it.text)
		case 'f':
			var err error
			if c.nano, i, err = cutFraction(text, i); err != nil {
				return time.Time{}, err
			}
		case 'z':
			c.offset, i, ok = cutOffset(text, i)
			c.fixed = true
		case 's', 'Q':
			whole, i, ok = cutWhole(text, i, verbOf(it.verb).unit)
		default:
			n := verbOf(it.verb).digits
			*map[byte]*int{'Y': &c.year, 'm': &c.month, 'd': &c.day, 'H': &c.hour, 'M': &c.minute, 'S': &c.second}[it.verb], ok = cutDigits(text, i, n)
			i += n
		}
		if !ok {
			return time.Time{}, errors.New("it does not follow the pattern")
		}
	}
	if i != len(text) {
		return time.Time{}, errors.New("it is longer than the pattern")
	}
	if f.whole {
		return whole, nil // an offset beside it says where somebody was, and moves nothing
	}
	return f.instant(c)
}

// instant checks the clock's ranges, which time.Date would quietly roll over, and places it on the time line.
func (f *format) instant(c clock) (time.Time, error) {
	if c.second == 60 && c.minute == 59 { // a leap second: POSIX has none, the next second is its instant
		c.second = 59
		t, err := f.instant(c)
		return t.Add(time.Second), err
	}
	t := time.Date(c.year, time.Month(c.month), c.day, c.hour, c.minute, c.second, c.nano, time.UTC)
	if c.month < 1 || c.month > 12 || t.Day() != c.day || c.day < 1 || c.hour > 23 || c.minute > 59 || c.second > 59 {
		return t, errors.New("there is no such date or time of day")
	}
	if c.fixed {
		return t.Add(-time.Duration(c.offset) * time.Second), nil
	}
	if f.zone == time.UTC {
		return t, nil
	}
	return earliest(t, f.zone), nil
}

// earliest returns the instant at which a clock in zone shows what t shows in UTC. In a fold it shows that twice; the earlier
// one is right for everything that is read inclusively: it is never too late (P16).
func earliest(t time.Time, zone *time.Location) time.Time {
	guess := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	_, before := guess.Add(-24 * time.Hour).Zone()
	if c := t.Add(-time.Duration(before) * time.Second).In(zone); c.Before(guess) && c.Hour() == t.Hour() && c.Minute() == t.Minute() {
		guess = c
	}
	return guess.UTC()
}

func (f *format) parseUnix(text []byte) (time.Time, error) {
	s := string(text)
	if strings.ContainsAny(s, "eE") { // 1.7e9: some writers of JSON print large numbers so
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || x != float64(int64(x)) || x > 1<<53 || x < -(1<<53) {
			return time.Time{}, errors.New("it is not a number, or too large a one")
		}
		s = strconv.FormatInt(int64(x), 10)
	}
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, errors.New("it is not a number")
	}
	t := sinceEpoch(n, f.unit)
	if fraction == "" {
		return t, nil
	}
	nano, end, err := cutFraction([]byte(fraction), 0)
	if err != nil || end != len(fraction) {
		return time.Time{}, errors.New("it is not a number")
	}
	part := time.Duration(int64(nano) / int64(time.Second/f.unit))
	if strings.HasPrefix(whole, "-") {
		part = -part
	}
	return t.Add(part), nil
}

// print writes t. What a format cannot hold is cut off downwards, so that a lower bound stays one.
func (f *format) print(t time.Time) string {
	switch {
	case f.unit > 0:
		return strconv.FormatInt(units(t, f.unit), 10)
	case f.items == nil:
		return t.UTC().Format(time.RFC3339Nano)
	}
	var b strings.Builder
	t = t.In(f.zone)
	for _, it := range f.items {
		switch it.verb {
		case 0:
			b.WriteString(it.text)
		case 'Y':
			fmt.Fprintf(&b, "%04d", t.Year())
		case 'm':
			fmt.Fprintf(&b, "%02d", int(t.Month()))
		case 'd':
			fmt.Fprintf(&b, "%02d", t.Day())
		case 'H':
			fmt.Fprintf(&b, "%02d", t.Hour())
		case 'M':
			fmt.Fprintf(&b, "%02d", t.Minute())
		case 'S':
			fmt.Fprintf(&b, "%02d", t.Second())
		case 'f':
			b.WriteString(fmt.Sprintf("%09d", t.Nanosecond())[:it.digits])
		case 'z':
			b.WriteString(t.Format("-0700")) // as strftime does
		case 's', 'Q':
			b.WriteString(strconv.FormatInt(units(t, verbOf(it.verb).unit), 10))
		}
	}
	return b.String()
}

// units returns t as so many units since 1970, rounded down also before that.
func units(t time.Time, unit time.Duration) int64 {
	per := int64(time.Second / unit)
	return t.Unix()*per + int64(t.Nanosecond())/int64(unit)
}

// value is print with the type that a request wants: int64 for unix formats, else string.
func (f *format) value(t time.Time) any {
	if f.unit > 0 {
		return units(t, f.unit)
	}
	return f.print(t)
}
