//go:build synctests

package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/record"
	"tidemark/internal/simulator"
)

// history is everything that a run is judged by. It is saved whole.
type history struct {
	Scenario scenario
	Virtual  time.Duration
	Fired    []string // faults of the wire that struck
	Notes    []string // what is wrong already
	Halts    []string // what stood still until the operator came
	Alarms   []string
	Slow     []string            // ends that took longer than they may
	Owners   map[string][]string // nonces of each connection, in the order of their records
	Letters  []string            // dead letters
	Held     []string            // candidates: nothing that the teams do makes any
	Streams  []*streamHistory
	Log      string

	mu sync.Mutex
}

// streamHistory is one stream of one connection.
type streamHistory struct {
	Connection, Name string
	Rules            record.Rules
	Meta             offsets.Stream
	States           []judge.State
	Events           []judge.Event
	Hashes           map[string]offsets.Hash
	Checkpoints      map[string][]cdc.Checkpoint
	Passes           []judge.Pass
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Notes = append(h.Notes, fmt.Sprintf(format, args...))
}

func (h *history) halted(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Halts = append(h.Halts, time.Now().Format(time.TimeOnly)+": "+what)
}

func (h *history) alarm(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Alarms = append(h.Alarms, time.Now().Format(time.TimeOnly)+": "+what)
}

func (h *history) slow(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Slow = append(h.Slow, what)
}

func (h *history) pass(name string, began, ended time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stream(name)
	s.Passes = append(s.Passes, judge.Pass{Began: began, Ended: ended})
}

// stream returns the history of connection/stream.
func (h *history) stream(name string) *streamHistory {
	for _, s := range h.Streams {
		if s.Connection+"/"+s.Name == name {
			return s
		}
	}
	connection, stream, _ := strings.Cut(name, "/")
	s := &streamHistory{Connection: connection, Name: stream, Hashes: map[string]offsets.Hash{}, Checkpoints: map[string][]cdc.Checkpoint{}}
	h.Streams = append(h.Streams, s)
	return s
}

// collect reads the topics, as a read-committed consumer does, and what the APIs had.
func (s *stage) collect() {
	o := s.kafka(s.network.DialContext, "judge", s.log.logger("judge"))
	h := s.result
	h.Owners = map[string][]string{}
	for team, name := range s.connectionNames() {
		bound, err := s.bind(team, name)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, st := range bound.Streams {
			sh := h.stream(name + "/" + st.Name)
			sh.Rules = st.Rules
			for state := range s.teams[team].History(st.Name) {
				sh.States = append(sh.States, judge.State{Key: state.Key, At: state.At, Value: state.Value, Optional: state.Spoil != simulator.Sound})
			}
			h.read(o, o.EventsTopic(name, st.Name), sh.event)
		}
	}
	h.read(o, o.OffsetsTopic(), h.offset)
	h.read(o, o.HashesTopic(), h.hash)
	h.read(o, o.DeadLettersTopic(), func(r kafka.Record) error {
		h.Letters = append(h.Letters, fmt.Sprintf("%s: %s", r.Key, r.Headers))
		return nil
	})
}

func (h *history) read(o kafka.Options, topic string, yield func(kafka.Record) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := kafka.Read(ctx, o, kafka.Query{Topics: []string{topic}}, yield); err != nil {
		h.note("read %s: %v", topic, err)
	}
}

func (s *streamHistory) event(r kafka.Record) error {
	header := map[string]string{}
	for _, x := range r.Headers {
		header[x.Key] = string(x.Value)
	}
	s.Events = append(s.Events, judge.Event{
		Key: string(r.Key), Op: header["ce_op"], Value: bytes.Clone(r.Value), Partition: r.Partition, Offset: r.Offset,
		Cursor: header["ce_cursor"], ID: header["ce_id"],
	})
	return nil
}

func (h *history) offset(r kafka.Record) error {
	k, err := offsets.ParseKey(r.Key)
	if err != nil || r.Value == nil {
		return err
	}
	switch k.Kind {
	case offsets.KindOwner:
		v, err := offsets.Decode[offsets.Owner](r.Value)
		if n := h.Owners[k.Connection]; len(n) == 0 || n[len(n)-1] != v.Nonce { // else a heartbeat
			h.Owners[k.Connection] = append(n, v.Nonce)
		}
		return err
	case offsets.KindCursor:
		v, err := offsets.Decode[cdc.Checkpoint](r.Value)
		s := h.stream(k.Connection + "/" + k.Stream)
		s.Checkpoints[k.Name] = append(s.Checkpoints[k.Name], v)
		return err
	case offsets.KindStream:
		s := h.stream(k.Connection + "/" + k.Stream)
		s.Meta, err = offsets.Decode[offsets.Stream](r.Value)
		return err
	case offsets.KindCandidate, offsets.KindParked:
		h.Held = append(h.Held, string(r.Key)+" "+string(r.Value))
	}
	return nil
}

