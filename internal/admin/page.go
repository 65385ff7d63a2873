package admin

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
)

// Bounds of the page: what is beyond them stands in /status.json.
const (
	mostNotices    = 40
	mostPartitions = 20 // of a stream
	longestText    = 700
	longestCursor  = 44
)

// tone is how loud something is shown. It is the name of a class of page.css.
type tone string

const (
	good tone = "good"
	idle tone = "idle" // runs elsewhere, or waits for something
	busy tone = "busy" // on its way to running
	warn tone = "warn" // mends itself, or may
	bad  tone = "bad"  // stands still until somebody mends it
)

// pageView is what the template shows: text, decided here; the template only arranges it.
type pageView struct {
	Tone                            tone
	Summary                         string
	Name, Instance, Version, Shards string
	At                              string
	Totals                          []figure
	Notices                         []notice
	MoreNotices                     int
	Connections                     []connectionView
	Elsewhere                       []connectionView // their shards are not assigned here
	notices                         map[tone]int
	assigned, running               int
}

// figure is one number with its name. Key tells it from others between two versions of the page.
type figure struct{ Key, Label, Value, Note string }

// notice is something to know at once.
type notice struct {
	Tone              tone
	What, Where, Text string
	Hint              string
}

type connectionView struct {
	Name, Account, Phase string
	Tone                 tone
	Shard                int32
	Since                moment
	Paused               bool   // by the server
	Silent               string // why there are no numbers
	Figures              []figure
	Streams              []streamView
}

type streamView struct {
	Name, Topic              string
	Tone                     tone
	Keys, Published          figure
	Ops                      []figure
	Suppressed, Parked, Held figure
	ParkedNow                string
	Withheld                 figure
	Candidates               string
	Partitions               []partitionView
	MorePartitions, Rows     int
}

type partitionView struct {
	Name, Cursor, CursorExact string // Name is empty for the only partition
	Fresh, Last, Due          moment
	Pass                      string
	State                     string
	Tone                      tone
	Listed                    moment // the end of the last complete listing
	Listing                   string // the one under way
	ListingTone               tone
	Deletions                 string // what came of them
}

// pageTemplate is page.html, parsed.
type pageTemplate struct{ *template.Template }

func newPage() *pageTemplate {
	return &pageTemplate{template.Must(template.ParseFS(assets, "page.html"))}
}

