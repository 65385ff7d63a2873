package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/internal/cdc"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// distant opens the deployment's Kafka for a command that reads or changes what stands there.
func (p *program) distant(name string) (*deployment, error) {
	s, err := loadSettings(p.env)
	if err != nil {
		return nil, err
	}
	if len(s.Brokers) == 0 {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, name, "Set it to the brokers that the connector uses (run prints them)", "KAFKA_BROKERS is not set")
	}
	d := &deployment{env: p.env, settings: s, log: s.logger(p)}
	return d, d.connect()
}

// streamName reads CONNECTION/STREAM.
func streamName(name string) (connection, stream string, err error) {
	connection, stream, ok := strings.Cut(name, "/")
	if !ok {
		return "", "", fmt.Errorf("%w: %q is not CONNECTION/STREAM", errUsage, name)
	}
	return connection, stream, nil
}

// holdings are what the offsets topic holds of a connection in one shard.
type holdings struct {
	connection string
	shard      int32
	owner      *offsets.Owner
	token      *offsets.Token
	streams    map[string]offsets.Stream
	cursors    map[string]map[string]cdc.Checkpoint // by request and partition
	parked     map[string]int                       // by stream
	held       map[string]int
	keys       []string // of all its records, sorted
	values     map[string][]byte
}

// readHoldings reads what stands in the offsets topic; nothing where the topic is not there yet.
func readHoldings(ctx context.Context, o kafka.Options) ([]*holdings, error) {
	seen, err := lookAt(ctx, o, o.SystemTopics()[:1])
	if err != nil {
		return nil, err
	}
	if seen[0].missing {
		return nil, nil
	}
	type place struct {
		shard      int32
		connection string
	}
	found := map[place]map[string][]byte{}
	err = kafka.Read(ctx, o, kafka.Query{Topics: []string{o.OffsetsTopic()}}, func(r kafka.Record) error {
		k, err := offsets.ParseKey(r.Key)
		if err != nil {
			return fmt.Errorf("%s partition %d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		at := place{r.Partition, k.Connection}
		if found[at] == nil {
			found[at] = map[string][]byte{}
		}
		if r.Value == nil {
			delete(found[at], string(r.Key))
		} else {
			found[at][string(r.Key)] = slices.Clone(r.Value)
		}
		return nil
	})
	var all []*holdings
	for at, values := range found {
		if len(values) == 0 {
			continue
		}
		h, e := newHoldings(at.connection, at.shard, values)
		if e != nil {
			return nil, e
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *holdings) int {
		return cmp.Or(cmp.Compare(a.connection, b.connection), cmp.Compare(a.shard, b.shard))
	})
	return all, err
}

// newHoldings decodes the last values of a connection's keys.
func newHoldings(connection string, shard int32, values map[string][]byte) (*holdings, error) {
	h := &holdings{
		connection: connection, shard: shard, streams: map[string]offsets.Stream{}, cursors: map[string]map[string]cdc.Checkpoint{},
		parked: map[string]int{}, held: map[string]int{}, values: values, keys: slices.Sorted(maps.Keys(values)),
	}
	for _, key := range h.keys {
		k, err := offsets.ParseKey([]byte(key))
		if err == nil {
			err = h.take(k, values[key])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return h, nil
}

func (h *holdings) take(k offsets.Key, value []byte) error {
	switch k.Kind {
	case offsets.KindOwner:
		v, err := offsets.Decode[offsets.Owner](value)
		h.owner = &v
		return err
	case offsets.KindToken:
		v, err := offsets.Decode[offsets.Token](value)
		h.token = &v
		return err
	case offsets.KindStream:
		v, err := offsets.Decode[offsets.Stream](value)
		h.streams[k.Stream] = v
		return err
	case offsets.KindCursor:
		v, err := offsets.Decode[cdc.Checkpoint](value)
		if h.cursors[k.Stream] == nil {
			h.cursors[k.Stream] = map[string]cdc.Checkpoint{}
		}
		h.cursors[k.Stream][k.Name] = v
		return err
	case offsets.KindParked:
		h.parked[k.Stream]++
	case offsets.KindCandidate:
		h.held[k.Stream]++
	}
	return nil
}

// of lists the keys of a stream's records, of the given kinds or of all.
func (h *holdings) of(stream string, kinds ...offsets.Kind) []offsets.Key {
	var all []offsets.Key
	for _, key := range h.keys {
		k, err := offsets.ParseKey([]byte(key))
		if err == nil && k.Stream == stream && (len(kinds) == 0 || slices.Contains(kinds, k.Kind)) {
			all = append(all, k)
		}
	}
	return all
}

// looked is what lookAt found of a topic.
type looked struct {
	kafka.Topic
	info    kafka.TopicInfo
	missing bool  // not there, and nothing recorded says that it was
	err     error // it cannot be used
}

// lookAt looks at topics as EnsureTopics does, and creates none. EnsureTopics creates what is missing unless something is
// recorded of it; so a first look claims a partition count that no topic has, which finds out what is there, and only that is
// looked at as it should be.
func lookAt(ctx context.Context, o kafka.Options, topics []kafka.Topic) ([]looked, error) {
	all := make([]looked, len(topics))
	probe := slices.Clone(topics)
	for i, t := range topics {
		all[i].Topic = t
		if t.Recorded == "" && t.Count == 0 {
			probe[i].Count = -1
		}
	}
	_, err := kafka.EnsureTopics(ctx, o, probe)
	bad := badTopics(err)
	if err != nil && len(bad) == 0 {
		return nil, err
	}
	var there []kafka.Topic
	var places []int
	for i := range all {
		e := bad[all[i].Name]
		switch unknown := errors.Is(e, kerr.UnknownTopicOrPartition); {
		case unknown && probe[i].Count == -1:
			all[i].missing = true
		case unknown:
			all[i].err = fmt.Errorf("it was deleted (id %s)", orDash(all[i].Recorded))
		case errors.Is(e, kerr.TopicAuthorizationFailed):
			all[i].err = e
		default:
			there, places = append(there, topics[i]), append(places, i)
		}
	}
	if len(there) == 0 {
		return all, nil
	}
	infos, err := kafka.EnsureTopics(ctx, o, there)
	if bad = badTopics(err); err != nil && len(bad) == 0 {
		return nil, err
	}
	for n, i := range places {
		if all[i].info = infos[n]; bad[all[i].Name] != nil {
			all[i].err = bad[all[i].Name]
		}
	}
	return all, nil
}

// badTopics are the reasons of an error of EnsureTopics, by topic.
func badTopics(err error) map[string]error {
	bad := map[string]error{}
	for _, b := range kafka.BadTopics(err) {
		bad[b.Topic] = b.Err
	}
	return bad
}
