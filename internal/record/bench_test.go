package record

import "testing"

// benchPage returns a page of records of 1.5 KB and where each begins.
func benchPage() (page []byte, at []int) {
	for i := range 1000 {
		at = append(at, len(page))
		page = append(append(page, sample(i)...), ',')
	}
	return page, at
}

// BenchmarkScan is the walk of a record that changed: check, two places, canonical hash with exclusions (DESIGN 12).
func BenchmarkScan(b *testing.B) {
	s := scanner(b, Rules{Exclude: []string{"updated_at", "counts"}}, 1, "id", "updated_at")
	page, at := benchPage()
	b.SetBytes(int64(len(page) / len(at)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Scan(page, at[i%len(at)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnchanged is what a record costs whose bytes are those of last time: key, hash of the key, raw hash.
func BenchmarkUnchanged(b *testing.B) {
	id := paths(b, "id")[0]
	page, at := benchPage()
	size := len(page) / len(at)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var sink uint64
	for i := 0; b.Loop(); i++ {
		pos := at[i%(len(at)-1)]
		key, ok := id.Find(page, Span{int32(pos), int32(len(page))})
		if !ok {
			b.Fatal("no key")
		}
		sink += KeyHash(key.Of(page)) + RawHash(page[pos:pos+size])
	}
	_ = sink
}

// BenchmarkEnvelope is a page of 1000 records, envelope included.
func BenchmarkEnvelope(b *testing.B) {
	page, at := benchPage()
	page = append(append([]byte(`{"metadata":{"paging":{"per_page":1000}},"data":[`), page[:len(page)-1]...), "]}"...)
	e, err := NewEnvelope(paths(b, "metadata.paging.per_page"), paths(b, "data"), Limits{})
	if err != nil {
		b.Fatal(err)
	}
	s := scanner(b, Rules{Exclude: []string{"updated_at", "counts"}}, 1, "id", "updated_at")
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Scan(page, func(_, pos int) (int, error) { return s.Scan(page, pos) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(at)), "ns/record")
}

// BenchmarkCanonical is the judge's side: the canonical text of a record.
func BenchmarkCanonical(b *testing.B) {
	p, err := NewPlan(nil, Rules{Exclude: []string{"updated_at", "counts"}}, 1)
	if err != nil {
		b.Fatal(err)
	}
	text := sample(1)
	var dst []byte
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst = p.AppendCanonical(dst[:0], text, All(text))
	}
}
