package capture_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ledger is what stands behind an API whose cursors are its own: the latest change of each record, in the order of the changes.
// Its cursors belong to an age; those of an earlier one have expired.
type ledger struct {
	mu      sync.Mutex
	changes []entry
	age     int
	moved   func() // before a page in the middle of a pass is made, once
}

type entry struct {
	id  string
	row map[string]any // nil: it was deleted
	new bool           // the record was not there before
}

// put makes a change.
func (l *ledger) put(rows ...map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		l.change(fmt.Sprint(r["id"]), r)
	}
}

func (l *ledger) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change(id, nil)
}

// change is put for those that hold the lock.
func (l *ledger) change(id string, r map[string]any) {
	fresh := true
	for i := range l.changes {
		if c := &l.changes[i]; c.id == id {
			fresh = fresh && c.row == nil
			*c = entry{} // only the latest change of a record is shown
		}
	}
	l.changes = append(l.changes, entry{id: id, row: r, new: fresh})
}

// expire makes all cursors void, after changes of which nobody is told.
func (l *ledger) expire(silent func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	silent()
	l.age++
}

// cursor names a place; read reads it, and says whether it is still known.
func (l *ledger) cursor(at int) string { return fmt.Sprintf("a%d-%d", l.age, at) }

func (l *ledger) read(cursor string) (at int, known bool) {
	age, n, _ := strings.Cut(cursor, "-")
	at, err := strconv.Atoi(n)
	return at, err == nil && age == fmt.Sprint("a", l.age)
}

// page is what changed behind a place, size changes at most, and where the next page begins. A pass that began at nothing is not
// told of what was deleted.
func (l *ledger) page(from, size int, everything bool) (entries []entry, next int, more bool) {
	for next = from; next < len(l.changes) && len(entries) < size; next++ {
		if c := l.changes[next]; c.id != "" && (c.row != nil || !everything) {
			entries = append(entries, c)
		}
	}
	more = slices.ContainsFunc(l.changes[next:], func(c entry) bool { return c.id != "" && (c.row != nil || !everything) })
	return entries, next, more
}
