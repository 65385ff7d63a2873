//go:build synctests

package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/internal/judge"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
	"tidemark/internal/simulator"
	"tidemark/internal/source"
)

// voyage is everything that a run of one of the systems is judged by. It is saved whole.
type voyage struct {
	history
	System   string
	Seed     int64
	Calm     time.Time // from here on nothing is wrong
	Polled   time.Time // until here, of streams with a lookback, only polls have found what changed since
	Crashes  int
	Windows  int // of lies
	Passes   int64
	Listings int64
	Stats    simulator.Stats
	Waiting  map[string]map[string]string // candidates by stream and key: their kinds
	Told     map[string]*told             // by stream
}

// told is what is known of a stream beside its history.
type told struct {
	Log, Split, Opaque bool
	Child              bool                    // of the stream events
	Passes             map[string][]judge.Pass // by partition
	Times              []time.Time             // of its events
	Owners             map[string]bool         // of a log: whether the record that it belongs to is there
}

// collect reads the topics, and what the system was.
func (h *harbour) collect() {
	v := h.result
	v.Log, v.Fired, v.Stats, v.Crashes = h.log.String(), h.plan.fired, h.up.Stats(), h.crashes
	v.Owners, v.Waiting, v.Told = map[string][]string{}, map[string]map[string]string{}, map[string]*told{}
	bound, err := h.bind()
	if err != nil {
		h.t.Fatal(err)
	}
	o := h.kafka(h.network.DialContext)
	for _, r := range bound.Requests {
		for _, st := range r.Streams {
			s := v.stream("c/" + st.Name)
			s.Rules, s.States = st.Rules, truths(h.up, h.system.streams[st.Name])
			t := h.tell(r, st, s)
			v.Told[st.Name] = t
			v.read(o, o.EventsTopic("c", st.Name), func(r kafka.Record) error {
				t.Times = append(t.Times, r.At)
				return s.event(r)
			})
		}
	}
	v.read(o, o.OffsetsTopic(), v.offset)
	v.read(o, o.HashesTopic(), v.hash)
	v.read(o, o.DeadLettersTopic(), func(r kafka.Record) error {
		v.Letters = append(v.Letters, fmt.Sprintf("%s: %s", r.Key, r.Headers))
		return nil
	})
}

func (h *harbour) tell(r *source.Request, st *source.Stream, s *streamHistory) *told {
	out := &told{Log: st.LogFeed, Child: r.Lineage() != nil, Opaque: h.system.opaque, Passes: map[string][]judge.Pass{}, Owners: map[string]bool{}}
	for name, w := range h.walks {
		request, partition, _ := strings.Cut(name, "/")
		if request != r.Name {
			continue
		}
		_, value, split := strings.Cut(partition, "=")
		out.Split = out.Split || split
		all := w.polls
		if h.system.opaque || st.Snapshot {
			all = w.listings
		}
		for _, p := range all {
			out.Passes[value] = append(out.Passes[value], judge.Pass{Began: p.began, Ended: p.ended})
		}
	}
	if st.LogFeed {
		there := map[string]bool{}
		for state := range h.up.History("loans") {
			there[state.Key] = state.Value != nil
			out.Owners[state.ID] = false
		}
		for key, is := range there {
			var parts []string
			if json.Unmarshal([]byte(key), &parts) == nil && is {
				out.Owners[parts[1]] = true
			}
		}
		for i, state := range s.States { // the key of an entry is what it belongs to
			s.States[i].Key = partitionOf(state.Key)
		}
	}
	return out
}

// truths are the states of a resource, and between them what lies showed of it.
func truths(up *simulator.Upstream, resource string) []judge.State {
	all := func(seq iter.Seq[simulator.State]) (out []judge.State) {
		for s := range seq {
			out = append(out, judge.State{Key: s.Key, At: s.At, Value: s.Value, Optional: s.Spoil != simulator.Sound})
		}
		return out
	}
	return judge.Weave(all(up.History(resource)), all(up.Shown(resource)))
}

