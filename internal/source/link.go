package source

import (
	"net/http"
	"net/url"
	"strings"

	"tidemark/internal/cdc"
)

// turnLink takes the next page's address from the Link header (RFC 8288) or the body. It is resolved against the request's
// base; fetch refuses it outside the origins.
func (s *splitter) turnLink(next *Position, a answer) (bool, error) {
	if a == ended {
		return true, nil
	}
	target, err := s.placeText(s.next, "paginator.next")
	if err != nil {
		return false, err
	}
	if s.request.paginator.linkHeader {
		target = nextLink(s.resp.Header)
	}
	if target == "" && a == goesOn {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator.next`, `paginator.more` or `paginator.done` in the definition",
			"the answer has no link to a next page%s", s.undone(next))
	}
	if target == "" {
		return true, nil
	}
	base := next.link
	if base == "" {
		v := s.pos.variables()
		_, first, _, _, err := s.request.list.compose(s.request.source, &v)
		if err != nil {
			return false, s.pos.wrap(err)
		}
		base = first
	}
	link, err := resolve(base, target)
	if err != nil || len(link) > maxToken {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator` in the definition", "the link to the next page is no address: %.200q", target)
	}
	if link == base {
		return false, s.pos.fail(cdc.Halt, cdc.Stream, "Correct `paginator` in the definition", "the link to the next page leads to itself: %.200q", target)
	}
	if next.turns.closes(link) {
		return false, next.round("the link", target, "Correct `paginator` in the definition, or say by `done` when the pass has ended")
	}
	next.link = link
	return false, nil
}

// resolve returns target as an absolute address.
func resolve(base, target string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(strings.TrimSpace(target))
	if err != nil {
		return "", err
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// nextLink returns the target of the first link with the relation next; "" where there is none.
func nextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		for line != "" {
			var target, rel string
			if target, rel, line = cutLink(line); strings.EqualFold(rel, "next") {
				return target
			}
		}
	}
	return ""
}

// cutLink takes the first link of a Link header apart: <target>; name=value; name="value", …. Commas and semicolons may
// stand inside the target and inside quotes, so it is read byte by byte. A relation that is a list counts by its next.
func cutLink(line string) (target, rel, rest string) {
	line = strings.TrimLeft(line, " \t,")
	if !strings.HasPrefix(line, "<") {
		return "", "", ""
	}
	target, line, ok := strings.Cut(line[1:], ">")
	if !ok {
		return "", "", ""
	}
	for {
		line = strings.TrimLeft(line, " \t")
		if !strings.HasPrefix(line, ";") {
			break
		}
		line = strings.TrimLeft(line[1:], " \t")
		end := strings.IndexAny(line, "=;,")
		if end < 0 {
			return target, rel, ""
		}
		name := strings.TrimSpace(line[:end])
		if line[end] != '=' {
			line = line[end:]
			continue
		}
		var value string
		value, line = cutValue(strings.TrimLeft(line[end+1:], " \t"))
		if strings.EqualFold(name, "rel") && rel == "" {
			rel = relation(value)
		}
	}
	return target, rel, line
}

// cutValue takes a token or a quoted string.
func cutValue(line string) (value, rest string) {
	if !strings.HasPrefix(line, `"`) {
		end := strings.IndexAny(line, ";,")
		if end < 0 {
			end = len(line)
		}
		return strings.TrimSpace(line[:end]), line[end:]
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch line[i] {
		case '"':
			return b.String(), line[i+1:]
		case '\\':
			if i++; i < len(line) {
				b.WriteByte(line[i])
			}
		default:
			b.WriteByte(line[i])
		}
	}
	return b.String(), ""
}

// relation returns "next" where it is among the relations, else them all.
func relation(value string) string {
	for _, r := range strings.Fields(value) {
		if strings.EqualFold(r, "next") {
			return "next"
		}
	}
	return value
}
