package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tidemark/internal/capture"
	"tidemark/internal/cdc"
)

// metric declares one of ours. docs/metrics.md lists the same; a test compares them.
type metric struct {
	name   string
	kind   prometheus.ValueType
	labels string // separated by commas
	help   string
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue

	ofConnection = "connection"
	ofStream     = "connection,stream"
	ofPartition  = "connection,stream,partition"
)

// processMetrics are those of the process and of its connections.
func processMetrics() []metric {
	return []metric{
		{"tidemark_build_info", gauge, "version", "1; the program's version is the label"},
		{"tidemark_shards", gauge, "", "Shards that the group has assigned to this process"},
		{"tidemark_configuration_refused", gauge, "", "1 while the file of connections, as it stands now, does not run: the one before it does"},
		{"tidemark_hanging_transactions", gauge, "", "Open transactions of others that stop the readers of our events topics (K20)"},
		{"tidemark_connection_assigned", gauge, ofConnection, "1 where the connection's shard is assigned to this process"},
		{"tidemark_connection_phase", gauge, "connection,phase", "1 for the phase that the connection is in, 0 for the others"},
		{"tidemark_connection_alarm", gauge, ofConnection, "1 once another deployment was seen to use our name (K10), until the process ends"},
		{"tidemark_commits_total", counter, ofConnection, "Kafka transactions known to be committed"},
		{"tidemark_commit_seconds", gauge, ofConnection, "How long the last transaction took"},
		{"tidemark_commit_records_total", counter, ofConnection, "Kafka records in committed transactions: events, hashes, offsets"},
		{"tidemark_last_commit_timestamp_seconds", gauge, ofConnection, "When the last transaction was known to be committed"},
		{"tidemark_reopened_total", counter, ofConnection, "Ownerships after the first: each means a fence or a trouble"},
		{"tidemark_memory_bytes", gauge, ofConnection, "Memory of the tables of what has been published"},
		{"tidemark_http_requests_total", counter, ofConnection, "Requests sent, repeats included"},
		{"tidemark_http_repeats_total", counter, ofConnection, "Requests sent again after a passing error"},
		{"tidemark_http_throttled_total", counter, ofConnection, "Answers that asked for a pause: 429, and 503 with Retry-After"},
		{"tidemark_http_relogins_total", counter, ofConnection, "Answers 401 that a new credential was got for"},
		{"tidemark_http_bytes_total", counter, ofConnection, "Bytes of bodies received, as they came"},
		{"tidemark_http_paused", gauge, ofConnection, "1 while the server has asked the connection's account to wait (P22)"},
	}
}

// streamMetrics are those of streams and partitions.
func streamMetrics() []metric {
	return []metric{
		{"tidemark_published_total", counter, "connection,stream,op", "Events in committed transactions: c created, u updated, d deleted, r read"},
		{"tidemark_suppressed_total", counter, ofStream, "Records whose content was that of the last event of their key"},
		{"tidemark_parked_total", counter, ofStream, "Records written to the dead-letter topic"},
		{"tidemark_rehashed_total", counter, ofStream, "Records taken over in silence under new content rules (P23)"},
		{"tidemark_keys", gauge, ofStream, "Keys that have been published and not deleted"},
		{"tidemark_parked_keys", gauge, ofStream, "Keys whose present content stands in the dead-letter topic"},
		{"tidemark_held", gauge, ofStream, "Older versions that wait for confirmation (P14)"},
		{"tidemark_files", gauge, ofStream, "Files of records that stand in the folder"},
		{"tidemark_files_missed", gauge, ofStream, "Files of records that could not be had and are tried again"},
		{"tidemark_candidates", gauge, ofStream, "Missing keys that wait for a second listing or for their lookup (D4)"},
		{"tidemark_withheld", gauge, ofStream, "Deletions that the guard holds back until they are approved or the day has room (D5)"},
		{"tidemark_stream_halted", gauge, ofStream, "1 while the stream stands still until somebody mends it"},
		{"tidemark_stream_mismatch", gauge, ofStream, "1 where the restored state was not what the last transaction promised (K8)"},
		{"tidemark_partition_halted", gauge, ofPartition, "1 while the partition stands still until somebody mends it"},
		{"tidemark_partition_failures", gauge, ofPartition, "Passes in a row that failed"},
		{"tidemark_partition_drifting", gauge, ofPartition, "1 where numbered pages never held still (P9)"},
		{"tidemark_passes_total", counter, ofPartition, "Passes that ended, over the life of the checkpoint"},
		{"tidemark_pass_records", gauge, ofPartition, "Records of the pass under way, or of the last one"},
		{"tidemark_pass_seconds", gauge, ofPartition, "How long the last pass took"},
		{"tidemark_last_successful_pass_timestamp_seconds", gauge, ofPartition, "When the last pass ended; absent before the first of this process"},
		{"tidemark_cursor_timestamp_seconds", gauge, ofPartition, "The committed cursor, where it is an instant"},
	}
}

