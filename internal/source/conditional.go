package source

import (
	"net/http"
	"strings"
	"time"

	"tidemark/internal/fetch"
)

// A snapshot stream whose listing is one answer asks for it conditionally (D10, RFC 9110 section 13): what has not changed
// since it was last read is not sent again. The validator stands in the checkpoint, which commits with the records that it
// speaks of; it is void when anything of the definition has changed that decides what is published of them (P23).

// conditional makes the first request of a snapshot pass conditional, where the last one left a validator.
func (p *Position) conditional(out *fetch.Request) {
	r := p.request
	name, value, ok := strings.Cut(p.checkpoint.Validator, ": ")
	if !ok || p.pages > 0 || p.listing || !r.repeatable() {
		return
	}
	of, value, _ := strings.Cut(value, " ")
	if of != r.answerPrint {
		return
	}
	header := out.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set(name, value)
	out.Header = header
	judge := out.Judge
	out.Judge = func(resp *fetch.Response) error {
		if resp.Status == http.StatusNotModified {
			return nil
		}
		return judge(resp)
	}
}

// repeatable reports whether an unchanged answer means unchanged records: no expression looks at the clock. Where partitions
// share their keys the verdict on each needs the sightings of all, which only a whole answer gives (P24).
func (r *Request) repeatable() bool {
	if r.incremental != nil || r.uses.now || r.SharesKeys() {
		return false
	}
	for _, st := range r.Streams {
		if st.filter.clocked() || st.delete.clocked() {
			return false
		}
	}
	return true
}

// validator returns what the next pass may ask with: the header's name, the definition's print, and the server's own text. Only
// a listing of one page has one (D10), since nothing says that the pages of a longer one change together.
func (s *splitter) validator(next *Position) string {
	if s.resp == nil || !s.request.repeatable() || next.listing || next.pages != 1 || next.parked > 0 || s.incomplete(next) != "" {
		return ""
	}
	if tag := s.resp.Header.Get("ETag"); tag != "" && len(tag) < maxToken/16 {
		return "If-None-Match: " + s.request.answerPrint + " " + tag
	}
	// A time of whole seconds says nothing about the rest of its second (RFC 9110 section 8.8.2.2).
	text := s.resp.Header.Get("Last-Modified")
	if at, err := http.ParseTime(text); err == nil && s.resp.ServerTime.Sub(at) > 2*time.Second {
		return "If-Modified-Since: " + s.request.answerPrint + " " + text
	}
	return ""
}

// unchanged ends a pass whose one answer says that nothing has changed: everything that it showed last time is sighted again.
func (s *splitter) unchanged(next *Position) {
	next.began = s.resp.ServerTime
	validator := next.checkpoint.Validator
	s.finish(next)
	next.checkpoint.Validator = validator
	s.page.Unchanged = true
}
