// Package embedded is Kafka and a schema registry inside the process: franz-go's kfake, and a registry that speaks the
// Confluent API, on loopback ports, so that kcat and consumers nobody here wrote can connect to them too. It is for demo,
// run without brokers, and tests: one node, everything in memory, gone with the process.
//
// It imports nothing of ours. Start blocks only on binding its ports; Close returns when the ports are free. Its
// goroutines: kfake's own, and one that serves the registry's HTTP, which ends with Close.
package embedded
