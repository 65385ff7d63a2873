package reconcile

import (
	"fmt"

	"tidemark/internal/cdc"
)

// Guard holds back deletions, and nothing else: those of a rolling day that are more than Keys and more than Share of the keys
// that were live when it began (D5).
type Guard struct {
	Keys  int64
	Share float64 // 0.05 is 5 %
}

// Level is one of the sets whose deletions are counted: a partition, a stream, a connection.
type Level struct {
	Name    string
	Live    int64 // keys that were live when the pass began
	Deleted int64 // of the rolling day
}

// Holds says why n more deletions are withheld; "" where they may go. The keys that the day's deletions took count as live: the
// share is one of what there was, not of what is left.
func (g Guard) Holds(n int64, levels []Level) string {
	for _, l := range levels {
		total, base := l.Deleted+n, l.Live+l.Deleted
		if total > g.Keys && float64(total) > g.Share*float64(base) { // D5: both
			return fmt.Sprintf("%d deletions in a day, of %d keys of the %s: more than %d and more than %g %%", total, base, l.Name, g.Keys, 100*g.Share)
		}
	}
	return ""
}

// Deletion is leave to publish one tombstone. Only this package makes one that holds (6).
type Deletion struct {
	reason     cdc.Reason
	generation uint32
}

// Holds reports whether d is leave at all.
func (d Deletion) Holds() bool { return d.reason != "" }

// Reason is why the key is deleted.
func (d Deletion) Reason() cdc.Reason { return d.reason }

// Generation is that of the complete pass which did not show the key; 0 where no pass decided.
func (d Deletion) Generation() int64 { return int64(d.generation) }

// Declared is leave to delete a key that upstream declares gone, or that left the filter, inside the guard (6, D5). Where it
// does not hold, why says so, and the deletion is kept in the state, since the feed will not repeat it. withheld is how many of
// the stream wait already: they go before this one, and as a whole or not at all.
func Declared(reason cdc.Reason, g Guard, withheld int64, levels []Level) (d Deletion, why string) {
	if why := g.Holds(withheld+1, levels); why != "" {
		return Deletion{}, why
	}
	return Deletion{reason: reason}, ""
}

// Orphan is leave to delete a key whose parent is deleted, where the definition says that orphans go with it. They are not
// counted by the guard: their parent was (D5, D8).
func Orphan(setting string) Deletion {
	if setting != "delete" {
		return Deletion{}
	}
	return Deletion{reason: cdc.Orphan}
}

// Released is leave to delete the keys whose declared deletion the guard withheld: n of them, when the day has room for all, or
// when an operator has approved as many (D5, D6). Orphans that are withheld wait for him alone (D8).
func Released(reason cdc.Reason, g Guard, n, approved int64, levels []Level) Deletion {
	if n <= approved || reason != cdc.Orphan && g.Holds(n, levels) == "" {
		return Deletion{reason: reason}
	}
	return Deletion{}
}
