package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
	"tidemark/internal/record"
)

func newTable(t testing.TB) *Table {
	t.Helper()
	table, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// model is the table as plain maps.
type model struct {
	committed map[string]Entry
	staged    []stagedMap
	sighted   map[string]uint32
}

type stagedMap struct {
	batch uint64
	of    map[string]*Entry // nil: deleted
}

func (m *model) top(k string) (*Entry, bool) {
	for _, s := range slices.Backward(m.staged) {
		if e, ok := s.of[k]; ok {
			return e, true
		}
	}
	return nil, false
}

func (m *model) get(k string) (Entry, bool) {
	if e, ok := m.top(k); ok {
		if e == nil {
			return Entry{}, false
		}
		return *e, true
	}
	e, ok := m.committed[k]
	return e, ok
}

func (m *model) raw(k string) (record.RawHint, bool) {
	e := m.committed[k]
	if _, staged := m.top(k); staged || e.RawLen == 0 || e.Flags != 0 {
		return record.RawHint{}, false
	}
	return record.RawHint{Len: e.RawLen, Hash: e.Raw, Version: e.Version}, true
}

func (m *model) sight(k string, seen uint32) {
	for _, s := range m.staged {
		if e := s.of[k]; e != nil {
			e.Seen = max(e.Seen, seen)
		}
	}
	if e, ok := m.committed[k]; ok {
		e.Seen = max(e.Seen, seen)
		m.committed[k] = e
	}
}

func (m *model) stage(batch uint64, k string, e *Entry) {
	if n := len(m.staged); n == 0 || m.staged[n-1].batch < batch {
		m.staged = append(m.staged, stagedMap{batch, map[string]*Entry{}})
	}
	for _, s := range m.staged {
		if s.batch != batch {
			continue
		}
		if old := s.of[k]; old != nil && e != nil {
			e.Seen = max(e.Seen, old.Seen)
		}
		s.of[k] = e
	}
	if e != nil {
		m.sight(k, e.Seen)
	}
}

func (m *model) settle(batch uint64) {
	for len(m.staged) > 0 && m.staged[0].batch <= batch {
		for k, e := range m.staged[0].of {
			if e == nil {
				delete(m.committed, k)
				continue
			}
			e.Seen = max(e.Seen, m.committed[k].Seen)
			m.committed[k] = *e
		}
		m.staged = m.staged[1:]
	}
	clear(m.sighted)
}

func (m *model) drop() {
	for _, s := range m.staged {
		for k, e := range s.of {
			if _, ok := m.committed[k]; e != nil && !ok {
				m.sighted[k] = max(m.sighted[k], e.Seen)
			}
		}
	}
	m.staged = nil
}

func (m *model) touch(k string, hint record.RawHint, seen uint32) {
	e, staged := m.top(k)
	switch {
	case staged && e == nil:
		return
	case staged:
		e.touch(hint)
	default:
		c, ok := m.committed[k]
		if !ok {
			return
		}
		c.touch(hint)
		m.committed[k] = c
	}
	m.sight(k, seen)
}

func (m *model) apply(k string, e Entry) {
	old, ok := m.committed[k]
	if ok && old.Hash == e.Hash && old.Rules == e.Rules && old.Flags == e.Flags {
		e.touch(record.RawHint{Len: old.RawLen, Hash: old.Raw, Version: old.Version})
	}
	e.Seen = max(e.Seen, old.Seen)
	if !ok {
		e.Seen = max(e.Seen, m.sighted[k])
	}
	m.committed[k] = e
}

func (m *model) set(staged bool, hash func(string) uint64) (s Set) {
	all := maps.Clone(m.committed)
	for _, b := range m.staged {
		for k, e := range b.of {
			if staged && e != nil {
				all[k] = *e
			} else if staged {
				delete(all, k)
			}
		}
	}
	for k, e := range all {
		if e.Live() {
			s.Count++
			s.Digest += mix(hash(k), e.Hash)
		}
	}
	return s
}

// walk drives a table and its model through the same random steps.
type walk struct {
	t     *testing.T
	r     *rand.Rand
	table *Table
	model *model
	keys  []string
	hash  func(string) uint64
	batch uint64 // the newest
}

func (w *walk) entry() Entry {
	e := Entry{
		Hash: w.r.Uint64N(4), Raw: w.r.Uint64(), RawLen: w.r.Uint32N(3), Seen: w.r.Uint32N(6),
		Partition: w.r.Uint32N(3), Rules: uint16(w.r.IntN(2)), Version: w.version(),
	}
	if w.r.IntN(5) == 0 {
		e.Flags = Flags(w.r.IntN(4))
	}
	return e
}

func (w *walk) version() cdc.Version {
	switch w.r.IntN(8) {
	case 0:
		return cdc.Version{}
	case 1:
		return cdc.IntegerVersion(w.r.Int64N(100) - 50)
	default:
		return cdc.Version{Sec: w.r.Int64N(100) - 50, Nano: 999_999_999 - w.r.Uint32N(3), Kind: cdc.Instant}
	}
}

func (w *walk) step() {
	k := w.keys[w.r.IntN(len(w.keys))]
	key, h := []byte(k), w.hash(k)
	switch w.r.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		e := w.entry()
		batch := w.batch
		if n := len(w.model.staged); n > 0 && w.r.IntN(4) == 0 {
			batch = w.model.staged[w.r.IntN(n)].batch
		}
		staged := e
		w.table.Stage(batch, key, h, e)
		w.model.stage(batch, k, &staged)
	case 6, 7:
		w.table.StageDelete(w.batch, key, h)
		w.model.stage(w.batch, k, nil)
	case 8, 9, 10, 11:
		hint := record.RawHint{Len: w.r.Uint32N(3), Hash: w.r.Uint64(), Version: w.version()}
		seen := w.r.Uint32N(6)
		w.table.Touch(key, h, hint, seen)
		w.model.touch(k, hint, seen)
	case 12, 13, 14:
		e := w.entry()
		w.table.Apply(key, h, e)
		w.model.apply(k, e)
	case 15:
		w.table.Remove(key, h)
		delete(w.model.committed, k)
	case 16, 17:
		w.batch += 1 + w.r.Uint64N(2)
	case 18:
		if n := len(w.model.staged); n > 0 {
			batch := w.model.staged[w.r.IntN((n+1)/2)].batch
			w.table.Settle(batch)
			w.model.settle(batch)
		}
	case 19:
		if w.r.IntN(10) == 0 {
			w.table.Drop()
			w.model.drop()
		}
	}
	w.look(k)
	w.look(w.keys[w.r.IntN(len(w.keys))])
}

