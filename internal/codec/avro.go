package codec

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"tidemark/internal/record"
)

// avroEncoder walks a record's text by the compiled plan of its schema. All its slices are scratch.
type avroEncoder struct {
	root   *node
	header []byte
	buf    []byte  // the record
	places []place // of the fields of the records that the walk is in, the innermost's last
	text   []byte  // a string without its escapes, a JSON text in one line
	patch  patch
}

// place is where the bytes of a field are in the output; end is 0 where there are none yet.
type place struct{ off, end int32 }

// encode appends the binary of a record to dst.
func (e *avroEncoder) encode(dst, text []byte) ([]byte, error) {
	e.buf, e.places = text, e.places[:0]
	e.patch = patch{text: e.patch.text[:0], path: e.patch.path[:0]}
	at := space(text, 0)
	if at == len(text) {
		return dst, &TypeError{Wanted: e.root.name, Got: "nothing"}
	}
	dst, _, err := e.append(dst, e.root, at)
	return dst, err
}

// append appends the value at position at as type n, and returns where it ends. Errors are *TypeError, their path to be
// completed on the way up.
func (e *avroEncoder) append(dst []byte, n *node, at int) (out []byte, end int, err error) {
	c := e.buf[at]
	if n.kind == kindNullable {
		if c == 'n' {
			return append(dst, n.null), at + len("null"), nil
		}
		dst, n = append(dst, n.some), n.item
	}
	switch n.kind {
	case kindString:
		if c == '"' {
			return e.string(dst, at)
		}
	case kindInt, kindLong:
		if c == '-' || c-'0' <= 9 {
			return e.long(dst, n, at)
		}
	case kindFloat, kindDouble:
		if c == '-' || c-'0' <= 9 {
			return e.double(dst, n, at)
		}
	case kindBoolean:
		switch c {
		case 't':
			return append(dst, 1), at + len("true"), nil
		case 'f':
			return append(dst, 0), at + len("false"), nil
		}
	case kindRecord:
		if c == '{' {
			return e.record(dst, n, at)
		}
	case kindArray:
		if c == '[' {
			return e.array(dst, n, at)
		}
	default:
		return e.rare(dst, n, at)
	}
	return dst, at, e.mismatch(n, at)
}

// absent appends what stands for a member that is not there: null, where the type has it. Defaults of the schema are for
// readers of older data, not for what upstream left out (7).
func absent(dst []byte, n *node) ([]byte, bool) {
	switch {
	case n.kind == kindNullable:
		return append(dst, n.null), true
	case n.kind == kindNull:
		return dst, true
	case n.kind == kindUnion && n.of[record.Null] >= 0:
		return binary.AppendVarint(dst, int64(n.of[record.Null])), true
	}
	return dst, false
}

// rare is append for the types that most schemas do without.
func (e *avroEncoder) rare(dst []byte, n *node, at int) ([]byte, int, error) {
	end := skip(e.buf, at)
	switch c := e.buf[at]; n.kind {
	case kindJSON:
		text := e.buf[at:end]
		if !oneLine(text) {
			e.text = appendLine(e.text[:0], text)
			text = e.text
		}
		return appendString(dst, text), end, nil
	case kindMap:
		if c == '{' {
			return e.members(dst, n, at)
		}
	case kindEnum:
		if c == '"' {
			e.text, _ = record.Text(e.text[:0], e.buf, record.Span{Off: int32(at), End: int32(end)})
			if symbol, ok := n.symbols[string(e.text)]; ok {
				return binary.AppendVarint(dst, int64(symbol)), end, nil
			}
		}
	case kindNull:
		if c == 'n' {
			return dst, end, nil
		}
	case kindUnion:
		return e.union(dst, n, at, end)
	}
	return dst, at, e.mismatch(n, at)
}

func (e *avroEncoder) union(dst []byte, n *node, at, end int) ([]byte, int, error) {
	k := e.kind(at)
	branch := n.of[k]
	if k == record.Number && n.fraction >= 0 && (branch < 0 || !fits(n.branches[branch], e.buf[at:end])) {
		branch = n.fraction
	}
	if branch < 0 {
		return dst, at, e.mismatch(n, at)
	}
	return e.append(binary.AppendVarint(dst, int64(branch)), n.branches[branch], at)
}

func (e *avroEncoder) kind(at int) record.Kind {
	return record.KindAt(e.buf, record.Span{Off: int32(at), End: int32(at) + 1})
}

// fits reports whether an integer type takes the number.
func fits(n *node, text []byte) bool {
	i, ok := parseLong(text)
	return ok && (n.kind != kindInt || i == int64(int32(i)))
}

func (e *avroEncoder) long(dst []byte, n *node, at int) ([]byte, int, error) {
	end := skipNumber(e.buf, at)
	i, ok := parseLong(e.buf[at:end])
	if !ok || n.kind == kindInt && i != int64(int32(i)) {
		return dst, at, e.mismatch(n, at)
	}
	return binary.AppendVarint(dst, i), end, nil
}

