// Package kafka is the protocol between a connection and Kafka: own, restore, commit; and around it the group that hands out
// shards, the topics, and two watches. Rules K1 to K20 are its specification; the line that enforces one names it.
//
// It owns the Kafka clients: one transactional producer for each Session (K7), one consumer for each read of a shard, one
// group member for each process, and short-lived clients for administration. A Session dies with its first error (K14) or at
// Close; nothing of it is ever used again, and owning anew is the one way of recovery (K9).
//
// It blocks on Kafka only, and never without a deadline or a context: Own until the partitions have leaders and the
// predecessor is fenced, Restore until the owner's own record has been read, Commit until the outcome is known or given up.
//
// The flow of one ownership:
//
//	Own:     assigned? · leaders? · InitProducerID (the predecessor is out) · lost markers? · owner record    K8 a–e
//	Restore: both topics of the shard, read-committed, up to the owner record                                 K8 f, K9
//	Commit:  begin · produce · flush · every promise · end, again and again                                   K13
//
// Goroutines: a Restorer runs one for each read in progress; it ends when the last caller waiting for that read has been
// served or has gone. All others belong to franz-go's clients and end with their Close.
package kafka
