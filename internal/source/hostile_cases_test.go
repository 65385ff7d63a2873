package source

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fetch"
	"tidemark/internal/record"
)

// hostileGroups are the attacks, by kind.
func hostileGroups() []group {
	return []group{
		{"cut", 150, cuts},
		{"cut beside a bad record", 40, cutsBesideBadRecords},
		{"record", 120, badRecords},
		{"envelope", 90, badEnvelopes},
		{"signal", 60, badSignals},
		{"circle", 30, circles},
		{"wrong page", 30, wrongPages},
		{"bomb", 20, bombs},
		{"status", 80, statuses},
		{"redirect", 20, redirects},
		{"foreign next", 40, foreignLinks},
		{"header", 20, headers},
		{"echo", 40, echoes},
		{"retry-after", 30, pauses},
		{"slow", 10, slow},
		{"skew", 30, skews},
		{"campaign", 20, campaigns},
	}
}

const (
	retryPage   = "retry partition"
	retryStream = "retry stream"
	haltStream  = "halt stream"
)

// named returns the shapes of those names; none means all.
func named(names ...string) []shape {
	return slices.DeleteFunc(shapesOfAPIs(), func(s shape) bool { return len(names) > 0 && !slices.Contains(names, s.name) })
}

// lists are the shapes whose records come whole and in one list.
func lists() []shape {
	return slices.DeleteFunc(shapesOfAPIs(), func(s shape) bool { return s.name == "hydrated" || s.name == "offsets" || s.name == "overlap" })
}

// spoiled changes the text of an answer.
func spoiled(f func(text string) string) tamper {
	return func(a *reply, _ *http.Request) { a.body = []byte(f(string(a.body))) }
}

// cuts ends an answer at every byte of it, in all the ways in which an answer can end too early.
func cuts(t *testing.T) []attack {
	ways := []struct {
		name  string
		fails string
		every int // byte
		cut   func(a *reply, n int)
	}{
		{"clean", retryPage, 1, func(a *reply, n int) { a.body = a.body[:n] }},
		{"short of its length", retryStream, 5, func(a *reply, n int) {
			text := a.body
			a.write = func(w http.ResponseWriter) {
				w.Header().Set("Content-Length", fmt.Sprint(len(text)))
				w.Write(text[:n]) //nolint:errcheck // the connection is cut anyway
			}
		}},
		{"inside a chunk", retryStream, 5, func(a *reply, n int) {
			text := a.body
			a.write = func(w http.ResponseWriter) {
				w.Write(text[:n]) //nolint:errcheck // the connection is cut anyway
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler) // closes the connection
			}
		}},
		{"compressed", retryStream, 3, func(a *reply, n int) {
			a.header.Set("Content-Encoding", "gzip")
			a.body = squeeze(a.body)
			a.body = a.body[:max(1, n*len(a.body)/(n+len(a.body)))]
		}},
	}
	var out []attack
	for _, s := range shapesOfAPIs() {
		for at := 1; at <= 2; at++ {
			length := courseOf(t, s).lengths[at-1]
			for _, w := range ways {
				for n := 0; n < length; n += w.every {
					fails := w.fails
					if w.name == "compressed" && n == 0 {
						continue
					}
					out = append(out, attack{
						name: fmt.Sprintf("%s, %s, answer %d at byte %d", s.name, w.name, at, n), shape: s, at: at, fails: fails,
						spoil: func(a *reply, _ *http.Request) { w.cut(a, min(n, max(0, len(a.body)-1))) }, // in a campaign it may be another one
					})
				}
			}
		}
	}
	return out
}

var firstTime = regexp.MustCompile(`"updated_at":"([^"]*)"`)

// insert puts one more record at the beginning of a page's list, as old as the first one.
func insert(element string) tamper {
	return spoiled(func(text string) string {
		at := firstTime.FindStringSubmatch(text)
		if at == nil {
			return text
		}
		return strings.Replace(text, `"data":[`, `"data":[`+strings.ReplaceAll(element, "{AT}", `"updated_at":"`+at[1]+`"`)+",", 1)
	})
}

// parkedRecords are records that are no good although one can tell where they end.
func parkedRecords() map[string]string {
	return map[string]string{
		"no id": `{{AT},"x":1}`, "null id": `{"id":null,{AT}}`, "empty id": `{"id":"",{AT}}`, "object for an id": `{"id":{},{AT}}`,
		"list for an id": `{"id":[900],{AT}}`, "true for an id": `{"id":true,{AT}}`, "another type of id": `{"id":"900",{AT}}`,
		"id of 5000 digits":           `{"id":` + strings.Repeat("9", 5000) + `,{AT}}`,
		"byte 0xFF":                   "{\"id\":900,{AT},\"x\":\"\xff\"}",
		"byte 0xFF in a name":         "{\"id\":900,{AT},\"\xff\":1}",
		"overlong UTF-8":              "{\"id\":900,{AT},\"x\":\"\xc0\xaf\"}",
		"UTF-8 of a surrogate":        "{\"id\":900,{AT},\"x\":\"\xed\xa0\x80\"}",
		"UTF-8 cut":                   "{\"id\":900,{AT},\"x\":\"\xe2\x82\"}",
		"Latin-1":                     "{\"id\":900,{AT},\"x\":\"caf\xe9\"}",
		"lone high surrogate":         `{"id":900,{AT},"x":"\ud800"}`,
		"lone low surrogate":          `{"id":900,{AT},"x":"\udc00 "}`,
		"two high surrogates":         `{"id":900,{AT},"x":"\ud800\ud800"}`,
		"lone surrogate in a name":    `{"id":900,{AT},"\ud800":1}`,
		"name twice":                  `{"id":900,"id":901,{AT}}`,
		"name twice, once as escapes": `{"id":900,"\u0069\u0064":901,{AT}}`,
		"name twice deep inside":      `{"id":900,{AT},"x":[{"a":{"b":1,"b":1}}]}`,
		"name twice among thousands":  `{"id":900,{AT},` + manyNames(3000) + `,"n1234":0}`,
		"empty name twice":            `{"id":900,{AT},"":1,"":2}`,
		"300 lists":                   `{"id":900,{AT},"x":` + levels(300, "[", "]") + `}`,
		"100,000 lists":               `{"id":900,{AT},"x":` + levels(100_000, "[", "]") + `}`,
		"100,000 objects":             `{"id":900,{AT},"x":` + levels(100_000, `{"a":`, "}") + `}`,
		"100,000 lists instead of it": levels(100_000, "[", "]"),
		"string":                      `"x"`, "number": `1e999999`, "null": `null`, "list": `[]`, "empty object": `{}`, "false": `false`,
	}
}

