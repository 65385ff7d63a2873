// Package fetch is the polite HTTP client: one [Client] per connection, one [Budget] per account, one [Pages] per process.
//
// It owns the transport (proxy, certificates, where it may dial), the credential that goes on a request, the repetition of
// the identical request after an error or a 429 (P22), and the buffers that bodies are read into. It knows nothing of
// records: what an answer means is the business of source, which judges it through [Request.Judge].
//
// A page of the way in: budget → bytes → credential → send → bounded read → judge. [Client.Do] blocks on each of these, and
// ends with its context; only a refresh of a rotated token that has begun runs to its own deadline (K19, invariant 9). A
// [Response] has one owner, who ends it with Release.
//
// An error never shows a secret, whatever a server quotes (veil.go) and however it spells it (spelling.go).
//
// Invariant 10 is enforced here for all that a server sends: header bytes, body bytes as they come and decompressed, the
// ratio of the two, and the time of each phase. Invariant 9 stands in oauth2.go; what needs a login is in session.go.
//
// The package starts no goroutine of its own. Two timers run a function: that of an exchange, which cancels it, and that of
// a Budget, which lets the next claim go; both end with what they belong to. net/http keeps two goroutines for an open
// connection; [Client.Close] ends the idle ones, and those in use end with their request.
//
// Nothing here is locked across I/O or a wait: a mutex guards a few assignments, and a lock that waits is a channel of one.
package fetch
