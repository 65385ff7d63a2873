// Package simulator holds the upstream APIs as http.Handlers over seeded records that keep changing: SalesLoft, CRF Exchange,
// Focus and Givergy (APIS.md §1 to §4), with their traps (ties, late commits, counters that move updated_at, silently
// corrected page sizes, budgets, single-use refresh tokens, deletions without a sign), with faults on demand, and with the
// whole truth: for every record, the states that it had, and when each became visible or went.
//
//	upstream.go, change.go, history.go   what all of them are made of: records, their life, and what they ever were
//	listing.go, cursor.go, budget.go     the page that a request asks for, opaque cursors, what a minute allows
//	fault.go, serve.go                   what can go wrong with a request, and how an answer is sent
//	salesloft*.go, crf*.go, …            one system each: its addresses, its words, its records
//
// A fact that upstream does not publish is ours, and marked [chosen] where it is made; the others are marked as in APIS.md.
//
// It imports nothing of ours, so that it can share no misunderstanding with the connector. One lock guards everything; it is
// never held across I/O. It has no goroutines: Run changes records on the caller's.
package simulator
