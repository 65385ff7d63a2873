package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/internal/cdc"
	"tidemark/internal/offsets"
)

// Own makes this process the owner of a connection, K8 (a) to (e): stop if the assignment has moved on; wait until every target
// has a leader; fence the predecessor; look for lost markers; commit the owner record. It returns when that record is
// committed. The caller goes on with Restore.
func Own(ctx context.Context, o Options, c Claim) (_ *Session, err error) {
	s, err := newSession(o, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close() // K14
		}
	}()
	if err := s.assigned(); err != nil { // (a)
		return nil, err
	}
	if err := s.await(ctx); err != nil { // (b)
		return nil, err
	}
	if err := s.fence(ctx); err != nil { // (c)
		return nil, err
	}
	if err := s.markers(ctx); err != nil { // (d)
		return nil, err
	}
	if err := s.announce(ctx); err != nil { // (e)
		return nil, err
	}
	return s, nil
}

// assigned is K8 (a). A process that has lost its shard and does not know it yet would otherwise fence the new owner, which
// would fence it in turn, until the group's next heartbeat tells one of them.
func (s *Session) assigned() error {
	if s.claim.Assigned == nil || s.claim.Assigned() {
		return nil
	}
	return cdc.Errorf(cdc.Reopen, cdc.Connection, "own "+s.claim.Connection, "Nothing to do: its new owner goes on",
		"shard %d is assigned to another instance", s.claim.Shard)
}

// await is K8 (b): the targets must exist, be the ones that state knows (K2), and have leaders. With a partition that has no
// leader InitProducerID would wait for its marker, or, on the brokers of KAFKA-20734, drop it.
func (s *Session) await(ctx context.Context) error {
	if err := s.meet(ctx); err != nil {
		return err
	}
	var missing int
	alarm := time.Now().Add(s.o.Deadlines.Stall)
	for {
		leaderless, err := s.look(ctx, nil)
		switch {
		case err == nil && leaderless == "":
			return nil
		case errors.Is(err, kerr.UnknownTopicOrPartition) && missing < 3:
			missing++ // a broker that has just started, or a topic that was just created
		case err != nil:
			return err
		case time.Now().After(alarm):
			s.o.Alarm(s.claim.Connection, leaderless+" has no leader: the connection waits until its broker is back")
			alarm = time.Now().Add(s.o.Deadlines.Stall)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := s.assigned(); err != nil {
			return err
		}
	}
}

// meet learns what the brokers are: cluster id and transaction.version (K18).
func (s *Session) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.Admin)
	defer cancel()
	version, err := transactionVersion(ctx, s.admin)
	if err != nil {
		return classify("reach brokers", strings.Join(s.o.Brokers, ","), "", false, err)
	}
	s.transactionVersion.Store(version)
	return nil
}

// look reads metadata and configuration of every target once. It returns a partition without a leader, "" if there is none.
// With known it compares with what was found before; without, it fills s.topics and s.targets.
func (s *Session) look(ctx context.Context, known map[string]TopicInfo) (leaderless string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.Admin)
	defer cancel()
	wanted := s.wanted(known)
	found, err := describe(ctx, s.o, s.client, wanted)
	if err != nil {
		return "", classify("describe topics", s.claim.Connection, "", false, err)
	}
	if err := found.refused(); err != nil {
		return "", err
	}
	if known != nil {
		return found.leaderless(s.claim.Shard), nil
	}
	s.cluster = found.cluster
	s.topics, s.targets = map[string]TopicInfo{}, kadm.TopicsSet{}
	for i, t := range wanted {
		info := found.infos[i]
		for p := range info.present {
			if t.Role == Events || p == s.claim.Shard {
				s.targets.Add(t.Name, p)
			}
		}
		s.topics[t.Name] = info
	}
	return found.leaderless(s.claim.Shard), nil
}

// wanted lists the topics of the claim and of the deployment as they should be.
func (s *Session) wanted(known map[string]TopicInfo) []Topic {
	var all []Topic
	for _, t := range s.o.SystemTopics() {
		if t.Role != Controls {
			all = append(all, t)
		}
	}
	for _, t := range s.claim.Streams {
		all = append(all, Topic{Name: t.Topic, Role: Events, Recorded: t.ID, Count: t.Partitions,
			Config: map[string]string{"cleanup.policy": cmp.Or(t.Cleanup, "compact")}})
	}
	for i := range all {
		if info, ok := known[all[i].Name]; ok {
			all[i].Recorded, all[i].Count = info.ID, info.Partitions
		}
	}
	return all
}

// fence is K8 (c): InitProducerID raises the epoch, so that nothing of an older owner is accepted any more (3), and ends the
// transaction that it may have left open. It returns only after the markers of that transaction are written.
func (s *Session) fence(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.o.Deadlines.Fence)
	defer cancel()
	id, epoch, err := s.client.ProducerID(limited)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if limited.Err() != nil {
			err = fmt.Errorf("%w; %s", err, s.transaction(ctx))
		}
		return classify("fence", s.o.TransactionalID(s.claim.Connection), "", false, err)
	}
	s.id, s.epoch = id, epoch
	return nil
}

