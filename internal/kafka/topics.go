package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/internal/cdc"
)

// Role is what a topic is for.
type Role uint8

// The roles of topics (K1).
const (
	Events Role = iota
	Offsets
	Hashes
	Controls
	DeadLetters
)

// Retention is how long Kafka keeps the tombstones of our compacted topics (delete.retention.ms) and how long an event stays
// before compaction (K1). Half of it is the age at which a mark no longer counts (K9).
const Retention = 7 * 24 * time.Hour

// Topic is what a topic should be.
type Topic struct {
	Name       string
	Partitions int32             // when it is created; 0: 1. An events topic that exists may have another count (K3)
	Config     map[string]string // beyond the role's own; overrides them
	Role       Role
	Recorded   string // the topic's id as recorded in state; "" where nothing is recorded
	Count      int32  // the partition count as recorded in state; 0 where nothing is recorded
}

// TopicInfo is what a topic is.
type TopicInfo struct {
	Name            string
	ID              string // as kadm prints it; changes when the topic is recreated
	Partitions      int32  // as recorded, or the present count where nothing is recorded
	Replicas        int    // the smallest number of replicas of a partition
	MaxMessageBytes int    // 0 where we may not read the topic's configuration
	Cleanup         string // "" where we may not read the topic's configuration
	Created         bool
	Warnings        []string // what weakens, in words (K2)

	present int32 // the partition count now
}

// millis writes a duration as Kafka's settings have it.
func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// SystemTopics returns the four topics of a deployment that are not events (K1).
func (o Options) SystemTopics() []Topic {
	o = o.filled()
	return []Topic{
		{Name: o.OffsetsTopic(), Partitions: o.Shards, Role: Offsets},
		{Name: o.HashesTopic(), Partitions: o.Shards, Role: Hashes},
		{Name: o.ControlsTopic(), Partitions: 1, Role: Controls},
		{Name: o.DeadLettersTopic(), Partitions: o.Shards, Role: DeadLetters},
	}
}

// config returns the settings with which a topic is created (K1).
func (t Topic) config(replicas int16) map[string]string {
	c := map[string]string{}
	switch t.Role {
	case Events:
		// retention.ms has no meaning for a compacted topic, but kfake applies it.
		maps.Copy(c, map[string]string{"cleanup.policy": "compact", "retention.ms": "-1",
			"min.compaction.lag.ms": millis(Retention), "delete.retention.ms": millis(Retention)})
		if p := t.Config["cleanup.policy"]; p != "" && p != "compact" {
			c = map[string]string{}
		}
	case Offsets, Hashes, Controls:
		maps.Copy(c, map[string]string{"cleanup.policy": "compact", "retention.ms": "-1", "delete.retention.ms": millis(Retention),
			"segment.bytes": strconv.Itoa(64 << 20), "min.cleanable.dirty.ratio": "0.1", "max.compaction.lag.ms": millis(24 * time.Hour)})
	case DeadLetters:
		// Kept until an operator says otherwise: nothing else holds a parked record (7).
		maps.Copy(c, map[string]string{"cleanup.policy": "delete", "retention.ms": "-1"})
	}
	if replicas >= 3 {
		c["min.insync.replicas"] = "2"
	}
	maps.Copy(c, t.Config)
	return c
}

// replicas is the replication factor of new topics (K1).
func (o Options) replicas(brokers int) int16 {
	if o.ReplicationFactor > 0 {
		return o.ReplicationFactor
	}
	if brokers >= 3 {
		return 3
	}
	return 1
}

