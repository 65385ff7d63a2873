package offsets

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// The files in testdata/1 to 4 are what formats 1 to 4 wrote: a line per record, key and value parted by a tab (the value of a
// hash in hexadecimal). They are never written again: a format that must change gets a new number, a new folder, and code that
// still restores the old ones. golden says what each line means.

// stored is a record of a golden file and what it means.
type stored struct {
	key   string
	parts Key           // of the offsets topic
	want  any           // what the value decodes to
	value func() string // want, encoded
	got   func(b []byte) (any, error)
}

func value[T Value](key string, parts Key, want T) stored {
	return stored{
		key: key, parts: parts, want: want,
		value: func() string {
			b, err := Encode(want)
			if err != nil {
				return err.Error()
			}
			return string(b)
		},
		got: func(b []byte) (any, error) { return Decode[T](b) },
	}
}

func hash(key string, want Hash) stored {
	return stored{
		key: key, want: want,
		value: func() string { return hex.EncodeToString(AppendHash(nil, want)) },
		got: func(b []byte) (any, error) {
			raw, err := hex.DecodeString(string(b))
			if err != nil {
				return nil, err
			}
			return ParseHash(raw)
		},
	}
}

func golden() map[string][]stored {
	at := goldenTime
	of := map[string][]stored{}
	for kind, records := range golden1(at) {
		of["1/"+kind] = records
	}
	for kind, records := range golden2(at) {
		of["2/"+kind] = records
	}
	for kind, records := range golden3(at) {
		of["3/"+kind] = records
	}
	for kind, records := range golden4(at) {
		of["4/"+kind] = records
	}
	return of
}

var goldenTime = time.Date(2026, 3, 1, 12, 30, 45, 123456789, time.UTC)

// golden4 are values of the kind that format 4 gave one.
func golden4(at time.Time) map[string][]stored {
	const c = "acme-eu"
	return map[string][]stored{
		"window": {
			value("window/acme-eu/people/-/0", Key{Kind: KindWindow, Connection: c, Stream: "people", Name: "-"}, cdc.Window{
				Listing: "l1-i1", Began: at, At: at.Add(time.Minute), Now: at.Add(time.Second), Last: "a/\"b\"", Record: json.RawMessage(`{"id":"a/\"b\"","n":1.50}`),
				Pages: 12, Records: 1200, Keys: 1199, Total: -1, Heard: true, Missing: []string{"9", "a/<ü>"},
			}),
			value("window/acme-eu/seats/list=7/0", Key{Kind: KindWindow, Connection: c, Stream: "seats", Name: "list=7"}, cdc.Window{
				Listing: "l1-i1", Began: at, At: at, Now: at, Last: `[7,"1A"]`, Token: "next?", Pages: 1, Records: 2, Keys: 2, Total: 1 << 40,
			}),
		},
	}
}

// golden3 are values that use what format 3 added.
func golden3(at time.Time) map[string][]stored {
	const c = "acme-eu"
	return map[string][]stored{
		"cursor": {
			value("cursor/acme-eu/people/-", Key{Kind: KindCursor, Connection: c, Stream: "people", Name: "-"}, cdc.Checkpoint{
				Cursor: "2026-03-01T12:30:45.123456Z", Passes: 3, Ended: at, Request: "r1",
				Witness: &cdc.Witness{Key: "a/\"b\"", Cursor: "2026-03-01T12:30:45.123456Z"},
			}),
			value("cursor/acme-eu/loans/view=Listings", Key{Kind: KindCursor, Connection: c, Stream: "loans", Name: "view=Listings"}, cdc.Checkpoint{
				Witness: &cdc.Witness{Stream: "loans", Key: `["Listings","9|1"]`, Cursor: "1772368245"}, Reconciled: &cdc.Reconciliation{},
			}),
			value("cursor/acme-eu/seats/list=7", Key{Kind: KindCursor, Connection: c, Stream: "seats", Name: "list=7"}, cdc.Checkpoint{
				Reconciled: &cdc.Reconciliation{Agreed: 2, Shown: []string{"seats"}},
			}),
		},
	}
}

