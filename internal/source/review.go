package source

import (
	"fmt"

	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// Review notes which of the places that a definition names are in what an API answers. What may be absent in one record or in one
// answer is wrong where it is in none, and nobody else would notice: a version that is nowhere protects nothing (P14), a hash of what
// is nowhere never changes (P23), a next page that is nowhere is the end (P10).
type Review struct {
	request *Request
	places  []*reviewed
	signs   []*reviewed
	longest int
}

// reviewed is one place that a definition names.
type reviewed struct {
	key         string // "version", for messages
	path        record.Path
	stream      *Stream // nil: it is in the answer
	sign        *signal // more or done
	content     bool    // it is in the published value, not in the record as it came
	read, found int
	instead     string // what the first one without it has
}

// Remark is what a Review came to: Wrong says that the definition cannot be right.
type Remark struct {
	Text  string
	Wrong bool
}

// Review begins a review of the request.
func (r *Request) Review() *Review {
	v := &Review{request: r}
	for _, st := range r.Streams {
		for _, text := range st.Rules.Include {
			if p, err := record.ParsePath(text); err == nil {
				v.places = append(v.places, &reviewed{key: "hash.include", path: p, stream: st, content: true})
			}
		}
		for _, c := range []struct {
			key  string
			slot int
		}{{"version", st.versionSlot}, {"incremental.cursor_field", st.cursorSlot}, {"record_id", st.recordIDSlot}} {
			if c.slot >= 0 && (c.key != "version" || c.slot != st.cursorSlot) {
				v.places = append(v.places, &reviewed{key: c.key, path: st.places[c.slot], stream: st})
			}
		}
	}
	for _, c := range []struct {
		key  string
		sign *signal
	}{{"paginator.more", r.paginator.more}, {"paginator.done", r.paginator.done}, {"incremental.more", r.incremental.sign()}} {
		if c.sign != nil {
			v.signs = append(v.signs, &reviewed{key: c.key, sign: c.sign})
		}
	}
	if p := r.paginator.next; p != nil {
		v.signs = append(v.signs, &reviewed{key: "paginator.next", path: *p})
	} else if r.paginator.linkHeader {
		v.signs = append(v.signs, &reviewed{key: "paginator.header"})
	}
	return v
}

// Note takes what came to the request of pos: the answer, and the page that Split made of it.
func (v *Review) Note(pos *Position, resp *fetch.Response, page *Page) {
	for i := range page.Records {
		rec := &page.Records[i]
		if rec.Same || rec.Kind == Deleted || rec.Key == nil {
			continue
		}
		for _, p := range v.places {
			if p.stream.Index == rec.Stream && (rec.Err == nil || !p.content) {
				p.record(rec, page.Body)
			}
		}
	}
	if resp != nil && pos.stage == reading {
		v.Answer(resp, page.Rows)
	}
}

// Answer takes an answer that shows so many records, and looks for the signs in it; one without records may lack them.
func (v *Review) Answer(resp *fetch.Response, rows int) {
	if rows == 0 {
		return
	}
	v.longest = max(v.longest, rows)
	in := response{status: resp.Status, header: resp.Header, body: resp.Body}
	for _, p := range v.signs {
		p.read++
		at := &spot{path: p.path}
		var ok bool
		switch {
		case p.sign != nil:
			at = p.sign.absent(&in)
			ok = at == nil
		case p.key == "paginator.header":
			ok = nextLink(resp.Header) != ""
		default:
			span, there := p.path.Find(resp.Body, record.All(resp.Body))
			ok = there && record.KindAt(resp.Body, span) != record.Null
		}
		if ok {
			p.found++
		} else if p.instead == "" {
			p.instead = at.lacking(resp.Body)
		}
	}
}

// record looks for the place in a record.
func (p *reviewed) record(rec *Record, body []byte) {
	at := rec.Raw
	if !rec.whole.IsZero() {
		at = rec.whole
	}
	if p.content {
		body = rec.Content(body)
		at = record.All(body)
	}
	p.read++
	if _, ok := p.path.Find(body, at); ok {
		p.found++
	} else if p.instead == "" {
		p.instead = lacking(body, at, p.path)
	}
}

// Remarks returns what is in nothing that was read.
func (v *Review) Remarks() []Remark {
	var out []Remark
	for _, p := range v.places {
		if p.read == 0 || p.found > 0 {
			continue
		}
		text := fmt.Sprintf("`%s` is in none of the %d records that were read: %s", p.key, p.read, p.instead)
		if p.stream.Name != v.request.Name {
			text = "stream " + p.stream.Name + ": " + text
		}
		out = append(out, Remark{text, true})
	}
	for _, p := range v.signs {
		switch {
		case p.read == 0 || p.found > 0:
		case p.sign != nil && p.sign == v.request.paginator.done:
			out = append(out, Remark{fmt.Sprintf("nothing shows that `%s` is right: no answer had it: %s", p.key, p.instead), false})
		case p.sign != nil:
			out = append(out, Remark{fmt.Sprintf("`%s` is in none of the %d answers that were read: %s; %s", p.key, p.read, p.instead, p.sign.leftOut()), true})
		case v.full():
			out = append(out, Remark{fmt.Sprintf("nothing shows that `%s` is right: no answer had it, and a page has %d records, as many as one can have%s",
				p.key, v.longest, p.elsewhere()), false})
		}
	}
	return out
}

// elsewhere says what there is where the next page should be named.
func (p *reviewed) elsewhere() string {
	if p.key == "paginator.header" {
		return ": there is no Link header with rel=\"next\""
	}
	return ": " + p.instead
}

// full reports whether a page was as long as the request asks for, or as a listing gets.
func (v *Review) full() bool {
	r := v.request
	if t, _ := r.list.size(); t != nil && int64(v.longest) >= t.literal.(int64) {
		return true
	}
	return r.paginator.size > 0 && v.longest >= r.paginator.size || r.cap > 0 && v.longest >= r.cap
}
