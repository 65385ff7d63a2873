package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/internal/cdc"
)

// ErrFenced is in the chain of errors that say: a newer owner of the connection has fenced this one (3). The remedy is the
// usual one, to own again if the shard is still assigned (K10); fencing never halts by count.
var ErrFenced = errors.New("fenced by a newer owner")

// ErrReread is in the chain of errors after which the shard has to be read from its start: the mark has grown too old, or
// Kafka no longer has what stood at it (K9). Restore returns a zero Mark with it.
var ErrReread = errors.New("the shard must be read from its start")

// RejectedError says which records of a batch the broker refuses whatever surrounds them (K15). It is the cause of a cdc.Error
// with remedy Park and scope Record; nothing of the batch is committed and the session is over like after any other error.
type RejectedError struct {
	Indexes []int   // in the batch, in the order in which the records were added; ascending
	Reasons []error // the reason of each
}

// Error implements error.
func (e *RejectedError) Error() string {
	parts := make([]string, 0, len(e.Indexes))
	for i, n := range e.Indexes {
		parts = append(parts, fmt.Sprintf("record %d of the batch: %v", n, e.Reasons[i]))
	}
	return "refused by the broker: " + strings.Join(parts, "; ")
}

// Unwrap returns the reasons.
func (e *RejectedError) Unwrap() []error { return e.Reasons }

// LostMarkerError is an open transaction of our own producer id on a partition although the coordinator says that it ended:
// its marker is lost (K8 d, KAFKA-20734). It is the cause of a cdc.Error with remedy Halt.
type LostMarkerError struct {
	Topic      string
	Partition  int32
	Offset     int64 // where the open transaction starts; read-committed readers stop here
	ProducerID int64
	Epoch      int16
}

// Error implements error.
func (e *LostMarkerError) Error() string {
	return fmt.Sprintf("the end marker of an own transaction is missing on %s/%d: producer %d, epoch %d, open since offset %d",
		e.Topic, e.Partition, e.ProducerID, e.Epoch, e.Offset)
}

// TopicError names a topic that cannot be used and why (K2). It is the cause of a cdc.Error with remedy Halt and scope Stream,
// so that the rest of the connection can be owned without that stream; several are joined.
type TopicError struct {
	Topic string
	Err   error
}

// Error implements error.
func (e *TopicError) Error() string { return fmt.Sprintf("topic %s: %v", e.Topic, e.Err) }

// Unwrap returns the reason.
func (e *TopicError) Unwrap() error { return e.Err }

// BadTopics returns every topic that err names in a TopicError.
func BadTopics(err error) []*TopicError {
	var all []*TopicError
	walk(err, func(e error) {
		if t, ok := e.(*TopicError); ok { //nolint:errorlint // walk does the unwrapping: errors.As would find the inner ones again and again
			all = append(all, t)
		}
	})
	return all
}

// walk visits err and everything that it wraps.
func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	switch u := err.(type) { //nolint:errorlint // this is the unwrapping
	case interface{ Unwrap() error }:
		walk(u.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			walk(e, visit)
		}
	}
}

// recordLevel reports whether the broker's refusal is about a record and not about us (K15).
func recordLevel(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// hints of errors that a person has to mend.
const (
	hintACL = "Grant the connector's user the rights that README lists (Write, Read and Describe on its topics, Write and " +
		"Describe on its transactional ids, Read on its group), then resume"
	hintTopic   = "Create the topic again, or correct its name; connector check prints the command. Then resume"
	hintBrokers = "Check KAFKA_BROKERS, the network and the brokers; this is tried again by itself"
)

// fenced reports whether err says that our producer id or epoch no longer counts.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// forbidden reports whether err is a missing right that is not about one topic.
func forbidden(err error) bool {
	return errors.Is(err, kerr.TransactionalIDAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) ||
		errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.SaslAuthenticationFailed)
}

// unusable reports whether err condemns a topic for us (K15): nothing that waiting or owning again would mend.
func unusable(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.InvalidTopicException) ||
		errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) ||
		errors.Is(err, kerr.PolicyViolation)
}

// classify gives an error of Kafka its remedy and its reach. topic is the one that it is about, "" where that is not known;
// stream says that topic is an events topic. Whatever is not known for certain reopens (K14).
func classify(op, where, topic string, stream bool, err error) error {
	var known *cdc.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &cdc.Error{Op: op, Where: where, Err: err, Remedy: cdc.Reopen, Scope: cdc.Connection}
	switch {
	case fenced(err):
		e.Err = fmt.Errorf("%w: %w", ErrFenced, err) // K10: never more than a reopen
	case forbidden(err):
		e.Remedy, e.Hint = cdc.Halt, hintACL
	case topic != "" && unusable(err):
		// K15: the stream halts, nothing is parked. A topic of the deployment itself takes the connection with it.
		e.Err, e.Remedy, e.Hint = &TopicError{Topic: topic, Err: err}, cdc.Halt, hintTopic
		if errors.Is(err, kerr.TopicAuthorizationFailed) {
			e.Hint = hintACL
		}
		if stream {
			e.Scope = cdc.Stream
		}
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		e.Remedy = cdc.Halt
		e.Hint = "Raise transaction.max.timeout.ms at the brokers, or lower the transaction deadline here; then resume"
	case unreachable(err):
		e.Hint = hintBrokers
	}
	return e
}

// unreachable reports whether err is about the network.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF)
}