// double appends a floating number. What its type cannot hold exactly is rounded, as the schema says, and kept as it was
// in _extra (7).
func (e *avroEncoder) double(dst []byte, n *node, at int) ([]byte, int, error) {
	end, bits := skipNumber(e.buf, at), 64
	if n.kind == kindFloat {
		bits = 32
	}
	text := e.buf[at:end]
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil { // beyond the largest
		return dst, at, e.mismatch(n, at)
	}
	if !exact(text, f, bits) {
		e.patch.add(text)
	}
	if bits == 32 {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), end, nil
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), end, nil
}

func (e *avroEncoder) string(dst []byte, at int) ([]byte, int, error) {
	end, escaped := skipString(e.buf, at)
	if !escaped {
		return appendString(dst, e.buf[at+1:end-1]), end, nil
	}
	if lone(e.buf[at+1 : end-1]) { // the scanner refuses them too; decoding would make U+FFFD of it, silently (7)
		return dst, at, &TypeError{Wanted: "string", Got: "a string with half a surrogate pair"}
	}
	e.text, _ = record.Text(e.text[:0], e.buf, record.Span{Off: int32(at), End: int32(end)})
	return appendString(dst, e.text), end, nil
}

// appendString appends an Avro string: its length in bytes, and the bytes.
func appendString[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendVarint(dst, int64(len(s))), s...)
}

// mismatch says that the value at position at does not fit n. It quotes numbers only: the rest may be people's data, and
// errors are logged.
func (e *avroEncoder) mismatch(n *node, at int) *TypeError {
	got := e.kind(at)
	err := &TypeError{Wanted: n.name, Got: got.String()}
	switch {
	case got == record.Number:
		err.Got = "number " + string(e.buf[at:min(skipNumber(e.buf, at), at+40)])
	case got == record.String && n.kind == kindEnum:
		err.Got = "a string that is none of its symbols"
	}
	return err
}

// record appends the object at position at.
func (e *avroEncoder) record(dst []byte, n *node, at int) ([]byte, int, error) {
	if n.extra < 0 {
		dst, _, end, err := e.fields(dst, n, at)
		return dst, end, err
	}
	outer := e.patch.begin()
	dst, hole, end, err := e.fields(dst, n, at)
	if err != nil {
		return dst, end, err
	}
	if text := e.patch.end(outer); len(text) > 0 {
		dst = putExtra(dst, hole, n.fields[n.extra].node.some, text)
	}
	return dst, end, nil
}

// fields appends the fields of the object at position at in one walk, each when its member comes, and returns where the
// null of _extra is. APIs mostly send members in one order, of which the schema's is a copy: then what is left out is
// written as null when a later member comes, and nothing is moved. A member that comes too late, or a required one that
// does not come in its turn, only means that the bytes are put in order at the end.
func (e *avroEncoder) fields(dst []byte, n *node, at int) (out []byte, hole, end int, err error) {
	base, start := len(e.places), len(dst)
	e.places = slices.Grow(e.places, len(n.fields))[:base+len(n.fields)]
	clear(e.places[base:])
	b, guess, last, next, ordered := e.buf, n.first, -1, 0, true
	i := space(b, at+1)
	for b[i] == '"' {
		found, name, value := e.member(n, i, guess, last)
		if found < 0 {
			end = skip(b, value)
			e.patch.unknown(name, b[value:end])
			i = follow(b, end)
			continue
		}
		ordered = ordered && found >= next
		for ; next < found; next++ {
			dst, ordered = e.leave(dst, n, base, next, ordered)
		}
		f, from := &n.fields[found], len(dst)
		if dst, end, err = e.field(dst, f, value); err != nil {
			return dst, 0, 0, err
		}
		e.places[base+found] = place{int32(from), int32(len(dst))}
		last, guess, next = found, f.next, max(next, found+1)
		i = follow(b, end)
	}
	for ; next < len(n.fields); next++ {
		dst, ordered = e.leave(dst, n, base, next, ordered)
	}
	if n.extra >= 0 {
		hole = int(e.places[base+int(n.extra)].off)
	}
	if !ordered {
		dst, hole, err = e.arrange(dst, n, start, base)
	}
	e.places = e.places[:base]
	return dst, hole, i + 1, err
}

// leave writes the field k as left out, for now.
func (e *avroEncoder) leave(dst []byte, n *node, base, k int, ordered bool) ([]byte, bool) {
	from := len(dst)
	dst, ok := absent(dst, n.fields[k].node)
	if ok {
		e.places[base+k] = place{int32(from), int32(len(dst))}
	}
	return dst, ordered && ok
}

// arrange puts the fields that lie somewhere behind start in the schema's order.
func (e *avroEncoder) arrange(dst []byte, n *node, start, base int) (out []byte, hole int, err error) {
	middle := len(dst)
	for k := range n.fields {
		if k == int(n.extra) {
			hole = start + len(dst) - middle
		}
		p := e.places[base+k]
		if p.end == 0 { // no field ends at 0: the framing is before it
			return dst, 0, &TypeError{Field: n.fields[k].name, Wanted: n.fields[k].node.name, Got: "nothing"}
		}
		dst = append(dst, dst[p.off:p.end]...)
	}
	return dst[:start+copy(dst[start:], dst[middle:])], hole, nil
}