func (p *pageTemplate) render(v *pageView) ([]byte, error) {
	var out bytes.Buffer
	if err := p.ExecuteTemplate(&out, "page.html", v); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// view decides what the page says of st at now.
func view(st capture.FleetStatus, overdue []late, version string, now time.Time) *pageView {
	v := &pageView{
		Name: st.Name, Instance: st.Instance, Version: version, Shards: shards(st.Shards),
		At: now.UTC().Format("15:04:05 UTC"), notices: map[tone]int{},
	}
	for _, h := range st.Hanging {
		v.tell(notice{bad, "hanging transaction", fmt.Sprintf("%s/%d", h.Topic, h.Partition), h.String(), ""}) // K20
	}
	for _, l := range overdue {
		v.tell(notice{bad, "not owned", l.connection, "assigned here and not owned for " + span(l.took) + ": liveness fails", ""}) // K6
	}
	if st.Refused != "" {
		v.tell(notice{bad, "not reloaded", st.Name, "those that run go on as they were: " + st.Refused, st.RefusedHint})
	}
	for _, text := range st.Foreign {
		v.tell(notice{bad, "deployment", st.Name, text, ""})
	}
	if st.Trouble != "" {
		v.tell(notice{warn, "group", st.Name, "the last trouble with the group: " + st.Trouble, ""})
	}
	var sum totals
	for _, c := range st.Connections {
		sum.add(c)
		if !assigned(st, c) {
			v.Elsewhere = append(v.Elsewhere, v.connection(c, false, now))
			continue
		}
		if v.assigned++; c.Phase.Name == running {
			v.running++
		}
		v.Connections = append(v.Connections, v.connection(c, true, now))
	}
	v.Totals = sum.figures()
	v.summarize()
	// What stands still comes first; within a tone the order is that of the page.
	loud := map[tone]int{bad: 0, warn: 1, busy: 2, idle: 3, good: 4}
	slices.SortStableFunc(v.Notices, func(a, b notice) int { return cmp.Compare(loud[a.Tone], loud[b.Tone]) })
	if n := len(v.Notices); n > mostNotices {
		v.Notices, v.MoreNotices = v.Notices[:mostNotices], n-mostNotices
	}
	return v
}

func (v *pageView) tell(n notice) {
	n.Text, n.Hint = cut(without(n.Text, n.Hint), longestText), cut(n.Hint, longestText)
	v.notices[n.Tone]++
	v.Notices = append(v.Notices, n)
}

// summarize says in one line how everything is.
func (v *pageView) summarize() {
	switch {
	case v.notices[bad] == 1:
		v.Tone, v.Summary = bad, "1 thing to mend"
	case v.notices[bad] > 1:
		v.Tone, v.Summary = bad, fmt.Sprintf("%d things to mend", v.notices[bad])
	case v.running < v.assigned:
		v.Tone, v.Summary = busy, fmt.Sprintf("%d of %d connections running", v.running, v.assigned)
	case v.notices[warn] > 0:
		v.Tone, v.Summary = warn, "running, with trouble"
	case v.assigned == 0:
		v.Tone, v.Summary = idle, "standing by: nothing is assigned here"
	case v.assigned == 1:
		v.Tone, v.Summary = good, "running"
	default:
		v.Tone, v.Summary = good, fmt.Sprintf("all %d connections running", v.assigned)
	}
}

// totals are the sums over the connections that answered.
type totals struct {
	counts            capture.Counts
	keys, parked      int64
	commits, requests int64
	memory            int64
}

func (t *totals) add(c capture.Status) {
	for _, s := range c.Streams {
		t.counts.Created += s.Counts.Created
		t.counts.Updated += s.Counts.Updated
		t.counts.Deleted += s.Counts.Deleted
		t.counts.Read += s.Counts.Read
		t.counts.Suppressed += s.Counts.Suppressed
		t.keys += s.Keys
		t.parked += int64(s.Parked)
	}
	t.commits += c.Commits
	t.requests += c.HTTP.Requests
	t.memory += c.Memory
}

func (t *totals) figures() []figure {
	return []figure{
		{"published", "published", number(t.counts.Published()), "since the start"},
		{"suppressed", "suppressed", number(t.counts.Suppressed), "nothing new in them"},
		{"keys", "keys", number(t.keys), size(t.memory) + " of memory"},
		{"parked", "parked", number(t.parked), "in the dead-letter topic"},
		{"commits", "transactions", number(t.commits), "committed"},
		{"requests", "requests", number(t.requests), "sent"},
	}
}

func shards(all []int32) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(all), "[]")
}

func (v *pageView) connection(c capture.Status, here bool, now time.Time) connectionView {
	cv := connectionView{
		Name: c.Connection, Account: c.Account, Phase: c.Phase.Name, Shard: c.Shard, Since: ago(c.Phase.Since, now), Tone: busy,
	}
	if c.Account == c.Connection {
		cv.Account = ""
	}
	switch {
	case c.Phase.Name == halted:
		cv.Tone = bad
		v.tell(notice{bad, "halted", c.Connection, c.Phase.Error, c.Phase.Hint})
	case c.Phase.Error != "":
		cv.Tone = warn
		v.tell(notice{warn, c.Phase.Name, c.Connection, c.Phase.Error, c.Phase.Hint})
	case c.Phase.Name == running:
		cv.Tone = good
	case !here:
		cv.Tone = idle
	}
	if c.Alarm != "" {
		v.tell(notice{bad, "alarm", c.Connection, c.Alarm, ""}) // K10
	}
	if cv.Paused = c.Paused.After(now); cv.Paused {
		wait := until(c.Paused, now)
		v.tell(notice{idle, "paused", c.Connection, "paused by the server; goes on " + wait.Text + " (" + wait.Exact + "): " + c.PausedWhy, ""}) // P22
	}
	if len(c.Streams) == 0 {
		switch c.Phase.Name {
		case running:
			cv.Silent = "its loop is busy and did not answer in time"
		case halted:
			cv.Silent = "it stands still; what to do is said above"
		default:
			cv.Silent = "its numbers come when it runs"
		}
		return cv
	}
	cv.Figures = connectionFigures(c, now)
	for _, s := range c.Streams {
		cv.Streams = append(cv.Streams, v.stream(c, s, now))
	}
	v.orphans(c, &cv, now)
	return cv
}

