package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// answer is what came to a question.
type answer struct {
	status  int
	header  http.Header
	glimpse *source.Glimpse // nil: it is no answer with records, and why says what it is
	why     string
	verdict error // what the definition makes of it
	url     string
	took    int64 // our clock less the server's, in seconds
	dated   bool
}

// rows are the records of the answer.
func (a *answer) rows() []source.Row {
	if a.glimpse == nil {
		return nil
	}
	return a.glimpse.Rows
}

// has reports whether a record is in the answer.
func (a *answer) has(id string) bool {
	for _, r := range a.rows() {
		if r.ID == id {
			return true
		}
	}
	return false
}

// said says in a word or two what the answer was.
func (a *answer) said() string {
	if a.glimpse == nil {
		return fmt.Sprintf("is answered by %d", a.status)
	}
	return "is answered by " + counted(int64(len(a.glimpse.Rows)), "record")
}

// spend sends a request, if one may still be sent.
func (b *prober) spend(ctx context.Context, request *fetch.Request) (*fetch.Response, error) {
	if b.left--; b.left < 0 {
		return nil, errSpent
	}
	b.sent++
	return b.send(ctx, request)
}

// ask sends one question.
func (b *prober) ask(ctx context.Context, q source.Question) (*answer, error) {
	if q.Page == nil {
		q.Page = b.page
	}
	request, err := b.request.Ask(b.partition, q, b.now)
	if err != nil {
		return nil, err
	}
	resp, err := b.spend(ctx, request)
	if err != nil {
		return nil, err
	}
	defer resp.Release()
	a := &answer{status: resp.Status, header: resp.Header, url: request.URL, verdict: b.request.Verdict(b.partition, resp)}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.dated, a.took = true, int64(resp.Received.Sub(at).Seconds())
	}
	if resp.Status < 200 || resp.Status > 299 {
		a.why = resp.Excerpt()
		return a, nil
	}
	g, err := b.request.Glimpse(b.partition, resp)
	if err != nil {
		a.why = firstLine(err) // an answer that cannot be read is an answer, too
		return a, nil
	}
	a.glimpse = g
	if q.Size == 0 && q.Cursor == nil { // what a pass from the beginning asks
		b.review.Answer(resp, g.Longest)
	}
	return a, nil
}

// walk follows the pages from a question's answer on, as far as there are some and not more than so many; the last one may be
// empty. ended says that the walk came to its end.
func (b *prober) walk(ctx context.Context, q source.Question, first *answer, pages int) (all []*answer, ended bool, err error) {
	all = []*answer{first}
	if q.Page == nil {
		q.Page = b.page
	}
	seen := map[string]bool{}
	for _, r := range first.rows() {
		seen[r.ID] = true
	}
	for a := first; len(all) < pages; {
		next, more := b.request.Follow(q, a.glimpse, a.url)
		if !more {
			return all, true, nil
		}
		q = next
		if a, err = b.ask(ctx, q); err != nil {
			return all, false, err
		}
		if a.glimpse == nil {
			return all, false, fmt.Errorf("page %d is answered by %d: %s", len(all)+1, a.status, a.why)
		}
		all = append(all, a)
		fresh := len(a.glimpse.Rows) == 0
		for _, r := range a.rows() {
			fresh = fresh || !seen[r.ID]
			seen[r.ID] = true
		}
		if !fresh {
			return all, true, nil // it shows what it showed before
		}
	}
	return all, false, nil
}

// finds reports whether an answer shows a record, on whichever of its pages.
func (b *prober) finds(ctx context.Context, q source.Question, row source.Row) (bool, error) {
	const most = 10 // pages
	a, err := b.ask(ctx, q)
	if err != nil {
		return false, err
	}
	if a.glimpse == nil {
		return false, fmt.Errorf("%v %s: %s", q.Cursor, a.said(), a.why)
	}
	if a.has(row.ID) || rises(a.rows()) { // where times rise it would be the first
		return a.has(row.ID), nil
	}
	pages, ended, err := b.walk(ctx, q, a, most)
	for _, p := range pages {
		if p.has(row.ID) {
			return true, nil
		}
	}
	if err == nil && !ended {
		err = fmt.Errorf("the answer has more than %d pages", most)
	}
	return false, err
}

// rises reports whether the times of records rise.
func rises(rows []source.Row) bool {
	return slices.IsSortedFunc(rows, func(x, y source.Row) int { return x.At.Compare(y.At) })
}

// distinct counts the records of pages.
func distinct(pages []*answer) int {
	seen := map[string]bool{}
	for _, a := range pages {
		for _, r := range a.rows() {
			seen[r.ID] = true
		}
	}
	return len(seen)
}
