// Package record turns a page's bytes into records: spans of the places that a stream wants, the strict check of the
// JSON text, and the canonical hash of the published value, all in one walk and without allocation.
//
// It owns no resource, holds no bytes after a call returns, never blocks and has no goroutine. A Scanner and an Envelope
// belong to one goroutine; a Plan and a Path are immutable and may be shared.
//
// # The number rule
//
// A number is its exact decimal value: 1, 1.0 and 10e-1 are one number, 9007199254740993 and 9007199254740992 are two.
// RFC 8785 goes through float64 and would miss that change.
//
// # The hash
//
// The hash is a sum over the tree, so the order of members does not matter (algorithm 1):
//
//	leaf   = xxh3 of a string's content, or a mix of an integer, seeded with H(name) or H(index) of where it stands, and a type tag
//	object = mix(Σ members, tag, count), seeded like a leaf
//	array  = the same over its elements
//
// The sum is never XOR, where equal members would cancel; every kind has its own tag and every container its count, so
// that null, [], {} and "" differ. All seeds come from the stream's seed. A changed algorithm gets a new number: the
// old one stands in the state (P23), and TestHashIsStable holds what was stored.
package record