func connectionFigures(c capture.Status, now time.Time) []figure {
	key := c.Connection + "/"
	all := []figure{
		{key + "commits", "transactions", number(c.Commits), ""},
		{key + "took", "last took", span(c.CommitTook), ago(c.LastCommit, now).Text},
		{key + "requests", "requests", number(c.HTTP.Requests), size(c.HTTP.Bytes)},
	}
	if c.LastCommit.IsZero() {
		all = slices.Delete(all, 1, 2)
	}
	for _, f := range []struct {
		label string
		n     int64
	}{{"repeats", c.HTTP.Repeats}, {"throttled", c.HTTP.Throttled}, {"relogins", c.HTTP.Relogins}, {"owned anew", c.Reopened}} {
		if f.n > 0 {
			all = append(all, figure{key + f.label, f.label, number(f.n), ""})
		}
	}
	return append(all, figure{key + "memory", "tables", size(c.Memory), ""})
}

func (v *pageView) stream(c capture.Status, s capture.StreamStatus, now time.Time) streamView {
	where := c.Connection + "/" + s.Name
	sv := streamView{
		Name: s.Name, Topic: s.Topic, Tone: good,
		Keys:       figure{where + "/keys", "", number(s.Keys), ""},
		Published:  figure{where + "/published", "", number(s.Counts.Published()), ""},
		Suppressed: figure{where + "/suppressed", "", number(s.Counts.Suppressed), ""},
		Parked:     figure{where + "/parked", "", number(int64(s.Parked)), ""},
		Held:       figure{where + "/held", "", number(int64(s.Held)), ""},
		Withheld:   figure{where + "/withheld", "", number(int64(s.Withheld)), ""},
	}
	if s.Candidates > 0 {
		sv.Candidates = count(s.Candidates, "candidate")
	}
	if s.Counts.Parked > 0 {
		sv.ParkedNow = number(s.Counts.Parked) + " since the start"
	}
	for _, op := range []struct {
		op    cdc.Op
		label string
		n     int64
	}{{cdc.Read, "read", s.Counts.Read}, {cdc.Created, "created", s.Counts.Created}, {cdc.Updated, "updated", s.Counts.Updated},
		{cdc.Deleted, "deleted", s.Counts.Deleted}} {
		if op.n > 0 {
			sv.Ops = append(sv.Ops, figure{where + "/" + string(op.op), op.label, number(op.n), ""})
		}
	}
	if s.Halted != "" {
		sv.Tone = bad
		v.tell(notice{bad, "halted", where, s.Halted, s.Hint})
	}
	if s.Mismatch {
		v.tell(notice{bad, "mismatch", where, "the hashes topic did not hold what the last transaction promised (K8): a full pass mends it, deletions wait. Who wrote to or cut our topics?", ""})
	}
	if s.FilesMissed > 0 {
		v.tell(notice{warn, "files", where, s.FilesTrouble(), ""})
	}
	if text, hint := s.Withholding(c.Connection); text != "" { // D5
		t := bad
		if hint == "" { // approved: it mends itself
			t = warn
		}
		v.tell(notice{t, "withheld", where, text, hint})
	}
	sv.Partitions = v.partitions(c, s.Name, s.Halted, now)
	if n := len(sv.Partitions); n > mostPartitions {
		sv.Partitions, sv.MorePartitions = sv.Partitions[:mostPartitions], n-mostPartitions
	}
	if sv.Rows = max(len(sv.Partitions), 1); sv.MorePartitions > 0 {
		sv.Rows++
	}
	return sv
}

// orphans shows partitions whose request is not called like one of its streams.
func (v *pageView) orphans(c capture.Status, cv *connectionView, now time.Time) {
	known := map[string]bool{}
	for _, s := range c.Streams {
		known[s.Name] = true
	}
	for _, p := range c.Partitions {
		if !known[p.Stream] {
			known[p.Stream] = true
			sv := streamView{Name: p.Stream, Tone: idle, Partitions: v.partitions(c, p.Stream, "", now)}
			sv.Partitions = sv.Partitions[:min(len(sv.Partitions), mostPartitions)]
			sv.Rows = len(sv.Partitions)
			cv.Streams = append(cv.Streams, sv)
		}
	}
}

