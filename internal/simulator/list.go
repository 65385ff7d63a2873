package simulator

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sort"
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
	from, to   int64 // updated_at, inclusive; null and MaxInt64 where there is no filter
	filtered   bool
	filters    map[string]string // as sent, to be echoed
	ids        []int64           // nil: all
}

// parse reads the parameters. Names that the API does not know are ignored; the second result holds what is invalid (422).
func (s *SalesLoft) parse(r *resource, values url.Values) (query, map[string][]string) {
	bad := map[string][]string{}
	q := query{sort: r.sorts[0], descending: true, from: null, to: math.MaxInt64, filters: map[string]string{}}
	if by := values.Get("sort_by"); by != "" {
		if q.sort = by; !slices.Contains(r.sorts, by) {
			bad["sort_by"] = []string{"must be one of: " + strings.Join(r.sorts, ", ")}
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
	if r.filters {
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
			q.filters[op], q.filtered = text, true
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
	if q.filtered { // no comparison holds for null
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

// window returns the ids on the page, in order, and how many match in all.
func (r *resource) window(s *SalesLoft, q query) ([]int64, int) {
	var ids []int64
	var total int
	var at func(int) int64                      // the id of the i-th that matches
	if q.sort == "updated_at" && q.ids == nil { // two binary searches, however large the team
		low := sort.Search(len(r.index), func(i int) bool { return r.index[i].updated >= q.from })
		high := max(low, sort.Search(len(r.index), func(i int) bool { return r.index[i].updated > q.to }))
		total = high - low
		at = func(i int) int64 { return r.index[low+i].id }
	} else {
		all := r.matching(s, q)
		total = len(all)
		at = func(i int) int64 { return all[i] }
	}
	// Pages far beyond the end would overflow the product.
	first := total
	if q.page-1 <= total/q.perPage {
		first = (q.page - 1) * q.perPage
	}
	for i := first; i < min(first+q.perPage, total); i++ {
		if q.descending {
			ids = append(ids, at(total-1-i))
		} else {
			ids = append(ids, at(i))
		}
	}
	return ids, total
}

// matching returns the ids of all records that match, ascending by the sort field, null first, then by id.
func (r *resource) matching(s *SalesLoft, q query) []int64 {
	var all []entry
	for i := range r.rows {
		w := &r.rows[i]
		if !w.committed || w.gone || w.updated < q.from || w.updated > q.to || q.ids != nil && !slices.Contains(q.ids, w.id) {
			continue
		}
		all = append(all, entry{s.sortValue(w, q.sort), w.id})
	}
	slices.SortFunc(all, entry.compare)
	ids := make([]int64, len(all))
	for i, e := range all {
		ids[i] = e.id
	}
	return ids
}

// sortValue is the value of a sort field.
func (s *SalesLoft) sortValue(w *row, field string) int64 {
	switch field {
	case "updated_at":
		return w.updated
	case "created_at", "added_at":
		return w.created
	case "last_contacted_at":
		writer := writer{seed: uint64(s.o.Seed), m: w.moment, created: w.created}
		return writer.contacted()
	default:
		return w.id
	}
}

// list appends the body of a list answer. The lock is held.
func (s *SalesLoft) list(dst []byte, r *resource, q query, fault Kind) []byte {
	switch fault {
	case IgnoreFilter:
		q.from, q.to = null, math.MaxInt64
	case IgnoreSort:
		q.sort, q.descending = "id", false
	}
	ids, total := r.window(s, q)
	if fault == Empty {
		ids, total = nil, 0
	}
	s.stats.Records += int64(len(ids))
	dst = append(dst, `{"metadata":{"filtering":`...)
	if len(q.filters) == 0 {
		dst = append(dst, `{}`...)
	} else {
		echo, err := json.Marshal(map[string]any{"updated_at": q.filters})
		if err != nil {
			panic(err) // texts
		}
		dst = append(dst, echo...)
	}
	dst = q.paging(append(dst, `,"paging":`...), total)
	dst = append(dst, `,"sorting":{"sort_by":"`...)
	dst = append(dst, q.sort...)
	if q.descending {
		dst = append(dst, `","sort_direction":"DESC NULLS LAST"}},"data":[`...)
	} else {
		dst = append(dst, `","sort_direction":"ASC NULLS FIRST"}},"data":[`...)
	}
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		w := &r.rows[id-1]
		dst = s.render(dst, r, w.moment, w.created)
	}
	return append(dst, `]}`...)
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

// single appends the body of a record's own address, or reports that there is none. The lock is held.
func (s *SalesLoft) single(dst []byte, r *resource, id string) ([]byte, int) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 || n > int64(len(r.rows)) || !r.rows[n-1].committed || r.rows[n-1].gone {
		return append(dst, `{"error":"Resource not found"}`...), http.StatusNotFound
	}
	w := &r.rows[n-1]
	dst = s.render(append(dst, `{"data":`...), r, w.moment, w.created)
	return append(dst, '}'), http.StatusOK
}