func (w *walk) look(k string) {
	got, ok := w.table.Get([]byte(k), w.hash(k))
	want, wantOK := w.model.get(k)
	if got != want || ok != wantOK {
		w.t.Fatalf("Get %.40q: got %+v %v, want %+v %v", k, got, ok, want, wantOK)
	}
	hint, ok := w.table.Raw([]byte(k), w.hash(k))
	wantHint, wantOK := w.model.raw(k)
	if hint != wantHint || ok != wantOK {
		w.t.Fatalf("Raw %.40q: got %+v %v, want %+v %v", k, hint, ok, wantHint, wantOK)
	}
	if len(w.keys) > 100 {
		return // compare looks at the sets from time to time
	}
	if got, want := w.table.StagedSet(), w.model.set(true, w.hash); got != want {
		w.t.Fatalf("StagedSet after a step on %.40q: got %+v, want %+v", k, got, want)
	}
}

func (w *walk) compare() {
	w.t.Helper()
	got := map[string]Entry{}
	for k, e := range w.table.All() {
		got[string(k)] = e
	}
	if !maps.Equal(w.model.committed, got) {
		w.t.Fatalf("All (-want +got):\n%s", cmp.Diff(w.model.committed, got))
	}
	if w.table.Len() != len(got) {
		w.t.Fatalf("Len is %d, want %d", w.table.Len(), len(got))
	}
	if got, want := w.table.Set(), w.model.set(false, w.hash); got != want {
		w.t.Fatalf("Set: got %+v, want %+v", got, want)
	}
	if got, want := w.table.StagedSet(), w.model.set(true, w.hash); got != want {
		w.t.Fatalf("StagedSet: got %+v, want %+v", got, want)
	}
	for _, partition := range []uint32{1, AnyPartition} {
		want, got := map[string]bool{}, map[string]bool{}
		for k, e := range w.model.committed {
			if e.Live() && e.Seen < 4 && (partition == AnyPartition || e.Partition == partition) {
				want[k] = true
			}
		}
		for k := range w.table.Unseen(4, partition) {
			got[string(k)] = true
		}
		if !maps.Equal(want, got) {
			w.t.Fatalf("Unseen in %d (-want +got):\n%s", partition, cmp.Diff(want, got))
		}
	}
}

