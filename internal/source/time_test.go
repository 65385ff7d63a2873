package source

import (
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

func mustFormat(t *testing.T, name, zone string) *format {
	t.Helper()
	f, err := newFormat(name, zone)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestP16Formats proves that times are instants: every spelling of one is equal, 0 to 9 digits are kept, rubbish is refused.
func TestP16Formats(t *testing.T) {
	at := time.Date(2018, 3, 13, 4, 41, 41, 550510000, time.UTC)
	for _, c := range []struct {
		name, zone, text string
		want             time.Time
	}{
		{"rfc3339", "", "2018-03-13T00:41:41.550510-04:00", at},
		{"rfc3339", "", "2018-03-13T04:41:41.55051Z", at},
		{"rfc3339", "", "2018-03-13t04:41:41.550510000z", at},
		{"rfc3339", "", "2022-12-01T15:45:28.3857824+00:00", time.Date(2022, 12, 1, 15, 45, 28, 385782400, time.UTC)},
		{"rfc3339", "", "2018-03-13T04:41:41Z", at.Truncate(time.Second)},
		{"rfc3339", "", "2016-12-31T23:59:60Z", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)}, // a leap second
		{"rfc3339", "Europe/Berlin", "2018-03-13T05:41:41.55051", at},
		{"rfc3339", "Europe/Berlin", "2018-03-13T04:41:41.55051Z", at},
		{"date", "", "2018-03-13", at.Truncate(24 * time.Hour)},
		{"unix", "", "1520916101", at.Truncate(time.Second)},
		{"unix", "", "1520916101.55051", at},
		{"unix", "", "1.520916101e9", at.Truncate(time.Second)},
		{"unix", "", "-1.5", time.Date(1969, 12, 31, 23, 59, 58, 5e8, time.UTC)},
		{"unix_ms", "", "1520916101550", at.Truncate(time.Millisecond)},
		{"unix_us", "", "1520916101550510", at},
		{"unix_ns", "", "1520916101550510000", at},
		{"%Y-%m-%d %H:%M:%S.%fZ", "", "2018-03-13 04:41:41.55051Z", at},
		{"%Y-%m-%d %H:%M", "America/New_York", "2018-03-13 00:41", at.Truncate(time.Minute)},
		{"%d/%m/%Y %H:%M:%S%z", "", "13/03/2018 00:41:41-0400", at.Truncate(time.Second)},
		{"%Y%%%m%d", "", "2018%0313", at.Truncate(24 * time.Hour)},
		{"/Date(%Q%z)/", "", "/Date(1520916101550+0000)/", at.Truncate(time.Millisecond)},
		{"/Date(%Q%z)/", "", "/Date(1520916101550-0400)/", at.Truncate(time.Millisecond)}, // .NET's offset moves nothing
		{"/Date(%Q)/", "Europe/Berlin", "/Date(1520916101550)/", at.Truncate(time.Millisecond)},
		{"/Date(%Q)/", "", "/Date(-1)/", time.Date(1969, 12, 31, 23, 59, 59, 999e6, time.UTC)},
		{"at %s s", "", "at 1520916101 s", at.Truncate(time.Second)},
		{"%s", "", "-62135596800", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		got, err := mustFormat(t, c.name, c.zone).parse([]byte(c.text))
		if err != nil || !got.Equal(c.want) {
			t.Errorf("%s %q: %v %v", c.name, c.text, got, err)
		}
	}
	for _, c := range []struct{ name, text, want string }{
		{"rfc3339", "", "empty"}, {"rfc3339", "2018-03-13", "begin"}, {"rfc3339", "2018-03-13 04:41:41Z", "begin"},
		{"rfc3339", "2018-03-13T04:41:41", "no offset"}, {"rfc3339", "2018-02-30T04:41:41Z", "no such date"},
		{"rfc3339", "2018-03-13T24:41:41Z", "no such date"}, {"rfc3339", "2018-13-13T04:41:41Z", "no such date"},
		{"rfc3339", "2018-03-13T04:41:41.0123456789Z", "fractional"}, {"rfc3339", "2018-03-13T04:41:41.Z", "fractional"},
		{"rfc3339", "2018-03-13T04:41:41+04:00x", "offset"}, {"rfc3339", "2018-03-13T04:41:41Zx", "offset"},
		{"rfc3339", "1520916101", "begin"}, {"rfc3339", strings.Repeat("2", 100), "bytes"},
		{"unix", "1520916101550", "unix_ms"}, {"unix", "yesterday", "not a number"}, {"unix", "1.x", "not a number"}, {"unix", "1e400", "too large"},
		{"%Y-%m-%d", "2018-03", "follow"}, {"%Y-%m-%d", "2018-03-13T", "longer"}, {"%Y-%m-%d", "2018-03-00", "no such date"},
		{"%s", "1520916101550", "%Q milliseconds"}, {"%Q", "", "empty"}, {"(%Q)", "()", "follow"}, {"(%Q)", "(-)", "follow"}, {"%Q", "1.5", "longer"},
		{"%Q", "+1", "follow"}, {"%Q", "99999999999999999999", "follow"},
	} {
		if got, err := mustFormat(t, c.name, "").parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v %v", c.name, c.text, got, err)
		}
	}
}

func TestP16Print(t *testing.T) {
	at := time.Date(2018, 3, 13, 4, 41, 41, 550510999, time.UTC)
	for _, c := range []struct {
		name, zone string
		want       any
	}{
		{"rfc3339", "", "2018-03-13T04:41:41.550510999Z"}, {"date", "", "2018-03-13"}, {"unix", "", int64(1520916101)},
		{"unix_ms", "", int64(1520916101550)}, {"unix_us", "", int64(1520916101550510)}, {"unix_ns", "", int64(1520916101550510999)},
		{"%Y-%m-%d %H:%M:%S.%3fZ", "", "2018-03-13 04:41:41.550Z"}, {"%H:%M:%S.%f %z %Y-%m-%d", "America/New_York", "00:41:41.550510 -0400 2018-03-13"},
		{"/Date(%Q%z)/", "", "/Date(1520916101550+0000)/"}, {"/Date(%Q%z)/", "America/New_York", "/Date(1520916101550-0400)/"}, {"t%s", "", "t1520916101"},
	} {
		if got := mustFormat(t, c.name, c.zone).value(at); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	// A lower bound stays one before 1970 too.
	if got := mustFormat(t, "unix", "").print(time.Unix(0, 0).Add(-time.Millisecond)); got != "-1" {
		t.Error(got)
	}
	if got := mustFormat(t, "(%s)", "").print(time.Unix(0, 0).Add(-time.Millisecond)); got != "(-1)" {
		t.Error(got)
	}
	if f := mustFormat(t, "unix", ""); !f.same(mustFormat(t, "unix", "")) || f.same(mustFormat(t, "unix_ms", "")) {
		t.Error("same")
	}
}

// TestP16Fold proves that a text that names two instants is read as the earlier one.
func TestP16Fold(t *testing.T) {
	f := mustFormat(t, "%Y-%m-%d %H:%M", "Europe/Berlin")
	for text, want := range map[string]string{
		"2024-10-27 02:30": "2024-10-27T00:30:00Z", "2024-10-27 01:59": "2024-10-26T23:59:00Z", "2024-10-27 03:00": "2024-10-27T02:00:00Z",
		"2024-07-01 12:00": "2024-07-01T10:00:00Z", "2024-01-01 12:00": "2024-01-01T11:00:00Z",
	} {
		got, err := f.parse([]byte(text))
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
}

// TestParseAllocatesNothing: a cursor is read for every changed record.
func TestParseAllocatesNothing(t *testing.T) {
	f, text := mustFormat(t, "rfc3339", ""), []byte("2018-03-13T00:41:41.550510-04:00")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.parse(text); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestVerbsAreAsTheTableSays: every verb has an example on the reference page, and it is read and written so.
func TestVerbsAreAsTheTableSays(t *testing.T) {
	for _, v := range verbs {
		pattern := v.name
		if v.unit == 0 {
			pattern = "%Y-%m-%dT" + v.name // of an instant
		}
		f := mustFormat(t, pattern, "")
		text := strings.NewReplacer("%Y-%m-%dT", "2024-02-29T", v.name, v.example).Replace(pattern)
		at, err := f.parse([]byte(text))
		if got := f.print(at); err != nil || got != text && v.name != "%z" {
			t.Errorf("%s: %q became %q: %v", v.name, text, got, err)
		}
		if !strings.Contains(string(Reference()), "| `"+v.name+"` | "+v.is) {
			t.Errorf("%s is not in the reference", v.name)
		}
	}
	for _, pattern := range []string{"%s%f", "%Q %s", "%Y-%m-%d %s"} {
		if _, err := newFormat(pattern, ""); err == nil || !strings.Contains(err.Error(), "says its time twice") {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	for _, zone := range []string{"", "Europe/Berlin"} { // P16: a whole time has no fold
		if f := mustFormat(t, "%Q", zone); f.folds(time.Date(2024, 10, 27, 0, 30, 0, 0, time.UTC)) {
			t.Errorf("a whole time in %q is ambiguous", zone)
		}
	}
}

// TestP8NetDates: Xero writes /Date(1439434356790+0000)/ and wants another spelling. The cursor is kept as the server wrote it, a
// request has what its format can hold, cut off downwards, and records of one instant are one tie.
func TestP8NetDates(t *testing.T) {
	src := mustBind(t, `source: xero
base_url: https://api.test
streams:
  contacts:
    path: /Contacts
    headers: {If-Modified-Since: "{{ cursor }}"}
    records: Contacts
    primary_key: ContactID
    incremental: {cursor_field: UpdatedDateUTC, format: {record: "/Date(%Q%z)/", request: "%Y-%m-%dT%H:%M:%S"}, granularity: 1s, lookback: 0s}
`, nil)
	r := src.Requests[0]
	read := func(cp cdc.Checkpoint, body string) (sent string, page Page) {
		t.Helper()
		pos, err := r.Begin(Partition{Name: cdc.NoPartition}, cp, noon)
		if err != nil {
			t.Fatal(err)
		}
		req, err := r.Compose(&pos)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Split(&pos, &fetch.Response{Status: 200, Body: []byte(body), ServerTime: noon, Received: noon, Sent: noon}, nil, &page); err != nil {
			t.Fatal(err)
		}
		return req.Header.Get("If-Modified-Since"), page
	}
	const last = `/Date(1439434356790+0000)/`
	sent, page := read(cdc.Checkpoint{}, `{"Contacts":[{"ContactID":"a","UpdatedDateUTC":"\/Date(1439434356100+1200)\/"},{"ContactID":"b","UpdatedDateUTC":"\/Date(1439434356790+0000)\/"}]}`)
	if sent != "" || page.Parked != 0 || page.Checkpoint == nil || page.Checkpoint.Cursor != last {
		t.Fatalf("%q was sent, %d parked, %+v", sent, page.Parked, page.Checkpoint)
	}
	for i, want := range []int64{1439434356100, 1439434356790} {
		if v := page.Records[i].Version; v.Compare(cdc.InstantVersion(time.UnixMilli(want))) != 0 {
			t.Errorf("record %d has the version %v", i, v)
		}
	}
	sent, page = read(*page.Checkpoint, `{"Contacts":[{"ContactID":"b","UpdatedDateUTC":"/Date(1439434356790+0000)/"}]}`)
	if sent != "2015-08-13T02:52:36" || page.Checkpoint != nil && page.Checkpoint.Cursor != last {
		t.Errorf("%q was sent, %+v", sent, page.Checkpoint)
	}
}

func FuzzTime(f *testing.F) {
	for _, name := range []string{"rfc3339", "unix", "unix_ms", "unix_ns", "date", "%Y-%m-%d %H:%M:%S.%f%z", "/Date(%Q%z)/", "%s", "-%Q-", "%d%%%Y%m%3f"} {
		for _, text := range []string{"2018-03-13T00:41:41.550510-04:00", "1520916101", "-1.5", "2018-03-13", "2018-03-13 04:41:41.5+0000", "1e9",
			"/Date(1439434356790+0000)/", "--1-", "13%201803123"} {
			f.Add(name, text)
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		fm, err := newFormat(name, "")
		if err != nil {
			return
		}
		at, err := fm.parse([]byte(text))
		if err != nil {
			return
		}
		printed := fm.print(at)
		if len(printed) > 64 {
			return
		}
		again, err := fm.parse([]byte(printed))
		if err != nil || again.After(at) || fm.print(again) != printed {
			t.Errorf("%s %q: %v became %q, %v, %v", name, text, at, printed, again, err)
		}
		if exact := name == "rfc3339" || fm.whole; exact && !again.Equal(at) {
			t.Errorf("%s %q: %v became %v", name, text, at, again)
		}
	})
}
