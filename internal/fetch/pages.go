package fetch

import (
	"context"
	"slices"
	"sync"
)

const (
	minPage   = 64 << 10  // the least that a request reserves
	smallPage = 256 << 10 // buffers up to here and beyond are kept apart, so that a lookup does not hold a large one
	allPages  = 256 << 20 // the budget by default
)

// Pages is the process's budget of page bytes and the buffers that are reused under it (10). A request reserves what its
// client's last pages took, in the order of asking, and waits while others hold too much; the bytes come back with
// Response.Release. A page that turns out longer takes more without waiting, since waiting with a half-read page in hand
// could stop everybody: the budget is then overdrawn, by at most one body's limit for each request in flight, and nobody
// new begins until that is paid back.
type Pages struct {
	limit int64

	mu        sync.Mutex
	used      int64
	queue     []*reservation
	small     sync.Pool // of *page
	large     sync.Pool
	inflaters sync.Pool // of *gzip.Reader
}

// reservation is a request that waits for its bytes. ready is closed, under the mutex, when they are its own.
type reservation struct {
	bytes int64
	ready chan struct{}
}

// page is a buffer and what it has reserved. It belongs to one exchange or Response at a time.
type page struct {
	buf   []byte
	bytes int64
	pages *Pages
}

// NewPages returns a budget of that many bytes; 0 is 256 MiB.
func NewPages(bytes int64) *Pages {
	if bytes <= 0 {
		bytes = allPages
	}
	return &Pages{limit: bytes}
}

// Used returns how many bytes the pages in flight and those not yet released hold, and the budget.
func (b *Pages) Used() (used, limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.limit
}

// take returns an empty page once n bytes are free, or the error of ctx.
func (b *Pages) take(ctx context.Context, n int64) (*page, error) {
	n = min(n, b.limit)
	b.mu.Lock()
	if len(b.queue) == 0 && b.used+n <= b.limit {
		b.used += n
		b.mu.Unlock()
		return b.page(n), nil
	}
	r := &reservation{n, make(chan struct{})}
	b.queue = append(b.queue, r)
	b.mu.Unlock()
	select {
	case <-r.ready:
		return b.page(n), nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.queue, r); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	} else {
		b.used -= n // it was granted while we gave up
	}
	b.admit() // who stood behind us may fit where we did not
	return nil, ctx.Err()
}

// page returns a buffer for n bytes that are reserved already.
func (b *Pages) page(n int64) *page {
	pool := &b.small
	if n > smallPage {
		pool = &b.large
	}
	p, ok := pool.Get().(*page)
	if !ok {
		p = &page{pages: b}
	}
	p.bytes = n
	p.grow(int(n))
	return p
}

// grow makes room for n bytes in all and reserves what the buffer has beyond the reservation.
func (p *page) grow(n int) {
	if n > cap(p.buf) {
		p.buf = append(make([]byte, 0, n), p.buf...)
	}
	if more := int64(cap(p.buf)) - p.bytes; more > 0 {
		p.bytes += more
		p.pages.mu.Lock()
		p.pages.used += more
		p.pages.mu.Unlock()
	}
}

// release ends the page's ownership.
func (p *page) release() {
	b, n := p.pages, p.bytes
	p.bytes, p.buf = 0, p.buf[:0]
	if cap(p.buf) > smallPage {
		b.large.Put(p)
	} else {
		b.small.Put(p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.admit()
}

// admit grants reservations in their order while they fit; the first one also when nothing is held. The mutex is held.
func (b *Pages) admit() {
	for len(b.queue) > 0 && b.used+b.queue[0].bytes <= b.limit {
		r := b.queue[0]
		b.queue = slices.Delete(b.queue, 0, 1)
		b.used += r.bytes
		close(r.ready)
	}
}

// loose returns a page that takes its bytes without waiting.
func (b *Pages) loose() *page {
	b.mu.Lock()
	b.used += minPage
	b.mu.Unlock()
	return b.page(minPage)
}