// EnsureTopics creates what is missing and verifies what is there (K1, K2). The infos stand in the order of topics; a topic
// that would lose data is refused with a Halt error for its stream (BadTopics names it), or for the process where it is one of
// SystemTopics; the infos of the others are valid then, too. Without the right to create, the error's hint holds the commands.
func EnsureTopics(ctx context.Context, o Options, topics []Topic) ([]TopicInfo, error) {
	o = o.filled()
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, o.Deadlines.Admin)
	defer cancel()
	found, err := describe(limited, o, client, topics)
	if err != nil {
		return nil, classify("describe topics", strings.Join(o.Brokers, ","), "", false, err)
	}
	missing := found.missing()
	if len(missing) == 0 {
		return found.infos, found.refused()
	}
	denied, err := create(limited, o, kadm.NewClient(client), found.brokers, missing)
	if err != nil {
		return nil, err
	}
	for {
		found, err = describe(limited, o, client, topics)
		if err == nil && len(found.missing()) == len(denied) && found.leaderless(-1) == "" {
			break
		}
		if pause(limited, 100*time.Millisecond) != nil {
			return nil, classify("create topics", strings.Join(o.Brokers, ","), "", false,
				cmp.Or(err, fmt.Errorf("%d topics were created and do not show up", len(missing)-len(denied))))
		}
	}
	for i, info := range found.infos {
		found.infos[i].Created = info.Name != "" && slices.ContainsFunc(missing, func(t Topic) bool { return t.Name == info.Name })
	}
	return found.infos, found.forbidden(o, denied)
}

// create creates topics. It returns those that we are not allowed to create, with the reasons.
func create(ctx context.Context, o Options, admin *kadm.Client, brokers int, topics []Topic) (map[string]error, error) {
	replicas := o.replicas(brokers)
	denied := map[string]error{}
	for _, t := range topics {
		configs := map[string]*string{}
		for k, v := range t.config(replicas) {
			configs[k] = kadm.StringPtr(v)
		}
		r, err := admin.CreateTopic(ctx, max(t.Partitions, 1), replicas, configs, t.Name)
		switch err = cmp.Or(err, r.Err); {
		case err == nil, errors.Is(err, kerr.TopicAlreadyExists): // another instance was faster
		case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.PolicyViolation):
			denied[t.Name] = err
		default:
			return nil, classify("create topic", t.Name, "", false, err)
		}
	}
	return denied, nil
}

// forbidden is refused with the topics that we may not create; its hint says how somebody else can (K2).
func (f *found) forbidden(o Options, denied map[string]error) error {
	if len(denied) == 0 {
		return f.refused()
	}
	var topics []Topic
	for _, t := range f.wanted {
		if denied[t.Name] != nil {
			topics = append(topics, t)
		}
	}
	for _, b := range f.bad {
		b.Err = cmp.Or(denied[b.Topic], b.Err)
	}
	err := f.refused()
	var e *cdc.Error
	if errors.As(err, &e) {
		e.Hint = "Have somebody with the right run this, then resume:\n" + strings.Join(commands(o, o.replicas(f.brokers), topics), "\n")
	}
	return err
}

// Commands returns the shell commands that create topics as EnsureTopics would (K2).
func Commands(o Options, brokers int, topics []Topic) []string {
	o = o.filled()
	return commands(o, o.replicas(brokers), topics)
}

func commands(o Options, replicas int16, topics []Topic) []string {
	var all []string
	for _, t := range topics {
		line := fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d --replication-factor %d",
			strings.Join(o.Brokers, ","), t.Name, max(t.Partitions, 1), replicas)
		c := t.config(replicas)
		for _, k := range sortedKeys(c) {
			line += fmt.Sprintf(" --config %s=%s", k, c[k])
		}
		all = append(all, line)
	}
	return all
}

// found is what the brokers said of a list of topics.
type found struct {
	wanted  []Topic
	infos   []TopicInfo // as wanted; the zero info for a topic that is not there
	bad     []*TopicError
	system  bool // one of bad is not an events topic
	cluster string
	brokers int
	empty   []string // partitions without a leader, and their numbers
	numbers []int32
	absent  map[string]bool // topics that do not exist, as opposed to those that we may not see
}