// golden2 are values that use what format 2 added.
func golden2(at time.Time) map[string][]stored {
	const c, s = "acme-eu", "people"
	return map[string][]stored{
		"cursor": {
			value("cursor/acme-eu/people/-", Key{Kind: KindCursor, Connection: c, Stream: s, Name: "-"}, cdc.Checkpoint{
				Passes: 3, Ended: at, Request: "r1", Validator: `If-None-Match: 0f "abc"`, Deleted: map[string]int64{Hour(at): 2},
				Reconciled: &cdc.Reconciliation{
					Generation: 12, Began: at, Ended: at, Listing: "l1-i1", Agreed: 2, Failed: 3, Why: "rows moved", Missing: 7, Unlisted: 1, Held: "people: too many",
				},
			}),
			value("cursor/acme-eu/loans/view=Listings", Key{Kind: KindCursor, Connection: c, Stream: "loans", Name: "view=Listings"},
				cdc.Checkpoint{Cursor: "x", Reconciled: &cdc.Reconciliation{}}),
		},
		"candidate": {
			value("candidate/acme-eu/people/4", Key{Kind: KindCandidate, Connection: c, Stream: s, Name: "4"},
				Candidate{Kind: Missing, Reason: cdc.Reconciled, Partition: "-", Passes: 1, At: at, Seen: at, Generation: 12}),
		},
		"file": {
			value(`file/acme-eu/loans/["Listings","9|1"]/0`, Key{Kind: KindFile, Connection: c, Stream: "loans", Name: `["Listings","9|1"]`},
				File{Element: 0x0102030405060708, Digest: strings.Repeat("0f", 32), Size: 1 << 40, At: at}),
			value("file/acme-eu/people/a/b/12", Key{Kind: KindFile, Connection: c, Stream: s, Name: "a/b", Number: 12}, File{
				Element: 1, At: at, Error: "the server answered 500", Tries: 3, Next: at.Add(time.Hour), Partition: "-",
				Record: json.RawMessage(`{"id":"a/b","size":1.50,"name":"<ü>"}`),
			}),
		},
		"stream": {
			value("stream/acme-eu/people", Key{Kind: KindStream, Connection: c, Stream: s}, Stream{
				Count: 3, Topic: "cdc.acme-eu.people", Partitions: 6, Approved: &Approval{ID: "01-a", N: 40, At: at, Until: at},
			}),
		},
	}
}

