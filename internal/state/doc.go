// Package state knows what has been published: one Table per stream, with an entry for every key of its events topic.
//
// A Table owns mapped memory outside the garbage collector's sight, which Close gives back; without Close it stays until
// the process ends. It belongs to one goroutine, the connection's loop, never blocks, and has no goroutine. It outlives
// sessions (K9) and dies with its connection: Drop ends what belongs to an ownership.
//
// # Three kinds of knowledge
//
// Committed entries are what Kafka holds: they change only when a commit is known (Settle) or when Kafka is read (Apply,
// Remove) (2). Staged entries stand in a batch whose commit is not known; they lie over the committed ones (P2) and go with
// the ownership (Drop). Observations are no state at all: raw length and raw hash of a record's bytes, the newest version
// seen, and the generation of the last sighting (D3). Losing one costs work and never an event, so they are written in
// place and survive a Drop.
//
// # Memory
//
// A key takes a slot of 8 bytes in a segment, of which between a half and four fifths are used, a cell of 48 bytes, and its
// own bytes unless it is a decimal number below 10^18, which the cell holds. Segments are of fixed size and split in two
// when they are full (extendible hashing), so the table grows without ever moving more than 4096 slots at once.
package state
