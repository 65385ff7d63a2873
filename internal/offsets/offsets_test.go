package offsets

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

// testKey seals the tokens of the tests.
var testKey = [32]byte([]byte("0123456789abcdef0123456789abcdef"))

// expect checks an error's remedy, scope and hint, and that its text holds every one of parts.
func expect(t *testing.T, err error, remedy cdc.Remedy, scope cdc.Scope, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	if r, s := cdc.Verdict(err); r != remedy || s != scope || cdc.Hint(err) == "" {
		t.Errorf("%v: %v of the %v, hint %q; want %v of the %v and a hint", err, r, s, cdc.Hint(err), remedy, scope)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

// TestK12NewerStateIsRefused: of a newer format nothing is believed, whatever it looks like; the hint says to upgrade.
func TestK12NewerStateIsRefused(t *testing.T) {
	newer := func(name string, err error) {
		t.Run(name, func(t *testing.T) { expect(t, err, cdc.Halt, cdc.Connection, "upgrade") })
	}
	for _, text := range []string{`{"v":5}`, `{"v":5,"cursor":"x","shiny":{}}`, `{"cursor":5,"v":99}`} {
		_, err := Decode[cdc.Checkpoint]([]byte(text))
		newer(text, err)
	}
	_, err := Decode[Owner]([]byte(`{"v":5,"nonce":"n"}`))
	newer("owner", err)
	_, err = ParseHash([]byte{2})
	newer("hash", err)
	_, err = ParseHash(append([]byte{3}, make([]byte, 40)...))
	newer("long hash", err)
	_, err = ParseKey([]byte("lease/acme/people"))
	newer("kind", err)
	_, err = Open(testKey, "token/acme", 1, []byte{2, 0, 0})
	newer("sealed", err)
}

// TestK5NothingUnknownIsTolerated: (7), within a format everything is understood or refused.
func TestK5NothingUnknownIsTolerated(t *testing.T) {
	for text, why := range map[string]string{
		`{"v":1,"cursor":"a","extra":1}`:    "extra",
		`{"v":1,"cursor":"a","cursor":"b"}`: "repeated",
		`{"v":1,"Cursor":"a"}`:              "misspelt",
		`{"v":1,"cursor":null}`:             "null",
		`{"v":1,"cursor":5}`:                "cursor",
		`{"v":1,"cursor":"a"} {"v":1}`:      "after",
		`{"v":1,"cursor":"a"`:               "EOF",
		`{"v":1,"began":"yesterday"}`:       "yesterday",
		`{"cursor":"a"}`:                    "no format",
		`{"v":"1","cursor":"a"}`:            "format",
		`{"v":1.0}`:                         "format",
		`{"v":0}`:                           "format 0",
		`{"v":-1}`:                          "format -1",
		`{"v":1,"v":1}`:                     "repeated",
		`[]`:                                "not a JSON object",
		`null`:                              "not a JSON object",
		``:                                  "not a JSON object",
		"{\"v\":1,\"cursor\":\"a\",\"\\u0000\":1}": "",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := Decode[cdc.Checkpoint]([]byte(text))
			expect(t, err, cdc.Halt, cdc.Connection, why)
		})
	}
	_, err := Decode[Owner]([]byte(`{"v":1,"sequence":1,"instance":"i","at":"2026-03-01T12:30:45Z"}`))
	expect(t, err, cdc.Halt, cdc.Connection, `"nonce" is missing`)
	_, err = Decode[Owner]([]byte(`{"v":1,"nonce":"n","sequence":1,"instance":"i","at":"2026-03-01T12:30:45Z","topics":{"a":{"id":"x","partitions":1,"more":1}}}`))
	expect(t, err, cdc.Halt, cdc.Connection, "more")
	for _, digest := range []string{"", "1", "00000000000000AB", "0x000000000000ab", "00000000000000abc"} {
		_, err = Decode[Stream](fmt.Appendf(nil, `{"v":1,"count":1,"digest":%q,"seed":"0000000000000000"}`, digest))
		expect(t, err, cdc.Halt, cdc.Connection, "hexadecimal")
	}
	for _, version := range []string{"+1", "01", "1.5", "1.1000000000", "-0", "99999999999999999999", "2026-03-01T12:30:45Z", " 1"} {
		_, err = Decode[Candidate](fmt.Appendf(nil, `{"v":1,"kind":"version","version":%q,"at":"2026-03-01T12:30:45Z"}`, version))
		expect(t, err, cdc.Halt, cdc.Connection, "version")
	}
}