// listingMetrics are those of listings, from which deletions follow (D1 to D6).
func listingMetrics() []metric {
	return []metric{
		{"tidemark_listing_age_seconds", gauge, ofPartition, "For how long the listing under way has run; 0 while none is (D3)"},
		{"tidemark_listing_incomplete", gauge, ofPartition, "Listings in a row that were not complete: nothing is deleted on their word (D2)"},
		{"tidemark_last_complete_listing_timestamp_seconds", gauge, ofPartition, "When the last complete listing ended; absent before the first"},
		{"tidemark_listing_missing", gauge, ofPartition, "Keys that the last complete listing did not show, those that were deleted for it included"},
		{"tidemark_listing_unlisted", gauge, ofPartition, "Of these, keys that their lookups found alive (D4)"},
	}
}

// metrics are all of them.
func metrics() []metric {
	return slices.Concat(processMetrics(), streamMetrics(), listingMetrics())
}

// collector makes the metrics from one status at each scrape, so they agree with each other and with the page.
type collector struct {
	Options
	descs map[string]*prometheus.Desc
	kinds map[string]prometheus.ValueType
}

// registry returns a registry of our own with everything that /metrics shows.
func registry(o Options) *prometheus.Registry {
	c := &collector{Options: o, descs: map[string]*prometheus.Desc{}, kinds: map[string]prometheus.ValueType{}}
	for _, m := range metrics() {
		var labels []string
		if m.labels != "" {
			labels = strings.Split(m.labels, ",")
		}
		c.descs[m.name], c.kinds[m.name] = prometheus.NewDesc(m.name, m.help, labels, nil), m.kind
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector: it asks the fleet.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusWithin)
	defer cancel()
	st := c.Fleet.Status(ctx)
	s := scrape{c, out, time.Now()}
	s.put("tidemark_build_info", 1, c.Version)
	s.put("tidemark_shards", float64(len(st.Shards)))
	s.put("tidemark_configuration_refused", truth(st.Refused != ""))
	s.put("tidemark_hanging_transactions", float64(len(st.Hanging)))
	for _, conn := range st.Connections {
		s.put("tidemark_connection_assigned", truth(assigned(st, conn)), conn.Connection)
		for _, name := range phases() {
			s.put("tidemark_connection_phase", truth(conn.Phase.Name == name), conn.Connection, name)
		}
		// A connection that did not answer has its phase alone: zeros would read as counters that began anew.
		if len(conn.Streams) > 0 {
			s.connection(conn)
		}
	}
}

// scrape is one collection.
type scrape struct {
	*collector
	out chan<- prometheus.Metric
	now time.Time
}

func (s scrape) put(name string, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	m, err := prometheus.NewConstMetric(s.descs[name], s.kinds[name], v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(s.descs[name], err)
	}
	s.out <- m
}

// at puts an instant that is known.
func (s scrape) at(name string, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.put(name, float64(t.UnixMicro())/1e6, labels...)
	}
}

