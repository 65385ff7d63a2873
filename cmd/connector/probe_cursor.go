package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidemark/internal/cdc"
	"tidemark/internal/source"
)

// emptyPage looks what cursor an answer without records has, and whether cursors move at all (P10).
func (b *prober) emptyPage(ctx context.Context, fact string) error {
	pages, _, err := b.walk(ctx, source.Question{}, b.base, max(2, b.left/2))
	if err != nil {
		return err
	}
	for i := 1; i < len(pages); i++ {
		if a := pages[i-1]; a.glimpse.Next != "" && len(pages[i].rows()) > 0 && pages[i].glimpse.Next == a.glimpse.Next {
			return b.contradict(fact, "FROZEN: page %d has %s, and the cursor of the page before it", i+1, counted(int64(len(pages[i].rows())), "record"))
		}
	}
	last := pages[len(pages)-1]
	cursor := last.glimpse.Next
	for range 3 { // records may come while we look
		if cursor == "" {
			break
		}
		a, err := b.ask(ctx, source.Question{Cursor: b.request.Opaque(cursor)})
		if err != nil {
			return err
		}
		if a.glimpse == nil {
			return fmt.Errorf("the last cursor %s: %s", a.said(), a.why)
		}
		if len(a.rows()) > 0 {
			cursor = a.glimpse.Next
			continue
		}
		switch a.glimpse.Next {
		case "":
			return b.contradict(fact, "an answer without records has no cursor where `next` says")
		case cursor:
			return b.clear(fact, "it stays: the answer without records has the cursor that was sent")
		}
		return b.clear(fact, "it moves: the answer without records has a new cursor, which is stored")
	}
	if cursor == "" {
		return b.contradict(fact, "the last answer has no cursor where `next` says: there is nothing to go on from")
	}
	return errors.New("there was no empty answer within the requests that were allowed")
}

// again looks whether a cursor is good for more than one use: a pass goes on from the last committed one after a crash (P5).
func (b *prober) again(ctx context.Context, fact string) error {
	small := source.Question{Size: 2} // so that there is a second page, where a size can be asked for
	first, err := b.ask(ctx, small)
	switch {
	case err != nil:
		return err
	case first.glimpse == nil || first.glimpse.Next == "":
		return errors.New("the first answer has no cursor")
	}
	var answers [2]*answer
	for i := range answers {
		a, err := b.ask(ctx, source.Question{Cursor: b.request.Opaque(first.glimpse.Next), Size: small.Size})
		if err != nil {
			return err
		}
		answers[i] = a
	}
	one, two := answers[0], answers[1]
	good := one.glimpse != nil && two.glimpse != nil && slices.EqualFunc(one.rows(), two.rows(), func(x, y source.Row) bool { return x.ID == y.ID })
	switch {
	case good && len(one.rows()) == 0:
		return errTooFew
	case good:
		return b.declare(fact, "incremental.checkpoint", map[bool]string{false: "page", true: "pass"}[b.trait.PerPass], false,
			"asked twice with one cursor, the same %s came", counted(int64(len(one.rows())), "record"))
	}
	return b.declare(fact, "incremental.checkpoint", "pass", !b.trait.PerPass, "asked twice with one cursor, it %s, then it %s", one.said(), two.said())
}

// unknownCursor looks what becomes of a cursor that the API never gave (P17).
func (b *prober) unknownCursor(ctx context.Context, fact string) error {
	var cursor any = "tidemark-probe-unknown-cursor"
	if b.trait.Incremental == "sequence" {
		cursor = int64(1) << 52 // as a database that was recreated would see it (P11)
	}
	a, err := b.ask(ctx, source.Question{Cursor: cursor})
	if err != nil {
		return err
	}
	return b.unknown(fact, "cursor", cdc.Expired, "expired", a)
}

// unknownToken looks what becomes of a page token that the API never gave (P17).
func (b *prober) unknownToken(ctx context.Context, fact string) error {
	a, err := b.ask(ctx, source.Question{Token: "tidemark-probe-unknown-token"})
	if err != nil {
		return err
	}
	return b.unknown(fact, "token", cdc.Restart, "restart_pass", a)
}

// unknown says what an answer to something unknown means, and the rule that would say so.
func (b *prober) unknown(fact, what string, want cdc.Remedy, do string, a *answer) error {
	is := func(remedy cdc.Remedy) bool {
		made, _ := cdc.Verdict(a.verdict)
		return a.verdict != nil && made == remedy
	}
	switch {
	case a.glimpse != nil && len(a.rows()) > 0 && len(b.base.rows()) > 0 && a.rows()[0].ID == b.base.rows()[0].ID:
		return b.clear(fact, "SILENCE: the unknown %s is ignored, the listing begins anew", what)
	case a.glimpse != nil && len(a.rows()) == 0:
		hint := ""
		if what == "cursor" && !b.trait.Head {
			hint = "; nothing tells that a cursor was lost: declare `head`, where there is one"
		}
		return b.clear(fact, "SILENCE: the unknown %s is answered by nothing, with status %d%s", what, a.status, hint)
	case a.glimpse != nil:
		return b.clear(fact, "SILENCE: the unknown %s %s", what, a.said())
	case is(want):
		return b.clear(fact, "%d, which the definition takes as %s", a.status, do)
	case is(cdc.Retry):
		return b.rule(fact, do, a, "the definition would ask again and again")
	case is(cdc.Expired):
		return b.rule(fact, do, a, "the definition would begin the whole listing anew")
	}
	return b.rule(fact, do, a, fmt.Sprintf("the definition would halt. Where %d means other things too, tell them apart with `when`", a.status))
}

// rule declares what an answer means; where there are rules already it is theirs to be put in order.
func (b *prober) rule(fact, do string, a *answer, why string) error {
	if b.trait.Rules {
		return b.contradict(fact, "%d: %s; %s. Add {status: %d, do: %s} to `errors`", a.status, a.why, why, a.status, do)
	}
	type rule struct {
		Status int    `yaml:"status"`
		Do     string `yaml:"do"`
	}
	return b.declare(fact, "errors", []rule{{a.status, do}}, true, "%d: %s; %s", a.status, a.why, why)
}