// golden1 are values that format 1 has all of.
func golden1(at time.Time) map[string][]stored {
	const c, s = "acme-eu", "people"
	return map[string][]stored{
		"owner": {
			value("owner/acme-eu", Key{Kind: KindOwner, Connection: c}, Owner{
				Nonce: "5f0c1d9a7be24e0c8a51", Sequence: 42, Instance: "host-1:8083", Account: "acme", Cluster: "4L6g3nShT-eMCtK--X86sw",
				Topics: map[string]Topic{"cdc.acme-eu.people": {ID: "zkq0dD2rTVuT3mGm0a2XLA", Partitions: 6}},
				Config: "9f86d081884c7d65", At: at,
			}),
			value("owner/b", Key{Kind: KindOwner, Connection: "b"}, Owner{Nonce: "n", Sequence: 1, Instance: "i", At: at}),
		},
		"stream": {
			value("stream/acme-eu/people", Key{Kind: KindStream, Connection: c, Stream: s}, Stream{
				Count: 20_000, Digest: 0xf57722abc601f99f, Seed: 0x00ff00ff00ff00ff, KeyType: "number", Key: "id",
				Rules: []RuleSet{
					{Number: 1, Algorithm: 1},
					{Number: 2, Algorithm: 1, Value: "doc", Include: []string{"a.b", `["@odata.etag"]`}, Exclude: []string{"updated_at", "counts"}, Fields: "1b2c"},
				},
				Topic: "cdc.acme-eu.people", TopicID: "zkq0dD2rTVuT3mGm0a2XLA", Partitions: 6, KeySchema: 17,
				Deleted: map[string]int64{Hour(at): 3},
			}),
			value("stream/acme-eu/empty", Key{Kind: KindStream, Connection: c, Stream: "empty"}, Stream{}),
		},
		"cursor": {
			value("cursor/acme-eu/people/-", Key{Kind: KindCursor, Connection: c, Stream: s, Name: "-"}, cdc.Checkpoint{
				Cursor: "2018-03-13T00:41:41.550510-04:00", Anchor: "2018-03-13T00:41:41.550511-04:00", Start: "2018-03-13T00:36:41.550510-04:00",
				Began: at, Passes: 7, Ended: at, Deep: at, Sequence: 1234, Request: "r1", Listing: "l1", Drifting: true,
				Parent: map[string]json.RawMessage{"endTime": json.RawMessage(`1606062358`), "name": json.RawMessage(`"<Gala> & more"`)}, Pending: true,
			}),
			value("cursor/acme-eu/loans/view=Buyer%2FOwned", Key{Kind: KindCursor, Connection: c, Stream: "loans", Name: "view=Buyer%2FOwned"},
				cdc.Checkpoint{Cursor: "https://graph/delta?a=1&b=<2>"}),
			value("cursor/acme-eu/new/-", Key{Kind: KindCursor, Connection: c, Stream: "new", Name: "-"}, cdc.Checkpoint{}),
		},
		"parked": {
			value("parked/acme-eu/people/a/b/ü", Key{Kind: KindParked, Connection: c, Stream: s, Name: "a/b/ü"}, Parked{
				Hash: 0xabc, Reason: `field "title": wanted string, got number`, At: at, Partition: "view=Listings", Cursor: "x", ID: "acme-eu/42/7", Size: 1550,
			}),
			value("parked/acme-eu/people/"+NoKey(0xabc), Key{Kind: KindParked, Connection: c, Stream: s, Name: "~0000000000000abc"}, Parked{Hash: 0xabc, Reason: "no id", At: at}),
		},
		"candidate": {
			value(`candidate/acme-eu/loans/["Listings","9|1"]`, Key{Kind: KindCandidate, Connection: c, Stream: "loans", Name: `["Listings","9|1"]`},
				Candidate{Kind: Missing, Reason: cdc.Reconciled, Partition: "view=Listings", Passes: 1, At: at}),
			value("candidate/acme-eu/people/1", Key{Kind: KindCandidate, Connection: c, Stream: s, Name: "1"},
				Candidate{Kind: Withheld, Reason: cdc.Declared, At: at}),
			value("candidate/acme-eu/people/2", Key{Kind: KindCandidate, Connection: c, Stream: s, Name: "2"},
				Candidate{Kind: Older, Reason: cdc.Rollback, Version: Version{cdc.IntegerVersion(-7)}, Hash: 5, Passes: 1, At: at}),
			value("candidate/acme-eu/people/3", Key{Kind: KindCandidate, Connection: c, Stream: s, Name: "3"},
				Candidate{Kind: Older, Version: Version{cdc.InstantVersion(at)}, Hash: 5, At: at}),
		},
		"recent": {
			value("recent/acme-eu/events/-/0", Key{Kind: KindRecent, Connection: c, Stream: "events", Name: "-"}, Recent{Cursor: "12", IDs: []string{"evt_1", "evt_2"}}),
			value("recent/acme-eu/events/loan=1/12", Key{Kind: KindRecent, Connection: c, Stream: "events", Name: "loan=1", Number: 12}, Recent{IDs: []string{}}),
		},
		"token": {
			value("token/acme-eu", Key{Kind: KindToken, Connection: c}, Token{Generation: 8, Sealed: []byte{1, 2, 3, 255}, At: at}),
			value("token/b", Key{Kind: KindToken, Connection: "b"}, Token{Generation: 9, Intent: true, Previous: []byte{1, 2, 3}, At: at}),
		},
		"hashes": {
			hash("acme-eu/people/1", Hash{Hash: 0x0123456789abcdef, Version: cdc.InstantVersion(at), Rules: 1, Partition: "-"}),
			hash("acme-eu/people/-1/a", Hash{Hash: 1, Partition: "-"}),
			hash(`acme-eu/loans/["Listings","9|1"]`, Hash{Hash: 0xffffffffffffffff, Version: cdc.IntegerVersion(-2), Rules: 300, Flags: HashParked, Partition: "view=Listings"}),
			hash("acme-eu/people/2", Grave(at, cdc.Version{Sec: -62135596800, Nano: 999999999, Kind: cdc.Instant}, "-")),
			hash("acme-eu/people/3", Hash{Hash: 7, Rules: 65535, Flags: HashGrave | HashParked, Partition: "a=ü"}),
		},
	}
}