// mixedKeys returns n keys of every form: numbers, numbers that are not canonical, UUIDs, JSON arrays, long ones.
func mixedKeys(n int) []string {
	keys := make([]string, 0, n)
	for i := range n {
		switch i % 8 {
		case 0, 1, 2:
			keys = append(keys, fmt.Sprint(i))
		case 3:
			keys = append(keys, fmt.Sprintf("0%d", i))
		case 4:
			keys = append(keys, fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i*7919))
		case 5:
			keys = append(keys, fmt.Sprintf(`["Listings","%d"]`, i))
		case 6:
			keys = append(keys, fmt.Sprintf("%d", uint64(i)*1_000_000_007_000_000_007))
		default:
			keys = append(keys, strings.Repeat("k", 100+i%400)+fmt.Sprint(i))
		}
	}
	return keys
}

// TestTableIsAMap holds the table against plain maps: P2 (staged over committed), (2) (Settle, Drop, Apply), P14 and D3
// (Touch), D7 (graves), over several batches in flight.
func TestTableIsAMap(t *testing.T) {
	hashes := map[string]func(string) uint64{
		"hash":  func(k string) uint64 { return record.KeyHash([]byte(k)) },
		"equal": func(string) uint64 { return 0xdeadbeef_00000001 },
		"few":   func(k string) uint64 { return record.KeyHash([]byte(k)) & 3 << 62 },
	}
	for name, hash := range hashes {
		for _, size := range []int{12, 1500} {
			for seed := range uint64(4) {
				w := &walk{
					t: t, r: rand.New(rand.NewPCG(seed, uint64(size))), table: newTable(t), keys: mixedKeys(size), hash: hash, batch: 1,
					model: &model{committed: map[string]Entry{}, sighted: map[string]uint32{}},
				}
				steps := 5000
				if name != "hash" { // every search is a long one
					steps = 800
				}
				for i := range steps {
					w.step()
					if i%500 == 0 {
						w.compare()
					}
				}
				w.compare()
				w.table.Drop()
				w.model.drop()
				w.compare()
			}
		}
	}
}

// TestGrowth fills a table with a million keys: it finds all of them and no others.
func TestGrowth(t *testing.T) {
	const n = 1_000_000
	table, model := newTable(t), make(map[string]uint64, n)
	var worst time.Duration
	for i, k := range mixedKeys(n) {
		key := []byte(k)
		began := time.Now()
		table.Apply(key, record.KeyHash(key), Entry{Hash: uint64(i), Partition: uint32(i % 3)})
		worst = max(worst, time.Since(began))
		model[k] = uint64(i)
	}
	t.Logf("%d keys, %.1f bytes a key, slowest insert %v", n, float64(table.Bytes())/n, worst)
	compareHashes(t, table, model)
}

