package kafka

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/internal/cdc"
)

// TestPartitionIsJavas: vectors of Kafka's own test (UtilsTest.testMurmur2), and kgo's partitioner as a second opinion.
func TestK3PartitionIsJavas(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for i := range 1000 {
		key := []byte(strings.Repeat("é", i%7) + fmt.Sprint(i))
		for _, n := range []int32{1, 3, 8, 100} {
			if got, want := Partition(key, n), int32(theirs.Partition(&kgo.Record{Key: key}, int(n))); got != want {
				t.Fatalf("%s of %d: %d, want %d", key, n, got, want)
			}
		}
	}
	if Shard("account", 8) != Partition([]byte("account"), 8) {
		t.Error("a shard is murmur2(account) mod shards (K6)")
	}
}

// TestBatchOwnsItsMemory: what is passed in may change afterwards; a value that was appended to the slab is not copied.
func TestBatchOwnsItsMemory(t *testing.T) {
	b := NewBatch()
	for round := range 3 {
		key, header := []byte("key"), []byte("header")
		for i := range 2000 {
			value := append(b.Slab(300), strings.Repeat("v", 200+i%100)...)
			n := b.Event("t", 3, key, value, []cdc.Header{{Key: "h", Value: header}})
			if r := b.records[n]; &r.Value[0] != &value[0] {
				t.Fatal("the value was copied")
			}
			b.Offset(key, header)
		}
		if b.Event("t", 3, key, nil, nil); b.records[b.Len()-1].Value != nil {
			t.Fatal("a tombstone has a value")
		}
		if b.Offset(key, []byte{}); b.records[b.Len()-1].Value == nil {
			t.Fatal("an empty value became a tombstone")
		}
		copy(key, "XXX")
		copy(header, "XXXXXX")
		for i, r := range b.records {
			value := "header"
			if b.kinds[i] == event {
				value = strings.Repeat("v", 200+i/2%100)
			}
			if string(r.Key) != "key" || i < 4000 && string(r.Value) != value || len(r.Headers) > 0 && string(r.Headers[0].Value) != "header" {
				t.Fatalf("round %d, record %d: %s=%s %v", round, i, r.Key, r.Value, r.Headers)
			}
		}
		if b.Len() != 4002 || b.Bytes() < 4000*200/2 {
			t.Fatalf("%d records, %d bytes", b.Len(), b.Bytes())
		}
		b.Reset()
	}
	if b.Len() != 0 || b.Bytes() != 0 || b.hashes != 0 {
		t.Error("Reset leaves something")
	}
	key := []byte("key")
	allocations := testing.AllocsPerRun(20, func() {
		for range 500 {
			b.Event("t", 3, key, append(b.Slab(100), "value"...), nil)
		}
		b.Reset()
	})
	if allocations > 5 {
		t.Errorf("%v allocations in a warm batch", allocations)
	}
}

// TestBatchWithPromisesOutstandingIsDropped: memory that the client may still read is not used again.
func TestBatchWithPromisesOutstandingIsDropped(t *testing.T) {
	b := NewBatch()
	b.Offset([]byte("k"), []byte("v"))
	r := b.records[0]
	b.flight = newFlight(1)
	b.Reset()
	b.Offset([]byte("x"), []byte("y"))
	if string(r.Key) != "k" || string(r.Value) != "v" || b.records[0] == r {
		t.Error("overwritten")
	}
}

// TestEncodedSizeIsAnUpperBound: what Fits lets through, kgo's own check does too.
func TestEncodedSizeIsAnUpperBound(t *testing.T) {
	r := &kgo.Record{Key: make([]byte, 300), Value: make([]byte, 20_000), Headers: []kgo.RecordHeader{{Key: "a", Value: make([]byte, 200)}}}
	if n := encodedSize(payload(r), len(r.Headers)); n < 61+payload(r)+10 || n > 61+payload(r)+80 {
		t.Errorf("%d for a payload of %d", n, payload(r))
	}
}

