package admin

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"tidemark/internal/capture"
)

// The phases of a connection, as capture names them.
const (
	waiting     = "waiting"
	owning      = "owning"
	restoring   = "restoring"
	running     = "running"
	owningAgain = "owning again"
	halted      = "halted"
	stopped     = "stopped"
)

// phases are all of them, in the order of a life.
func phases() []string {
	return []string{waiting, owning, restoring, running, owningAgain, halted, stopped}
}

// unownedFor is how long a connection of an assigned shard may be without an owner until liveness fails (K6).
const unownedFor = 5 * time.Minute

// assigned reports whether c should run in this process.
func assigned(st capture.FleetStatus, c capture.Status) bool {
	return slices.Contains(st.Shards, c.Shard)
}

// late is a connection that is assigned and not owned for too long.
type late struct {
	connection, phase, err string
	since                  time.Time
	took                   time.Duration
}

// String says what is late and since when.
func (l late) String() string {
	s := fmt.Sprintf("connection %s: its shard is assigned here, and it is not owned since %s (%s)", l.connection,
		l.since.UTC().Format(time.RFC3339), l.phase)
	if l.err != "" {
		s += ": " + l.err
	}
	return s
}

// watch remembers since when connections are assigned and not owned. A phase alone cannot tell: each attempt begins a new one.
type watch struct {
	mu    sync.Mutex
	since map[string]time.Time // by connection
}

// look takes notice of st and returns what is late (K6). Only looks count: what was owned between two of them is not seen,
// and the clock of a connection starts with the first look. Restoring is owned, fenced and progressing however long it takes:
// to kill it would begin it anew. Halted needs a person, whom a restart does not replace; readiness and the page say it.
func (w *watch) look(st capture.FleetStatus, now time.Time) []late {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []late
	for _, c := range st.Connections {
		name := c.Phase.Name
		if !assigned(st, c) || name == running || name == restoring || name == halted {
			delete(w.since, c.Connection)
			continue
		}
		since, ok := w.since[c.Connection]
		if !ok {
			since = now
		}
		// A wait may be older than the assignment; an attempt to own is not.
		if at := c.Phase.Since; (name == owning || name == owningAgain) && at.Before(since) {
			since = at
		}
		w.since[c.Connection] = since
		if took := now.Sub(since); took > unownedFor {
			all = append(all, late{connection: c.Connection, phase: name, err: c.Phase.Error, since: since, took: took})
		}
	}
	return all
}