func levels(depth int, open, shut string) string {
	middle := "1"
	return strings.Repeat(open, depth) + middle + strings.Repeat(shut, depth)
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	return strings.Join(names, ",")
}

// oddRecords are records that are good, however odd.
func oddRecords() map[string]string {
	return map[string]string{
		"number 1e999999": `"x":1e999999`, "number -1e-999999": `"x":-1e-999999`, "exponent of 30 digits": `"x":1e` + strings.Repeat("9", 30),
		"number of 10,000 digits": `"x":` + strings.Repeat("9", 10_000), "fraction of 10,000 digits": `"x":0.` + strings.Repeat("0", 9_999) + "1",
		"minus zero": `"x":[-0,-0.0e-0,0E+5]`, "2^53+1": `"x":9007199254740993`, "above int64": `"x":[9223372036854775808,-9223372036854775809]`,
		"200 lists": `"x":` + levels(200, "[", "]"), "names of every kind": `"":0,"\u0000":1,"a.b":2,"[*]":3,"\ud83d\ude00":4,"updated_at ":5,"ID":6`,
		"3,000 names": manyNames(3000), "text of 200,000 bytes": `"x":"` + strings.Repeat("é", 100_000) + `"`, "escapes": `"x":"\u0000\u001f\b\f\n\r\t\/\\\"\u2028"`,
		"a list within": `"data":[{"id":1},{"id":2}]`, "an envelope within": `"size":1,"next":"x","more":false,"data":null`,
		"100,000 empty lists": `"x":[` + strings.TrimSuffix(strings.Repeat("[],", 100_000), ",") + `]`,
	}
}

// brokenRecords are no JSON: where they end, and what else of the page is true, cannot be told (P18).
func brokenRecords() map[string]string {
	return map[string]string{
		"NaN": `{"id":900,{AT},"x":NaN}`, "Infinity": `{"id":900,{AT},"x":-Infinity}`, "undefined": `{"id":900,{AT},"x":undefined}`,
		"leading zero": `{"id":0900,{AT}}`, "plus": `{"id":+900,{AT}}`, "hexadecimal": `{"id":0x900,{AT}}`, "no fraction": `{"id":900.,{AT}}`,
		"no exponent": `{"id":900e,{AT}}`, "trailing comma": `{"id":900,{AT},}`, "single quotes": `{'id':900,{AT}}`, "no quotes": `{id:900,{AT}}`,
		"comment": `{"id":900,/* x */{AT}}`, "control character": "{\"id\":900,{AT},\"x\":\"a\x01b\"}", "line break in a string": "{\"id\":900,{AT},\"x\":\"a\nb\"}",
		"bad escape": `{"id":900,{AT},"x":"\x41"}`, "bad \\u": `{"id":900,{AT},"x":"\u12G4"}`, "no colon": `{"id" 900,{AT}}`, "bracket for a brace": `{"id":900,{AT}]`,
		"two commas": `{"id":900,,{AT}}`, "nothing": ``, "NUL": "\x00", "TRUE": `TRUE`, "name without a value": `{"id"}`,
		"no break space": "{\u00a0\"id\":900,{AT}}", "date": `{"id":900,"x":2026-01-01}`,
	}
}

// badRecords are single records amid good ones: nothing but themselves is touched by them, unless they are no JSON.
func badRecords(*testing.T) []attack {
	var out []attack
	add := func(kind string, elements map[string]string, like attack) {
		for _, name := range slices.Sorted(maps.Keys(elements)) {
			for _, s := range lists() {
				for at := 1; at <= 2; at++ {
					a := like
					a.name, a.shape, a.at, a.spoil = fmt.Sprintf("%s, %s, answer %d, %s", kind, name, at, s.name), s, at, insert(elements[name])
					out = append(out, a)
				}
			}
		}
	}
	add("parked", parkedRecords(), attack{parks: 1})
	add("broken", brokenRecords(), attack{fails: haltStream, says: "not JSON"})
	for _, name := range slices.Sorted(maps.Keys(oddRecords())) {
		for _, s := range lists() {
			text := `{"id":900,` + oddRecords()[name] + `,"updated_at":"` + hostileAt(hostileKnown+1) + `"}`
			at := 1
			if s.name == "newest first" {
				text = strings.Replace(text, hostileAt(hostileKnown+1), hostileAt(hostileRows), 1)
			} else if strings.HasPrefix(s.name, "keyset") {
				at = 2
				text = strings.Replace(text, hostileAt(hostileKnown+1), hostileAt(hostileKnown+2), 1)
			}
			out = append(out, attack{
				name: "odd, " + name + ", " + s.name, shape: s, at: at, also: map[string]string{"900": text},
				spoil: spoiled(func(all string) string { return strings.Replace(all, `"data":[`, `"data":[`+text+",", 1) }),
			})
		}
	}
	return out
}