// field appends the value at position at as the field f.
func (e *avroEncoder) field(dst []byte, f *field, at int) (out []byte, end int, err error) {
	if f.node.patches {
		e.patch.push(step{quoted: f.quoted})
	}
	if out, end, err = e.append(dst, f.node, at); err != nil {
		return out, end, under(f.name, err)
	}
	if f.node.patches {
		e.patch.pop()
	}
	return out, end, nil
}

// member reads the name at position i of an object: the field of n that it names, or -1 and the name with its quotes, and
// where the value begins. guess is the field to try first, last the field before.
func (e *avroEncoder) member(n *node, i int, guess int32, last int) (found int, name []byte, value int) {
	b := e.buf
	if f := n.guessed(guess); f != nil && len(b)-i > len(f.quoted) && string(b[i:i+len(f.quoted)]) == f.quoted {
		found, i = int(guess), i+len(f.quoted)
	} else {
		end, escaped := skipString(b, i)
		name, i = b[i:end], end
		found = e.lookup(n, name, escaped)
		n.learn(last, found)
	}
	i = space(b, i)
	return found, name, space(b, i+1) // behind the colon
}

// follow returns where the next member or element begins, or the closing bracket, after a value that ends at i.
func follow(b []byte, i int) int {
	if b[i] == ',' {
		i++
		if b[i] > ' ' {
			return i
		}
		return space(b, i)
	}
	if i = space(b, i); b[i] == ',' {
		return space(b, i+1)
	}
	return i
}

// learn notes that field found followed field last (-1: came first), for the next record.
func (n *node) learn(last, found int) {
	switch {
	case found < 0:
	case last < 0:
		n.first = int32(found)
	default:
		n.fields[last].next = int32(found)
	}
}

// guessed returns the field to try first, if any. _extra is no name of upstream's: a member of that name is unknown.
func (n *node) guessed(i int32) *field {
	if int(i) >= len(n.fields) || i == n.extra {
		return nil
	}
	return &n.fields[i]
}

// lookup returns the field with this name, given with its quotes, or -1.
func (e *avroEncoder) lookup(n *node, name []byte, escaped bool) int {
	content := name[1 : len(name)-1]
	if escaped {
		e.text, _ = record.Text(e.text[:0], name, record.All(name))
		content = e.text
	}
	if i, ok := n.index[string(content)]; ok {
		return int(i)
	}
	return -1
}

// array appends the array at position at as one block; its count is known at the end and put before it.
func (e *avroEncoder) array(dst []byte, n *node, at int) (out []byte, end int, err error) {
	b, hole, count := e.buf, len(dst), 0
	dst = append(dst, 0)
	i := space(b, at+1)
	for b[i] != ']' {
		if n.item.patches {
			e.patch.push(step{index: count})
		}
		if dst, i, err = e.append(dst, n.item, i); err != nil {
			return dst, at, under("["+strconv.Itoa(count)+"]", err)
		}
		if n.item.patches {
			e.patch.pop()
		}
		i = follow(b, i)
		count++
	}
	return endBlock(dst, hole, count), i + 1, nil
}

// members appends the object at position at as a map.
func (e *avroEncoder) members(dst []byte, n *node, at int) (out []byte, end int, err error) {
	b, hole, count := e.buf, len(dst), 0
	dst = append(dst, 0)
	i := space(b, at+1)
	for b[i] == '"' {
		start := i
		if dst, end, err = e.string(dst, i); err != nil {
			return dst, at, under("[...]", err)
		}
		i = space(b, end)
		i = space(b, i+1) // behind the colon
		if n.item.patches {
			e.patch.push(step{name: b[start:end]})
		}
		if dst, i, err = e.append(dst, n.item, i); err != nil {
			return dst, at, under("["+string(b[start:end])+"]", err)
		}
		if n.item.patches {
			e.patch.pop()
		}
		i = follow(b, i)
		count++
	}
	return endBlock(dst, hole, count), i + 1, nil
}

// putExtra replaces the null of an _extra at hole by text. It comes last, since fields behind _extra have their share in it.
func putExtra(dst []byte, hole int, some byte, text []byte) []byte {
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = some
	size := 1 + binary.PutVarint(head[1:], int64(len(text)))
	dst = widen(dst, hole+1, size-1+len(text))
	copy(dst[hole:], head[:size])
	copy(dst[hole+size:], text)
	return dst
}

// widen makes room for n bytes at position at.
func widen(dst []byte, at, n int) []byte {
	tail := len(dst) - at
	dst = slices.Grow(dst, n)[:len(dst)+n]
	copy(dst[at+n:], dst[at:at+tail])
	return dst
}

// endBlock puts the count of a block at hole, where one byte was left for it, and ends the array or map. Without elements
// there is no block: the byte is the end.
func endBlock(dst []byte, hole, count int) []byte {
	if count == 0 {
		return dst
	}
	var head [binary.MaxVarintLen64]byte
	size := binary.PutVarint(head[:], int64(count))
	dst = widen(dst, hole+1, size-1)
	copy(dst[hole:], head[:size])
	return append(dst, 0)
}
