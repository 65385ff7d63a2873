package source

import (
	"fmt"
	"strings"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

// answer is what an answer says about the end of the pass (P10).
type answer uint8

const (
	unsaid answer = iota
	goesOn
	ended
	silent // `more` is declared, and is not there
)

// said evaluates the paginator's more and done. One that is not there says no more than that: a name with a typo is never there,
// and an API may leave out what is false. Of `done` that is no end, whatever is meant.
func (s *splitter) said(next *Position) (answer, error) {
	p := &s.request.paginator
	switch {
	case p.done != nil:
		yes, there, err := s.given(p.done, s.done)
		next.heard = next.heard || there
		if err != nil || yes {
			return ended, err
		}
		return goesOn, nil
	case p.more != nil:
		yes, there, err := s.given(p.more, s.more)
		next.heard = next.heard || there
		switch {
		case err != nil || yes:
			return goesOn, err
		case there:
			return ended, nil
		}
		return silent, nil
	}
	return unsaid, nil
}

// silence decides what it means that an answer lacks `more` (P10). Beside a place to go on from it is no end: which of the two is
// right cannot be told. Where neither is there the pass has ended. Where `more` is the only sign, and an answer of this pass had it,
// it was left out because it is false; where none had it, nothing was said, and the pass goes on until an empty page.
func (s *splitter) silence(next *Position) (answer, error) {
	p := &s.request.paginator
	beyond, err := s.placeText(s.next, "paginator.next")
	if p.linkHeader {
		beyond = nextLink(s.resp.Header)
	}
	switch {
	case err != nil:
		return ended, err
	case beyond != "":
		at := "in the Link header"
		if p.next != nil {
			at = fmt.Sprintf("at %q", p.next)
		}
		return ended, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.more` in the definition: "+p.more.leftOut(),
			"the answer has %.64q to go on from %s, and whether there is more it does not say: %s", beyond, at, s.lacks(p.more))
	case next.heard, p.next != nil, p.linkHeader:
		return ended, nil
	}
	return unsaid, nil
}

// unheard says that a pass has ended without the sign that its definition declares, "" where it was there: such an end proves
// nothing missing (D2).
func (s *splitter) unheard(next *Position) string {
	if next.rows == 0 || s.resp == nil { // an empty answer may leave out everything else
		return ""
	}
	p, in := &s.request.paginator, s.request.incremental
	for _, c := range []struct {
		sign  *signal
		key   string
		heard bool
	}{{p.more, "paginator.more", next.heard}, {p.done, "paginator.done", next.heard}, {in.sign(), "incremental.more", next.told}} {
		if c.sign != nil && !c.heard {
			return fmt.Sprintf("none of its answers has what `%s` names, so nothing says that it ended (P10): %s; %s", c.key, s.lacks(c.sign), c.sign.leftOut())
		}
	}
	return ""
}

// sign returns incremental.more; nil where there is none.
func (inc *incremental) sign() *signal {
	if inc == nil {
		return nil
	}
	return inc.more
}

// there reports whether everything that the signal looks at is in the answer, but for what its expression expects to be absent.
func (s *signal) there(resp *response) bool { return s.absent(resp) == nil }

// absent returns the first place that the signal looks at and that is not in the answer.
func (s *signal) absent(resp *response) *spot {
	for i := range s.spots() {
		at := &s.spots()[i]
		if at.header != "" && resp.header.Get(at.header) != "" {
			continue
		}
		if at.header == "" && resp.isJSON() {
			if _, ok := at.path.Find(resp.body, record.All(resp.body)); ok {
				continue
			}
		}
		return at
	}
	return nil
}

func (s *signal) spots() []spot {
	if s.place != nil {
		return []spot{{path: *s.place}}
	}
	return s.expr.spots
}

// leftOut says how a definition says that the signal may be absent.
func (s *signal) leftOut() string {
	if s.place != nil {
		return fmt.Sprintf("if the API leaves it out at the end, say so: %q", "response.body"+dotted(s.place.String())+" ?? false")
	}
	return "if the API leaves it out at the end, say so with ??"
}

// undone is the end of a message about a pass that cannot go on: `done` was never there to end it.
func (s *splitter) undone(next *Position) string {
	if p := &s.request.paginator; p.done != nil && !next.heard {
		return ", and does not say whether it is the last: " + s.lacks(p.done)
	}
	return ", and says that there is more"
}

// lacks says what of a signal the answer does not have, and what it has in its place.
func (s *splitter) lacks(sig *signal) string {
	at := sig.absent(&response{header: s.resp.Header, body: s.body, checked: true, valid: true})
	if at == nil {
		return "it is there on this page"
	}
	return at.lacking(s.body)
}

// lacking says that an answer with that body does not have the spot, and what it has in its place.
func (at *spot) lacking(body []byte) string {
	if at.header != "" {
		return "there is no header " + at.header
	}
	return lacking(body, record.All(body), at.path)
}

// lacking says that a place is not there, and what is: most often its name is nearly right.
func lacking(body []byte, in record.Span, place record.Path) string {
	text := fmt.Sprintf("there is no %q", place)
	for holder, name := place.Up(); ; holder, name = holder.Up() {
		span, ok := holder.Find(body, in)
		if ok && record.KindAt(body, span) == record.Object {
			names := membersAt(body, span, holder)
			return text + suggest(holder.Join(record.Member(name)).String(), names) + had(names)
		}
		if holder.IsRoot() {
			return text
		}
	}
}

// membersAt returns the paths of an object's members.
func membersAt(body []byte, object record.Span, at record.Path) []string {
	var names []string
	for name := range record.Members(body, object) {
		text, _ := record.Text(nil, body, name)
		names = append(names, at.Join(record.Member(string(text))).String())
	}
	return names
}

// had lists what there is, as far as a message has room.
func had(names []string) string {
	const most = 12
	switch n := len(names); {
	case n == 0:
		return "; there is nothing in its stead"
	case n > most:
		return fmt.Sprintf("; there are %.400s and %d others", strings.Join(names[:most], ", "), n-most)
	}
	return fmt.Sprintf("; there are %.400s", strings.Join(names, ", "))
}