// cutsBesideBadRecords ends a page at every byte that has a bad record: what was cut is asked for again, it is never taken
// for the fault of a record or of the API.
func cutsBesideBadRecords(*testing.T) []attack {
	var out []attack
	for name, element := range map[string]string{
		"byte 0xFF": "{\"id\":900,\"x\":\"\xff\",{AT},\"y\":[1]}", "name twice": `{"id":900,"id":901,{AT},"y":[1]}`, "lone surrogate": `{"id":900,"x":"\ud800",{AT},"y":1}`,
		"300 lists": `{"id":900,"x":` + levels(300, "[", "]") + `,{AT}}`,
	} {
		for _, s := range named("keyset", "numbers", "opaque") {
			spoil := insert(element)
			for n := 1; n < 60+len(element); n++ {
				out = append(out, attack{
					name: fmt.Sprintf("%s, %s, %d bytes", name, s.name, n), shape: s, at: 1, fails: retryPage,
					spoil: func(a *reply, r *http.Request) {
						spoil(a, r)
						a.body = a.body[:min(n, len(a.body)-1)]
					},
				})
			}
		}
	}
	slices.SortFunc(out, func(a, b attack) int { return strings.Compare(a.name, b.name) })
	return out
}

// badEnvelopes are answers that are not the API's.
func badEnvelopes(*testing.T) []attack {
	var out []attack
	add := func(name, fails, says string, shapes []shape, spoil tamper) {
		for _, s := range shapes {
			for at := 1; at <= 2; at++ {
				out = append(out, attack{
					name: fmt.Sprintf("%s, answer %d, %s", name, at, s.name), shape: s, at: at, fails: fails, says: says, parks: -1, spoil: spoil,
				})
			}
		}
	}
	whole := func(text string) tamper { return spoiled(func(string) string { return text }) }
	for name, text := range map[string]string{
		"null": "null", "true": "true", "0": "0", "empty text": `""`, "empty list": "[]", "empty object": "{}", "list of records": "[" + hostileRow(1) + "]",
		"error object": `{"error":"backend down"}`, "null for a list": `{"size":3,"next":null,"more":false,"data":null}`, "text for a list": `{"size":3,"next":9,"data":"x"}`,
		"number for a list": `{"size":3,"next":9,"data":1e999999}`, "list one level down": `{"data":{"data":[]}}`,
	} {
		fails := haltStream
		if name == "list one level down" {
			fails = anyhow // one record without a list around it
		}
		add(name, fails, "", lists(), whole(text))
	}
	for name, text := range map[string]string{
		"web page": "<!doctype html><title>Log in</title>", "web page behind white space": " \n <html></html>", "XML": `<?xml version="1.0"?><data/>`,
		"text": "upstream connect error or disconnect/reset before headers", "NUL": "\x00", "UTF-16": "\xff\xfe{\x00}\x00", "binary": "\x1f\x8b\x08\x00garbage",
		"100,000 lists": levels(100_000, "[", "]"), "100,000 open lists": strings.Repeat("[", 100_000), "100,000 open objects": strings.Repeat(`{"a":`, 100_000),
	} {
		add(name, haltStream, "", shapesOfAPIs(), whole(text))
	}
	for name, text := range map[string]string{"nothing": "", "white space": " \r\n\t ", "a million blanks": strings.Repeat(" ", 1e6)} {
		add(name, retryPage, "is empty", shapesOfAPIs(), whole(text))
	}
	for name, ends := range map[string][2]string{
		"byte order mark": {"\ufeff", ""}, "prefix against hijacking": {")]}',\n", ""}, "letter behind": {"", "x"}, "document behind": {"", "{}"}, "NUL behind": {"", "\x00"},
		"bracket behind": {"", "}"}, "comma behind": {"", ","}, "web page behind": {"", "<html>"}, "callback": {"f(", ")"},
	} {
		add(name, haltStream, "not JSON", shapesOfAPIs(), spoiled(func(all string) string { return ends[0] + all + ends[1] }))
	}
	for name, ends := range map[string][2]string{"blanks around": {" \n\t", "\r\n "}, "a million blanks around": {strings.Repeat("\n", 1e6), strings.Repeat(" ", 1e6)}} {
		add(name, "", "", shapesOfAPIs(), spoiled(func(all string) string { return ends[0] + all + ends[1] }))
	}
	add("the list twice", haltStream, "twice", lists(), spoiled(func(all string) string { return strings.Replace(all, `"data":[`, `"data":[],"data":[`, 1) }))
	add("the list twice, once as escapes", haltStream, "twice", lists(), spoiled(func(all string) string { return strings.Replace(all, `"data":[`, `"d\u0061ta":[],"data":[`, 1) }))
	add("a name twice", haltStream, "twice", shapesOfAPIs(), spoiled(func(all string) string { return strings.Replace(all, `{`, `{"a":1,"a":1,`, 1) }))
	add("byte 0xFF around the list", haltStream, "UTF-8", shapesOfAPIs(), spoiled(func(all string) string { return strings.Replace(all, `{`, "{\"a\":\"\xff\",", 1) }))
	add("100,000 lists beside the list", haltStream, "deeply", shapesOfAPIs(), spoiled(func(all string) string {
		return strings.Replace(all, `{`, `{"a":`+levels(100_000, "[", "]")+`,`, 1)
	}))
	for _, kind := range []string{"text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml"} {
		add("type "+kind, haltStream, "web page", shapesOfAPIs(), func(a *reply, _ *http.Request) { a.header.Set("Content-Type", kind) })
	}
	for _, kind := range []string{"text/plain", "", "application/octet-stream", ";;;", "application/json; charset=\"", strings.Repeat("x", 1000)} {
		add(fmt.Sprintf("type %.30q", kind), "", "", shapesOfAPIs(), func(a *reply, _ *http.Request) { a.header["Content-Type"] = []string{kind} })
	}
	slices.SortFunc(out, func(a, b attack) int { return strings.Compare(a.name, b.name) })
	return out
}

