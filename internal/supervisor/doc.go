// Package supervisor decides which connections run here: it follows the shards that the group assigns to this process, runs
// the connections of each, and starts again what may start again.
//
// It owns one goroutine for each connection that runs, which ends when its shard is lost, when the connection halts, or with
// Run. It blocks in Run until its context ends, and gives the shards back before it returns.
//
// Goroutines: one for each running connection; one that watches for hanging transactions (K20); one that follows the controls
// topic (K1).
package supervisor
