package simulator

import (
	"fmt"
	"strconv"
)

// Words, as JSON has them between quotes.
var (
	firstNames = []string{"Ada", "Grace", "Zo\u00eb", "Bj\\u00f6rn", "Mei", "Ren\u00e9e", "Kofi", "Sinéad", "Juan \\\"Johnny\\\"", "Olu"}
	lastNames  = []string{"Lovelace", "Hopper", "O'Neil", "Müller", "de la Cruz", "李", "Nkrumah", "Smith-Jones", "Åström", "Tan"}
	titles     = []string{"VP of Sales", "Account Executive", "Head of Growth \\u0026 Partnerships", "CTO", "Buyer", "Office Manager"}
	cities     = []string{"Atlanta", "São Paulo", "Zürich", "New York", "Indianapolis", "Kraków"}
	companies  = []string{"Acme", "Globex", "Initech", "Umbrella \\/ Sons", "Hooli", "Stark 🚀"}
	industries = []string{"Software", "Manufacturing", "Retail", "Healthcare"}
	outcomes   = []string{"Connected", "Left Voicemail", "No Answer", "Gatekeeper"}
	moods      = []string{"Interested", "Not Now", "Neutral"}
	stages     = []string{"active", "completed", "removed", "staged"}
)

// writer appends one record as JSON.
type writer struct {
	b       []byte
	seed    uint64
	instant func(dst []byte, at int64) []byte
	m       moment
	origin
	bare     bool // no member yet
	badText  bool // the next text becomes an object (WrongType)
	badTruth bool // the next boolean becomes a text (WrongType)
}

// render appends the record's JSON at moment m. It depends on nothing but its arguments, so that the history need not keep it.
func (u *Upstream) render(dst []byte, r *resource, m moment, o origin) []byte {
	w := writer{b: append(dst, '{'), seed: uint64(u.o.Seed), instant: u.instant, m: m, origin: o, bare: true}
	w.badText, w.badTruth = m.spoil == WrongType, m.spoil == WrongType
	r.write(&w)
	if m.spoil == Huge {
		w.name("padding")
		w.b = append(w.b, '"')
		for range 2 << 20 / 64 {
			w.b = append(w.b, "................................................................"...)
		}
		w.b = append(w.b, '"')
	}
	return append(w.b, '}')
}

// renderOther appends a record of another tenant: another key, and other content.
func (u *Upstream) renderOther(dst []byte, r *resource, m moment, o origin) []byte {
	m.id += 1_000_000
	o.parent += 1_000_000
	other := writer{b: append(dst, '{'), seed: mix(uint64(u.o.Seed)), instant: u.instant, m: m, origin: o, bare: true}
	r.write(&other)
	return append(other.b, '}')
}

// key writes a member of the record's key, which a record without one (NoKey) lacks.
func (w *writer) key(write func()) {
	if w.m.spoil != NoKey {
		write()
	}
}

// draw is a number that the record always has under salt; shift is one that changes with its content.
func (w *writer) draw(salt uint64) uint64 { return mix(w.seed ^ uint64(w.m.id)<<20 ^ salt) }

func (w *writer) shift(salt uint64) uint64 { return mix(w.draw(salt) + uint64(w.m.content)) }

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func word(list []string, draw uint64) string { return list[draw%uint64(len(list))] }