// replaced spoils what an answer says at a name of its envelope.
func replaced(name, value string) tamper {
	at := regexp.MustCompile(`"` + name + `":(null|true|false|"[^"]*"|[0-9]+)(,"data"|,"more"|\})`)
	return spoiled(func(text string) string {
		return at.ReplaceAllString(text, `"`+name+`":`+strings.ReplaceAll(value, "$", "$$")+"$2")
	})
}

// badSignals are page sizes, tokens, cursors and marks of the end that are none.
func badSignals(*testing.T) []attack {
	var out []attack
	add := func(name, value, fails string, shapes ...string) {
		for _, s := range named(shapes...) {
			out = append(out, attack{
				name: fmt.Sprintf("%s %.30q is %s, %s", name, value, fails, s.name), shape: s, at: 1, fails: fails, spoil: replaced(name, value), parks: -1,
			})
		}
	}
	long := `"` + strings.Repeat("x", 20_000) + `"`
	for _, v := range []string{"0", "-1", "null", `"three"`, "{}", "[]", "1e999999", "3.5", "9223372036854775808", "true"} {
		add("size", v, haltStream, "keyset")
	}
	add("size", "9223372036854775807", anyhow, "keyset")
	paged := []string{"token", "stable token", "link in body", "opaque", "opaque without more", "sequence"}
	for _, v := range []string{"{}", "[]", "true", "false", "[1]", `{"token":"3"}`, long} {
		add("next", v, haltStream, paged...)
	}
	for _, v := range []string{"-1", "1e999999", `"a\nb"`, `"\u0000"`, `"é?&#%"`, `"../../x"`, `" "`} {
		add("next", v, anyhow, paged[:3]...)
	}
	add("next", "-1", anyhow, "opaque", "opaque without more")
	for _, v := range []string{"null", `""`} {
		add("next", v, haltStream, "opaque", "opaque without more", "sequence")
	}
	for _, v := range []string{`"abc"`, "1.5", "1e3", "1e999999", "9223372036854775808"} {
		add("next", v, haltStream, "sequence")
	}
	add("next", "4", "expired partition", "sequence")
	add("next", "-9223372036854775808", "expired partition", "sequence")
	add("next", "5", haltStream, "opaque", "sequence") // more, and the cursor does not move
	for _, v := range []string{`"yes"`, "1", "2.5"} {
		add("more", v, anyhow, "opaque", "sequence")
	}
	for _, v := range []string{"{}", "[]", "[1]"} {
		add("more", v, haltStream, "opaque", "sequence")
	}
	return out
}

// circles are pages without an end: the pass stops where it comes to a place a second time, and else at its limit.
func circles(*testing.T) []attack {
	var out []attack
	add := func(name, says string, requests int, spoil tamper, shapes ...string) {
		for _, s := range named(shapes...) {
			out = append(out, attack{
				name: name + ", " + s.name, shape: s, fails: anyhow, halts: true, says: says, requests: requests, spoil: spoil, parks: -1, limits: Limits{Pages: 200},
			})
		}
	}
	some := list([]string{hostileRow(hostileKnown + 1)})
	for length := 1; length <= 9; length++ {
		round, few := fmt.Sprintf(" of %d", length), 3*length+3
		add("tokens"+round, "", few, func(a *reply, _ *http.Request) {
			a.body = []byte(fmt.Sprintf(`{%s,"next":"t%d"}`, some, a.n%length))
		}, "token", "stable token", "newest first")
		add("links"+round, "", few, func(a *reply, _ *http.Request) {
			a.body = []byte(fmt.Sprintf(`{"data":[],"next":"?token=t%d"}`, a.n%length))
		}, "link in body")
		add("links"+round, "", few, func(a *reply, _ *http.Request) {
			a.header.Set("Link", fmt.Sprintf(`<?token=t%d>; rel=next`, a.n%length))
			a.body = []byte(`{"data":[]}`)
		}, "link header")
		add("cursors"+round, "", few, func(a *reply, _ *http.Request) {
			var rows []string
			for id := hostileKnown + 1; id <= hostileRows; id++ {
				rows = append(rows, hostileRow(id))
			}
			a.body = []byte(fmt.Sprintf(`{%s,"next":%d,"more":true}`, list(rows), hostileKnown+a.n%length))
		}, "opaque")
	}
	const endless = "does not end"
	add("ever new tokens", endless, 201, func(a *reply, _ *http.Request) { a.body = []byte(fmt.Sprintf(`{"data":[],"next":"t%d"}`, a.n)) }, "token", "stable token")
	add("ever new links", endless, 201, func(a *reply, _ *http.Request) { a.body = []byte(fmt.Sprintf(`{"data":[],"next":"?token=%d"}`, a.n)) }, "link in body")
	more := replaced("more", "true")
	add("ever new cursors", endless, 201, func(a *reply, r *http.Request) {
		more(a, r)
		if a.n > 3 { // behind the last page nothing again and again, with ever more zeros before its cursor
			a.body = []byte(fmt.Sprintf(`{"data":[],"next":"%s%d","more":true}`, strings.Repeat("0", a.n), hostileRows))
		}
	}, "opaque")
	return out
}

// wrongPages answer a request with what belongs to another one.
func wrongPages(*testing.T) []attack {
	var out []attack
	for _, s := range shapesOfAPIs() {
		for at := 2; at <= 3; at++ {
			var first []byte
			var link http.Header
			out = append(out, attack{
				name: fmt.Sprintf("answer %d again from then on, %s", at-1, s.name), shape: s, fails: anyhow, parks: -1, requests: 60,
				spoil: func(a *reply, _ *http.Request) {
					if a.n < at-1 {
						return
					}
					if first == nil {
						first, link = a.body, a.header
					}
					a.body, a.header = first, link
				},
			}, attack{
				name: fmt.Sprintf("answer %d once more, %s", at-1, s.name), shape: s, fails: anyhow, parks: -1,
				spoil: func(a *reply, _ *http.Request) {
					switch a.n {
					case at - 1:
						first, link = a.body, a.header
					case at:
						a.body, a.header = first, link
					}
				},
			})
		}
		for at := 1; at <= 2; at++ {
			out = append(out, attack{
				name: fmt.Sprintf("another stream's answer %d, %s", at, s.name), shape: s, at: at, fails: haltStream,
				spoil: func(a *reply, r *http.Request) {
					a.body = []byte(`{"people":[` + hostileRow(1) + `],"size":1}`)
				},
			})
		}
	}
	return out
}