// TestK5KeysThatAreNone: keys that no version writes.
func TestK5KeysThatAreNone(t *testing.T) {
	for _, key := range []string{
		"owner", "owner/", "owner/a/b", "owner/a b", "token/a/b", "stream/a", "stream/a/", "stream/a/b/c", "cursor/a/b", "cursor/a/b/",
		"cursor/a/b/c/d", "cursor//b/-", "parked/a/b", "parked/a/b/", "candidate/a//k", "recent/a/b/-", "recent/a/b/-/", "recent/a/b/-/x",
		"recent/a/b/-/01", "recent/a/b/-/-1", "recent/a/b/c/d/1", "window/a/b/1", "file/a/b/1",
		"owner/" + strings.Repeat("a", 65),
	} {
		t.Run(key, func(t *testing.T) {
			k, err := ParseKey([]byte(key))
			if err == nil {
				t.Fatalf("got %+v", k)
			}
			expect(t, err, cdc.Halt, cdc.Connection, "key")
		})
	}
	for key, want := range map[string]Key{
		"window/a/b/-/0":     {Kind: KindWindow, Connection: "a", Stream: "b", Name: "-"},
		"file/a/b/x/1/y/2":   {Kind: KindFile, Connection: "a", Stream: "b", Name: "x/1/y", Number: 2},
		"parked/a/b/c/":      {Kind: KindParked, Connection: "a", Stream: "b", Name: "c/"},
		"candidate/a/b//":    {Kind: KindCandidate, Connection: "a", Stream: "b", Name: "/"},
		"stream/owner/owner": {Kind: KindStream, Connection: "owner", Stream: "owner"},
	} {
		got, err := ParseKey([]byte(key))
		if diff := cmp.Diff(want, got); err != nil || diff != "" || got.String() != key {
			t.Errorf("%s: %v (-want +got):\n%s", key, err, diff)
		}
	}
}

// TestK5HashKeys: C/S/K beside owner/C, which stands in both topics.
func TestK5HashKeys(t *testing.T) {
	for key, want := range map[string][3]string{
		"acme/people/1":     {"acme", "people", "1"},
		"acme/people/x/y//": {"acme", "people", "x/y//"},
		"owner/people/1":    {"owner", "people", "1"},
	} {
		c, s, k, owner, err := ParseHashKey([]byte(key))
		if got := [3]string{string(c), string(s), string(k)}; err != nil || owner || got != want {
			t.Errorf("%s: %q %v %v, want %q", key, got, owner, err, want)
		}
		if again := AppendHashKey(nil, string(c), string(s), k); string(again) != key {
			t.Errorf("%s became %s", key, again)
		}
	}
	c, s, k, owner, err := ParseHashKey([]byte("owner/acme"))
	if err != nil || !owner || string(c) != "acme" || s != nil || k != nil {
		t.Errorf("owner/acme: %s %s %s %v %v", c, s, k, owner, err)
	}
	for _, key := range []string{"", "a", "a/b", "/b/c", "a//c", "a/b/", "owner", "owner/"} {
		_, _, _, _, err := ParseHashKey([]byte(key))
		expect(t, err, cdc.Halt, cdc.Connection, "hashes topic")
	}
}

// TestK5HashesThatAreNone: values that AppendHash does not write.
func TestK5HashesThatAreNone(t *testing.T) {
	whole := AppendHash(nil, Hash{Hash: 1, Version: cdc.InstantVersion(time.Unix(5, 6)), Rules: 300})
	for n := range len(whole) {
		_, err := ParseHash(whole[:n])
		expect(t, err, cdc.Halt, cdc.Connection, "hash")
	}
	change := func(at int, b byte) []byte {
		c := bytes.Clone(whole)
		c[at] = b
		return c
	}
	for what, b := range map[string][]byte{
		"format 0":          change(0, 0),
		"an unknown flag":   change(1, whole[1]|0x10),
		"an unknown kind":   change(1, whole[1]|3<<kindShift),
		"a long rule":       append(append(bytes.Clone(whole[:10]), 0x81, 0x80, 0x00), whole[12:]...),
		"a large rule":      append(append(bytes.Clone(whole[:10]), 0x80, 0x80, 0x04), whole[12:]...),
		"nanoseconds":       append(bytes.Clone(whole[:len(whole)-4]), 0xff, 0xff, 0xff, 0xff),
		"a partition named": append(bytes.Clone(whole), '-'),
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ParseHash(b)
			expect(t, err, cdc.Halt, cdc.Connection, "not a hash")
		})
	}
}

