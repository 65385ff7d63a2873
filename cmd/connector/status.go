package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
)

// shownStatus is what /status.json says.
type shownStatus struct {
	Version string `json:"version"`
	capture.FleetStatus
}

// statusBytes bounds an answer of the admin server (10).
const statusBytes = 64 << 20

// status asks a running connector what it does.
func status(ctx context.Context, p *program, args []string) error {
	address := "127.0.0.1:8484"
	if s, err := loadSettings(p.env); err == nil {
		address = s.Admin
	} else if a, ok := p.env("ADMIN_ADDRESS"); ok {
		address = a
	}
	f := p.flags("status", "[--address URL]")
	f.StringVar(&address, "address", address, "where the connector's admin server listens (ADMIN_ADDRESS)")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	s, err := askStatus(ctx, strings.TrimRight(address, "/")+"/status.json")
	if err != nil {
		return err
	}
	p.showStatus(s, time.Now())
	return nil
}

// askStatus fetches the status.
func askStatus(ctx context.Context, url string) (*shownStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	wrong := func(hint, format string, args ...any) error {
		e := cdc.Errorf(cdc.Halt, cdc.Process, "ask for the status", hint, format, args...)
		e.Where = url
		return e
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: --address: %w", errUsage, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, wrong("Is the connector running there? It prints its address when it starts (ADMIN_ADDRESS); --address names another one", "%w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, statusBytes))
	if err != nil {
		return nil, wrong("Try again", "%w", err)
	}
	var s shownStatus
	if answer.StatusCode != http.StatusOK {
		return nil, wrong("Is it the admin server of a connector?", "it answered %d: %s", answer.StatusCode, clipped(string(body), 200))
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, wrong("Is it the admin server of a connector, of this version?", "the answer cannot be read: %w", err)
	}
	return &s, nil
}

// showStatus prints a status: each connection with its streams and partitions, and what is wrong with what to do.
func (p *program) showStatus(s *shownStatus, now time.Time) {
	fmt.Fprintf(p.out, "%s, instance %s, version %s, shards %s\n", s.Name, s.Instance, s.Version, shardList(s.Shards))
	p.trouble("group: "+s.Trouble, "", s.Trouble != "")
	p.trouble("the connections are not reloaded, those that run go on as they were: "+s.Refused, s.RefusedHint, s.Refused != "")
	for _, h := range s.Hanging {
		p.trouble(fmt.Sprintf("a transaction of producer %d stops the readers of %s/%d at offset %d", h.ProducerID, h.Topic, h.Partition, h.Offset),
			"Find its producer, or end it with kafka-transactions.sh abort", true)
	}
	if len(s.Connections) == 0 {
		fmt.Fprintln(p.out, "no connections are configured")
	}
	for _, c := range s.Connections {
		p.showConnection(c, now)
	}
}

// trouble prints what is wrong, and the hint under it.
func (p *program) trouble(what, hint string, is bool) {
	if !is {
		return
	}
	fmt.Fprintln(p.out, "  ! "+indented(strings.TrimSuffix(strings.TrimSuffix(what, hint), ". "), "    "))
	if hint != "" {
		fmt.Fprintln(p.out, "    → "+indented(hint, "      "))
	}
}

func shardList(shards []int32) string {
	if len(shards) == 0 {
		return "none"
	}
	words := make([]string, len(shards))
	for i, n := range shards {
		words[i] = strconv.Itoa(int(n))
	}
	return strings.Join(words, " ")
}

