package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidemark/internal/source"
)

// timed returns the records of the first page that have a time, the oldest first.
func (b *prober) timed() []source.Row {
	rows := slices.DeleteFunc(slices.Clone(b.base.rows()), func(r source.Row) bool { return r.At.IsZero() || r.Odd != nil })
	slices.SortStableFunc(rows, func(x, y source.Row) int { return x.At.Compare(y.At) })
	return rows
}

var errTooFew = errors.New("the first page has too few records with different times")

// spread is timed, where there are three records or more and not all of one time.
func (b *prober) spread() ([]source.Row, error) {
	rows := b.timed()
	if len(rows) < 3 || !rows[0].At.Before(rows[len(rows)-1].At) {
		return nil, errTooFew
	}
	return rows, nil
}

// exact returns records whose time a request can write without loss, from the middle of the first page's times outwards.
func (b *prober) exact() ([]source.Row, error) {
	rows, err := b.spread()
	if err != nil {
		return nil, err
	}
	var out []source.Row
	for i := range rows {
		j := len(rows)/2 + (i+1)/2*(1-i%2*2)
		if j < 0 || j >= len(rows) {
			continue
		}
		if _, ok := b.request.Exact(rows[j]); ok && rows[j].At.After(rows[0].At) {
			out = append(out, rows[j])
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("requests write times as %s, and no record of the first page has such a time", b.trait.Request)
	}
	return out, nil
}

// from asks from a record's own time on.
func (b *prober) from(ctx context.Context, row source.Row) (*answer, error) {
	cursor, _ := b.request.Exact(row)
	return b.ask(ctx, source.Question{Cursor: cursor})
}

// older counts the records of the first page that are older than a time, and how many of them an answer shows.
func (b *prober) older(a *answer, than time.Time) (shown, all int) {
	for _, r := range b.timed() {
		if r.At.Before(than) {
			if all++; a.has(r.ID) {
				shown++
			}
		}
	}
	return shown, all
}

// order looks whether the times of the pages rise or fall (P7).
func (b *prober) order(ctx context.Context, fact string) error {
	pages, _, err := b.walk(ctx, source.Question{}, b.base, 3)
	if err != nil && !errors.Is(err, errSpent) {
		return err
	}
	rising, falling, times := true, true, map[time.Time]bool{}
	for _, a := range pages {
		var last time.Time
		for _, r := range a.rows() {
			if r.Odd != nil {
				return b.clear(fact, "a record's time cannot be read: %v", r.Odd)
			}
			if r.At.IsZero() {
				continue
			}
			rising, falling = rising && !r.At.Before(last), falling && (last.IsZero() || !r.At.After(last))
			last = r.At
			times[r.At] = true
		}
	}
	if len(times) < 3 {
		return errTooFew
	}
	found := "none"
	if rising {
		found = "asc"
	} else if falling {
		found = "desc"
	}
	return b.declare(fact, "incremental.order", found, b.trait.Order != "none" && b.trait.Order != found,
		"%s on %s, %d different times: %s", counted(int64(distinct(pages)), "record"), counted(int64(len(pages)), "page"), len(times),
		map[string]string{"asc": "they rise on every page", "desc": "they fall on every page", "none": "neither do they rise nor fall"}[found])
}

// understood reports whether an answer is that of a filter that understood the time: it shows records from then on, and not all
// that are older.
func (b *prober) understood(a *answer, pivot source.Row) bool {
	shown, all := b.older(a, pivot.At)
	return a.glimpse != nil && (shown < all || all == 0) && slices.ContainsFunc(b.timed(), func(r source.Row) bool { return !r.At.Before(pivot.At) && a.has(r.ID) })
}

// spellings are the ways to write a time that APIs want.
var spellings = []string{
	"rfc3339", "%Y-%m-%d %H:%M:%S.%3fZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%3fZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "unix", "unix_ms",
}

// format looks how a request has to write a time (P16): in the declared way, or else in which.
func (b *prober) format(ctx context.Context, fact string) error {
	rows, err := b.spread()
	if err != nil {
		return err
	}
	pivot := rows[len(rows)/2]
	try := func(format string) (bool, string, error) {
		cursor, err := b.request.At(pivot.At, format)
		if err != nil {
			return false, "", err
		}
		a, err := b.ask(ctx, source.Question{Cursor: cursor})
		if err != nil {
			return false, "", err
		}
		return b.understood(a, pivot), fmt.Sprintf("%v %s", cursor, a.said()), nil
	}
	fine, said, err := try("")
	if err != nil {
		return err
	}
	if fine {
		other := "%Y-%m-%d %H:%M:%S"
		if b.trait.Request != "rfc3339" {
			other = "rfc3339"
		}
		also, saidOther, err := try(other)
		if err != nil {
			return err
		}
		word := map[bool]string{true: "is understood, too", false: "is not understood"}[also]
		return b.declare(fact, "incremental.format", b.written(b.trait.Request), false,
			"%s, as it should be; %s: it %s", said, saidOther, word)
	}
	for _, s := range spellings {
		if s == b.trait.Request {
			continue
		}
		good, saidNow, err := try(s)
		if err != nil {
			return err
		}
		if good {
			return b.declare(fact, "incremental.format", b.written(s), true,
				"%s, which is not from then on; %s, which is", said, saidNow)
		}
	}
	return b.clear(fact, "no spelling of a time is understood; %s", said)
}

// written is the declared time format with another one for requests.
func (b *prober) written(request string) any {
	if request == b.trait.Record && b.trait.Zone == "UTC" {
		return request
	}
	type format struct {
		Record  string `yaml:"record"`
		Request string `yaml:"request"`
		Zone    string `yaml:"zone"`
	}
	return format{b.trait.Record, request, b.trait.Zone}
}

// filter looks whether a request for what changed since a time shows less than all (P7).
func (b *prober) filter(ctx context.Context, fact string) error {
	rows, err := b.spread()
	if err != nil {
		return err
	}
	pivot := rows[len(rows)*3/4]
	a, err := b.from(ctx, pivot)
	if err != nil {
		return err
	}
	shown, all := b.older(a, pivot.At)
	switch {
	case a.glimpse == nil:
		return b.contradict(fact, "a request from %s on is answered by %d: %s", pivot.Text, a.status, a.why)
	case all > 0 && shown == all:
		if late, err := b.later(ctx); err != nil || len(late.rows()) == 0 {
			return errors.Join(err, errors.New("from a time in the future on there is nothing, and the records of the first page lie too close together to see more"))
		}
		return b.declare(fact, "incremental", nil, true,
			"IGNORED: asked from %s on, it shows all %d records of the first page that are older. Correct the parameter; without one the stream is a snapshot", pivot.Text, all)
	case len(a.rows()) == 0:
		return b.clear(fact, "it finds nothing: asked from %s on, it does not show the record of that time; see the time format", pivot.Text)
	}
	return b.clear(fact, "honoured: asked from %s on, it shows %d of the %d records of the first page that are older", pivot.Text, shown, all)
}

var errFilter = errors.New("the filter does not work as it should")

// works reports whether an answer from a record's time on is that of a filter, so that its edge can be looked at.
func (b *prober) works(a *answer, pivot source.Row) bool {
	shown, all := b.older(a, pivot.At)
	newest := b.timed()[len(b.timed())-1]
	return a.glimpse != nil && (all == 0 || shown < all) && (len(a.rows()) > 0 || !pivot.At.Before(newest.At))
}

// edge asks from a record's own time on, and reports whether that record, the first of rows, is shown.
func (b *prober) edge(ctx context.Context) (rows []source.Row, shown bool, err error) {
	if rows, err = b.exact(); err != nil {
		return nil, false, err
	}
	a, err := b.from(ctx, rows[0])
	if err != nil {
		return nil, false, err
	}
	if !b.works(a, rows[0]) {
		return nil, false, errFilter
	}
	cursor, _ := b.request.Exact(rows[0])
	shown, err = b.finds(ctx, source.Question{Cursor: cursor}, rows[0])
	return rows, shown, err
}

// inclusive looks whether a record at the very cursor is shown again (P6).
func (b *prober) inclusive(ctx context.Context, fact string) error {
	rows, found, err := b.edge(ctx)
	if err != nil {
		return err
	}
	pivot := rows[0]
	return b.declare(fact, "incremental.inclusive", found, found != b.trait.Inclusive, "asked from %s on, the record %s of that very time %s",
		pivot.Text, pivot.Key, map[bool]string{true: "comes too", false: "does not come"}[found])
}

// granularity looks how finely the server compares (P8): how far one has to move before a record's own time is another one.
func (b *prober) granularity(ctx context.Context, fact string) error {
	rows, inclusive, err := b.edge(ctx)
	if err != nil {
		return err
	}
	steps := []struct {
		unit, within time.Duration
		name         string
	}{{time.Microsecond, time.Millisecond, "1us"}, {time.Millisecond, time.Second, "1ms"}, {time.Second, time.Minute, "1s"},
		{time.Minute, time.Hour, "1m"}, {time.Hour, 24 * time.Hour, "1h"}, {24 * time.Hour, 0, "24h"}}
	for _, s := range steps {
		moved := func(r source.Row) time.Time {
			if inclusive {
				return r.At.Add(s.unit)
			}
			return r.At.Add(-s.unit)
		}
		told, equal := 0, 0 // records that were told from their neighbourhood, and that were not
		for _, r := range rows {
			at := moved(r)
			cursor, err := b.request.At(at, "")
			own, _ := b.request.At(r.At, "")
			if err != nil || cursor == own || s.within > 0 && !at.Truncate(s.within).Equal(r.At.Truncate(s.within)) {
				continue // it cannot be written, or it is another one at the next coarser step, too
			}
			found, err := b.finds(ctx, source.Question{Cursor: cursor}, r)
			if err != nil {
				return err
			}
			if found == inclusive {
				equal++
				break
			}
			if told++; told == 2 {
				break
			}
		}
		if told > 0 && equal == 0 {
			return b.declare(fact, "incremental.granularity", s.name, s.unit > b.trait.Granularity,
				"a time that differs by %s is told apart, for %s; a finer difference is not, or cannot be written", s.name, counted(int64(told), "record"))
		}
	}
	return errors.New("no difference up to a day is told apart")
}

// later asks from a year hence on.
func (b *prober) later(ctx context.Context) (*answer, error) {
	cursor, err := b.request.At(b.now.Add(365*24*time.Hour), "")
	if err != nil {
		return nil, err
	}
	return b.ask(ctx, source.Question{Cursor: cursor})
}

// future looks whether a time in the future finds nothing.
func (b *prober) future(ctx context.Context, fact string) error {
	a, err := b.later(ctx)
	if err != nil {
		return err
	}
	if n := len(a.rows()); n > 0 {
		return b.contradict(fact, "a request from a year hence on shows %s: the time is not understood, or the filter is ignored", counted(int64(n), "record"))
	}
	return b.clear(fact, "a request from a year hence on %s", a.said())
}
