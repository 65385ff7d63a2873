package state

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"tidemark/internal/record"
)

// The benchmarks report the time of one key; all keys are looked up in random order, so that nearly every one is a cache
// miss, as it is for the records of a page.

func benchKeys(kind string, n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		if kind == "number" {
			keys[i] = strconv.AppendInt(nil, int64(100_000_000+i), 10)
		} else {
			h := record.KeyHash(fmt.Append(nil, i))
			keys[i] = fmt.Appendf(nil, "%08x-%04x-4%03x-8%03x-%012x", uint32(h), uint16(h>>32), uint16(h>>48)&0xfff, i&0xfff, h>>16)
		}
	}
	return shuffled(keys, 1)
}

// shuffled returns the keys in another order, one behind the other in memory, as those of a page are.
func shuffled(keys [][]byte, seed uint64) [][]byte {
	rand.New(rand.NewPCG(seed, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	var all []byte
	for _, k := range keys {
		all = append(all, k...)
	}
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i], all = all[:len(k):len(k)], all[len(k):]
	}
	return out
}

func fill(b *testing.B, keys [][]byte) *Table {
	table := newTable(b)
	for i, k := range keys {
		table.Apply(k, record.KeyHash(k), Entry{Hash: uint64(i), Raw: uint64(i), RawLen: 1500})
	}
	return table
}

func each(b *testing.B, f func(b *testing.B, keys [][]byte)) {
	for _, kind := range []string{"number", "uuid"} {
		for _, n := range []int{100_000, 1_000_000, 10_000_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) { f(b, benchKeys(kind, n)) })
		}
	}
}

func BenchmarkApply(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		b.ReportAllocs()
		b.ResetTimer()
		for done := 0; done < b.N; done += len(keys) {
			table, err := New()
			if err != nil {
				b.Fatal(err)
			}
			for i, k := range keys[:min(len(keys), b.N-done)] {
				table.Apply(k, record.KeyHash(k), Entry{Hash: uint64(i)})
			}
			b.ReportMetric(float64(table.Bytes())/float64(max(table.Len(), 1)), "B/key")
			table.Close()
		}
	})
}

func BenchmarkRaw(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		table := fill(b, keys)
		keys = shuffled(keys, 2)
		b.ReportMetric(float64(table.Bytes())/float64(table.Len()), "B/key")
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			k := keys[i%len(keys)]
			if _, ok := table.Raw(k, record.KeyHash(k)); !ok {
				b.Fatalf("%s is not there", k)
			}
		}
	})
}

// BenchmarkSuppressed is the table's part of an unchanged record while changes are in flight.
func BenchmarkSuppressed(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		table := fill(b, keys)
		keys = shuffled(keys, 2)
		for i, k := range keys[:10_000] {
			table.Stage(1+uint64(i/5000), k, record.KeyHash(k), Entry{Hash: 1})
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			k := keys[i%len(keys)]
			h := record.KeyHash(k)
			hint, _ := table.Raw(k, h)
			table.Touch(k, h, hint, 1)
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		table := fill(b, keys[:len(keys)/2])
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			k := keys[len(keys)/2+i%(len(keys)/2)]
			if _, ok := table.Get(k, record.KeyHash(k)); ok {
				b.Fatalf("%s is there", k)
			}
		}
	})
}

// BenchmarkChanged is the table's part of a changed record: compared, staged, settled.
func BenchmarkChanged(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		table := fill(b, keys)
		keys = shuffled(keys, 2)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			k := keys[i%len(keys)]
			h := record.KeyHash(k)
			e, _ := table.Get(k, h)
			e.Hash++
			table.Stage(uint64(i/5000), k, h, e)
			if i%5000 == 4999 && i > 5000 {
				table.Settle(uint64(i/5000) - 1)
			}
		}
	})
}

func BenchmarkUnseen(b *testing.B) {
	each(b, func(b *testing.B, keys [][]byte) {
		table := fill(b, keys)
		b.ResetTimer()
		for done := 0; done < b.N; done += len(keys) {
			for k := range table.Unseen(1, AnyPartition) {
				if len(k) == 0 {
					b.Fatal("an empty key")
				}
			}
		}
	})
}
