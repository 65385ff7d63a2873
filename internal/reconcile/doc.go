// Package reconcile is the verdict on a complete listing, and the only code that can decide a deletion: whoever publishes a
// tombstone needs a [Deletion], and nothing else makes one (6). Rules D1 to D10 are its specification; the line that enforces
// one names it.
//
// It is arithmetic over facts that the caller has gathered: what a pass was, what the table knows, what candidates wait, what a
// lookup said, what was deleted in the rolling day. It owns no resource, never blocks and has no goroutine.
//
// The way of a key that a complete listing did not show:
//
//	Mark     is the listing complete, and made under the same fingerprint as the one before?      D1, D2, P23
//	Judge    how many are missing: more than the guard lets go, or none that could be believed?   D5, D6
//	Decide   key by key: wait for a second pass, ask for it, withhold it, or delete it            D4
//	Confirm  what the lookups of a batch prove, beside that of a key that must be found           D4
package reconcile