// TestK5GoldenFiles: what any version wrote is restored, and this version still writes the same.
func TestK5GoldenFiles(t *testing.T) {
	want := golden()
	files, err := filepath.Glob("testdata/*/*")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d golden files, want %d: %v %v", len(files), len(want), files, err)
	}
	for _, file := range files {
		kind := filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".tsv")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) != len(want[kind]) {
			t.Errorf("%s has %d records, want %d", file, len(lines), len(want[kind]))
			continue
		}
		for i, line := range lines {
			key, value, _ := strings.Cut(line, "\t")
			restore(t, key, value, want[kind][i], strings.HasSuffix(kind, "/hashes"))
		}
	}
}

func restore(t *testing.T, key, value string, want stored, hashes bool) {
	t.Helper()
	if key != want.key {
		t.Errorf("key %s, want %s", key, want.key)
	}
	if !hashes {
		parts, err := ParseKey([]byte(key))
		if diff := cmp.Diff(want.parts, parts); err != nil || diff != "" || parts.String() != key {
			t.Errorf("key %s: %v (-want +got):\n%s", key, err, diff)
		}
	}
	got, err := want.got([]byte(value))
	if diff := cmp.Diff(want.want, got); err != nil || diff != "" {
		t.Errorf("%s: %v (-want +got):\n%s", key, err, diff)
	}
	if again := want.value(); again != value {
		t.Errorf("%s: this version writes another value: the format has changed\n old %s\n new %s", key, value, again)
	}
}

// TestK5EveryKindIsGolden: a kind that gets a value gets a golden file.
func TestK5EveryKindIsGolden(t *testing.T) {
	files := golden()
	for _, kind := range []Kind{KindOwner, KindStream, KindCursor, KindParked, KindCandidate, KindRecent, KindToken, KindFile, KindWindow} {
		name := "1/" + string(kind)
		if later := map[Kind]string{KindFile: "2/", KindWindow: "4/"}[kind]; later != "" { // which gave it a value
			name = later + string(kind)
		}
		if len(files[name]) == 0 {
			t.Errorf("no golden records of kind %s", kind)
		}
		if !slices.ContainsFunc(files[name], func(s stored) bool { return s.parts.Kind == kind }) {
			t.Errorf("the golden records of kind %s have other keys", kind)
		}
	}
}

// goldenGrant is what Grant.Seal of format 1 wrote.
const goldenGrant = "01f1a39370e2294f446bacb2eb48e9d8240b4e8147c88fc409ee0883e464b1b3a96a57592c8a39e598dd9e57204050d6a12117539cd9017c724d9050c73f81d9" +
	"db9c122d65c06b8805495a29d2d0bb8a322fddc220a9d84ba0db46760d294503682a230d7aeab40eee44a4387322ce"

// TestK5GoldenGrant: a sealed grant of format 1 opens.
func TestK5GoldenGrant(t *testing.T) {
	sealed, err := hex.DecodeString(goldenGrant)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenGrant(testKey, "acme-eu", 8, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got.Access.Reveal() != "access-1" || got.Refresh.Reveal() != "refresh-1" || !got.Expires.Equal(time.Date(2026, 3, 1, 14, 30, 45, 0, time.UTC)) {
		t.Errorf("got access %q, refresh %q, expires %v", got.Access.Reveal(), got.Refresh.Reveal(), got.Expires)
	}
}
