package capture

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	crand "crypto/rand"

	"tidemark/internal/cdc"
	"tidemark/internal/codec"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/source"
	"tidemark/internal/state"
)

// stream is one kind of record of the connection: its table of what has been published, its topic, its exceptions.
type stream struct {
	spec    *source.Stream
	request *source.Request
	topic   kafka.TopicInfo
	encoder *codec.Encoder
	origin  *codec.Origin

	table *state.Table
	meta  offsets.Stream // as last committed; count and digest are filled in when a batch is sent
	known bool           // meta was read from Kafka, or committed by us
	rules uint16         // the number of the present rule set in meta.Rules
	// deleted is meta.Deleted with what is staged; nil where nothing is (2).
	deleted map[string]int64
	letting *offsets.Approval // meta.Approved with what is staged; nil where nothing is (D6)
	named   map[string]string // candidates that an approval named, and that are looked up: which one (D6)
	guarded string            // why deletions are withheld; "" where none is (D5)
	parked  overlay[offsets.Parked]
	held    overlay[offsets.Candidate]
	files   overlay[[]file]       // of the records that have some, by number
	missed  overlay[offsets.File] // those that could not be had, by missedName

	ordinals map[string]uint32 // of partition names, as the table's entries hold them
	names    []string
	mismatch bool // the restored state was not what the last transaction promised (K8 g)
	halted   error
	total    Counts
}

func newStream(spec *source.Stream, request *source.Request, origin *codec.Origin) (*stream, error) {
	table, err := state.New()
	if err != nil {
		return nil, err
	}
	return &stream{
		spec: spec, request: request, origin: origin, table: table,
		parked: newOverlay[offsets.Parked](), held: newOverlay[offsets.Candidate](), files: newOverlay[[]file](),
		missed: newOverlay[offsets.File](), ordinals: map[string]uint32{},
	}, nil
}

// begin prepares a stream that Kafka knows nothing of: the hash's seed is drawn at first owning and travels with the first
// transaction (K5).
func (s *stream) begin() error {
	seed := s.meta.Seed // drawn in an ownership before this one, which committed nothing: what the broker refused is known by it (K15)
	if seed == 0 {
		var drawn [8]byte
		if _, err := crand.Read(drawn[:]); err != nil {
			return fmt.Errorf("draw the hash seed of stream %s: %w", s.spec.Name, err)
		}
		seed = offsets.Hex(binary.LittleEndian.Uint64(drawn[:]))
	}
	s.meta = offsets.Stream{
		Seed: seed, KeyType: s.spec.KeyType, Key: s.spec.KeyPrint,
		Topic: s.topic.Name, TopicID: s.topic.ID, Partitions: s.topic.Partitions,
	}
	return nil
}

// verify compares what Kafka holds of the stream with the topic and the definition of today (K2, K3, K8 g, P23, P24).
func (s *stream) verify(connection string) error {
	where := connection + "/" + s.spec.Name
	halt := func(hint, format string, args ...any) error {
		e := cdc.Errorf(cdc.Halt, cdc.Stream, "verify stream", hint, format, args...)
		e.Where = where
		return e
	}
	switch m := s.meta; {
	case m.Key != s.spec.KeyPrint: // P23: Key
		return halt("Every key would change its name and the old ones would stay behind. Put primary_key and key_scope back, or "+
			"run `connector offsets reset "+where+" --tombstone-old`", "the definition's key is another than the one its records were published under")
	case m.Topic != s.topic.Name:
		return halt("Put the topic's name back; moving a stream to another topic needs `connector offsets reset "+where+"`",
			"its events stand in topic %s, the configuration names %s", m.Topic, s.topic.Name)
	case m.TopicID != s.topic.ID: // K2
		return halt("What was published is gone while its hashes are not, so nothing would be published again. Run "+
			"`connector offsets reset "+where+"` to publish everything anew", "topic %s was deleted and created again (id %s, was %s)", m.Topic, s.topic.ID, m.TopicID)
	case m.Partitions != s.topic.Partitions: // K2, K3
		return halt("A key would move to another partition and its order be lost. Restore the topic with the old count, or run "+
			"`connector offsets reset "+where+"`", "topic %s has %d partitions, it began with %d", m.Topic, s.topic.Partitions, m.Partitions)
	}
	return nil
}