// TestInv10MemoryIsUsedAgain: a table whose keys come and go does not grow (10).
func TestInv10MemoryIsUsedAgain(t *testing.T) {
	table, model := newTable(t), map[string]uint64{}
	keys := mixedKeys(20_000)
	var full int64
	for round := range 10 {
		for i, k := range keys {
			old, now := fmt.Appendf(nil, "%d-%s", round-1, k), fmt.Appendf(nil, "%d-%s", round, k)
			table.Remove(old, record.KeyHash(old))
			delete(model, string(old))
			table.Apply(now, record.KeyHash(now), Entry{Hash: uint64(i)})
			model[string(now)] = uint64(i)
		}
		compareHashes(t, table, model)
		if round == 0 {
			full = table.Bytes()
		}
	}
	if table.Bytes() > full*11/10 {
		t.Errorf("%d bytes after ten generations of keys, %d after the first", table.Bytes(), full)
	}
}

func compareHashes(t *testing.T, table *Table, model map[string]uint64) {
	t.Helper()
	if table.Len() != len(model) || table.Set().Count != int64(len(model)) {
		t.Fatalf("%d entries, %d live, want %d", table.Len(), table.Set().Count, len(model))
	}
	var set Set
	for k, hash := range model {
		h := record.KeyHash([]byte(k))
		if e, ok := table.Get([]byte(k), h); !ok || e.Hash != hash {
			t.Fatalf("Get %.40q: got %+v %v, want hash %d", k, e, ok, hash)
		}
		set.change(h, 0, false, hash, true)
	}
	if table.Set() != set {
		t.Fatalf("Set: got %+v, want %+v", table.Set(), set)
	}
	seen := 0
	for k, e := range table.All() {
		if hash, ok := model[string(k)]; !ok || e.Hash != hash {
			t.Fatalf("All gave %.40q with %+v", k, e)
		}
		seen++
	}
	if seen != len(model) {
		t.Fatalf("All gave %d keys, want %d", seen, len(model))
	}
}

// TestPresizeChangesNothing: room is made before, in the middle and too late, with the same outcome.
func TestPresizeChangesNothing(t *testing.T) {
	for _, at := range []int{0, 5000, 19999} {
		table, model := newTable(t), map[string]uint64{}
		for i, k := range mixedKeys(20000) {
			if i == at {
				table.Presize(100000)
				before := table.index.count
				table.Presize(10)
				if table.index.count != before || before < 100000/segmentSlots {
					t.Fatalf("%d segments after Presize, then %d", before, table.index.count)
				}
			}
			table.Apply([]byte(k), record.KeyHash([]byte(k)), Entry{Hash: uint64(i)})
			model[k] = uint64(i)
		}
		compareHashes(t, table, model)
	}
}

// TestHeapServesToo: a process that has no mappings left goes on in the Go heap.
func TestHeapServesToo(t *testing.T) {
	table, model := newTable(t), map[string]uint64{}
	table.memory.heap = true
	for i, k := range mixedKeys(100_000) {
		table.Apply([]byte(k), record.KeyHash([]byte(k)), Entry{Hash: uint64(i)})
		model[k] = uint64(i)
		if i%30_000 == 0 {
			runtime.GC()
		}
	}
	runtime.GC()
	compareHashes(t, table, model)
}

// TestCrowd: keys that were chosen to have one hash make the table slow, not wrong and not endless (10).
func TestCrowd(t *testing.T) {
	const n, h = segmentSlots + 1000, 0x0123456789abcdef
	table := newTable(t)
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%d", i) }
	for i := range n {
		table.Apply(key(i), h, Entry{Hash: uint64(i)})
	}
	if len(table.crowd) != n-segmentLast || len(table.dir) != 1<<maxDepth {
		t.Fatalf("%d keys in the crowd, a directory of %d: the test does not reach the limit", len(table.crowd), len(table.dir))
	}
	for i := 0; i < n; i += 2 {
		table.Remove(key(i), h)
	}
	for i := range n {
		if e, ok := table.Get(key(i), h); ok != (i%2 == 1) || ok && e.Hash != uint64(i) {
			t.Fatalf("Get %s: %+v %v", key(i), e, ok)
		}
	}
	if table.Len() != n/2 {
		t.Fatalf("Len is %d, want %d", table.Len(), n/2)
	}
}

