package codec

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tidemark/internal/cdc"
	"tidemark/schemas"
)

// appendPerson appends a person of SalesLoft's, about 1.5 KB, as the API sends it.
func appendPerson(b []byte, i int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	time := func() string {
		return fmt.Sprintf(`"2026-%02d-%02dT%02d:%02d:%02d.%06d-04:00"`, 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6))
	}
	or := func(s string) string {
		if r.IntN(10) < 4 {
			return "null"
		}
		return s
	}
	ref := func(kind string) string {
		id := 1000 + r.IntN(100000)
		return fmt.Sprintf(`{"id":%d,"_href":"https://api.salesloft.com/v2/%s/%d"}`, id, kind, id)
	}
	b = fmt.Appendf(b, `{"id":%d,"created_at":%s,"updated_at":%s,"last_contacted_at":%s,"last_replied_at":%s`, 100_000_000+i, time(), time(), or(time()), or(time()))
	b = fmt.Appendf(b, `,"first_name":"Zoë","last_name":"Müller","display_name":"Zoë Müller","email_address":"p%d@example.com","full_email_address":"\"Zoë Müller\" <p%d@example.com>","secondary_email_address":%s,"personal_email_address":null`, i, i, or(`"alt@example.org"`))
	b = fmt.Appendf(b, `,"phone":%s,"phone_extension":null,"home_phone":null,"mobile_phone":%s,"linkedin_url":%s,"title":"Account Executive \"EMEA\"","city":"München","state":%s,"country":"Germany","work_city":null,"work_state":null,"work_country":null`,
		or(`"+1 (404) 555-0100"`), or(`"+49 151 5550100"`), or(`"https://www.linkedin.com/in/zoe"`), or(`"BY"`))
	b = fmt.Appendf(b, `,"crm_url":"https://example.my.salesforce.com/003%012X","crm_id":"003%012X","crm_object_type":"contact","owner_crm_id":null,"person_company_name":"Acme GmbH & Co. KG","person_company_website":"https://www.example.com/about","person_company_industry":%s`,
		r.Uint32(), r.Uint32(), or(`"Software"`))
	b = fmt.Appendf(b, `,"do_not_contact":%v,"bouncing":false,"locale":"Europe/Berlin","eu_resident":true,"personal_website":null,"twitter_handle":null,"last_contacted_type":%s,"job_seniority":null`, i%10 == 0, or(`"email"`))
	b = fmt.Appendf(b, `,"custom_fields":{"Lead Source":"Inbound – Software","ARR (EUR)":%d.50,"Segment":"B"},"tags":["newsletter","q3-campaign"],"contact_restrictions":[]`, r.IntN(500000))
	b = fmt.Appendf(b, `,"counts":{"emails_sent":%d,"emails_viewed":%d,"emails_clicked":%d,"emails_replied_to":0,"emails_bounced":0,"calls":%d}`, r.IntN(50), r.IntN(50), r.IntN(20), r.IntN(10))
	return fmt.Appendf(b, `,"account":%s,"owner":%s,"last_contacted_by":null,"import":null,"person_stage":%s,"most_recent_cadence":%s,"cadences":[%s],"success_count":0,"starred":false}`,
		ref("accounts"), ref("users"), ref("person_stages"), or(ref("cadences")), ref("cadences"))
}

func people(n int) (records [][]byte, size int64) {
	for i := range n {
		records = append(records, appendPerson(nil, i))
		size += int64(len(records[i]))
	}
	return records, size / int64(n)
}

func personEncoder(t testing.TB, options ...Option) *Encoder {
	schema, err := schemas.Get("salesloft/person")
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewAvro(schema, 1, options...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// BenchmarkAppend is the cost of one changed record: walked and encoded.
func BenchmarkAppend(b *testing.B) {
	records, size := people(1000)
	for _, c := range []struct {
		name string
		e    *Encoder
	}{
		{"avro", personEncoder(b)}, {"avro-envelope", personEncoder(b, WithShape(Envelope))}, {"json", NewJSON()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			ev := testEvent()
			dst := make([]byte, 0, 4096)
			for i := 0; b.Loop(); i++ {
				var err error
				if dst, err = c.e.AppendEvent(dst[:0], ev, records[i%len(records)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeaders is the cost of one event's headers.
func BenchmarkHeaders(b *testing.B) {
	ev := testEvent()
	headers, slab := make([]cdc.Header, 0, 16), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		headers, slab = AppendHeaders(headers[:0], slab[:0], ev)
	}
}

// TestNoAllocations: a warm encoder takes no memory, whatever the record holds.
func TestNoAllocations(t *testing.T) {
	records, _ := people(50)
	ev := testEvent()
	dst := make([]byte, 0, 8192)
	every, _ := newEvery(t)
	odd := []byte(`{"id":1.0,"new":[1],"tree":{"id":1,"x":2,"children":[{"id":1,"y":"\u00e9"}],"by_name":{"a":{"id":1,"z":1}}},"double":9007199254740993,"first":"\u00e9","color":"RED","own":{"w":1},"role":"x","mixed":1.5,"tags":["a","b"],"free":{"a":[1]}}`)
	for _, c := range []struct {
		name    string
		e       *Encoder
		records [][]byte
	}{
		{"person", personEncoder(t), records}, {"envelope", personEncoder(t, WithShape(Envelope)), records},
		{"json", NewJSON(), records}, {"every", every, [][]byte{odd}},
	} {
		run := func() {
			for _, r := range c.records {
				if _, err := c.e.AppendEvent(dst, ev, r); err != nil {
					t.Fatal(err)
				}
			}
		}
		run()
		if n := testing.AllocsPerRun(20, run); n != 0 {
			t.Errorf("%s: %v allocations in %d records", c.name, n, len(c.records))
		}
	}
	headers, slab := make([]cdc.Header, 0, 16), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(20, func() { AppendHeaders(headers, slab, ev) }); n != 0 {
		t.Errorf("headers: %v allocations", n)
	}
}
