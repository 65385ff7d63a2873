package capture_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/capture"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
)

const filed = feed + `    delete: "record.gone ?? false"
    files: {each: docs, request: {path: "/docs/{{ item.id }}", query: {of: "{{ record.id }}"}}, max_bytes: 1KiB}
`

// dossiers is a shelf whose things have documents: their ids are their content, those that begin with - cannot be had.
type dossiers struct {
	*shelf
	mu    sync.Mutex
	asked map[string]int
	fixed bool
	first func(w http.ResponseWriter, r *http.Request) bool // answers before the others do; nil: nobody
	said  []string                                          // headers of requests for documents
}

func (b *bed) dossiers(rows ...map[string]any) (*dossiers, map[string]any) {
	s, config := b.shelf(rows...)
	a := &dossiers{shelf: s, asked: map[string]int{}}
	s.break_(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		id, ok := strings.CutPrefix(r.URL.Path, "/docs/")
		if !ok {
			return false
		}
		a.mu.Lock()
		a.asked[id]++
		a.said = append(a.said, r.Header.Get("Accept")+" "+r.Header.Get("Accept-Encoding")+" "+r.URL.Query().Get("of"))
		fixed, first := a.fixed, a.first
		a.mu.Unlock()
		switch {
		case first != nil && first(w, r):
		case strings.HasPrefix(id, "-") && !fixed:
			http.Error(w, "no such document", http.StatusNotFound)
		case strings.HasPrefix(id, "long"):
			fmt.Fprint(w, strings.Repeat("x", 2000))
		default:
			fmt.Fprint(w, id)
		}
		return true
	})
	return a, config
}

func (a *dossiers) wrap(first func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first = first
}

func (a *dossiers) downloads() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.asked)
}

func docs(ids ...string) []any {
	list := []any{}
	for _, id := range ids {
		list = append(list, map[string]any{"id": id})
	}
	return list
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// filesOf are what the events of a stream say of files: key, operation, reason, and of each file its content or its error.
func (b *bed) filesOf(dir, stream string) []string {
	b.Helper()
	var all []string
	for _, r := range b.read("test.c." + stream) {
		var value struct {
			Files []struct {
				Index                    int
				SHA256, Path, Error, URL string
				Size                     int64
			} `json:"_files"`
		}
		if r.Value != nil {
			if err := json.Unmarshal(r.Value, &value); err != nil {
				b.Fatal(err)
			}
		}
		line := string(r.Key) + " " + header(r, "ce_op") + " " + header(r, "ce_reason") + ":"
		for i, f := range value.Files {
			content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
			switch {
			case f.Error != "":
				line += " (" + f.Error + ")"
			case f.URL != "":
				line += " " + f.URL
			case err != nil || digest(string(content)) != f.SHA256 || f.Size != int64(len(content)) || f.Index != i:
				b.Errorf("%s says %+v, its file holds %q: %v", r.Key, f, content, err)
			default:
				line += " " + string(content)
			}
		}
		all = append(all, line)
	}
	return sorted(all)
}

func (b *bed) folder(dir string) *fetch.Folder {
	b.Helper()
	f, err := fetch.OpenFolder(dir)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func when(second int) string {
	return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC).Format(time.RFC3339)
}

// TestFiles: an event goes out when its files are there; one that cannot be had holds up nobody, is tried again apart, and its
// record is published once more. Each file is downloaded once, over restarts and changes of the record too.
func TestFiles(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "at", when(0), "docs", docs("a", "b")), row(2, "at", when(1), "docs", docs("-2", "a")),
		row(3, "at", when(2)), row(4, "at", when(3), "docs", docs("long", "c")))
	dir := t.TempDir()
	s := settings{definition: filed, config: config, change: func(o *capture.Options) { o.Folder = b.folder(dir) }}
	c := b.start(s)
	st := c.passes(2)
	if st.Streams[0].Files != 4 || st.Streams[0].FilesMissed != 2 || !strings.HasPrefix(st.Streams[0].FilesError, "2/0: the server answered 404") {
		t.Errorf("%+v", st.Streams[0])
	}
	first := []string{
		`1 r : a b`, `2 r : (the server answered 404 Not Found: no such document) a`, `3 r :`, `4 r : (the file is longer than 1024 bytes) c`,
	}
	if d := cmp.Diff(first, b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	a.mu.Lock()
	a.fixed = true
	if !slices.Contains(a.said, "*/* identity 1") {
		t.Errorf("asked with %q", a.said)
	}
	a.mu.Unlock()
	c.await("the file that failed", func(s capture.Status) bool { return s.Streams[0].FilesMissed == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)

	before := a.downloads()
	for id, n := range map[string]int{"a": 2, "b": 1, "c": 1} { // a is named by two records
		if before[id] != n {
			t.Errorf("%s was downloaded %d times", id, before[id])
		}
	}
	c = b.start(s)
	c.passes(2)
	a.put(row(1, "at", when(10), "docs", docs("new", "a", "b")))
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	a.put(row(1, "at", when(11), "docs", docs("b")))
	c.await("the other change", func(s capture.Status) bool { return counts(s).Updated == 2 })
	a.put(row(2, "at", when(12), "gone", true))
	c.await("the deletion", func(s capture.Status) bool { return counts(s).Deleted == 1 })
	c.end()
	b.audit(b.sourceOf(s), false)
	after := a.downloads()
	delete(before, "long")
	delete(after, "long")
	before["new"] = 1
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("a restart downloads nothing twice: %s", d)
	}
	want := append(slices.Clone(first), `1 u : b`, `1 u : new a b`, `2 d declared:`, `2 u file: -2 a`)
	if d := cmp.Diff(sorted(want), b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	b.filesState(map[string]string{"1/0": digest("b"), "4/0": "", "4/1": digest("c")})
}

// filesState compares the digests that the state holds of the stream's files.
func (b *bed) filesState(want map[string]string) {
	b.Helper()
	got := map[string]string{}
	for key, value := range b.state() {
		name, ok := strings.CutPrefix(key, "file/c/things/")
		if !ok {
			continue
		}
		f, err := offsets.Decode[offsets.File]([]byte(value))
		if err != nil {
			b.Fatal(err)
		}
		got[name] = f.Digest
	}
	if d := cmp.Diff(want, got); d != "" {
		b.Error(d)
	}
}

// TestFilesHalt: with on_error: halt the cursor does not pass a record whose file cannot be had (4); what a repeat may mend
// is repeated.
func TestFilesHalt(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "at", when(0), "docs", docs("a")), row(2, "at", when(1), "docs", docs("b", "!")), row(3, "at", when(2)))
	busy := true
	a.wrap(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/docs/!" {
			return false
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		status := http.StatusForbidden
		if busy {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		return true
	})
	dir := t.TempDir()
	s := settings{definition: strings.Replace(filed, "max_bytes", "on_error: halt, max_bytes", 1), config: config,
		change: func(o *capture.Options) { o.Folder = b.folder(dir) }}
	c := b.start(s)
	st := c.await("a pass that failed", func(s capture.Status) bool { return s.Partitions[0].Failures > 1 })
	b.says(st.Partitions[0].LastError, "503")
	a.mu.Lock()
	busy = false
	a.mu.Unlock()
	c.halted("a file of stream things cannot be had", "403", "on_error: continue")
	c.end()
	if d := cmp.Diff([]string{"1 r : a"}, b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	if cp := b.checkpoint("things"); cp.Cursor != "" || cp.Passes != 0 {
		t.Errorf("the cursor passed it: %+v", cp)
	}
	b.audit(b.sourceOf(s), false)
}