// partitions are those of one stream, those in trouble first; halted is the stream's own trouble, which is told already.
func (v *pageView) partitions(c capture.Status, stream, halted string, now time.Time) []partitionView {
	var all []partitionView
	for _, p := range c.Partitions {
		if p.Stream != stream {
			continue
		}
		pv := partitionOf(p, now)
		where := c.Connection + "/" + p.Stream
		if pv.Name != "" {
			where += "/" + pv.Name
		}
		switch {
		case p.Halted != "" && p.Halted != halted:
			v.tell(notice{bad, "halted", where, p.Halted, p.Hint})
		case p.Halted == "" && p.LastError != "":
			text := p.LastError
			if p.Failures > 1 {
				text = fmt.Sprintf("%d passes in a row failed, the last: %s", p.Failures, without(text, p.Hint))
			}
			v.tell(notice{warn, "tried again", where, text, p.Hint})
		}
		if p.Drifting {
			v.tell(notice{warn, "drifting", where, "its numbered pages never hold still: a pass may miss records (P9)", ""})
		}
		v.listings(p, where)
		all = append(all, pv)
	}
	loud := func(p partitionView) int { return map[tone]int{bad: -2, warn: -1}[p.Tone] }
	slices.SortStableFunc(all, func(a, b partitionView) int { return cmp.Compare(loud(a), loud(b)) })
	return all
}

func partitionOf(p capture.PartitionStatus, now time.Time) partitionView {
	pv := partitionView{
		Name: p.Name, Cursor: cut(p.Cursor, longestCursor), CursorExact: cut(p.Cursor, longestText),
		Last: ago(p.LastPass, now), Due: until(p.Due, now), Tone: good,
	}
	if p.Name == cdc.NoPartition {
		pv.Name = ""
	}
	if t, ok := instant(p.Cursor); ok {
		pv.Fresh = ago(t, now)
	}
	if !p.LastPass.IsZero() {
		pv.Pass = "in " + span(p.PassTook)
		if !p.Reading {
			pv.Pass = records(p.Records) + " " + pv.Pass
		}
	}
	switch {
	case p.Halted != "":
		pv.State, pv.Tone = halted, bad
	case p.Reading:
		if pv.State = "reading"; p.Records > 0 {
			pv.State += " " + number(int64(p.Records))
		}
		if p.Stage != "" && p.Stage != "page" {
			pv.State += ": " + p.Stage
		}
		if p.LastError != "" {
			pv.Tone = warn
		}
	case p.State != "": // P21
		if pv.State, pv.Tone = p.State, idle; !p.Due.IsZero() {
			pv.State, pv.Tone = p.State+" asked again "+pv.Due.Text, warn
		}
	case p.LastError != "":
		pv.State, pv.Tone = "tried again "+pv.Due.Text, warn
	case !p.Due.IsZero():
		if pv.State = "due"; p.Due.Sub(now) >= time.Second {
			pv.State = "next " + pv.Due.Text
		}
	default:
		pv.State, pv.Tone = "not due", idle
	}
	if (p.Drifting || p.Listing.Failed > 0) && pv.Tone != bad {
		pv.Tone = warn
	}
	pv.listing(p.Listing, now)
	return pv
}

// listings tells what the listings of a partition lack (D2, D4).
func (v *pageView) listings(p capture.PartitionStatus, where string) {
	switch text := p.Listing.Incomplete(); {
	case text == "", p.Halted != "": // what stands still lists nothing; that is told already
	case p.Listing.Alarm:
		v.tell(notice{bad, "no complete listing", where, text, ""})
	default:
		v.tell(notice{warn, "incomplete listing", where, text, ""})
	}
	if text := p.Listing.Alive(); text != "" {
		v.tell(notice{idle, "unlisted", where, text, ""})
	}
}

// listing says what is known of a partition's listings: nothing where none is due, under way or done.
func (pv *partitionView) listing(l capture.ListingStatus, now time.Time) {
	pv.Listed, pv.ListingTone = ago(l.Complete, now), busy
	if l.Failed > 0 {
		pv.ListingTone = warn
	}
	var parts []string
	if !l.Began.IsZero() { // D3: its age
		pv.Listing = "listing for " + span(max(0, now.Sub(l.Began)))
		parts = append(parts, records(l.Records)+" on "+count(l.Pages, "page"))
	}
	if !l.Complete.IsZero() {
		parts = append(parts, number(l.Missing)+" missing")
	}
	for _, part := range []struct {
		n    int64
		what string
	}{{l.Unlisted, "unlisted"}, {int64(l.Asking), "to look up"}, {int64(l.Failed), "incomplete"}} {
		if part.n > 0 {
			parts = append(parts, number(part.n)+" "+part.what)
		}
	}
	if l.Began.IsZero() && !l.Due.IsZero() {
		parts = append(parts, "next "+until(l.Due, now).Text)
	}
	pv.Deletions = strings.Join(parts, " · ")
}
