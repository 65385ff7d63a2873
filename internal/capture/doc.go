// Package capture is one connection: its loop, its schedule, its tables, its session. It turns pages into transactions and
// is the only place where what upstream says meets what Kafka holds.
//
// The path of a record: a fetcher reads a page; the loop splits it (records, keys, cursor), sends the next request,
// compares each record with the table, encodes what changed into the filling batch; the committer puts the batch into one
// Kafka transaction; when the commit is known, the loop settles it: staged becomes committed (2).
//
// Three lifetimes, three structs. Options hold what the process shares. Connection outlives sessions: schedule, tables and
// checkpoints as last committed, the grant in hand. ownership is one fenced session with everything staged, and dies whole.
//
// Beside its incremental passes a partition is listed in full now and then (listing.go), in turns with them (space.go). What a
// complete listing did not show is decided by package reconcile and carried out in batches (verdict.go); candidates are looked
// up (inquest.go); the guard holds back what is too much (guard.go); a tombstone has one way out (bury.go). Operators are heard
// through the controls topic (command.go). Children of a parent stream are partitions that come and go (parents.go, orphans.go).
//
// It blocks on Kafka and, in fetchers, on HTTP; the loop itself only ever waits in its select. A Connection dies when its
// Run returns.
//
// Goroutines: the connection's loop (the caller of Run); a fetcher for each request in flight, which ends with its request or
// its ownership; a committer for the one transaction in flight, which ends with it.
package capture