// TestFilesHaltAtTheirTurn: a file that cannot be had stops the stream when the turn of its record has come: what stands before it on
// the page is published first, although its own file takes longer.
func TestFilesHaltAtTheirTurn(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "at", when(0), "docs", docs("slow")), row(2, "at", when(1), "docs", docs("!")), row(3, "at", when(2)))
	refused := make(chan struct{})
	once := sync.OnceFunc(func() { close(refused) })
	a.wrap(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/docs/!":
			w.WriteHeader(http.StatusForbidden)
			http.NewResponseController(w).Flush() //nolint:errcheck // the client is gone
			once()
			return true
		case "/docs/slow":
			a.shelf.mu.Unlock() // the other one is answered meanwhile
			select {
			case <-refused:
			case <-r.Context().Done():
			}
			<-time.After(100 * time.Millisecond) // long enough for a stream to halt too early
			a.shelf.mu.Lock()
		}
		return false
	})
	dir := t.TempDir()
	s := settings{definition: strings.Replace(filed, "max_bytes", "on_error: halt, max_bytes", 1), config: config,
		change: func(o *capture.Options) { o.Folder = b.folder(dir) }}
	c := b.start(s)
	c.halted("a file of stream things cannot be had", "403", "on_error: continue")
	c.end()
	if d := cmp.Diff([]string{"1 r : slow"}, b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	if cp := b.checkpoint("things"); cp.Cursor != "" || cp.Passes != 0 {
		t.Errorf("the cursor passed it: %+v", cp)
	}
	b.audit(b.sourceOf(s), false)
}

