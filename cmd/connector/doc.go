// Command connector polls cursor-based HTTP APIs and publishes every change to Kafka, exactly once.
//
// This package parses, wires and prints; it owns the configuration, and nothing can import it. Everything slow belongs to the
// rooms below. Goroutines: those that serve the admin page, in run the one that follows the file of connections, in login the one
// that serves the page which the browser comes back to, and in demo the simulated API, its changes and the printing of events; they
// end with the command's context.
package main