// transaction says in words where the connection's transaction stands, for a fence that does not come through.
func (s *Session) transaction(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadlines.Admin)
	defer cancel()
	id := s.o.TransactionalID(s.claim.Connection)
	all, err := s.admin.DescribeTransactions(ctx, id)
	t, ok := all[id]
	switch {
	case !ok:
		return fmt.Sprintf("the coordinator does not describe the transaction: %v", err)
	case t.Err != nil:
		return fmt.Sprintf("the coordinator does not describe the transaction: %v", t.Err)
	}
	var open []string
	for _, l := range t.Topics.Sorted() {
		open = append(open, fmt.Sprintf("%s%v", l.Topic, l.Partitions))
	}
	return fmt.Sprintf("the predecessor's transaction is in state %s and waits for markers on %s (a partition below "+
		"min.insync.replicas or without a leader holds it)", t.State, strings.Join(open, ", "))
}

// markers is K8 (d). After the fence nothing of our producer id can be open, the coordinator has said so. A transaction that
// is open on a partition all the same has lost its end marker (KAFKA-20734): our next marker there would decide it, an
// aborted event would appear or a committed one vanish. Nothing may be written before a person has looked.
func (s *Session) markers(ctx context.Context) error {
	pending := s.targets
	for deadline := time.Now().Add(s.o.Deadlines.Stall); ; {
		limited, cancel := context.WithTimeout(ctx, s.o.Deadlines.Admin)
		described, err := s.admin.DescribeProducers(limited, pending)
		cancel()
		if unsupported(err) {
			s.o.Alarm(s.claim.Connection, "the brokers do not describe producers (before Kafka 2.8): lost markers are not noticed")
			return nil
		}
		var again kadm.TopicsSet
		var last error
		for topic, partitions := range pending {
			for p := range partitions {
				d, ok := described[topic].Partitions[p]
				if !ok || d.Err != nil {
					last = cmp.Or(d.Err, err, error(kerr.LeaderNotAvailable))
					if unusable(last) {
						return classify("look for lost markers", s.claim.Connection, topic, true, last)
					}
					again.Add(topic, p)
					continue
				}
				if lost, ok := d.ActiveProducers[s.id]; ok && lost.CurrentTxnStartOffset >= 0 {
					return s.lostMarker(lost)
				}
			}
		}
		if len(again) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return classify("look for lost markers", s.claim.Connection, "", false, last)
		}
		pending = again
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// unsupported reports whether a broker is too old for a request.
func unsupported(err error) bool {
	return err != nil && (errors.Is(err, kerr.UnsupportedVersion) || strings.Contains(err.Error(), "broker is too old") ||
		strings.Contains(err.Error(), "request key is unknown"))
}

func (s *Session) lostMarker(p kadm.DescribedProducer) error {
	e := &LostMarkerError{Topic: p.Topic, Partition: p.Partition, Offset: p.CurrentTxnStartOffset, ProducerID: p.ProducerID, Epoch: p.ProducerEpoch}
	return &cdc.Error{
		Op: "own", Where: s.claim.Connection, Err: e, Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: fmt.Sprintf("Nothing is written until the transaction is ended by hand: kafka-transactions.sh --bootstrap-server %s "+
			"abort --topic %s --partition %d --start-offset %d. That drops its events; if their checkpoint had committed, publish "+
			"them again with connector offsets reset for the stream. Then resume, and upgrade brokers that have KAFKA-20734 "+
			"(4.3.0, 4.3.1, 4.4.0)", strings.Join(s.o.Brokers, ","), e.Topic, e.Partition, e.Offset),
	}
}

// announce is K8 (e): the owner record goes to both topics of the shard in one transaction. Whatever an older owner committed
// stands before it, since the fence ended the older owner's last transaction; so who has read up to this record has read
// everything (2).
func (s *Session) announce(ctx context.Context) error {
	s.owner = offsets.Owner{
		Nonce: rand.Text(),
		// Kafka never gives the same pair twice, and with a new pair at every owning an id built on it is unique.
		Sequence: s.id<<16 | int64(uint16(s.epoch)),
		Instance: s.o.Instance,
		Account:  s.claim.Account,
		Cluster:  s.cluster,
		Topics:   map[string]offsets.Topic{},
		Config:   s.claim.Config,
	}
	for name, info := range s.topics {
		s.owner.Topics[name] = offsets.Topic{ID: info.ID, Partitions: info.Partitions}
	}
	s.owner.At = time.Now().UTC()
	mark, err := s.write(ctx, s.owner)
	s.announced = mark
	return err
}

// write commits an owner record. It returns the offsets at which the record stands, known from its promises.
func (s *Session) write(ctx context.Context, owner offsets.Owner) (Mark, error) {
	value, err := offsets.Encode(owner)
	if err != nil {
		return Mark{}, err
	}
	key := offsets.Key{Kind: offsets.KindOwner, Connection: s.claim.Connection}.Append(nil)
	b := NewBatch()
	b.Offset(key, value)
	b.Hash(key, value)
	if err := s.commit(ctx, b); err != nil {
		return Mark{}, err
	}
	return Mark{Offsets: b.records[0].Offset, Hashes: b.records[1].Offset, At: owner.At}, nil
}

// Heartbeat commits the owner record again; an idle connection needs one a day, since transactional ids expire (K12).
func (s *Session) Heartbeat(ctx context.Context) error {
	owner := s.owner
	owner.At = time.Now().UTC()
	_, err := s.write(ctx, owner)
	return err
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sortedKeys is for messages that do not depend on map order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
