// Package judge holds the one truth of the tests, the demo and the simulation: it compares what a read-committed reader
// found in an events topic with the states that the API really had (DESIGN §11). It is a pure function of the two; reading
// topics and histories is the caller's job. Its twin, written in another language from the same rules, is
// deploy/judge/consumer.py.
//
// It owns nothing, never blocks and has no goroutines.
package judge
