package source

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// spooling is one pass over a newest-first feed, page by page.
type spooling struct {
	*driver
	request *Request
	pos     Position
	page    Page
	pages   int
	keys    []string
	cp      cdc.Checkpoint // as it would have been committed
	recent  []string
}

func (d *driver) spooling(cp cdc.Checkpoint, recent []string) *spooling {
	d.t.Helper()
	r := d.source.Requests[0]
	pos, err := r.Begin(Partition{Name: "-"}, cp, noon)
	if err != nil {
		d.t.Fatal(err)
	}
	pos.Remember(recent)
	return &spooling{driver: d, request: r, pos: pos, cp: cp, recent: recent}
}

// ask asks for the page that is next, and counts nothing of it.
func (p *spooling) ask(serve server) error {
	req, err := p.request.Compose(&p.pos)
	if err != nil {
		return err
	}
	var resp *fetch.Response
	if req != nil {
		resp = p.respond(req, p.pages+1, serve)
	}
	return p.request.Split(&p.pos, resp, nil, &p.page)
}

// take asks for the page that is next.
func (p *spooling) take(serve server) error {
	if err := p.ask(serve); err != nil {
		return err
	}
	for _, rec := range p.page.Records {
		p.keys = append(p.keys, string(rec.Key))
	}
	if p.page.Checkpoint != nil {
		p.cp = *p.page.Checkpoint
	}
	if p.page.Recent != nil {
		p.recent = p.page.Recent
	}
	p.pos, p.pages = p.page.Next, p.pages+1
	return nil
}

// bulky serves entries n to 1, a second apart, newest first and ten on a page, each of size bytes.
func bulky(n, size int) server {
	pad := strings.Repeat("x", size)
	return func(q asked) any {
		id, err := strconv.Atoi(q.query.Get("token"))
		if err != nil {
			id = n
		}
		var b strings.Builder
		b.WriteString(`{"data":[`)
		for i := range min(10, id) {
			fmt.Fprintf(&b, `%s{"id":%d,"thing":"t%d","updated_at":%q,"pad":%q}`, ","[min(i, 1)^1:], id-i, id-i, at(time.Duration(id-i-n-1)*time.Second), pad)
		}
		b.WriteString(`]`)
		if id > 10 {
			fmt.Fprintf(&b, `,"next":"%d"`, id-10)
		}
		return b.String() + `}`
	}
}

// P13, 10: a feed far longer than what is held in memory is played whole and in its order. It lies in a file that has no name,
// so nothing is left after a crash, and nothing after the end.
func TestP13SpoolIsAFile(t *testing.T) {
	const entries, size = 600, 100_000
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	p := newDriver(t, bound(t, newestFirst, nil)).spooling(cdc.Checkpoint{}, nil)
	serve := bulky(entries, size)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := heap(), uint64(0)
	sp := p.pos.spool
	for !p.page.Done {
		if err := p.take(serve); err != nil {
			t.Fatal(err)
		}
		most = max(most, heap())
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Fatalf("page %d: %v %v", p.pages, left, err)
		}
	}
	if held := int64(most) - int64(before); held > entries*size/6 {
		t.Errorf("%d bytes of memory for a feed of %d", held, entries*size)
	}
	if len(p.keys) != entries || p.keys[0] != "t1" || !slices.IsSortedFunc(p.keys, byNumber) || p.cp.Passes != 1 || p.cp.Cursor != at(-time.Second) {
		t.Errorf("%d entries, %+v", len(p.keys), p.cp)
	}
	if _, err := sp.file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is still there: %v", err)
	}
}