func (p *program) showConnection(c capture.Status, now time.Time) {
	fmt.Fprintf(p.out, "\n%s: %s since %s (account %s, shard %d)", c.Connection, c.Phase.Name, ago(c.Phase.Since, now), c.Account, c.Shard)
	if c.Commits > 0 {
		fmt.Fprintf(p.out, ", %s, the last %s", counted(c.Commits, "transaction"), ago(c.LastCommit, now))
	}
	if c.Reopened > 0 {
		fmt.Fprintf(p.out, ", owned anew %d times", c.Reopened)
	}
	fmt.Fprintln(p.out)
	p.trouble(c.Phase.Error, c.Phase.Hint, c.Phase.Error != "")
	p.trouble(c.Alarm, "", c.Alarm != "")
	if c.Paused.After(now) {
		p.trouble(fmt.Sprintf("paused until %s: %s", c.Paused.Format(time.RFC3339), c.PausedWhy), "", true)
	}
	if len(c.Streams) > 0 {
		rows := [][]string{{"  STREAM", "KEYS", "CREATED", "UPDATED", "DELETED", "FIRST READ", "SUPPRESSED", "PARKED", "HELD", "CANDIDATES", "WITHHELD"}}
		for _, st := range c.Streams {
			n := st.Counts
			row := []string{"  " + st.Name}
			for _, v := range []int64{
				st.Keys, n.Created, n.Updated, n.Deleted, n.Read, n.Suppressed, int64(st.Parked), int64(st.Held), int64(st.Candidates), int64(st.Withheld),
			} {
				row = append(row, strconv.FormatInt(v, 10))
			}
			rows = append(rows, row)
		}
		aligned(p.out, rows)
	}
	p.showPartitions(c, now)
	for _, st := range c.Streams {
		p.trouble(st.Name+": "+st.Halted, st.Hint, st.Halted != "")
		p.trouble(st.Name+": what was restored is not what the last transaction promised: a full pass is made, deletions wait", "", st.Mismatch)
		p.trouble(st.Name+": "+st.FilesTrouble(), "", st.FilesMissed > 0)
		withheld, hint := st.Withholding(c.Connection) // D5
		p.trouble(st.Name+": "+withheld, hint, withheld != "")
	}
}

func (p *program) showPartitions(c capture.Status, now time.Time) {
	if len(c.Partitions) == 0 {
		return
	}
	halted := map[string]bool{} // its stream says it already
	for _, st := range c.Streams {
		halted[st.Name] = st.Halted != ""
	}
	rows := [][]string{{"  PARTITION", "CURSOR", "PASSES", "LAST PASS", "TOOK", "RECORDS", "LISTED", "NOW"}}
	for _, part := range c.Partitions {
		took := "-"
		if part.PassTook > 0 {
			took = part.PassTook.Round(time.Millisecond).String()
		}
		rows = append(rows, []string{
			"  " + named(part), clipped(orDash(part.Cursor), 50), strconv.FormatInt(part.Passes, 10), ago(part.LastPass, now), took,
			strconv.Itoa(part.Records), ago(part.Listing.Complete, now), doing(part, now),
		})
	}
	aligned(p.out, rows)
	for _, part := range c.Partitions {
		what := part.Halted
		if what == "" && part.LastError != "" {
			what = fmt.Sprintf("%s (%d failed in a row)", part.LastError, part.Failures)
		}
		p.trouble(part.Stream+" "+part.Name+": "+what, part.Hint, what != "" && (part.Halted == "" || !halted[part.Stream]))
		p.showListing(part, now)
	}
}

// named is how a partition is called in the tables.
func named(part capture.PartitionStatus) string {
	if part.Name == cdc.NoPartition {
		return part.Stream
	}
	return part.Stream + "/" + part.Name
}

// showListing prints what there is to know of a partition's listings: the one under way, what the last complete one missed, and
// what the others lacked.
func (p *program) showListing(part capture.PartitionStatus, now time.Time) {
	l := part.Listing
	if !l.Began.IsZero() { // D3: its age
		fmt.Fprintf(p.out, "  %s is listed since %s: %s on %s\n", named(part), ago(l.Began, now), counted(int64(l.Records), "record"), counted(int64(l.Pages), "page"))
	}
	if l.Missing > 0 {
		fmt.Fprintf(p.out, "  %s: %s missing in the last complete listing", named(part), counted(l.Missing, "key"))
		if l.Asking > 0 {
			fmt.Fprintf(p.out, ", %d still to be looked up", l.Asking)
		}
		fmt.Fprintln(p.out)
	}
	if alive := l.Alive(); alive != "" { // D4
		fmt.Fprintf(p.out, "  %s: %s\n", named(part), alive)
	}
	incomplete := l.Incomplete() // D2
	p.trouble(named(part)+": "+incomplete, "", incomplete != "" && part.Halted == "")
}

// doing says what a partition does now.
func doing(part capture.PartitionStatus, now time.Time) string {
	var what string
	switch {
	case part.Halted != "":
		what = "halted"
	case part.Reading:
		what = "reading"
		if part.Stage != "" && part.Stage != "page" {
			what += " (" + part.Stage + ")"
		}
	case part.Due.IsZero() && part.State == "":
		what = "waiting"
	case part.Due.IsZero():
	case part.Due.Before(now):
		what = "due"
	default:
		what = "due in " + part.Due.Sub(now).Round(time.Second).String()
	}
	if part.Drifting {
		what += ", drifting"
	}
	if part.State != "" { // P21
		what = strings.TrimSuffix(part.State+", "+what, ", ")
	}
	return what
}