// TestInv2DropForgetsWhatIsStaged: after a commit of unknown outcome memory is what it was, but for what was observed.
func TestInv2DropForgetsWhatIsStaged(t *testing.T) {
	table := newTable(t)
	key, h := []byte("7"), record.KeyHash([]byte("7"))
	table.Apply(key, h, Entry{Hash: 1, Raw: 11, RawLen: 110, Seen: 1, Version: cdc.IntegerVersion(1)})
	before := table.Set()

	table.Stage(1, key, h, Entry{Hash: 2, Raw: 22, RawLen: 220, Seen: 2, Version: cdc.IntegerVersion(2)})
	table.Settle(0) // nothing of batch 1
	if e, _ := table.Get(key, h); e.Hash != 2 {
		t.Fatalf("P2: Get sees %+v and not what is staged", e)
	}
	if _, ok := table.Raw(key, h); ok {
		t.Fatal("P2: a hint for a staged key")
	}
	if table.Set() != before {
		t.Fatal("(2): staging changed the committed set")
	}
	table.Touch(key, h, record.RawHint{Len: 221, Hash: 222, Version: cdc.IntegerVersion(3)}, 3)
	table.Drop()

	got, _ := table.Get(key, h)
	want := Entry{Hash: 1, Raw: 11, RawLen: 110, Seen: 3, Version: cdc.IntegerVersion(1)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after Drop (-want +got): the sighting stays, content, bytes and version of what was staged do not:\n%s", diff)
	}
	if table.Set() != before || table.StagedSet() != before {
		t.Errorf("(2): sets %+v and %+v after Drop, want %+v", table.Set(), table.StagedSet(), before)
	}
}

// TestD3SightingsSurviveAReopen: a new key was published with unknown outcome in the middle of a complete pass; the commit
// turns out to have happened. The key was seen in this pass and must not look missing at its end.
func TestD3SightingsSurviveAReopen(t *testing.T) {
	table := newTable(t)
	key, h := []byte("new"), record.KeyHash([]byte("new"))
	table.Stage(1, key, h, Entry{Hash: 1, Seen: 5})
	table.Drop()
	table.Apply(key, h, Entry{Hash: 1}) // K9: the tail of the shard is read again
	for k := range table.Unseen(5, AnyPartition) {
		t.Errorf("%s was seen in generation 5", k)
	}
	table.Settle(2) // the new session commits; what was kept aside goes
	other, oh := []byte("other"), record.KeyHash([]byte("other"))
	table.Apply(other, oh, Entry{Hash: 1})
	for k := range table.Unseen(5, AnyPartition) {
		if string(k) != "other" {
			t.Errorf("%s was seen in generation 5", k)
		}
	}
}

// TestD3SightingOfAStagedRecord: what shows a staged record shows its key, whichever of its entries turns out to be committed.
func TestD3SightingOfAStagedRecord(t *testing.T) {
	table := newTable(t)
	key, h := []byte("k"), record.KeyHash([]byte("k"))
	unseen := func(when string) {
		t.Helper()
		for range table.Unseen(5, AnyPartition) {
			t.Errorf("%s: it was seen in generation 5", when)
		}
	}
	table.Apply(key, h, Entry{Hash: 1, Seen: 1})
	table.Stage(1, key, h, Entry{Hash: 2, Seen: 2})
	table.Stage(2, key, h, Entry{Hash: 3, Seen: 3})
	table.Touch(key, h, record.RawHint{}, 5)
	unseen("the committed entry")
	table.Settle(1)
	unseen("the older batch")
	table.Drop()
	unseen("the newer batch is lost")
}