func (s scrape) connection(c capture.Status) {
	name := c.Connection
	s.put("tidemark_connection_alarm", truth(c.Alarm != ""), name)
	s.put("tidemark_commits_total", float64(c.Commits), name)
	s.put("tidemark_commit_records_total", float64(c.Written), name)
	s.put("tidemark_commit_seconds", c.CommitTook.Seconds(), name)
	s.at("tidemark_last_commit_timestamp_seconds", c.LastCommit, name)
	s.put("tidemark_reopened_total", float64(c.Reopened), name)
	s.put("tidemark_memory_bytes", float64(c.Memory), name)
	s.put("tidemark_http_requests_total", float64(c.HTTP.Requests), name)
	s.put("tidemark_http_repeats_total", float64(c.HTTP.Repeats), name)
	s.put("tidemark_http_throttled_total", float64(c.HTTP.Throttled), name)
	s.put("tidemark_http_relogins_total", float64(c.HTTP.Relogins), name)
	s.put("tidemark_http_bytes_total", float64(c.HTTP.Bytes), name)
	s.put("tidemark_http_paused", truth(c.Paused.After(s.now)), name)
	for _, st := range c.Streams {
		s.stream(name, st)
	}
	for _, p := range c.Partitions {
		s.partition(name, p)
	}
}

func (s scrape) stream(connection string, st capture.StreamStatus) {
	for op, n := range map[cdc.Op]int64{
		cdc.Created: st.Counts.Created, cdc.Updated: st.Counts.Updated, cdc.Deleted: st.Counts.Deleted, cdc.Read: st.Counts.Read,
	} {
		s.put("tidemark_published_total", float64(n), connection, st.Name, string(op))
	}
	s.put("tidemark_suppressed_total", float64(st.Counts.Suppressed), connection, st.Name)
	s.put("tidemark_parked_total", float64(st.Counts.Parked), connection, st.Name)
	s.put("tidemark_rehashed_total", float64(st.Counts.Rehashed), connection, st.Name)
	s.put("tidemark_keys", float64(st.Keys), connection, st.Name)
	s.put("tidemark_parked_keys", float64(st.Parked), connection, st.Name)
	s.put("tidemark_held", float64(st.Held), connection, st.Name)
	s.put("tidemark_files", float64(st.Files), connection, st.Name)
	s.put("tidemark_files_missed", float64(st.FilesMissed), connection, st.Name)
	s.put("tidemark_candidates", float64(st.Candidates), connection, st.Name)
	s.put("tidemark_withheld", float64(st.Withheld), connection, st.Name)
	s.put("tidemark_stream_halted", truth(st.Halted != ""), connection, st.Name)
	s.put("tidemark_stream_mismatch", truth(st.Mismatch), connection, st.Name)
}

func (s scrape) partition(connection string, p capture.PartitionStatus) {
	s.put("tidemark_partition_halted", truth(p.Halted != ""), connection, p.Stream, p.Name)
	s.put("tidemark_partition_failures", float64(p.Failures), connection, p.Stream, p.Name)
	s.put("tidemark_partition_drifting", truth(p.Drifting), connection, p.Stream, p.Name)
	s.put("tidemark_passes_total", float64(p.Passes), connection, p.Stream, p.Name)
	s.put("tidemark_pass_records", float64(p.Records), connection, p.Stream, p.Name)
	if !p.LastPass.IsZero() {
		s.put("tidemark_pass_seconds", p.PassTook.Seconds(), connection, p.Stream, p.Name)
	}
	s.at("tidemark_last_successful_pass_timestamp_seconds", p.LastPass, connection, p.Stream, p.Name)
	if t, ok := instant(p.Cursor); ok {
		s.at("tidemark_cursor_timestamp_seconds", t, connection, p.Stream, p.Name)
	}
	s.listing(p.Listing, connection, p.Stream, p.Name)
}

func (s scrape) listing(l capture.ListingStatus, labels ...string) {
	age := 0.0
	if !l.Began.IsZero() {
		age = max(0, s.now.Sub(l.Began).Seconds())
	}
	s.put("tidemark_listing_age_seconds", age, labels...)
	s.put("tidemark_listing_incomplete", float64(l.Failed), labels...)
	s.at("tidemark_last_complete_listing_timestamp_seconds", l.Complete, labels...)
	if !l.Complete.IsZero() { // before the first, nobody knows
		s.put("tidemark_listing_missing", float64(l.Missing), labels...)
		s.put("tidemark_listing_unlisted", float64(l.Unlisted), labels...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// instant reads a cursor that is an instant with its zone. Cursors are in the server's own text (P16): one without a zone, or
// a bare number, may be anything, and no freshness is better than a wrong one.
func instant(cursor string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z0700"} {
		if t, err := time.Parse(layout, cursor); err == nil {
			return t, t.Year() > 0 // year 0 and the zero time: a placeholder
		}
	}
	return time.Time{}, false
}