// adopt makes the definition's rules the present set of the stream; sets that entries still name are kept (P23).
func (s *stream) adopt() { s.rules = s.numbered(s.spec.Rules) }

// numbered returns the number of a rule set, a new one where the stream has not met it.
func (s *stream) numbered(r record.Rules) uint16 {
	var last uint16
	for _, old := range s.meta.Rules {
		if reflect.DeepEqual(rulesOf(old), r) {
			return old.Number
		}
		last = max(last, old.Number)
	}
	s.meta.Rules = append(s.meta.Rules, offsets.RuleSet{
		Number: last + 1, Algorithm: r.Algorithm, Value: r.Value, Include: r.Include, Exclude: r.Exclude, Fields: r.Fields,
	})
	return last + 1
}

func rulesOf(r offsets.RuleSet) record.Rules {
	return record.Rules{Algorithm: r.Algorithm, Value: r.Value, Include: r.Include, Exclude: r.Exclude, Fields: r.Fields}
}

// ruleSet returns the rules with this number, under which an entry's hash was made.
func (s *stream) ruleSet(number uint16) (record.Rules, bool) {
	i := slices.IndexFunc(s.meta.Rules, func(r offsets.RuleSet) bool { return r.Number == number })
	if i < 0 {
		return record.Rules{}, false
	}
	return rulesOf(s.meta.Rules[i]), true
}

// record returns the stream record of a transaction: meta with count and digest of everything committed and staged (K16).
func (s *stream) record() offsets.Stream {
	m := s.meta
	if s.spec.KeyType != "" {
		m.KeyType = s.spec.KeyType // K4: learnt from the first record
	}
	m.Deleted, m.Approved = s.deletions(), s.approval()
	set := s.table.StagedSet()
	m.Count, m.Digest = set.Count, offsets.Hex(set.Digest)
	return m
}

// agrees compares the restored table with the count and digest that the last transaction promised (K8 g).
func (s *stream) agrees() bool {
	set := s.table.Set()
	return set.Count == s.meta.Count && offsets.Hex(set.Digest) == s.meta.Digest
}

// deletions reads those of the rolling day, staged over committed (P2, D5).
func (s *stream) deletions() map[string]int64 {
	if s.deleted != nil {
		return s.deleted
	}
	return s.meta.Deleted
}

// unseen reports whether a key is live and was not sighted since a generation, staged over committed (P2).
func (s *stream) unseen(key []byte, generation uint32) bool {
	e, ok := s.table.Get(key, record.KeyHash(key))
	return ok && e.Live() && e.Seen < generation
}

// settle makes what batch staged committed (2).
func (s *stream) settle(batch uint64) {
	s.table.Settle(batch)
	s.parked.settle(batch)
	s.held.settle(batch)
	s.files.settle(batch)
	s.missed.settle(batch)
}

// drop forgets what is staged: its ownership died (2).
func (s *stream) drop() {
	s.table.Drop()
	s.deleted, s.letting = nil, nil
	s.parked.drop()
	s.held.drop()
	s.files.drop()
	s.missed.drop()
}

// ordinal numbers a partition's name for the table's entries.
func (s *stream) ordinal(partition string) uint32 {
	n, ok := s.ordinals[partition]
	if !ok {
		n = uint32(len(s.names))
		s.ordinals[partition] = n
		s.names = append(s.names, partition)
	}
	return n
}

// partitionName is the name of an ordinal.
func (s *stream) partitionName(ordinal uint32) string { return s.names[ordinal] }