// TestP14SuppressedRecordRaisesVersion: a newer version of the same content is remembered, an older one is not (8).
func TestP14SuppressedRecordRaisesVersion(t *testing.T) {
	table := newTable(t)
	key, h := []byte("7"), record.KeyHash([]byte("7"))
	at := func(s int64) cdc.Version { return cdc.InstantVersion(time.Unix(s, 999_999_999)) }
	table.Apply(key, h, Entry{Hash: 1, Version: at(10)})
	for _, step := range []struct{ touch, want int64 }{{20, 20}, {15, 20}, {-5, 20}, {30, 30}} {
		table.Touch(key, h, record.RawHint{Len: 1, Hash: 1, Version: at(step.touch)}, 0)
		if e, _ := table.Get(key, h); e.Version != at(step.want) {
			t.Errorf("after version %v: %v, want %v", at(step.touch), e.Version, at(step.want))
		}
	}
	table.Touch(key, h, record.RawHint{Len: 1, Hash: 1}, 0)
	if hint, ok := table.Raw(key, h); !ok || hint.Version != at(30) {
		t.Errorf("after a sighting without a version: %+v %v", hint, ok)
	}
}

// TestD7GravesAreOutsideTheSet: a grave keeps the version and leaves count, digest, hints and listings of missing keys.
func TestD7GravesAreOutsideTheSet(t *testing.T) {
	table := newTable(t)
	key, h := []byte("7"), record.KeyHash([]byte("7"))
	table.Stage(1, key, h, Entry{Hash: 1, Raw: 1, RawLen: 1, Version: cdc.IntegerVersion(5)})
	table.Settle(1)
	grave := Entry{Hash: 1_700_000_000, Version: cdc.IntegerVersion(5), Flags: Grave}
	table.Stage(2, key, h, grave)
	if table.StagedSet() != (Set{}) || table.Set().Count != 1 {
		t.Errorf("staged grave: sets %+v, %+v", table.Set(), table.StagedSet())
	}
	table.Settle(2)
	table.Touch(key, h, record.RawHint{Len: 1, Hash: 1, Version: cdc.IntegerVersion(9)}, 0)
	e, ok := table.Get(key, h)
	if diff := cmp.Diff(grave, e); !ok || diff != "" {
		t.Errorf("Get of a grave: %v (-want +got):\n%s", ok, diff)
	}
	if !e.Buried().Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("buried at %v", e.Buried())
	}
	if table.Set() != (Set{}) {
		t.Errorf("Set: %+v", table.Set())
	}
	if _, ok := table.Raw(key, h); ok {
		t.Error("a hint for a grave: the record would be taken for published")
	}
	for range table.Unseen(1, AnyPartition) {
		t.Error("a grave is missing nowhere")
	}
	table.Stage(3, key, h, Entry{Hash: 1})
	table.Settle(3)
	if table.Set().Count != 1 {
		t.Error("a record that returned is not counted")
	}
}

// TestK9RestoreKeepsHints: reading again what is known already costs no hint; another content takes it away.
func TestK9RestoreKeepsHints(t *testing.T) {
	table := newTable(t)
	key, h := []byte("7"), record.KeyHash([]byte("7"))
	table.Apply(key, h, Entry{Hash: 1, Version: cdc.IntegerVersion(1)})
	table.Touch(key, h, record.RawHint{Len: 5, Hash: 55, Version: cdc.IntegerVersion(2)}, 3)
	table.Apply(key, h, Entry{Hash: 1, Version: cdc.IntegerVersion(1)})
	want := Entry{Hash: 1, Raw: 55, RawLen: 5, Seen: 3, Version: cdc.IntegerVersion(2)}
	if got, _ := table.Get(key, h); got != want {
		t.Errorf("the same again: got %+v, want %+v", got, want)
	}
	table.Apply(key, h, Entry{Hash: 2, Version: cdc.IntegerVersion(1)})
	want = Entry{Hash: 2, Seen: 3, Version: cdc.IntegerVersion(1)}
	if got, _ := table.Get(key, h); got != want {
		t.Errorf("another content: got %+v, want %+v", got, want)
	}
}

