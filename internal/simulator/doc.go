// Package simulator is a SalesLoft that runs on this machine: the API of APIS.md §1 as an http.Handler over seeded records
// that keep changing, with its traps (ties, late commits, counters that move updated_at, a silently corrected per_page, a
// budget by cost, single-use refresh tokens), with faults on demand, and with the whole truth: for every record, the states
// that it had, and when each became visible.
//
// It imports nothing of ours, so that it can share no misunderstanding with the connector. One lock guards everything; it is
// never held across I/O. It has no goroutines: Run changes records on the caller's.
package simulator
