package record

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sample returns a record of about 1.5 KB as a CRM's people look; the same i gives the same record.
func sample(i int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 7))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	quoted := func(s string) string {
		if r.IntN(10) < 3 {
			return "null"
		}
		text, _ := json.Marshal(s)
		return string(text)
	}
	at := func() string {
		return fmt.Sprintf(`"2026-%02d-%02dT%02d:%02d:%02d.%06d-04:00"`, 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6))
	}
	link := func(kind string) string {
		id := 1000 + r.IntN(1e6)
		return fmt.Sprintf(`{"_href":"https://api.example.com/v2/%s/%d","id":%d}`, kind, id, id)
	}
	first, last := pick("Anna", "Jürgen", "Zoë", "太郎", "Олег", "Mary"), pick("Smith", "O'Brien", "Nguyễn", "García", "Müller")
	var b strings.Builder
	add := func(name, value string) { fmt.Fprintf(&b, `,%q:%s`, name, value) }
	fmt.Fprintf(&b, `{"id":%d`, 100_000_000+i)
	for _, name := range []string{"created_at", "updated_at", "last_contacted_at", "last_replied_at"} {
		add(name, at())
	}
	add("first_name", quoted(first))
	add("last_name", quoted(last))
	add("display_name", quoted(first+" "+last))
	add("email_address", quoted(fmt.Sprintf("p%d@example%d.com", i, r.IntN(5000))))
	add("secondary_email_address", quoted("alt."+last+"@mail.example.org"))
	add("phone", quoted(fmt.Sprintf("+1 (404) %03d-%04d", r.IntN(1000), r.IntN(10000))))
	add("linkedin_url", quoted(fmt.Sprintf("https://www.linkedin.com/in/p-%d-%x", i, r.Uint32())))
	add("title", quoted(pick("VP of Sales", `Account Executive "EMEA"`, "Directeur général adjoint", "Head of Growth / Marketing")))
	add("city", quoted(pick("München", "Atlanta", "São Paulo", "Kraków")))
	add("country", quoted("Germany"))
	add("person_company_name", quoted(pick("Acme GmbH & Co. KG", "Globex Corporation", "Société d'Équipement")))
	add("person_company_website", quoted("https://www.example.com/about?src=crm&x=1"))
	add("do_not_contact", pick("true", "false"))
	add("bouncing", "false")
	add("locale", `"Europe/Berlin"`)
	add("tags", pick(`[]`, `["newsletter"]`, `["webinar","région-ouest"]`))
	add("contact_restrictions", "[]")
	add("score", fmt.Sprintf("%d.%d", r.IntN(100), r.IntN(10)))
	add("counts", fmt.Sprintf(`{"emails_sent":%d,"emails_viewed":%d,"emails_clicked":%d,"emails_replied_to":%d,"calls":%d}`,
		r.IntN(50), r.IntN(50), r.IntN(20), r.IntN(5), r.IntN(10)))
	add("account", link("accounts"))
	add("owner", link("users"))
	add("person_stage", link("person_stages"))
	add("import", "null")
	add("crm_id", fmt.Sprintf(`"003%015X"`, r.Uint64()>>4))
	add("crm_url", fmt.Sprintf(`"https://example.my.salesforce.com/003%015X"`, r.Uint64()>>4))
	add("custom_fields", fmt.Sprintf(`{"Lead Source":%s,"ARR (EUR)":%d.%02d,"Renewal":"2027-0%d-01","NPS":%d}`,
		quoted("Inbound – Software"), r.IntN(500000), r.IntN(100), 1+r.IntN(9), r.IntN(11)))
	add("cadences", `[`+link("cadences")+`,`+link("cadences")+`]`)
	add("starred", "false")
	return []byte(b.String() + "}")
}