// TestK17BoundHalvesAndGrows: after a missed deadline half, then slowly back, never above what it began with, never to nothing.
func TestK17BoundHalvesAndGrows(t *testing.T) {
	b := NewBound(0, 0, 0)
	if r, n := b.Now(); r != 10_000 || n != 16<<20 {
		t.Fatalf("%d records, %d bytes", r, n)
	}
	b.Observe(3*time.Second, nil) // open for longer than a second
	if r, n := b.Now(); r != 5_000 || n != 8<<20 {
		t.Fatalf("%d records, %d bytes", r, n)
	}
	b.Observe(time.Millisecond, nil)
	if r, _ := b.Now(); r <= 5_000 || r > 5_200 {
		t.Fatalf("%d records: not slowly", r)
	}
	for range 100 {
		b.Observe(time.Millisecond, nil)
	}
	if r, n := b.Now(); r != 10_000 || n != 16<<20 {
		t.Fatalf("%d records, %d bytes", r, n)
	}
	for range 100 {
		b.Observe(0, kgo.ErrRecordTimeout)
	}
	if r, n := b.Now(); r != leastRecords || n != leastBytes {
		t.Fatalf("%d records, %d bytes", r, n)
	}
	batch := NewBatch()
	for range leastRecords {
		if b.Full(batch) {
			t.Fatal("full too early")
		}
		batch.Offset([]byte("k"), nil)
	}
	if !b.Full(batch) {
		t.Error("not full")
	}
}

// TestConnectionOf: whose a key is, by its bytes (K5).
func TestConnectionOf(t *testing.T) {
	for _, c := range []struct {
		key    string
		hashes bool
		want   string
		owner  bool
	}{
		{"owner/c", false, "c", true}, {"owner/c", true, "c", true}, {"owner/s/k", true, "owner", false},
		{"cursor/c/s/-", false, "c", false}, {"token/c", false, "c", false}, {"parked/c/s/a/b", false, "c", false},
		{"c/s/owner/x", true, "c", false}, {"c/s/a/b", true, "c", false}, {"nonsense", false, "", false},
	} {
		got, owner := connectionOf([]byte(c.key), c.hashes)
		if string(got) != c.want || owner != c.owner {
			t.Errorf("%+v: %s %v", c, got, owner)
		}
	}
}

// TestOptionsAreValidated: what cannot work is said before any broker is asked.
func TestOptionsAreValidated(t *testing.T) {
	good := Options{Brokers: []string{"localhost:9092"}, Name: "n"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Options){
		"no brokers":          func(o *Options) { o.Brokers = nil },
		"name":                func(o *Options) { o.Name = "a.b" },
		"compression":         func(o *Options) { o.Compression = "zip" },
		"SASL mechanism":      func(o *Options) { o.SASL.Mechanism = "GSSAPI" },
		"source of tokens":    func(o *Options) { o.SASL.Mechanism = "OAUTHBEARER" },
		"transaction timeout": func(o *Options) { o.Deadlines.Transaction = 30 * time.Second },
	} {
		o := good
		change(&o)
		err := o.Validate()
		verdict(t, err, cdc.Halt, cdc.Process)
		if !strings.Contains(err.Error(), what) {
			t.Errorf("%v lacks %q", err, what)
		}
	}
}

// TestK9SharedTailKeepsItsMark: in a read that began earlier for somebody else, a waiter is given what comes after its own mark.
func TestK9SharedTailKeepsItsMark(t *testing.T) {
	var got []int64
	w := newWaiter(&Session{claim: Claim{Connection: "c"}, announced: Mark{Offsets: 9, Hashes: 9}}, Mark{Offsets: 5, Hashes: 1},
		func(i Item) error { got = append(got, i.Offset); return nil })
	for offset := range int64(9) {
		w.take(inOffsets, &kgo.Record{Offset: offset}, false)
	}
	if fmt.Sprint(got) != "[5 6 7 8]" {
		t.Errorf("given %v", got)
	}
}