// bombs are answers that are much longer than they have a right to be.
func bombs(*testing.T) []attack {
	const mega = 1 << 20
	small := func(o *fetch.Options) { o.Limits.BodyBytes = 4 * mega }
	stream := func(length int64, size int64, compress bool, head, fill, tail string) tamper {
		return func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) { pour(w, length, size, compress, head, fill, tail) }
		}
	}
	var out []attack
	add := func(name, says string, heap uint64, limits func(*fetch.Options), spoil tamper) {
		for _, s := range shapesOfAPIs() {
			for at := 1; at <= 2; at++ {
				out = append(out, attack{
					name: fmt.Sprintf("%s, answer %d, %s", name, at, s.name), shape: s, at: at, fails: haltStream, says: says, heap: heap, client: limits, spoil: spoil,
				})
			}
		}
	}
	const giga = 1 << 30
	head, tail := `{"size":3,"data":[{"id":900,"x":"`, `"}]}`
	add("a record of 1 GB", "longer than 4194304 bytes", 32*mega, small, stream(giga, 0, false, head, "x", tail))
	add("a record of 1 GB, and its length", "longer than 4194304 bytes", 16*mega, small, stream(giga, giga, false, head, "x", tail))
	add("a record of 1 GB, compressed", "times as long", 32*mega, small, stream(giga, 0, true, head, "x", tail))
	add("an endless list of nothing", "longer than", 32*mega, small, stream(giga, 0, false, `{"data":[`, "[],", ""))
	add("endless white space", "longer than", 32*mega, small, stream(giga, 0, false, ``, "  \n", ""))
	add("endless open lists", "longer than", 32*mega, small, stream(giga, 0, false, `{"data":[`, "[", ""))
	add("blanks, compressed", "times as long", 32*mega, small, stream(giga, 0, true, ``, " ", ""))
	add("members of gzip without content", "longer than", 32*mega, small, func(a *reply, _ *http.Request) {
		a.header.Set("Content-Encoding", "gzip")
		empty := string(squeeze(nil))
		a.write = func(w http.ResponseWriter) { pour(w, giga, 0, false, "", empty, "") }
	})
	for _, s := range named("keyset", "snapshot") { // by the limits that hold where nobody sets any
		out = append(out, attack{
			name: "a record of 1 GB and the usual limits, " + s.name, shape: s, at: 1, fails: haltStream, says: "longer than 67108864 bytes", heap: 256 * mega,
			spoil: stream(giga, 0, false, head, "x", tail),
		}, attack{
			name: "a record of 1 GB, compressed, and the usual limits, " + s.name, shape: s, at: 1, fails: haltStream, says: "times as long", heap: 64 * mega,
			spoil: stream(giga, 0, true, head, "x", tail),
		})
	}
	for _, s := range lists() {
		a := attack{name: "a record beyond its limit, " + s.name, shape: s, at: 1, parks: 1, spoil: insert(`{"id":900,{AT},"x":"` + strings.Repeat("x", 9000) + `"}`)}
		a.limits.Record = record.Limits{RecordBytes: 8000}
		out = append(out, a)
	}
	return out
}

// statuses are all of them, over a body that would be a fine page.
func statuses(*testing.T) []attack {
	var out []attack
	for status := 200; status <= 599; status++ {
		for _, s := range shapesOfAPIs() {
			for at := 1; at <= 2; at++ {
				if status > 230 && status < 300 || status > 320 && status < 400 || status > 460 && status < 500 || status > 520 {
					continue // as their neighbours
				}
				fails := haltStream
				switch {
				case status == 204 || status == 205:
					fails = retryPage // nothing was said
				case status < 300:
					fails = ""
				case status == 401:
					fails = "halt connection"
				case status == 410:
					fails = "expired partition"
				case status == 408 || status == 425 || status == 503 || status >= 500:
					fails = retryStream
				case status == 429:
					continue // waits
				}
				a := attack{
					name: fmt.Sprintf("%d, answer %d, %s", status, at, s.name), shape: s, at: at, fails: fails,
					spoil: func(a *reply, _ *http.Request) {
						if a.status = status; status == 205 {
							a.body = nil
						}
					},
				}
				if s.name == "hydrated" && at == 2 && (status == 404 || status == 410) {
					a.fails, a.parks = "", 1 // one record is not to be had
				}
				out = append(out, a)
			}
		}
	}
	return out
}

// redirects lead elsewhere: nobody goes there, least of all with the credential.
func redirects(*testing.T) []attack {
	var out []attack
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		for _, to := range []string{
			"https://evil.test/", "//evil.test/v1/things", "http://169.254.169.254/latest/meta-data", "http://[::1]:6379/", "file:///etc/passwd",
			"http://api.test@evil.test/", "http://evil.test/?token=" + hostileSecret, "http://" + hostileSecret + "@evil.test/" + hostileSecret,
			"/v1/things?page=2", "", "http://%zz", strings.Repeat("x", 5000), "javascript:alert(1)",
		} {
			for _, s := range named("keyset", "hydrated") {
				for at := 1; at <= 2; at++ {
					out = append(out, attack{
						name: fmt.Sprintf("%d to %.40q, answer %d, %s", status, to, at, s.name), shape: s, at: at, fails: haltStream, says: "Redirects are not followed",
						spoil: func(a *reply, _ *http.Request) {
							a.status = status
							a.header.Set("Location", to)
						},
					})
				}
			}
		}
	}
	for _, header := range []string{"Refresh: 0; url=http://evil.test/", "Location: http://evil.test/", "Content-Location: http://evil.test/", "Alt-Svc: h2=\"evil.test:443\"; ma=9", "X-Accel-Redirect: /etc/passwd"} {
		name, value, _ := strings.Cut(header, ": ")
		for _, s := range named("keyset", "token") {
			out = append(out, attack{name: "200 and " + header + ", " + s.name, shape: s, spoil: func(a *reply, _ *http.Request) { a.header.Set(name, value) }})
		}
	}
	return out
}