// TestBatchesSettleInOrder: a batch that begins after a newer one is a defect of the caller and is not papered over.
func TestBatchesSettleInOrder(t *testing.T) {
	table := newTable(t)
	table.Stage(5, []byte("a"), 1, Entry{})
	table.Stage(7, []byte("a"), 1, Entry{})
	table.Stage(5, []byte("b"), 2, Entry{})
	defer func() {
		if recover() == nil {
			t.Error("batch 6 was taken after batch 7")
		}
	}()
	table.Stage(6, []byte("a"), 1, Entry{})
}

// TestK8DigestIsStable: the digest is stored in Kafka, so its formula must never change.
func TestK8DigestIsStable(t *testing.T) {
	table := newTable(t)
	for i := range 1000 {
		key := fmt.Appendf(nil, "key-%d", i)
		table.Apply(key, record.KeyHash(key), Entry{Hash: uint64(i) * 0x123456789})
	}
	want := Set{Count: 1000, Digest: 0xf57722abc601f99f}
	if table.Set() != want {
		t.Errorf("Set is {%d, %#x}, want {%d, %#x}", table.Set().Count, table.Set().Digest, want.Count, want.Digest)
	}
}

// TestDigestSeesExchangedContents: neither order nor version counts, but which key has which content does.
func TestDigestSeesExchangedContents(t *testing.T) {
	fill := func(contents ...uint64) Set {
		table := newTable(t)
		for i, hash := range contents {
			table.Apply(fmt.Append(nil, i), record.KeyHash(fmt.Append(nil, i)), Entry{Hash: hash, Version: cdc.IntegerVersion(int64(len(contents)))})
		}
		return table.Set()
	}
	if fill(1, 2) == fill(2, 1) {
		t.Error("two keys that exchanged their contents have the same digest")
	}
	if fill(0, 0) == fill(0) || fill(0).Digest == 0 {
		t.Error("a key with the hash 0 adds nothing")
	}
}

// TestNoAllocations: Get, Raw and Touch allocate nothing, with batches in flight too.
func TestNoAllocations(t *testing.T) {
	table := newTable(t)
	keys := mixedKeys(5000)
	hashes := make([]uint64, len(keys))
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i], hashes[i] = []byte(k), record.KeyHash([]byte(k))
		table.Apply(raw[i], hashes[i], Entry{Hash: 1, RawLen: 1})
		if i%10 == 0 {
			table.Stage(uint64(i/2500), raw[i], hashes[i], Entry{Hash: 2})
		}
	}
	i := 0
	allocs := testing.AllocsPerRun(20000, func() {
		k, h := raw[i%len(raw)], hashes[i%len(raw)]
		table.Get(k, h)
		table.Raw(k, h)
		table.Touch(k, h, record.RawHint{Len: 1, Hash: 1}, uint32(i))
		table.Set()
		i++
	})
	if allocs != 0 {
		t.Errorf("%v allocations a record", allocs)
	}
}

// TestBatchMemoryIsUsedAgain: a connection that stages and settles for ever does not grow.
func TestBatchMemoryIsUsedAgain(t *testing.T) {
	table := newTable(t)
	keys := mixedKeys(1000)
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = []byte(k)
	}
	batch := uint64(0)
	round := func() {
		batch++
		for i, k := range raw {
			table.Stage(batch, k, record.KeyHash(k), Entry{Hash: uint64(i)})
		}
		if batch > 1 {
			table.Settle(batch - 1)
		}
	}
	for range 4 {
		round()
	}
	if allocs := testing.AllocsPerRun(50, round); allocs > 1 {
		t.Errorf("%v allocations a batch of %d keys", allocs, len(keys))
	}
}
