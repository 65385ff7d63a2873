// Package cdc is the vocabulary of the connector as types: operations, versions, names, checkpoints, secrets, and errors
// that carry their remedy. It owns no resource, never blocks and imports nothing of ours; every other room imports it.
//
// # Invariants
//
// The line that enforces one of them names it, as "(1)".
//
//  1. An event and the hash of its record commit in one Kafka transaction; the cursor commits with or after everything
//     that it passed.
//  2. What memory holds of Kafka changes only after a commit is known; after an unknown outcome Kafka is read again.
//     Observations of upstream (sightings, a token in hand) are not a cache and survive.
//  3. One owner per connection, enforced by fencing. Group assignment is for efficiency only.
//  4. The committed cursor never passes a change that is not published, parked, or kept as a candidate.
//  5. Suppressed means: the canonical content equals that of the last committed event of this key.
//  6. Only what leaves the filter, what upstream declares, or what a complete pass finds missing and a confirmation
//     agrees, is deleted, and only inside the guard.
//  7. Nothing unreadable is skipped or defaulted: it stops the pass, or it is parked in the dead-letter topic, visibly.
//  8. The versions of a key never go backwards where the API gives a version.
//  9. The newest refresh token is stored before it is used; one refresh is in flight per grant.
//  10. Memory, open-transaction time, page bytes and pass length stay inside configured limits, whatever the server sends.
package cdc