// P13: a feed that fits into memory needs no file, and no folder for one.
func TestP13SmallSpoolNeedsNoFile(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	p := newDriver(t, bound(t, newestFirst, nil)).spooling(cdc.Checkpoint{}, nil)
	for !p.page.Done {
		if err := p.take(bulky(100, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.keys) != 100 {
		t.Errorf("%d entries", len(p.keys))
	}
}

// P13: a file that cannot be made, written or read ends the pass with what to do, and the cursor stays where everything before it
// was played; the next pass plays the rest.
func TestP13SpoolFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no device that is full: ", err)
	}
	defer full.Close()
	for name, c := range map[string]struct {
		says  string
		spoil func(p *spooling)
		some  bool // played
	}{
		"no folder": {"no such file", func(p *spooling) { p.t.Setenv("TMPDIR", "/nowhere") }, false},
		"disk full": {"no space left", func(p *spooling) {
			if sp := p.pos.spool; sp.file != nil {
				sp.file = full
			}
		}, false},
		"unreadable": {"closed", func(p *spooling) {
			if len(p.keys) > 50 {
				p.pos.Abandon()
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			d := newDriver(t, bound(t, newestFirst, nil))
			d.source.SetLimits(Limits{SpoolMemory: 8000})
			p := d.spooling(cdc.Checkpoint{}, nil)
			serve := bulky(300, 200)
			var err error
			for err == nil && !p.page.Done {
				c.spoil(p)
				err = p.take(serve)
			}
			want(t, err, cdc.Retry, c.says)
			if _, scope := cdc.Verdict(err); scope != cdc.Partition || !strings.Contains(cdc.Hint(err), "TMPDIR") {
				t.Errorf("%v: %s", scope, cdc.Hint(err))
			}
			if (len(p.keys) > 0) != c.some || (p.cp.Cursor != "") != c.some || p.cp.Passes != 0 {
				t.Errorf("%d entries played, %+v", len(p.keys), p.cp)
			}
			p.pos.Abandon()
			t.Setenv("TMPDIR", t.TempDir()) // there is room again
			next := d.spooling(p.cp, p.recent)
			next.keys = p.keys
			for !next.page.Done {
				if err := next.take(serve); err != nil {
					t.Fatal(err)
				}
			}
			if len(next.keys) != 300 || !slices.IsSortedFunc(next.keys, byNumber) {
				t.Errorf("%d entries", len(next.keys))
			}
		})
	}
}

// P13: a position is a value over its spool too: a page that is asked for again puts and plays the same.
func TestP13SpooledPagesAskedForAgain(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d := newDriver(t, bound(t, newestFirst, nil))
	d.source.SetLimits(Limits{SpoolMemory: 5000, Play: 13})
	p := d.spooling(cdc.Checkpoint{}, nil)
	for !p.page.Done {
		if next, err := p.request.Compose(&p.pos); err == nil && (next != nil || p.pos.held > 13) { // after the last there is no spool
			if err := p.ask(bulky(300, 200)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.take(bulky(300, 200)); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.keys) != 300 || !slices.IsSortedFunc(p.keys, byNumber) {
		t.Errorf("%d entries", len(p.keys))
	}
}

// TestSpoolIsAStack: what is put last is taken first, whatever the sizes, and also where what was put does not count.
func TestSpoolIsAStack(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	rnd := rand.New(rand.NewPCG(13, 13))
	src := bound(t, newestFirst, nil)
	for range 50 {
		memory := 1 + rnd.IntN(2000)
		src.SetLimits(Limits{SpoolMemory: memory})
		p := Position{request: src.Requests[0], spool: &spool{}}
		defer p.Abandon()
		var truth []string
		for range 200 {
			old := p
			for range rnd.IntN(5) { // of a page that fails
				if err := p.put(make([]byte, rnd.IntN(2*memory)), 9); err != nil {
					t.Fatal(err)
				}
			}
			p = old
			text := fmt.Sprintf("%d %s", rnd.Int64(), strings.Repeat(".", rnd.IntN(2*memory)))
			if err := p.put([]byte(text), len(truth)); err != nil {
				t.Fatal(err)
			}
			truth = append(truth, text)
		}
		var block []byte
		for p.end > 0 {
			var entries []held
			var err error
			if block, entries, err = p.spool.oldest(block, p.end, int64(memory), 1+rnd.IntN(20)); err != nil || len(entries) == 0 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			for _, e := range entries {
				n := len(truth) - 1
				if got := string(e.raw.Of(block)); got != truth[n] || e.list != n {
					t.Fatalf("entry %d of list %d is %.40q, want %.40q", n, e.list, got, truth[n])
				}
				truth, p.end = truth[:n], p.end-int64(e.raw.Len()+trailer)
			}
		}
		if len(truth) > 0 {
			t.Fatalf("%d are missing", len(truth))
		}
	}
}