func (h *history) hash(r kafka.Record) error {
	connection, stream, key, owner, err := offsets.ParseHashKey(r.Key)
	if err != nil || owner {
		return err
	}
	s := h.stream(string(connection) + "/" + string(stream))
	if r.Value == nil {
		delete(s.Hashes, string(key))
		return nil
	}
	s.Hashes[string(key)], err = offsets.ParseHash(r.Value)
	return err
}

// judge returns everything that is wrong.
func (h *history) judge() []string {
	found := slices.Clone(h.Notes)
	for _, s := range h.Streams {
		for _, f := range s.judge(h.Owners[s.Connection]) {
			found = append(found, s.Connection+"/"+s.Name+": "+f)
		}
	}
	found = append(found, firstFew(h.Slow)...) // SIGTERM: within 10 s
	for _, l := range firstFew(h.Letters) {
		found = append(found, "parked, although every record is sound: "+l)
	}
	for _, l := range firstFew(h.Held) {
		found = append(found, "held, although no version goes back: "+l)
	}
	strange := slices.DeleteFunc(slices.Clone(h.Halts), h.expected)
	for _, l := range firstFew(strange) {
		found = append(found, "halted without a reason that the scenario has: "+l)
	}
	for line := range strings.Lines(h.Log) {
		if strings.Contains(line, "the hashes topic does not hold") || strings.Contains(line, "defect of the connector") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// expected reports whether a halt is what the scenario's faults ask for.
func (h *history) expected(halt string) bool {
	for _, f := range h.Scenario.HTTP {
		if f.Kind == simulator.HTML && strings.Contains(halt, "web page") {
			return true
		}
	}
	return false
}

func (s *streamHistory) judge(owners []string) []string {
	var found []string
	v, err := judge.Judge(s.Rules, s.States, s.Events, judge.Options{AtRest: true, Ops: true, Cursors: true, Passes: s.Passes, Examples: 5})
	switch {
	case err != nil:
		found = append(found, err.Error())
	case !v.Clean():
		found = append(found, v.String()+"\n\t"+strings.Join(v.Examples, "\n\t"))
	}
	wrong, err := judge.Hashes(s.Rules, uint64(s.Meta.Seed), s.Events, s.Hashes)
	if err != nil {
		found = append(found, err.Error())
	}
	for _, w := range firstFew(wrong) {
		found = append(found, "hashes: "+w)
	}
	if int(s.Meta.Count) != len(s.Hashes) { // K16; nothing is deleted here, so there are no graves
		found = append(found, fmt.Sprintf("the stream record counts %d keys, the hashes topic has %d", s.Meta.Count, len(s.Hashes)))
	}
	for _, p := range slices.Sorted(maps.Keys(s.Checkpoints)) {
		for _, w := range firstFew(judge.Cursors(s.Checkpoints[p])) {
			found = append(found, "cursor of partition "+p+": "+w)
		}
	}
	return append(found, s.fenced(owners)...)
}

// fenced looks at who wrote the events: each by an owner, and none after an event of a later owner in its partition (3).
func (s *streamHistory) fenced(owners []string) []string {
	var found []string
	type place struct{ owner, number int }
	last := map[int32]place{}
	for _, e := range s.Events {
		nonce, text, _ := strings.Cut(e.ID, "-")
		number, err := strconv.Atoi(text)
		now := place{slices.Index(owners, nonce), number}
		before, ok := last[e.Partition]
		switch {
		case err != nil || now.owner < 0:
			found = append(found, fmt.Sprintf("fencing: event %d of partition %d was written by %q, who owned nothing", e.Offset, e.Partition, e.ID))
		case ok && now.owner < before.owner:
			found = append(found, fmt.Sprintf("fencing: event %d of partition %d is of owner %d, after one of owner %d", e.Offset, e.Partition, now.owner, before.owner))
		case ok && now.owner == before.owner && now.number <= before.number:
			found = append(found, fmt.Sprintf("event %d of partition %d has number %d after %d", e.Offset, e.Partition, now.number, before.number))
		}
		last[e.Partition] = now
	}
	return firstFew(found)
}

func firstFew(all []string) []string { return all[:min(5, len(all))] }

// summary is a line on what happened.
func (h *history) summary() string {
	events, states, checkpoints, passes, owners := 0, 0, 0, 0, 0
	for _, s := range h.Streams {
		events, states, passes = events+len(s.Events), states+len(s.States), passes+len(s.Passes)
		for _, c := range s.Checkpoints {
			checkpoints += len(c)
		}
	}
	for _, o := range h.Owners {
		owners += len(o)
	}
	return fmt.Sprintf("%d instances, %v virtual, %d states, %d events, %d checkpoints, %d ownings, %d of %d wire faults, %d halts, %d alarms, %d slow ends, %d passes watched",
		h.Scenario.Instances, h.Virtual.Round(time.Second), states, events, checkpoints, owners, len(h.Fired), len(h.Scenario.Wire), len(h.Halts), len(h.Alarms), len(h.Slow), passes)
}
