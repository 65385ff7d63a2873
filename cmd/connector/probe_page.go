package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tidemark/internal/source"
)

// size looks whether the page size is honoured, and where the answer repeats it (P10).
func (b *prober) size(ctx context.Context, fact string) error {
	if b.base.glimpse.Longest < 3 {
		return errTooFew
	}
	two, err := b.ask(ctx, source.Question{Size: 2})
	if err != nil {
		return err
	}
	three, err := b.ask(ctx, source.Question{Size: 3})
	if err != nil {
		return err
	}
	if two.glimpse == nil || three.glimpse == nil {
		return b.clear(fact, "%s: 2 %s, 3 %s", b.trait.SizeName, two.said(), three.said())
	}
	if n, m := two.glimpse.Longest, three.glimpse.Longest; n != 2 || m != 3 {
		b.find(learned{fact: fact, differs: true, evidence: fmt.Sprintf("%s is not honoured: asked for 2, there are %d; asked for 3, there are %d", b.trait.SizeName, n, m)})
	} else if err := b.clear(fact, "%s is honoured: asked for 2 and 3, there are 2 and 3", b.trait.SizeName); err != nil {
		return err
	}
	return b.echo(two, three)
}

// echo looks for the place that says the page size as the server understood it: only one that is right beyond the largest page
// tells a short page from a capped one.
func (b *prober) echo(two, three *answer) error {
	var places []string
	for at, n := range two.glimpse.Numbers {
		if n == 2 && three.glimpse.Numbers[at] == 3 {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(x, y string) int { return strings.Compare(rank(x), rank(y)) })
	declared := b.trait.SizeEcho
	switch {
	case len(places) == 0 && declared == "":
		return b.clear("page size echoed", "no: a short page is not the last one by itself")
	case len(places) == 0, declared != "" && !slices.Contains(places, declared):
		return b.declare("page size echoed", "paginator.size_echo", nil, true, "%s does not say 2 and 3 when 2 and 3 are asked for", declared)
	case declared == "" && !slices.Contains([]string{"keyset", "page", "offset"}, b.trait.Paginator):
		return b.clear("page size echoed", "at %s", places[0])
	}
	if declared == "" {
		declared = places[0]
	}
	return b.declare("page size echoed", "paginator.size_echo", declared, false, "it says 2 and 3 when 2 and 3 are asked for")
}

var sizeLike = regexp.MustCompile(`(?i)size|per|limit|max`)

// rank puts names that speak of sizes before those that only happen to have the number.
func rank(place string) string {
	if sizeLike.MatchString(place) {
		return "0" + place
	}
	return "1" + place
}

// largest looks for the largest page, and whether who asks for more is told (P10).
func (b *prober) largest(ctx context.Context, fact string) error {
	big := max(1000, 10*b.trait.Size)
	a, err := b.ask(ctx, source.Question{Size: big})
	if err != nil {
		return err
	}
	if a.glimpse == nil {
		return b.refused(ctx, fact, big, a)
	}
	n := int64(a.glimpse.Longest)
	if n >= big {
		return b.clear(fact, "%s: %d is given", b.trait.SizeName, big)
	}
	more, err := b.more(ctx, big, a)
	if err != nil {
		return err
	}
	if !more {
		return b.clear(fact, "%s: %d is not refused, and there are only %d records", b.trait.SizeName, big, n)
	}
	if said, ok := a.glimpse.Numbers[b.trait.SizeEcho]; ok && said != n {
		if err := b.declare("page size echoed", "paginator.size_echo", nil, true,
			"%s repeats what was asked: asked for %d it says %d, and the page has %d", b.trait.SizeEcho, big, said, n); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("capped silently: asked for %d, there are %d on a page, and more behind it", big, n)
	if b.trait.Size > n {
		return b.declare(fact, b.trait.SizeName, n, true, "%s", text)
	}
	return b.declare(fact, b.trait.SizeName, b.trait.Size, false, "%s", text)
}

// more reports whether there are records behind a page.
func (b *prober) more(ctx context.Context, size int64, a *answer) (bool, error) {
	if a.glimpse.Said {
		return a.glimpse.More, nil
	}
	pages, _, err := b.walk(ctx, source.Question{Size: size}, a, 2)
	return distinct(pages) > distinct(pages[:1]), err
}

// refused looks for the largest page that is not refused.
func (b *prober) refused(ctx context.Context, fact string, big int64, first *answer) error {
	text := fmt.Sprintf("%d is refused by %d", big, first.status)
	for _, n := range []int64{5000, 2000, 1000, 500, 250, 200, 100, 50, 25, 10} {
		if n >= big {
			continue
		}
		a, err := b.ask(ctx, source.Question{Size: n})
		if err != nil {
			return err
		}
		if a.glimpse != nil {
			return b.declare(fact, b.trait.SizeName, min(n, b.trait.Size), b.trait.Size > n && b.trait.Size < big, "%s, %d is not", text, n)
		}
		text = fmt.Sprintf("%d is refused by %d", n, a.status)
	}
	return errors.New(text)
}

// firstPage looks whether pages are counted from 0 or from 1.
func (b *prober) firstPage(ctx context.Context, fact string) error {
	var pages [2]*answer
	for i := range pages {
		n := int64(i)
		a, err := b.ask(ctx, source.Question{Page: &n})
		if err != nil {
			return err
		}
		pages[i] = a
	}
	zero, one := pages[0], pages[1]
	switch {
	case len(one.rows()) == 0 && len(zero.rows()) == 0:
		return errTooFew
	case len(zero.rows()) == 0 || len(one.rows()) > 0 && zero.rows()[0].ID == one.rows()[0].ID:
		return b.declare(fact, "paginator.start", 1, b.trait.FirstPage != 1, "page 0 %s, page 1 %s", zero.said(), one.said())
	}
	if b.trait.FirstPage != 0 {
		zeroth := int64(0)
		b.page, b.base = &zeroth, zero
	}
	return b.declare(fact, "paginator.start", 0, b.trait.FirstPage != 0, "page 0 and page 1 begin with different records")
}

// pastTheEnd looks what comes behind the last page (P10).
func (b *prober) pastTheEnd(ctx context.Context, fact string) error {
	far := int64(1_000_000)
	a, err := b.ask(ctx, source.Question{Page: &far, Offset: far})
	if err != nil {
		return err
	}
	switch {
	case len(a.rows()) > 0:
		return b.contradict(fact, "page or offset %d shows %s: the parameter is ignored, or the last page comes again and again",
			far, counted(int64(len(a.rows())), "record"))
	case a.glimpse == nil:
		return b.contradict(fact, "%d %s: %s; a pass that goes one page too far would halt. Declare `more`, `done` or `next`", far, a.said(), a.why)
	}
	return b.clear(fact, "%d %s", far, a.said())
}

// overlap looks whether a page may begin with the last row of the one before (P9).
func (b *prober) overlap(ctx context.Context, fact string) error {
	rows := b.base.rows()
	if len(rows) < 2 || b.base.glimpse.Longest != len(rows) {
		return errors.New("it is asked with one list of two records or more alone")
	}
	a, err := b.ask(ctx, source.Question{Offset: int64(len(rows) - 1)})
	if err != nil {
		return err
	}
	found := len(a.rows()) > 0 && a.rows()[0].ID == rows[len(rows)-1].ID
	return b.declare(fact, "paginator.overlap", found, b.trait.Overlap && !found, "asked from row %d on, the record that was there before %s", len(rows)-1,
		map[bool]string{true: "comes first", false: "does not come first"}[found])
}

// signs says which of the places that tell of a next page no answer had (P10): a pass would end at its first page.
func (b *prober) signs(_ context.Context, fact string) error {
	for _, m := range b.review.Remarks() {
		b.find(learned{fact: fact, evidence: m.Text, differs: m.Wrong})
	}
	return nil
}

var totalLike = regexp.MustCompile(`(?i)total|count|found|matches`)

// total compares what the answers say of their number with a whole listing (D1).
func (b *prober) total(ctx context.Context, fact string) error {
	var places []string
	for at := range b.base.glimpse.Numbers {
		if at == b.trait.Total || totalLike.MatchString(at) {
			places = append(places, at)
		}
	}
	slices.Sort(places)
	if len(places) == 0 {
		if b.trait.Total != "" {
			return b.declare(fact, "reconcile.total", nil, true, "there is no number at %s", b.trait.Total)
		}
		return b.clear(fact, "the answers do not say how many records there are")
	}
	pages, ended, err := b.walk(ctx, source.Question{}, b.base, max(2, b.left/2))
	if err != nil || !ended {
		return errors.Join(err, fmt.Errorf("the listing has more than %s", counted(int64(len(pages)), "page")))
	}
	n := int64(distinct(pages))
	for _, at := range places {
		said := b.base.glimpse.Numbers[at]
		switch {
		case said == n && (b.trait.Total == "" || b.trait.Total == at):
			return b.declare(fact, "reconcile.total", at, false, "it says %d, and the listing shows %d records", said, n)
		case at == b.trait.Total:
			return b.declare(fact, "reconcile.total", nil, true, "%s says %d, and the listing shows %d records", at, said, n)
		}
	}
	return b.clear(fact, "%s says %d, and the listing shows %d records: it is not the number of records", places[0], b.base.glimpse.Numbers[places[0]], n)
}