// foreignLinks are next pages elsewhere.
func foreignLinks(*testing.T) []attack {
	const foreign = "foreign URL"
	links := map[string]string{ // and what is said of them
		"http://evil.test/v1/things": foreign, "https://evil.test/": foreign, "//evil.test/v1/things": foreign, "https://api.test/v1/things": foreign,
		"http://api.test:8080/v1/things": foreign, "http://api.test:443/v1": foreign, "http://api.test.evil.test/": foreign, "http://evilapi.test/": foreign,
		"http://127.0.0.1/": foreign, "http://127.1/": foreign, "http://0/": foreign, "http://2130706433/": foreign, "http://0x7f000001/": foreign, "http://[::1]/": foreign,
		"http://[::ffff:127.0.0.1]/": foreign, "http://[fe80::1%25eth0]/": foreign, "http://169.254.169.254/latest/meta-data/": foreign, "http://10.0.0.1/": foreign,
		"http://192.168.0.1/": foreign, "http://172.16.0.1/": foreign, "http://100.64.0.1/": foreign, "http://localhost/": foreign, "http://metadata.google.internal/": foreign,
		"http://api.test@evil.test/": foreign, "http://evil.test#@api.test/": foreign, "http://user:pass@api.test/v1/things": foreign, "http://api.test:80@evil.test/": foreign,
		"file:///etc/passwd": foreign, "ftp://api.test/v1/things": foreign, "gopher://api.test/": foreign, "ws://api.test/v1/things": foreign, "javascript:alert(1)": foreign,
		"data:application/json,{}": foreign, "mailto:a@b": foreign, "unix:///var/run/docker.sock": foreign, "jar:http://api.test!/": foreign, "about:blank": foreign,
		"http:///v1/things": foreign, "http:v1/things": foreign, "http:/v1/things": foreign, "http://ａpi.test/": foreign, "http://api.test./v1/things": foreign, "http://аpi.test/": foreign,
		"http:\\\\evil.test\\": "", "\\\\evil.test\\": "", "http://api.test:99999/": "", "http://api.test:abc/": "no address", "http://[::1/": "no address", "http://%zz/": "no address",
		"%": "no address", "http://api.test\\@evil.test/": "", "http://evil.test\u2044@api.test/": "", "\u202ehttp://evil.test/": "", "http://evil.test:80:80/": "no address",
		"?token=" + strings.Repeat("9", 20_000): "no address",
	}
	var out []attack
	for _, link := range slices.Sorted(maps.Keys(links)) {
		for _, s := range named("link in body", "link header") {
			for at := 1; at <= 2; at++ {
				fails := haltStream
				if links[link] == "" {
					fails = anyhow // it may lie at the API: then it is asked for, and answered
				}
				out = append(out, attack{
					name: fmt.Sprintf("%.40q, answer %d, %s", link, at, s.name), shape: s, at: at, fails: fails, says: links[link],
					spoil: func(a *reply, r *http.Request) {
						if s.name == "link header" {
							a.header.Set("Link", "<"+link+`>; rel="next"`)
							return
						}
						replaced("next", fmt.Sprintf("%q", link))(a, r)
					},
				})
			}
		}
	}
	return out
}

// badHeader is a header, or what stands in its place.
type badHeader struct {
	name, fails, says string
	spoil             tamper
}

// headers are too many of them, too long, or not for us.
func headers(*testing.T) []attack {
	var out []attack
	for _, k := range slices.Concat(floods(), badHeaders()) {
		for _, s := range named("keyset", "snapshot", "opaque", "hydrated") {
			for at := 1; at <= 2; at++ {
				out = append(out, attack{name: fmt.Sprintf("%s, answer %d, %s", k.name, at, s.name), shape: s, at: at, fails: k.fails, says: k.says, spoil: k.spoil, parks: -1})
			}
		}
	}
	return out
}

// floods are too many headers, or headers too long.
func floods() []badHeader {
	flood := func(n, size int) tamper {
		return func(a *reply, _ *http.Request) {
			for i := range n {
				a.header.Set(fmt.Sprintf("X-Flood-%d", i), strings.Repeat("x", size))
			}
		}
	}
	return []badHeader{
		{"100 of them", "", "", flood(100, 10)},
		{"10,000 of them", retryStream, "header", flood(10_000, 100)},
		{"one of 100 KB", retryStream, "header", flood(1, 100_000)},
		{"one of 10 MB", retryStream, "header", flood(1, 10_000_000)},
		{"an endless one", retryStream, "header", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) { rave(w, "HTTP/1.1 200 OK\r\nX-Endless: ", "x") }
		}},
		{"endless ones", retryStream, "header", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) { rave(w, "HTTP/1.1 200 OK\r\n", "Set-Cookie: a=b\r\n") }
		}},
		{"endless early hints", anyhow, "", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) { rave(w, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }
		}},
		{"endless trailers", anyhow, "", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) {
				rave(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "X-Trailer: x\r\n")
			}
		}},
		{"endless chunk extensions", anyhow, "", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) {
				rave(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "extension=x;")
			}
		}},
		{"endless chunks of one byte", anyhow, "", func(a *reply, _ *http.Request) {
			a.write = func(w http.ResponseWriter) {
				rave(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", "1;x=xxxxxxxxxxxxxxxx\r\n \r\n")
			}
		}},
	}
}