func (w *writer) name(name string) {
	if !w.bare {
		w.b = append(w.b, ',')
	}
	w.bare = false
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// text writes parts, which are escaped already, as one text.
func (w *writer) text(name string, parts ...string) {
	w.name(name)
	if w.badText {
		w.badText = false
		w.b = append(w.b, `{"unexpected":true}`...)
		return
	}
	w.b = append(w.b, '"')
	for _, part := range parts {
		w.b = append(w.b, part...)
	}
	w.b = append(w.b, '"')
}

func (w *writer) number(name string, n int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// raw writes a value that is JSON already.
func (w *writer) raw(name, value string) {
	w.name(name)
	w.b = append(w.b, value...)
}

// money writes an amount of cents as a decimal number.
func (w *writer) money(name string, cents uint64) {
	w.raw(name, fmt.Sprintf("%d.%02d", cents/100, cents%100))
}

// objects writes a list of n objects, whose members f writes.
func (w *writer) objects(name string, n int, f func(i int)) {
	w.name(name)
	w.b = append(w.b, '[')
	for i := range n {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '{')
		w.bare = true
		f(i)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
	w.bare = false
}

func (w *writer) truth(name string, v bool) {
	w.name(name)
	if w.badTruth {
		w.badTruth = false
		w.b = append(w.b, `"maybe"`...)
		return
	}
	w.b = strconv.AppendBool(w.b, v)
}

func (w *writer) null(names ...string) {
	for _, name := range names {
		w.name(name)
		w.b = append(w.b, "null"...)
	}
}

// time writes an instant as the system does.
func (w *writer) time(name string, at int64) {
	if at == null {
		w.null(name)
		return
	}
	w.name(name)
	w.b = w.instant(w.b, at)
}

// layout is how the truth is told.
const layout = "2006-01-02T15:04:05.000000-07:00"

// reference writes {"id":…,"_href":…}; null for id 0.
func (w *writer) reference(name, path string, id uint64) {
	if id == 0 {
		w.null(name)
		return
	}
	w.name(name)
	w.b = append(w.b, `{"id":`...)
	w.b = strconv.AppendUint(w.b, id, 10)
	w.b = append(w.b, `,"_href":"https://api.salesloft.com/v2/`...)
	w.b = append(w.b, path...)
	w.b = append(w.b, '/')
	w.b = strconv.AppendUint(w.b, id, 10)
	w.b = append(w.b, '"', '}')
}

// object writes an object whose members f writes.
func (w *writer) object(name string, f func()) {
	w.name(name)
	w.b = append(w.b, '{')
	w.bare = true
	f()
	w.b = append(w.b, '}')
	w.bare = false
}

// list writes an array of texts.
func (w *writer) list(name string, texts ...string) {
	w.name(name)
	w.b = append(w.b, '[')
	for i, text := range texts {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '"')
		w.b = append(w.b, text...)
		w.b = append(w.b, '"')
	}
	w.b = append(w.b, ']')
}

// counters writes counts; all of them are functions of the moment's counts.
func (w *writer) counters(names ...string) {
	w.object("counts", func() {
		for i, name := range names {
			w.number(name, int64((w.m.counts+uint32(i))/uint32(i+1)))
		}
	})
}

// contacted is when the record was last contacted: never, for one in four, else a time that comes with its content.
func (w *writer) contacted() int64 {
	if w.draw(1)%4 == 0 {
		return null
	}
	return w.created + int64(w.shift(2)%(90*86_400))*1_000_000 + int64(w.draw(3)%1_000_000)
}

// revision is the content as a text: it makes every content of a record differ from every other.
func (w *writer) revision() string { return strconv.FormatUint(uint64(w.m.content), 10) }

func (w *writer) digits(salt uint64, n int) string {
	text := strconv.FormatUint(1_000_000_000_000+w.draw(salt)%1_000_000_000_000, 10)
	return text[len(text)-n:]
}

// The salts of UUIDs. Documents have the rest.
const (
	saltSeller = iota + 1
	saltEvent
	saltProblem
	saltGivergy  // events; the kinds of what belongs to them follow
	saltGuest    = saltGivergy + 13
	saltDocument = 64
)

// guid is a UUID of the record with that number; its end is the number.
func guid(seed, salt uint64, id int64) string {
	a, b := mix(seed^uint64(id)<<20^salt<<56), mix(seed^uint64(id)<<20^salt<<56^1)
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a&0xffff, b>>52, b&0xfff, id)
}

// guidNumber is the number at the end of a UUID; 0: this is none.
func guidNumber(text string) int64 {
	if len(text) != 36 {
		return 0
	}
	n, err := strconv.ParseInt(text[24:], 16, 64)
	if err != nil {
		return 0
	}
	return n
}
