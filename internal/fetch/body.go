package fetch

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"tidemark/internal/cdc"
)

const (
	errorBody = 1 << 20 // how much of an error's body is read, at most
	ratioFrom = 1 << 20 // from which length on the ratio is looked at: a short text may well shrink to nothing
)

// read reads the body of answer into p and returns it decompressed, with its length as it came. Whatever the server sends,
// it holds no more than the limits say (10): they are checked while reading, not after.
func (c *Client) read(p *page, answer *http.Response) ([]byte, int64, error) {
	limit := c.limits.BodyBytes
	if answer.StatusCode >= 300 {
		limit = min(limit, errorBody)
	}
	wire := counter{r: answer.Body, limit: limit}
	var body []byte
	var err error
	switch encoding(answer.Header) {
	case "":
		if answer.ContentLength > limit {
			return nil, 0, tooLong(limit)
		}
		if answer.ContentLength > 0 {
			p.grow(int(answer.ContentLength) + 1) // one more, so that the end is seen without growing
		}
		body, err = p.fill(&wire, limit, nil)
	case "gzip", "x-gzip":
		body, err = c.gunzip(p, &wire, limit)
	default:
		err = cdc.Errorf(cdc.Halt, cdc.Stream, "read page", "The server must honour Accept-Encoding: is a proxy in between?",
			"the answer has Content-Encoding %.40q, asked for was gzip", strings.Join(answer.Header["Content-Encoding"], ", "))
	}
	return body, wire.n, err
}

// encoding returns the content encoding, "" for none.
func encoding(h http.Header) string {
	enc := strings.ToLower(strings.TrimSpace(strings.Join(h["Content-Encoding"], ", ")))
	if enc == "identity" {
		return ""
	}
	return enc
}

// gunzip reads a compressed body through a reader that is reused: it costs more to set up than to run.
func (c *Client) gunzip(p *page, wire *counter, limit int64) ([]byte, error) {
	z, ok := c.pages.inflaters.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer c.pages.inflaters.Put(z)
	if err := z.Reset(wire); err != nil {
		if errors.Is(err, io.EOF) && wire.n == 0 {
			return nil, nil // nothing at all is an empty body, however it is encoded
		}
		return nil, err
	}
	return p.fill(z, limit, func(n int64) error {
		if n > ratioFrom && n > c.limits.Ratio*wire.n {
			return cdc.Errorf(cdc.Halt, cdc.Stream, "read page", "No honest page shrinks that far; if this one does, raise the limit on the ratio.",
				"the answer is more than %d times as long as its compressed form", c.limits.Ratio)
		}
		return nil
	})
}

// tooLong is the error of a body beyond its limit.
func tooLong(limit int64) error {
	return cdc.Errorf(cdc.Halt, cdc.Stream, "read page", "Ask for smaller pages in the source definition, or raise the limit on the body.",
		"the answer is longer than %d bytes", limit)
}

// counter counts the bytes of a body as they come. Its limit is for gzip members that are empty: they take bytes and give none.
type counter struct {
	r        io.Reader
	n, limit int64
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	if c.n > c.limit {
		return 0, tooLong(c.limit)
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// fill reads r to its end into the page's buffer, which grows as needed up to limit. check, where given, hears of the length
// after every read. What was read before an error is returned with it.
func (p *page) fill(r io.Reader, limit int64, check func(int64) error) ([]byte, error) {
	p.buf = p.buf[:0]
	for idle := 0; ; {
		if len(p.buf) == cap(p.buf) {
			p.grow(min(max(2*cap(p.buf), minPage), int(limit)+1))
		}
		n, err := r.Read(p.buf[len(p.buf):cap(p.buf)])
		p.buf = p.buf[:len(p.buf)+n]
		if int64(len(p.buf)) > limit {
			return p.buf[:limit], tooLong(limit)
		}
		switch {
		case errors.Is(err, io.EOF): // a body that is cut gives ErrUnexpectedEOF, plain or compressed
			return p.buf, nil
		case err != nil:
			return p.buf, err
		}
		if check != nil {
			if err := check(int64(len(p.buf))); err != nil {
				return p.buf, err
			}
		}
		if idle++; n > 0 {
			idle = 0
		} else if idle > 100 {
			return p.buf, io.ErrNoProgress
		}
	}
}

// excerpt returns the beginning of a body for a message: one line of printable text, what hide hides not in it.
func excerpt(body []byte, hide func(string) string) string {
	const most = 200
	// Hidden first and cut then, so that no half of a secret stays at the cut.
	text := hide(strings.ToValidUTF8(string(body[:min(len(body), 16<<10)]), "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