// badHeaders are no headers, or not those of an answer that is for us.
func badHeaders() []badHeader {
	raw := func(text string) tamper {
		return func(a *reply, _ *http.Request) { a.write = func(w http.ResponseWriter) { shout(w, text) } }
	}
	return []badHeader{
		{"no HTTP", retryStream, "", raw("SSH-2.0-OpenSSH_9.6\r\n")},
		{"nothing", anyhow, "", raw("")}, // on a connection that was used before net/http asks again by itself
		{"a colour", retryStream, "", raw("HTTP/1.1 200 OK\r\nX-Colour: \x1b[31m\r\n\r\n{}")},
		{"half a status", retryStream, "", raw("HTTP/1.1 20")},
		{"half a header", retryStream, "", raw("HTTP/1.1 200 OK\r\nContent-Le")},
		{"a status of letters", retryStream, "", raw("HTTP/1.1 abc OK\r\n\r\n")},
		{"a length below zero", retryStream, "", raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}")},
		{"two lengths", retryStream, "", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ")},
		{"a chunk of 2^64", retryStream, "", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}")},
		{"a chunk of -1", retryStream, "", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}")},
		{"a switch of protocols", anyhow, "", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")},
		{"brotli", haltStream, "Accept-Encoding", func(a *reply, _ *http.Request) { a.header.Set("Content-Encoding", "br") }},
		{"gzip twice", haltStream, "Accept-Encoding", func(a *reply, _ *http.Request) { a.header.Set("Content-Encoding", "gzip, gzip") }},
		{"gzip that is none", retryStream, "", func(a *reply, _ *http.Request) { a.header.Set("Content-Encoding", "gzip") }},
		{"gzip with rubbish behind", retryStream, "", func(a *reply, _ *http.Request) {
			a.header.Set("Content-Encoding", "gzip")
			a.body = append(squeeze(a.body), "rubbish behind it"...)
		}},
		{"gzip with another checksum", retryStream, "", func(a *reply, _ *http.Request) {
			a.header.Set("Content-Encoding", "gzip")
			a.body = squeeze(a.body)
			a.body[len(a.body)-6] ^= 1
		}},
		{"identity", "", "", func(a *reply, _ *http.Request) { a.header.Set("Content-Encoding", "identity") }},
		{"a cookie", "", "", func(a *reply, _ *http.Request) { a.header.Set("Set-Cookie", "session=x; Domain=evil.test") }},
	}
}

// echoes quote the credential back at us, wherever an answer can say something.
func echoes(*testing.T) []attack {
	const quoted = `Bearer ` + hostileSecret
	raw := func(text string) tamper {
		return func(a *reply, _ *http.Request) { a.write = func(w http.ResponseWriter) { shout(w, text) } }
	}
	header := func(status int, name, value string) tamper {
		return func(a *reply, _ *http.Request) { a.status = status; a.header.Set(name, value) }
	}
	text := func(status int, text string) tamper {
		return func(a *reply, _ *http.Request) { a.status, a.body = status, []byte(text) }
	}
	kinds := map[string]tamper{
		"200 and a text": text(200, quoted), "200 and an object": text(200, `{"error":"`+quoted+`"}`), "401": text(401, quoted), "403": text(403, quoted), "422": text(422, quoted),
		"500": text(500, quoted), "at the cut of the excerpt": text(500, strings.Repeat("x", 190)+quoted), "type": header(200, "Content-Type", "text/html; "+quoted),
		"encoding": header(200, "Content-Encoding", quoted), "redirect": header(302, "Location", "http://evil.test/"+hostileSecret+"?"+hostileSecret),
		"malformed header": raw("HTTP/1.1 200 OK\r\nX-Colour: " + quoted + "\x1b[31m\r\n\r\n{}"), "status line": raw("HTTP/1.1 " + quoted + "\r\n\r\n{}"),
		"no HTTP": raw(quoted + "\r\n\r\n"), "length": raw("HTTP/1.1 200 OK\r\nContent-Length: " + quoted + "\r\n\r\n{}"),
		"transfer": raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + quoted + "\r\n\r\n{}"),
		"record":   insert(`{"id":{"x":"` + quoted + `"},{AT}}`), "next": replaced("next", `"`+quoted+`"`), "next list": replaced("next", `["`+quoted+`"]`), "size": replaced("size", `"`+quoted+`"`),
		"more": replaced("more", `["`+quoted+`"]`), "link that is none": replaced("next", `"http://%zz/`+hostileSecret+`"`),
		"foreign link": replaced("next", `"http://evil.test/`+hostileSecret+`?key=`+hostileSecret+`"`), "the same link": text(200, `{"data":[],"more":true,"next":"?`+hostileSecret+`"}`),
		"name twice": spoiled(func(all string) string {
			return strings.Replace(all, "{", `{"`+hostileSecret+`":1,"`+hostileSecret+`":2,`, 1)
		}),
	}
	var out []attack
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for _, s := range shapesOfAPIs() {
			for at := range 2 {
				if at == 0 && name != "the same link" {
					continue // one answer is enough
				}
				out = append(out, attack{name: fmt.Sprintf("%s, answer %d, %s", name, at, s.name), shape: s, at: at, fails: anyhow, parks: -1, foul: true, spoil: kinds[name]})
			}
		}
	}
	return out
}

