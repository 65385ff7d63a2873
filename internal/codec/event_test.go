package codec

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"

	"github.com/google/go-cmp/cmp"
)

func printed(headers []cdc.Header) string {
	var b strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Key, h.Value)
	}
	return b.String()
}

// TestHeadersGolden: consumers depend on every byte of these.
func TestHeadersGolden(t *testing.T) {
	deleted := testEvent()
	deleted.Op, deleted.Reason, deleted.ContentType, deleted.Cursor = cdc.Deleted, cdc.Reconciled, "", nil
	deleted.Time, deleted.Generation, deleted.LastSeen = time.Time{}, 12, time.Date(2026, 3, 12, 1, 2, 3, 0, time.UTC)
	read := testEvent()
	read.Op, read.Key, read.ContentType = cdc.Read, []byte(`["Listings","a/b|ü"]`), ContentAvro
	read.Origin = NewOrigin("acme", "a b", "crf-exchange", "loans/x")
	created := testEvent()
	created.Op, created.Time = cdc.Created, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) // RFC 3339 cannot say it
	var got strings.Builder
	for _, ev := range []*Event{testEvent(), deleted, read, created} {
		fmt.Fprintf(&got, "%s\n", printed(Headers(nil, ev)))
	}
	want, err := os.ReadFile("testdata/headers.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestHeadersInTheSlab: a slab that grows leaves the headers before it whole, and headers do not grow into each other.
func TestHeadersInTheSlab(t *testing.T) {
	ev := testEvent()
	slab := make([]byte, 0, 8)
	var headers []cdc.Header
	var want strings.Builder
	for i := range 50 {
		ev.Number = int64(i)
		want.WriteString(printed(Headers(nil, ev)))
		headers, slab = AppendHeaders(headers, slab, ev)
	}
	for _, h := range headers {
		_ = append(h.Value, "overwritten"...)
	}
	if diff := cmp.Diff(want.String(), printed(headers)); diff != "" {
		t.Error(diff)
	}
}

// TestIDsDiffer: A→B→A has three ids.
func TestIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, owner := range []string{"a", "b"} {
		for n := range int64(3) {
			ev := testEvent()
			ev.Owner, ev.Number = owner, n
			seen[string(Headers(nil, ev)[1].Value)] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d ids of 6 events", len(seen))
	}
}