// describe asks for topics and verifies them (K2). Topics that are not there have a zero info and an error among bad.
func describe(ctx context.Context, o Options, client *kgo.Client, topics []Topic) (*found, error) {
	f := &found{wanted: topics, infos: make([]TopicInfo, len(topics)), absent: map[string]bool{}}
	names := make([]string, 0, len(topics))
	for _, t := range topics {
		names = append(names, t.Name)
	}
	seen, err := f.metadata(ctx, client, names)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, name := range names {
		d := seen[name]
		switch err := kerr.ErrorForCode(d.ErrorCode); {
		case err == nil && len(d.Partitions) > 0:
			there = append(there, name)
		case kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicOrPartition):
			return nil, fmt.Errorf("topic %s: %w", name, err) // a leader is being elected, which says nothing of the topic
		}
	}
	configs, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, there...)
	var denied *kadm.AuthError
	if err != nil && !errors.As(err, &denied) {
		return nil, err
	}
	for i, t := range topics {
		d := seen[t.Name]
		if refusal := kerr.ErrorForCode(d.ErrorCode); refusal != nil || len(d.Partitions) == 0 {
			err := cmp.Or(refusal, error(kerr.UnknownTopicOrPartition))
			f.absent[t.Name] = errors.Is(err, kerr.UnknownTopicOrPartition)
			f.refuse(t, err)
			continue
		}
		config, _ := configs.On(t.Name, nil)
		f.infos[i] = f.info(o, t, d, config)
	}
	return f, nil
}

// metadata asks the brokers for topics. It asks directly: kadm answers from a cache, which does not show a topic that was
// recreated a moment ago, and fails as a whole for one topic that we may not see.
func (f *found) metadata(ctx context.Context, client *kgo.Client, names []string) (map[string]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	f.brokers = len(resp.Brokers)
	if resp.ClusterID != nil {
		f.cluster = *resp.ClusterID
	}
	seen := map[string]kmsg.MetadataResponseTopic{}
	for _, t := range resp.Topics {
		if t.Topic != nil {
			seen[*t.Topic] = t
		}
	}
	return seen, nil
}

// info puts together what a topic is, and notes what is wrong with it.
func (f *found) info(o Options, t Topic, d kmsg.MetadataResponseTopic, config kadm.ResourceConfig) TopicInfo {
	settings := map[string]string{}
	for _, c := range config.Configs {
		settings[c.Key] = c.MaybeValue()
	}
	info := TopicInfo{Name: t.Name, ID: kadm.TopicID(d.TopicID).String(), present: int32(len(d.Partitions)), Replicas: len(d.Partitions[0].Replicas)}
	info.Partitions = cmp.Or(t.Count, info.present)
	info.Cleanup = settings["cleanup.policy"]
	info.MaxMessageBytes, _ = strconv.Atoi(settings["max.message.bytes"])
	for _, p := range d.Partitions {
		info.Replicas = min(info.Replicas, len(p.Replicas))
		if p.Leader < 0 || p.ErrorCode == kerr.LeaderNotAvailable.Code {
			f.empty = append(f.empty, fmt.Sprintf("%s/%d", t.Name, p.Partition))
			f.numbers = append(f.numbers, eventsOr(t.Role, p.Partition))
		}
	}
	if d.TopicID == [16]byte{} {
		info.ID = "" // the brokers are too old for topic ids
	}
	wanted := t.config(o.replicas(f.brokers))
	switch policy := wanted["cleanup.policy"]; {
	case t.Role != Events && info.present != t.Partitions:
		// The shard of every connection would be another one, and its state out of sight.
		f.refuse(t, fmt.Errorf("it has %d partitions and should have %d", info.present, t.Partitions))
	case policy != "" && info.Cleanup != "" && !samePolicy(policy, info.Cleanup):
		f.refuse(t, fmt.Errorf("its cleanup.policy is %q and should be %q", info.Cleanup, policy))
	default:
		if err := compareRecorded(t.Recorded, t.Count, info.ID, info.present); err != nil {
			f.refuse(t, err)
		}
	}
	info.Warnings = weaknesses(t, wanted, settings, info.Replicas, f.brokers)
	return info
}

// anyShard marks a leaderless partition that concerns every connection that names its topic.
const anyShard int32 = -1

func eventsOr(r Role, partition int32) int32 {
	if r == Events {
		return anyShard
	}
	return partition
}