// generate returns a random value: nil, bool, json.Number, string, []any or map[string]any.
func generate(r *rand.Rand, depth int) any {
	kind := r.IntN(9)
	if depth <= 0 {
		kind = r.IntN(6)
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2, 3:
		numbers := []string{"0", "1", "-1", "7", "0.5", "-12.75", "1e3", "9007199254740993", "123456789012345678", "1234567890123456789012", "1e-7", "3.14"}
		return json.Number(numbers[r.IntN(len(numbers))])
	case 4, 5:
		texts := []string{"", "a", "12345678", "é", "a longer text that needs several words", "\"quoted\"", "back\\slash", "tab\there", "nul\x00", "😀", "/", "1", "null"}
		return texts[r.IntN(len(texts))]
	case 6:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = generate(r, depth-1)
		}
		return list
	default:
		object := map[string]any{}
		for range r.IntN(5) {
			names := []string{"a", "b", "c", "id", "name", "é", "", "a\"b", "x\ny", "long name with spaces"}
			object[names[r.IntN(len(names))]] = generate(r, depth-1)
		}
		return object
	}
}

// render writes v as JSON: members in random order, random white space, strings and numbers in one of their spellings.
func render(r *rand.Rand, dst []byte, v any) []byte {
	blank := func() {
		for r.IntN(4) == 0 {
			dst = append(dst, " \n\t\r"[r.IntN(4)])
		}
	}
	blank()
	switch v := v.(type) {
	case nil:
		dst = append(dst, "null"...)
	case bool:
		dst = fmt.Append(dst, v)
	case json.Number:
		dst = append(dst, respell(r, string(v))...)
	case string:
		dst = renderString(r, dst, v)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = render(r, dst, e)
		}
		blank()
		dst = append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		blank()
		for i, name := range shuffledNames(r, v) {
			if i > 0 {
				dst = append(dst, ',')
				blank()
			}
			dst = renderString(r, dst, name)
			blank()
			dst = append(dst, ':')
			dst = render(r, dst, v[name])
		}
		blank()
		dst = append(dst, '}')
	default:
		panic(fmt.Sprintf("render %T", v))
	}
	blank()
	return dst
}

func shuffledNames(r *rand.Rand, object map[string]any) []string {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func renderString(r *rand.Rand, dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case r.IntN(8) == 0 && c < 0x10000:
			dst = fmt.Appendf(dst, `\u%04X`, c)
		case r.IntN(8) == 0 && c >= 0x10000:
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xD800+(c-0x10000)>>10, 0xDC00+(c-0x10000)&0x3FF)
		case c == '/' && r.IntN(2) == 0:
			dst = append(dst, `\/`...)
		default:
			quoted := appendQuoted(nil, []byte(string(c)))
			dst = append(dst, quoted[1:len(quoted)-1]...)
		}
	}
	return append(dst, '"')
}

// respell writes the number n, which has no exponent or a small one, in another way.
func respell(r *rand.Rand, n string) string {
	switch r.IntN(4) {
	case 0:
		if !strings.ContainsAny(n, ".e") {
			return n + ".00"
		}
	case 1:
		if !strings.Contains(n, "e") {
			return n + "E+0"
		}
	case 2:
		if !strings.ContainsAny(n, ".e") && n != "0" {
			return n + "0e-1"
		}
	}
	return n
}

// scanner returns a scanner of a plan that must compile.
func scanner(t testing.TB, rules Rules, seed uint64, places ...string) *Scanner {
	t.Helper()
	p, err := NewPlan(paths(t, places...), rules, seed)
	if err != nil {
		t.Fatal(err)
	}
	return NewScanner(p, Limits{})
}

func paths(t testing.TB, texts ...string) []Path {
	t.Helper()
	var all []Path
	for _, text := range texts {
		p, err := ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// hashOf scans the whole of text.
func hashOf(t testing.TB, s *Scanner, text string) uint64 {
	t.Helper()
	end, err := s.Scan([]byte(text), 0)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if space([]byte(text), end) != len(text) {
		t.Fatalf("%s: ends at %d of %d", text, end, len(text))
	}
	return s.Hash
}