// TestK5Limits: the key's limit parks the record, the others halt the stream before a transaction.
func TestK5Limits(t *testing.T) {
	for _, key := range []string{"1", strings.Repeat("ü", MaxKey/2), "a/b"} {
		if err := CheckKey([]byte(key)); err != nil {
			t.Errorf("%.20s: %v", key, err)
		}
	}
	expect(t, CheckKey([]byte(strings.Repeat("k", MaxKey+1))), cdc.Park, cdc.Record, "4097", "4096")
	expect(t, CheckKey(nil), cdc.Park, cdc.Record, "empty")
	expect(t, CheckKey([]byte{'a', 0xff}), cdc.Park, cdc.Record, "UTF-8")

	most := strings.Repeat("c", MaxCursor)
	if _, err := Encode(cdc.Checkpoint{Cursor: most, Anchor: most, Start: most}); err != nil {
		t.Error(err)
	}
	for _, cp := range []cdc.Checkpoint{{Cursor: most + "c"}, {Anchor: most + "c"}, {Start: most + "c"}} {
		_, err := Encode(cp)
		expect(t, err, cdc.Halt, cdc.Stream, "16385", "16384")
	}
	_, err := Encode(cdc.Checkpoint{Cursor: "a\xffb"})
	expect(t, err, cdc.Halt, cdc.Stream, "UTF-8")
	_, err = Encode(cdc.Checkpoint{Cursor: most, Anchor: most, Start: most, Request: most})
	expect(t, err, cdc.Halt, cdc.Stream, "65536")
	_, err = Encode(cdc.Checkpoint{Witness: &cdc.Witness{Key: "a\xffb", Cursor: "c"}})
	expect(t, err, cdc.Halt, cdc.Stream, "UTF-8")
	_, err = Encode(Recent{IDs: []string{most, most, most, most}})
	expect(t, err, cdc.Halt, cdc.Stream, "65536")
	_, err = Encode(Token{Sealed: make([]byte, MaxValue)})
	expect(t, err, cdc.Halt, cdc.Stream, "262144")
	_, err = Encode(cdc.Checkpoint{Began: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	expect(t, err, cdc.Halt, cdc.Stream, "year")
	_, err = Encode(Candidate{Version: Version{cdc.Version{Kind: 9}}})
	expect(t, err, cdc.Halt, cdc.Stream, "kind 9")
}

// TestP19ReasonIsCut: the reason of a parked record is for people; it is cut between characters and never the reason to halt.
func TestP19ReasonIsCut(t *testing.T) {
	b, err := Encode(Parked{Reason: "x\xff" + strings.Repeat("ü", MaxReason)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Decode[Parked](b)
	if err != nil || len(p.Reason) > MaxReason+3 || !strings.HasPrefix(p.Reason, "x\ufffdüü") || !strings.HasSuffix(p.Reason, "ü…") {
		t.Errorf("%d bytes, %.20q: %v", len(p.Reason), p.Reason, err)
	}
}

// TestK4RecordWithoutKey: what is parked without a key has a name that ParseKey takes.
func TestK4RecordWithoutKey(t *testing.T) {
	k := Key{Kind: KindParked, Connection: "a", Stream: "b", Name: NoKey(1)}
	got, err := ParseKey(k.Append(nil))
	if err != nil || got != k {
		t.Errorf("%v: %+v %v", k, got, err)
	}
}

// TestD5HoursAreUTC: deletions of a day are counted by the hour, wherever the process runs.
func TestD5HoursAreUTC(t *testing.T) {
	if got := Hour(time.Date(2026, 3, 1, 0, 59, 0, 0, time.FixedZone("", 3600))); got != "2026-02-28T23Z" {
		t.Error(got)
	}
}

// TestK19TokensAreBoundToTheirPlace: a sealed token opens under its key, record and generation, and under no other.
func TestK19TokensAreBoundToTheirPlace(t *testing.T) {
	plain := []byte("refresh-token")
	sealed, err := Seal(testKey, "token/acme", 7, plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, plain[:4]) {
		t.Error("the token stands there in clear")
	}
	got, err := Open(testKey, "token/acme", 7, sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q, %v", got, err)
	}
	if again, err := Seal(testKey, "token/acme", 7, plain); err != nil || bytes.Equal(again, sealed) {
		t.Errorf("the nonce is not random: %v", err)
	}
	refuse := func(what string, key [32]byte, record string, generation int64, sealed []byte) {
		t.Run(what, func(t *testing.T) {
			got, err := Open(key, record, generation, sealed)
			expect(t, err, cdc.Halt, cdc.Connection, record, "tokens replace")
			if got != nil {
				t.Errorf("and gave %q", got)
			}
		})
	}
	refuse("another key", [32]byte{1}, "token/acme", 7, sealed)
	refuse("an older generation", testKey, "token/acme", 6, sealed)
	refuse("a newer generation", testKey, "token/acme", 8, sealed)
	refuse("another connection", testKey, "token/acmf", 7, sealed)
	refuse("a prefix of its record", testKey, "token/acm", 7, sealed)
	refuse("nothing", testKey, "token/acme", 7, nil)
	for n := range sealed[1:] {
		if _, err := Open(testKey, "token/acme", 7, sealed[:n+1]); err == nil {
			t.Errorf("%d of %d bytes open", n+1, len(sealed))
		}
		changed := bytes.Clone(sealed)
		changed[n+1] ^= 1
		if _, err := Open(testKey, "token/acme", 7, changed); err == nil {
			t.Errorf("opens with byte %d changed", n+1)
		}
	}
}

// TestK19Grant: a grant comes back whole, and no way of printing it shows it.
func TestK19Grant(t *testing.T) {
	g := Grant{Access: cdc.NewSecret("aaa"), Refresh: cdc.NewSecret("bbb"), Expires: time.Unix(1_700_000_000, 0).UTC()}
	sealed, err := g.Seal(testKey, "acme", 3)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenGrant(testKey, "acme", 3, sealed)
	if err != nil || got != g {
		t.Errorf("got %+v, %v", got, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", g, g, g); strings.Contains(text, "aaa") || strings.Contains(text, "bbb") {
		t.Errorf("printed: %s", text)
	}
	_, err = OpenGrant(testKey, "acme", 2, sealed)
	expect(t, err, cdc.Halt, cdc.Connection, "token/acme")
	newer, err := Seal(testKey, "token/acme", 3, []byte(`{"v":5,"access":"aaa"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenGrant(testKey, "acme", 3, newer)
	expect(t, err, cdc.Halt, cdc.Connection, "upgrade")
	var e *cdc.Error
	if errors.As(err, &e) && strings.Contains(e.Error(), "aaa") {
		t.Errorf("the error shows the token: %v", e)
	}
}

// FuzzKey: what ParseKey takes, Append writes again.
func FuzzKey(f *testing.F) {
	for _, list := range golden() {
		for _, s := range list {
			f.Add([]byte(s.key))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKey(b); err == nil && !bytes.Equal(k.Append(nil), b) {
			t.Errorf("%q became %q", b, k)
		}
		c, s, k, owner, err := ParseHashKey(b)
		if err == nil && !owner && !bytes.Equal(AppendHashKey(nil, string(c), string(s), k), b) {
			t.Errorf("%q: %q %q %q", b, c, s, k)
		}
	})
}

// FuzzHash: what ParseHash takes, AppendHash writes again.
func FuzzHash(f *testing.F) {
	for _, s := range golden()["1/hashes"] {
		f.Add(AppendHash(nil, s.want.(Hash)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHash(b); err == nil && !bytes.Equal(AppendHash(nil, h), b) {
			t.Errorf("%x became %x", b, AppendHash(nil, h))
		}
	})
}

// FuzzCheckpoint: what Decode takes, Encode writes and Decode takes again, the same.
func FuzzCheckpoint(f *testing.F) {
	for name, list := range golden() {
		for _, s := range list {
			if strings.HasSuffix(name, "/cursor") {
				f.Add([]byte(s.value()))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := Decode[cdc.Checkpoint](b)
		if err != nil {
			return
		}
		text, err := Encode(first)
		if err != nil {
			return // over a limit
		}
		second, err := Decode[cdc.Checkpoint](text)
		if err != nil {
			t.Fatalf("%s became %s: %v", b, text, err)
		}
		if again, err := Encode(second); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	})
}