// pauses are what a server asks us to wait (P22).
func pauses(*testing.T) []attack {
	date := func(d time.Duration) string { return noon.Add(d).UTC().Format(http.TimeFormat) }
	const quota = "more than a day"
	var out []attack
	for _, status := range []int{429, 503} {
		for _, c := range []struct {
			after, says string
			waits       time.Duration
		}{
			{"", "", time.Minute}, {"0", "", 0}, {"1", "", time.Second}, {"3600", "", time.Hour}, {"86399", "", 86399 * time.Second}, {"90000", quota, 0}, {"31536000", quota, 0},
			{"1e999999", quota, 0}, {"9223372036854775807", quota, 0}, {"Inf", quota, 0}, {"99999999999999999999999", quota, 0}, {"-5", "", time.Minute}, {"NaN", "", time.Minute},
			{"soon", "", time.Minute}, {"1,5", "", time.Minute}, {"0x10", "", time.Minute}, {"\u0663", "", time.Minute}, {strings.Repeat("9", 400), quota, 0},
			{date(time.Hour), "", time.Hour}, {date(-time.Hour), "", time.Minute}, {date(365 * 24 * time.Hour), quota, 0}, {"Fri, 31 Dec 9999 23:59:59 GMT", quota, 0},
			{"Mon, 01 Jan 0001 00:00:00 GMT", "", time.Minute}, {"Tue, 10 Mar 2026 25:61:61 GMT", "", time.Minute}, {"2026-03-10T13:00:00Z", "", time.Minute},
		} {
			for _, s := range shapesOfAPIs() {
				a := attack{
					name: fmt.Sprintf("%d for %.30q, %s", status, c.after, s.name), shape: s, at: 2, says: c.says, waits: c.waits, bubble: true, client: func(o *fetch.Options) { o.Attempts = 6 },
					spoil: func(a *reply, _ *http.Request) {
						a.status, a.body = status, []byte(`{"error":"slow down"}`)
						if c.after != "" {
							a.header.Set("Retry-After", c.after)
						}
					},
				}
				if c.says != "" {
					a.fails = "halt connection"
				}
				if status == 503 && c.waits == time.Minute {
					a.waits = 0 // what says nothing is an error that passes
				}
				out = append(out, a)
			}
		}
	}
	return out
}

// slow are servers that take their time: each phase has an end (10).
func slow(*testing.T) []attack {
	kinds := map[string]func(w http.ResponseWriter, r *http.Request){
		"never an answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"never a body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a byte a second": func(w http.ResponseWriter, r *http.Request) {
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-tick.C:
					w.Write([]byte(" ")) //nolint:errcheck // the client gives up at some time
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					tick.Stop()
					return
				}
			}
		},
		"an early hint a second": func(w http.ResponseWriter, r *http.Request) {
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-tick.C:
					w.WriteHeader(http.StatusEarlyHints)
				case <-r.Context().Done():
					tick.Stop()
					return
				}
			}
		},
	}
	var out []attack
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for _, s := range shapesOfAPIs() {
			for at := 1; at <= 2; at++ {
				out = append(out, attack{
					name: fmt.Sprintf("%s, answer %d, %s", name, at, s.name), shape: s, at: at, fails: retryStream, says: "within", bubble: true, waits: time.Minute,
					spoil: func(a *reply, r *http.Request) { a.write = func(w http.ResponseWriter) { kinds[name](w, r) } },
				})
			}
		}
	}
	return out
}

// skews are servers whose clock is wrong, or says nothing.
func skews(*testing.T) []attack {
	var out []attack
	for _, c := range []struct {
		name, date string
	}{
		{"a day ahead", noon.Add(24 * time.Hour).Format(http.TimeFormat)}, {"a day behind", noon.Add(-24 * time.Hour).Format(http.TimeFormat)},
		{"a year ahead", noon.Add(365 * 24 * time.Hour).Format(http.TimeFormat)}, {"the year 9999", "Fri, 31 Dec 9999 23:59:59 GMT"}, {"the year 1", "Mon, 01 Jan 0001 00:00:00 GMT"},
		{"the epoch", "Thu, 01 Jan 1970 00:00:00 GMT"}, {"rubbish", "yesterday"}, {"none", ""}, {"an hour behind", noon.Add(-time.Hour).Format(http.TimeFormat)},
	} {
		for _, s := range shapesOfAPIs() {
			for at := range 3 {
				out = append(out, attack{
					name: fmt.Sprintf("%s, answer %d, %s", c.name, at, s.name), shape: s, at: at, parks: -1, behind: true, beyond: -1,
					spoil: func(a *reply, _ *http.Request) { a.header["Date"] = []string{c.date} },
				})
			}
		}
	}
	for _, s := range lists() { // a record of the future is published and moves no cursor (P3)
		if !s.timed || s.name == "newest first" || strings.HasPrefix(s.name, "keyset") {
			continue // their order would say that nothing lies between
		}
		text := fmt.Sprintf(`{"id":2099,"updated_at":%q}`, "2099-01-01T00:00:00Z")
		out = append(out, attack{
			name: "a record of 2099, " + s.name, shape: s, at: 1, also: map[string]string{"2099": text}, beyond: 1,
			spoil: spoiled(func(all string) string {
				if strings.Contains(all, `"data":[]`) {
					return strings.Replace(all, `"data":[]`, `"data":[`+text+`]`, 1)
				}
				end := strings.LastIndex(all, "}]")
				return all[:end+1] + "," + text + all[end+1:]
			}),
		})
	}
	return out
}

// campaigns are several attacks on one pass after the other, drawn by the seed.
func campaigns(t *testing.T) []attack {
	pool := map[string][]attack{}
	for _, kind := range []func(*testing.T) []attack{cuts, badRecords, badEnvelopes, badSignals, wrongPages, statuses, redirects, headers, skews} {
		for _, a := range kind(t) {
			if a.also == nil {
				pool[a.shape.name] = append(pool[a.shape.name], a)
			}
		}
	}
	var out []attack
	rng := rand.New(rand.NewPCG(hostileSeed(), 7))
	for i := range 300 {
		s := shapesOfAPIs()[i%len(shapesOfAPIs())]
		a := attack{name: fmt.Sprintf("%d, %s", i, s.name), shape: s}
		for range 4 + rng.IntN(6) {
			a.rounds = append(a.rounds, pool[s.name][rng.IntN(len(pool[s.name]))])
		}
		out = append(out, a)
	}
	return out
}
