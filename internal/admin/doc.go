// Package admin shows what the process knows of itself: the status page, the same as JSON, health checks and metrics. It only
// reads. Every answer is made from one Status, asked for when the request comes.
//
// It owns a registry of metrics and the memory of since when a connection is assigned and not owned (K6). It blocks on
// Fleet.Status alone, with a deadline, and dies with the server that calls it.
//
// Goroutines: none of its own.
package admin