// compareRecorded compares what state says of a topic with what it is (K2, K3).
func compareRecorded(id string, count int32, nowID string, now int32) error {
	switch {
	case id != "" && nowID != "" && id != nowID:
		return fmt.Errorf("it was deleted and created again (id %s, recorded %s): what was published is gone", nowID, id)
	case count != 0 && count != now:
		return fmt.Errorf("it has %d partitions, recorded are %d: keys stay where the recorded count puts them, but consumers "+
			"and other producers would look for them elsewhere", now, count)
	}
	return nil
}

func samePolicy(a, b string) bool {
	x, y := strings.Split(strings.ReplaceAll(a, " ", ""), ","), strings.Split(strings.ReplaceAll(b, " ", ""), ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// weaknesses says what makes a topic weaker than it should be, without losing data today (K2).
func weaknesses(t Topic, wanted, settings map[string]string, replicas, brokers int) []string {
	var all []string
	if brokers >= 3 && replicas < 3 {
		all = append(all, fmt.Sprintf("%s has %d replicas on %d brokers: one lost disk loses it", t.Name, replicas, brokers))
	}
	if len(settings) == 0 {
		return append(all, fmt.Sprintf("%s: we may not read its configuration (DescribeConfigs), so cleanup.policy and "+
			"max.message.bytes are not verified", t.Name))
	}
	if isr, _ := strconv.Atoi(settings["min.insync.replicas"]); replicas >= 3 && isr < 2 {
		all = append(all, fmt.Sprintf("%s has min.insync.replicas %d: an acknowledged event may stand on one disk only", t.Name, isr))
	}
	if t.Role == Events || t.Role == DeadLetters {
		return all
	}
	for _, k := range []string{"delete.retention.ms", "retention.ms"} {
		want, err1 := strconv.ParseInt(wanted[k], 10, 64)
		got, err2 := strconv.ParseInt(settings[k], 10, 64)
		if err1 == nil && err2 == nil && got != -1 && (want == -1 && k != "retention.ms" || got < want) {
			all = append(all, fmt.Sprintf("%s has %s %d, less than %d: an owner that was away longer may miss a deletion", t.Name, k, got, want))
		}
	}
	return all
}

func (f *found) refuse(t Topic, err error) {
	f.bad = append(f.bad, &TopicError{Topic: t.Name, Err: err})
	f.system = f.system || t.Role != Events
}

// missing lists the wanted topics that are not there and of which nothing is recorded. One that is recorded was deleted: to
// create it would hide that (K2).
func (f *found) missing() []Topic {
	var all []Topic
	for _, t := range f.wanted {
		if f.absent[t.Name] && t.Recorded == "" && t.Count == 0 {
			all = append(all, t)
		}
	}
	return all
}

// refused returns the error for the topics that cannot be used; nil if there are none.
func (f *found) refused() error {
	if len(f.bad) == 0 {
		return nil
	}
	if f.system {
		return refuse(f.bad, cdc.Process)
	}
	return refuse(f.bad, cdc.Stream)
}

func refuse(bad []*TopicError, scope cdc.Scope) error {
	e := &cdc.Error{Op: "verify topics", Remedy: cdc.Halt, Scope: scope}
	var names []string
	var errs []error
	for _, b := range bad {
		names, errs = append(names, b.Topic), append(errs, b)
	}
	e.Where, e.Err = strings.Join(names, ", "), errors.Join(errs...)
	e.Hint = "Give the topic the settings that it should have (kafka-configs.sh), or name another one in the configuration; " +
		"for a topic that was recreated or has another partition count, start the stream over with connector offsets reset. Then resume"
	for _, err := range errs {
		if errors.Is(err, kerr.TopicAuthorizationFailed) {
			e.Hint = hintACL
		} else if errors.Is(err, kerr.UnknownTopicOrPartition) {
			e.Hint = hintTopic
		}
	}
	return e
}

// leaderless returns a partition without a leader that matters to a shard, "" if there is none. Shard -1: any partition.
func (f *found) leaderless(shard int32) string {
	for i, name := range f.empty {
		if shard < 0 || f.numbers[i] == anyShard || f.numbers[i] == shard {
			return name
		}
	}
	return ""
}