func (v *voyage) offset(r kafka.Record) error {
	k, err := offsets.ParseKey(r.Key)
	if err == nil && k.Kind == offsets.KindCandidate {
		if v.Waiting[k.Stream] == nil {
			v.Waiting[k.Stream] = map[string]string{}
		}
		if delete(v.Waiting[k.Stream], k.Name); r.Value == nil {
			return nil
		}
		c, err := offsets.Decode[offsets.Candidate](bytes.Clone(r.Value))
		v.Waiting[k.Stream][k.Name] = string(c.Kind)
		return err
	}
	return v.history.offset(r)
}

// judge returns everything that is wrong.
func (v *voyage) judge() []string {
	found := slices.Clone(v.Notes)
	for _, s := range v.Streams {
		t := v.Told[s.Name]
		if t == nil { // the checkpoints of a request of several streams
			continue
		}
		var wrong []string
		if t.Log {
			wrong = s.log(t)
		} else {
			wrong = s.content(t, v)
		}
		for _, w := range append(wrong, s.stored(v.Owners["c"])...) {
			found = append(found, s.Name+": "+w)
		}
	}
	broken := slices.DeleteFunc(slices.Clone(v.Letters), func(l string) bool { return strings.Contains(l, "a name stands twice") }) // a fault's
	for _, l := range firstFew(broken) {
		found = append(found, "parked, although every record is sound: "+l)
	}
	for _, halt := range v.Halts {
		if !v.Calm.IsZero() && halt > v.Calm.Add(2*time.Minute).UTC().Format(time.RFC3339) {
			found = append(found, "halted although nothing is wrong any more: "+halt)
		}
	}
	for line := range strings.Lines(v.Log) {
		if strings.Contains(line, "the hashes topic does not hold") || strings.Contains(line, "defect of the connector") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func (v *voyage) halted(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Halts = append(v.Halts, time.Now().UTC().Format(time.RFC3339)+" "+what)
}

// content judges a stream partition by partition. A deletion that is withheld is listed as such (D5), and not demanded, nor are
// those that wait for their parent's (D8). What stood while two passes covered it has to be there when the polls end, before a
// listing could have found it.
func (s *streamHistory) content(t *told, voyage *voyage) (found []string) {
	waiting, polled := voyage.Waiting[s.Name], voyage.Polled
	partition := func(key string) string {
		if t.Split {
			return partitionOf(key)
		}
		return ""
	}
	states, events, early, names := map[string][]judge.State{}, map[string][]judge.Event{}, map[string][]judge.Event{}, map[string]bool{}
	last := map[string]int{}
	for i, x := range s.States {
		last[x.Key] = i
	}
	for i, x := range s.States {
		if last[x.Key] == i && x.Value == nil {
			x.Optional = waiting[x.Key] == string(offsets.Withheld) || t.Child && voyage.Waiting["events"][partitionOf(x.Key)] == string(offsets.Withheld)
		}
		states[partition(x.Key)] = append(states[partition(x.Key)], x)
		names[partition(x.Key)] = true
	}
	for i, e := range s.Events {
		name := partition(e.Key)
		events[name], names[name] = append(events[name], e), true
		if t.Opaque || t.Times[i].Before(polled) {
			early[name] = append(early[name], e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for when, o := range map[string]judge.Options{
			"at rest": {AtRest: true, Deletions: true, Ops: true, Examples: 3}, "by its passes": {Passes: t.Passes[name], Examples: 3},
		} {
			was, heard := states[name], events[name]
			if !o.AtRest {
				was, heard = resurrected(was), early[name]
			}
			v, err := judge.Judge(s.Rules, was, heard, o)
			switch {
			case err != nil:
				found = append(found, err.Error())
			case !v.Clean():
				found = append(found, fmt.Sprintf("partition %q, %s: %s\n\t%s", name, when, v, strings.Join(v.Examples, "\n\t")))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(waiting)) {
		if i, known := last[key]; waiting[key] == string(offsets.Withheld) && known && s.States[i].Value == nil {
			continue
		}
		found = append(found, fmt.Sprintf("left in the state: %s %s", key, waiting[key]))
	}
	return found
}

// resurrected lets passes alone off the states that a record comes back with as it was before it went: they are not newer than its
// grave, so they are held until a second complete pass shows them (D7, P14).
func resurrected(states []judge.State) []judge.State {
	states = slices.Clone(states)
	lived := map[string][]byte{}
	for i, x := range states {
		if x.Value == nil {
			continue
		}
		states[i].Optional = x.Optional || bytes.Equal(lived[x.Key], x.Value)
		lived[x.Key] = x.Value
	}
	return states
}

// log judges a log: what came just before its record went is not asked for any more.
func (s *streamHistory) log(t *told) []string {
	states := slices.Clone(s.States)
	for i, x := range states {
		states[i].Optional = !t.Owners[x.Key]
	}
	v, err := judge.Log(s.Rules, states, s.Events, judge.Options{AtRest: true, Examples: 5})
	switch {
	case err != nil:
		return []string{err.Error()}
	case !v.Clean():
		return []string{v.String() + "\n\t" + strings.Join(v.Examples, "\n\t")}
	}
	return nil
}

// stored compares the stream's state with its events, and looks at who wrote them.
func (s *streamHistory) stored(owners []string) (found []string) {
	if s.Meta.Seed == 0 && len(s.Events) == 0 {
		return []string{"nothing was published"}
	}
	wrong, err := judge.Hashes(s.Rules, uint64(s.Meta.Seed), s.Events, s.Hashes)
	if err != nil {
		found = append(found, err.Error())
	}
	for _, w := range firstFew(wrong) {
		found = append(found, "hashes: "+w)
	}
	live := 0
	for _, hash := range s.Hashes {
		if hash.Flags&offsets.HashGrave == 0 {
			live++
		}
	}
	if int(s.Meta.Count) != live { // K16
		found = append(found, fmt.Sprintf("the stream record counts %d keys, the hashes topic has %d", s.Meta.Count, live))
	}
	return append(found, s.fenced(owners)...)
}

// spared are the kinds of fault that never struck, although the system has what they strike.
func (v *voyage) spared() (found []string) {
	cannot := map[simulator.Kind]string{ // by what the shipped definitions ask
		simulator.Moved: "crf-exchange focus givergy", simulator.FalseGone: "crf-exchange focus givergy", simulator.Expired: "salesloft givergy",
	}
	for _, k := range simulator.Faults() {
		if v.Stats.Struck[k.Kind] == 0 && !strings.Contains(cannot[k.Kind], v.System) {
			found = append(found, "never struck: "+string(k.Kind))
		}
	}
	return found
}

// tally is a line on what happened.
func (v *voyage) tally() string {
	events, states, withheld, deleted, passes := 0, 0, 0, 0, 0
	for _, s := range v.Streams {
		events, states = events+len(s.Events), states+len(s.States)
		for _, e := range s.Events {
			if e.Value == nil {
				deleted++
			}
		}
	}
	for _, w := range v.Waiting {
		withheld += len(w)
	}
	for _, t := range v.Told {
		for _, p := range t.Passes {
			passes += len(p)
		}
	}
	return fmt.Sprintf("%v virtual, %d requests, %d states, %d events, %d tombstones, %d withheld, %d passes (%d of the calm), ",
		v.Virtual.Round(time.Second), v.Stats.Requests, states, events, deleted, withheld, v.Passes, passes) +
		fmt.Sprintf("%d complete listings, %d crashes, %d halts, %d faults of the wire, %d times lies, struck %v",
			v.Listings, v.Crashes, len(v.Halts), len(v.Fired), v.Windows, v.Stats.Struck)
}