// TestFilesOfAPageThatIsCut: while a page waits for a file nothing of its key space is asked for (P1), the rest of the connection
// goes on, and SIGTERM does not wait for it. What was published by then is not downloaded again.
func TestFilesOfAPageThatIsCut(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "at", when(0), "docs", docs("a")), row(2, "at", when(1), "docs", docs("slow")), row(3, "at", when(2), "docs", docs("c")))
	hold, reached := make(chan struct{}), make(chan struct{}, 10)
	a.wrap(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/docs/slow" {
			a.shelf.mu.Unlock() // others are answered meanwhile
			reached <- struct{}{}
			select {
			case <-hold:
			case <-r.Context().Done():
			}
			a.shelf.mu.Lock()
		}
		return false
	})
	dir := t.TempDir()
	other := `  others: {path: "/others", records: data, primary_key: id, interval: 200ms}` + "\n"
	s := settings{definition: filed + other, config: config, change: func(o *capture.Options) { o.Folder = b.folder(dir) }}
	c := b.start(s)
	<-reached
	st := c.await("passes of the other stream", func(s capture.Status) bool {
		return s.Streams[0].Keys == 1 && slices.ContainsFunc(s.Partitions, func(p capture.PartitionStatus) bool { return p.Stream == "others" && p.Passes > 3 })
	})
	if p := st.Partitions[0]; p.Stage != "files" || p.Passes != 0 || st.HTTP.Requests < 5 {
		t.Errorf("%+v", p)
	}
	c.end()
	close(hold)
	c = b.start(s)
	c.passes(1)
	c.end()
	if d := cmp.Diff([]string{"1 r : a", "2 r : slow", "3 r : c"}, b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	if n := a.downloads()["a"]; n != 1 {
		t.Errorf("what was published was downloaded %d times", n)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".part-*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %q, %v", left, err)
	}
	b.audit(b.sourceOf(s), false)
}

// TestFilesByReference: the value says where the files are, and nobody asks for them.
func TestFilesByReference(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "at", when(0), "docs", docs("a/b", "c")), row(2, "at", when(1)))
	s := settings{definition: strings.Replace(filed, "max_bytes: 1KiB", "store: reference", 1), config: config}
	c := b.start(s)
	c.passes(2)
	c.end()
	url := config["url"].(string)
	want := []string{"1 r : " + url + "/docs/a%2Fb?of=1 " + url + "/docs/c?of=1", "2 r :"}
	if d := cmp.Diff(want, b.filesOf("", "things")); d != "" || len(a.downloads()) > 0 {
		t.Error(d, a.downloads())
	}
	b.filesState(map[string]string{})
	b.audit(b.sourceOf(s), false)
}

// TestFilesFolderInTrouble: a folder that cannot be written is no file's fault. The pass waits, and a listing that it cuts deletes
// nothing (D2).
func TestFilesFolderInTrouble(t *testing.T) {
	b := lay(t)
	a, config := b.dossiers(row(1, "docs", docs("a")), row(2, "docs", docs("b")), row(3))
	dir := filepath.Join(t.TempDir(), "files")
	text := things + `    files: {each: docs, request: {path: "/docs/{{ item.id }}"}}` + "\n"
	s := settings{definition: text, config: config, change: func(o *capture.Options) { o.Folder = b.folder(dir); o.Confirm = time.Millisecond }}
	c := b.start(s)
	c.passes(2)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	a.put(row(1, "docs", docs("a", "new")))
	st := c.await("a pass that failed", func(s capture.Status) bool { return s.Partitions[0].Failures > 0 })
	b.says(st.Partitions[0].LastError+st.Partitions[0].Hint, "the folder of files cannot be written", "FILES_DIR")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	c.await("the change", func(s capture.Status) bool { return counts(s).Updated == 1 })
	st = c.passes(3)
	c.end()
	if counts(st).Deleted > 0 || st.Streams[0].FilesMissed > 0 {
		t.Errorf("%+v", st.Streams[0])
	}
	if d := cmp.Diff([]string{"1 r : a", "1 u : a new", "2 r : b", "3 r :"}, b.filesOf(dir, "things")); d != "" {
		t.Error(d)
	}
	b.audit(b.sourceOf(s), false)
}

// TestFilesTooManyFail: when hardly a file can be had the passes wait, and the cursor with them, instead of filling the state (10).
func TestFilesTooManyFail(t *testing.T) {
	b := lay(t)
	bad := func(n int) []any {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf("-%d", i))
		}
		return docs(ids...)
	}
	a, config := b.dossiers(row(1, "at", when(0), "docs", bad(990)), row(2, "at", when(1), "docs", bad(1001)), row(3, "at", when(2), "docs", bad(20)))
	s := settings{definition: filed, config: config, change: func(o *capture.Options) { o.Folder = b.folder(t.TempDir()) }}
	c := b.start(s)
	c.await("all three", func(s capture.Status) bool { return s.Streams[0].FilesMissed == 1010 && s.Streams[0].Parked == 1 })
	a.put(row(4, "at", when(3), "docs", docs("a")))
	st := c.await("a pass that failed", func(s capture.Status) bool { return s.Partitions[0].Failures > 0 })
	b.says(st.Partitions[0].LastError, "1010 files of stream things could not be had")
	c.end()
	b.audit(b.sourceOf(s), false)
}
