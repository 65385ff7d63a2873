package simulator

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// query is a list request as the API understood it.
type query struct {
	sort       string
	descending bool
	perPage    int
	page       int
	counts     bool
	from, to   int64             // updated_at, inclusive; null and MaxInt64 where there is no filter
	filters    map[string]string // as sent, to be echoed
	ids        []int64           // nil: all
}

// parse reads the parameters. Names that the API does not know are ignored; the second result holds what is invalid (422).
func (s *SalesLoft) parse(r *resource, values url.Values) (query, map[string][]string) {
	bad := map[string][]string{}
	e := s.endpoints[r.name]
	q := query{sort: e.sorts[0], descending: true, from: null, to: math.MaxInt64, filters: map[string]string{}}
	if by := values.Get("sort_by"); by != "" {
		if q.sort = by; !slices.Contains(e.sorts, by) {
			bad["sort_by"] = []string{"must be one of: " + strings.Join(e.sorts, ", ")}
		}
	}
	switch direction := strings.ToUpper(values.Get("sort_direction")); direction {
	case "ASC":
		q.descending = false
	case "", "DESC":
	default:
		bad["sort_direction"] = []string{"must be one of: ASC, DESC"}
	}
	q.perPage = s.perPage(values.Get("per_page"))
	q.page = 1
	if page, err := strconv.Atoi(values.Get("page")); err == nil && page > 1 {
		q.page = page
	}
	q.counts = values.Get("include_paging_counts") == "true"
	for _, name := range []string{"ids", "ids[]"} {
		for _, list := range values[name] {
			for text := range strings.SplitSeq(list, ",") {
				id, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					bad["ids"] = []string{"must be an array of numbers"}
				}
				q.ids = append(q.ids, id)
			}
		}
	}
	if e.filters {
		q.filter(values, bad)
	}
	return q, bad
}

// perPage is the page size: out of range it is corrected without a word (APIS.md §1).
func (s *SalesLoft) perPage(text string) int {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1:
		return min(25, s.o.PageCap)
	default:
		return min(n, s.o.PageCap)
	}
}

// filter reads updated_at[gt|gte|lt|lte]; several are combined.
func (q *query) filter(values url.Values, bad map[string][]string) {
	for _, op := range []string{"gt", "gte", "lt", "lte"} {
		name := "updated_at[" + op + "]"
		for _, text := range values[name] {
			at, ok := instant(text)
			if !ok {
				bad["updated_at"] = []string{"must be an iso8601 timestamp"}
				continue
			}
			q.filters[op] = text
			switch op {
			case "gt":
				q.from = max(q.from, at+1) // microseconds are the granularity
			case "gte":
				q.from = max(q.from, at)
			case "lt":
				q.to = min(q.to, at-1)
			case "lte":
				q.to = min(q.to, at)
			}
		}
	}
	if len(q.filters) > 0 { // no comparison holds for null
		q.from = max(q.from, null+1)
	}
}

// instant reads an iso8601 instant, to the microsecond below it.
func instant(text string) (int64, bool) {
	for _, format := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.Parse(format, text); err == nil {
			return at.UnixMicro(), true
		}
	}
	return 0, false
}

// listing is the query as all systems understand it.
func (s *SalesLoft) listing(r *resource, q query) listing {
	l := listing{r: r, from: q.from, to: q.to, descending: q.descending, size: q.perPage}
	if q.ids != nil {
		l.match = func(w *row) bool { return slices.Contains(q.ids, w.id) }
	}
	if q.sort != "updated_at" {
		l.by = func(w *row) int64 { return s.sortValue(w, q.sort) }
	}
	l.first = math.MaxInt32 // a page far beyond the end would overflow the product
	if q.page-1 <= l.first/q.perPage {
		l.first = (q.page - 1) * q.perPage
	}
	return l
}

// sortValue is the value of a sort field that is not the time of change.
func (s *SalesLoft) sortValue(w *row, field string) int64 {
	switch field {
	case "created_at", "added_at", "occurred_at":
		return w.created
	case "last_contacted_at", "last_used_at":
		writer := writer{seed: uint64(s.o.Seed), m: w.moment, origin: w.origin}
		return writer.contacted()
	case "due_date":
		writer := writer{seed: uint64(s.o.Seed), m: w.moment, origin: w.origin}
		return writer.due()
	default: // id; and names come in the order of ids
		return w.id
	}
}

// answer appends the body of a list. The lock is held.
func (s *SalesLoft) answer(c *call, r *resource, q query) []byte {
	if f, ok := c.hit.of(Capped); ok {
		q.perPage = min(q.perPage, f.N)
	}
	e := s.endpoints[r.name]
	if e.whole {
		q.page, q.perPage = 1, math.MaxInt32
	}
	p := s.list(s.listing(r, q), c.hit)
	dst := fmt.Append(c.dst, `{"metadata":{"filtering":`)
	if len(q.filters) == 0 {
		dst = append(dst, `{}`...)
	} else {
		dst = encoded(dst, map[string]any{"updated_at": q.filters})
	}
	if !e.whole {
		dst = q.paging(append(dst, `,"paging":`...), p.total)
	}
	dst = append(dst, `,"sorting":{"sort_by":"`...)
	dst = append(dst, q.sort...)
	if q.descending {
		dst = append(dst, `","sort_direction":"DESC NULLS LAST"}},"data":[`...)
	} else {
		dst = append(dst, `","sort_direction":"ASC NULLS FIRST"}},"data":[`...)
	}
	return append(s.appendAll(dst, p), `]}`...)
}

func (q query) paging(dst []byte, total int) []byte {
	dst = append(dst, `{"per_page":`...)
	dst = strconv.AppendInt(dst, int64(q.perPage), 10)
	dst = append(dst, `,"current_page":`...)
	dst = strconv.AppendInt(dst, int64(q.page), 10)
	if pages := (total + q.perPage - 1) / q.perPage; q.page < pages {
		dst = append(dst, `,"next_page":`...)
		dst = strconv.AppendInt(dst, int64(q.page)+1, 10)
	} else {
		dst = append(dst, `,"next_page":null`...)
	}
	if q.page > 1 {
		dst = append(dst, `,"prev_page":`...)
		dst = strconv.AppendInt(dst, int64(q.page)-1, 10)
	} else {
		dst = append(dst, `,"prev_page":null`...)
	}
	if q.counts {
		dst = append(dst, `,"total_pages":`...)
		dst = strconv.AppendInt(dst, int64((total+q.perPage-1)/q.perPage), 10)
		dst = append(dst, `,"total_count":`...)
		dst = strconv.AppendInt(dst, int64(total), 10)
	}
	return append(dst, '}')
}

// single is the answer at a record's own address. The lock is held.
func (s *SalesLoft) single(c *call, r *resource, id string) reply {
	n, err := strconv.ParseInt(id, 10, 64)
	r, w := s.find(r, n, c.hit)
	if err != nil || w == nil {
		return s.refusal(c, http.StatusNotFound)
	}
	return c.reply(http.StatusOK, append(s.render(append(c.dst, `{"data":`...), r, w.moment, w.origin), '}'))
}
