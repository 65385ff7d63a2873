package capture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
	"tidemark/internal/source"
)

// The files of a record are downloaded before its event is published, so that whoever reads the event finds them: the page waits
// at the first record that would be published and has a file that is not known, and its key space waits with it (P1). What was
// got is named in the value, and stands in the state with the event, in one transaction (1): a restart downloads what is not
// published yet, and nothing else. A file that cannot be had holds up nobody (`on_error: continue`): the event goes out without
// it, the failure is state, it is tried again apart, and when it is there the record is published once more, with the reason
// `file`. With `on_error: halt` the stream halts before the cursor passes the record (4).

const (
	// filesAtOnce is how many files a pass downloads side by side, those of the next records of its page among them.
	filesAtOnce = 4
	// retriesAtOnce is the same of files that failed before.
	retriesAtOnce = 2
	// mostMissed bounds the files of a stream that could not be had (10): beyond it something is wrong with all of them, and the
	// passes wait instead.
	mostMissed = 1000
	// A file that could not be had is tried again after retryFirst, doubling up to retryLast.
	retryFirst = 10 * time.Second
	retryLast  = 6 * time.Hour
	retryEvery = 5 * time.Second // how often it is looked for what is due
)

// file is what memory holds of one file of a record.
type file struct {
	state   fileState
	element uint64 // hash of the element that names it
	fetch.Stored
}

type fileState uint8

const (
	unknownFile fileState = iota
	storedFile
	missedFile // what is known of it stands in stream.missed
)

// wanted names a file that a page waits for: an element of a key.
type wanted struct {
	stream       int
	key, element uint64
}

// gathering is what a walk has downloaded, or downloads, for the records of its page.
type gathering struct {
	half     *half // the page that waits; nil: none
	flight   map[wanted]bool
	got      map[wanted]outcome
	elements map[*source.Record][]source.Element // of records that wait: they may have many, and are looked at for each that comes
}

// full reports whether no more of them are begun.
func (g *gathering) full() bool { return len(g.flight) >= filesAtOnce }

// outcome is what became of a download.
type outcome struct {
	fetch.Stored
	foreign bool // as of its download
	err     error
}

// download is one file on its way.
type download struct {
	fetch.Stored
	want    wanted
	foreign bool // no credential went with it
	// Of one that is tried again: its stream, and its name in stream.missed.
	stream *stream
	missed string
}

// CheckFolder says what a connection of src lacks where there is no folder.
func CheckFolder(src *source.Source, folder *fetch.Folder) error {
	for _, st := range src.Streams {
		if st.Files != nil && st.Files.Folder && folder == nil {
			e := cdc.Errorf(cdc.Halt, cdc.Connection, "open connection", "Set FILES_DIR to a folder that every instance shares, or extend the "+
				"definition with `files: {store: reference}`, or `files: null`", "there is no folder for the files of stream %s", st.Name)
			e.Where = src.Connection
			return e
		}
	}
	return nil
}

// missedName is the name of a file in stream.missed, as the state's key ends.
func missedName(key string, n int) string { return key + "/" + strconv.Itoa(n) }

// gather has the files downloaded that record h.next of a page needs, and those of the records behind it while there is room. It
// reports whether that record can be published.
func (o *ownership) gather(h *half) (ready bool, err error) {
	w := h.walk
	records, g := w.page.Records, &w.gathering
	ready, err = o.gatherOne(w, &records[h.next])
	for h.ahead = max(h.ahead, h.next+1); err == nil && h.ahead < len(records) && !g.full(); {
		if _, later := o.gatherOne(w, &records[h.ahead]); later != nil {
			break // it counts when its record's turn has come: what stands before it is published
		}
		if !g.full() { // else it may have more of them
			h.ahead++
		}
	}
	return ready, err
}

// gatherOne has the files downloaded that a record needs, as far as there is room, and reports whether all of them are there.
func (o *ownership) gatherOne(w *walk, rec *source.Record) (ready bool, err error) {
	s, g := o.streams[rec.Stream], &w.gathering
	if s.spec.Files == nil || !s.spec.Files.Folder || !o.news(w, s, rec) {
		return true, nil
	}
	elements, read := g.elements[rec]
	if !read {
		if elements, err = s.spec.Elements(w.page.Body, rec); err != nil {
			return true, nil //nolint:nilerr // publish parks it
		}
		if g.elements == nil {
			g.elements = map[*source.Record][]source.Element{}
		}
		g.elements[rec] = elements
	}
	known, _ := s.files.get(string(rec.Key))
	ready = true
	for _, e := range elements {
		want := wanted{rec.Stream, rec.KeyHash, e.Hash}
		if got, ok := g.got[want]; ok {
			if err := s.blames(got.foreign, got.err); err != nil {
				return false, err
			}
			continue
		}
		if placeOf(known, e.Hash) >= 0 {
			continue
		}
		if !g.flight[want] && !g.full() {
			if err := o.obtain(w, s, rec, e, want); err != nil {
				return false, err
			}
		}
		_, got := g.got[want]
		ready = ready && got
	}
	return ready, nil
}

// placeOf returns where the file of an element stands among those that are known; -1 where it does not.
func placeOf(known []file, element uint64) int {
	return slices.IndexFunc(known, func(f file) bool { return f.state != unknownFile && f.element == element })
}

// news reports whether a record looks like one that is going to be published. Nothing rests on it: what is published after all
// without its files has them downloaded apart.
func (o *ownership) news(w *walk, s *stream, rec *source.Record) bool {
	if rec.Same || rec.Err != nil || rec.Kind != source.Live || offsets.CheckKey(rec.Key) != nil || o.refused[content{s, rec.KeyHash, rec.Hash}] {
		return false
	}
	known, ok := s.table.Get(rec.Key, rec.KeyHash)
	switch {
	case !ok:
		return true
	case older(rec, known): // P14: it is held first
		return false
	case !known.Live():
		return true
	case known.Rules == s.rules:
		return known.Hash != rec.Hash
	}
	rules, ok := s.ruleSet(known.Rules)
	if !ok {
		return false // compare says so
	}
	hash, err := o.rescan(w, s, rec, rules, w.page.Body)
	return err == nil && hash != known.Hash
}

// obtain begins to download the file of an element. One that cannot even be asked for is a file that is not to be had.
func (o *ownership) obtain(w *walk, s *stream, rec *source.Record, e source.Element, want wanted) error {
	if s.missed.len() >= mostMissed { // (4), (10)
		return cdc.Errorf(cdc.Retry, cdc.Stream, "download file", "See the status for what is wrong with them; where they cannot be had at all, take `files` out of the definition",
			"%d files of stream %s could not be had: its passes wait until there are less", s.missed.len(), s.spec.Name)
	}
	g := &w.gathering
	if g.got == nil {
		g.got, g.flight = map[wanted]outcome{}, map[wanted]bool{}
	}
	request, err := w.partition.request.File(w.partition.spec, want.stream, w.page.Body, rec, e)
	if err != nil {
		g.got[want] = outcome{err: err}
		return s.blames(false, err)
	}
	request.Background = w == w.partition.listing
	g.flight[want] = true
	w.partition.space.flight++
	o.download(fetched{walk: w, file: &download{want: want, foreign: request.Foreign}}, request, s.spec.Files.MaxBytes)
	return nil
}

// download starts the fetcher of one file.
func (o *ownership) download(f fetched, request *fetch.Request, most int64) {
	o.fetchers.Add(1)
	go func() {
		defer o.fetchers.Done()
		f.file.Stored, f.err = o.client.Store(o.ctx, request, o.options.Folder, most)
		select {
		case o.pages <- f:
		case <-o.ctx.Done():
		}
	}()
}

// blames returns what a pass fails with when a file could not be had; nil where the file alone is to blame, and the others go on.
func (s *stream) blames(foreign bool, err error) error {
	remedy, scope := cdc.Verdict(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fetch.ErrFolder), !foreign && remedy == cdc.Reopen, !foreign && remedy == cdc.Halt && scope >= cdc.Connection:
		return err
	case !s.spec.Files.Halt:
		return nil
	case remedy == cdc.Retry:
		return err // the pass is tried again, from where its cursor stands (4)
	default:
		return cdc.Errorf(cdc.Halt, cdc.Stream, "download file", "Mend it upstream or in `files`, or say `on_error: continue`, and start the connection again",
			"a file of stream %s cannot be had: %w", s.spec.Name, err)
	}
}

// downloaded takes a file that a page waits for, or one that was tried again.
func (o *ownership) downloaded(f fetched) error {
	d, w := f.file, f.walk
	if w == nil {
		return o.retried(d, f.err)
	}
	sp, g := w.partition.space, &w.gathering
	sp.flight--
	h := g.half
	switch {
	case w.over():
		if h != nil {
			return o.let(h, nil)
		}
		return o.serve(sp)
	case !g.flight[d.want]: // of a page before this one, whose record was no news after all
		return o.serve(sp)
	}
	delete(g.flight, d.want)
	if s := o.streams[d.want.stream]; f.err != nil && s.blames(d.foreign, f.err) == nil {
		o.log.Warn("a file could not be had", "stream", s.spec.Name, "why", reasonOf(f.err))
	}
	g.got[d.want] = outcome{d.Stored, d.foreign, f.err}
	if h == nil {
		return o.serve(sp)
	}
	g.half = nil
	delete(o.waiting, h)
	return o.take(h)
}

// let ends the hold of a page on its key space; the pass fails with err, if there is one.
func (o *ownership) let(h *half, err error) error {
	w := h.walk
	delete(o.waiting, h)
	h.page.release()
	w.gathering = gathering{}
	if remedy, _ := cdc.Verdict(err); err != nil && remedy == cdc.Retry && w == w.partition.listing {
		err = cdc.Errorf(cdc.Restart, cdc.Partition, "list", "", "%w", err) // D2: it cannot go on behind a page that it did not see to its end
	}
	if err != nil {
		err = o.fail(w, err)
	}
	if !h.held {
		return err
	}
	h.held = false
	w.partition.space.flight--
	return errors.Join(err, o.serve(w.partition.space))
}

// shelf is what is said of the files of a record that is to be published.
type shelf struct {
	list   []file
	missed map[int]offsets.File
	text   []byte // the value with it
}

// arrange finds out what is known of a record's files. What nobody has tried yet is tried at once, apart.
func (o *ownership) arrange(w *walk, s *stream, rec *source.Record, body []byte) (shelf, error) {
	sh := shelf{text: rec.Content(body)}
	if s.spec.Files == nil {
		return sh, nil
	}
	elements, err := s.spec.Elements(body, rec)
	if err != nil || len(elements) == 0 {
		return sh, err
	}
	if !s.spec.Files.Folder {
		return sh, sh.refer(w, rec, body, elements)
	}
	now := time.Now().UTC()
	known, _ := s.files.get(string(rec.Key))
	sh.missed = map[int]offsets.File{}
	for n, e := range elements {
		got, fresh := w.gathering.got[wanted{rec.Stream, rec.KeyHash, e.Hash}]
		at := placeOf(known, e.Hash)
		m := offsets.File{Element: offsets.Hex(e.Hash), At: now, Error: "it was not tried yet", Next: now}
		switch {
		case at >= 0 && known[at].state == storedFile:
			sh.list = append(sh.list, known[at])
			continue
		case fresh && got.err == nil:
			sh.list = append(sh.list, file{storedFile, e.Hash, got.Stored})
			continue
		case fresh:
			m.Error, m.Tries, m.Next = reasonOf(got.err), 1, now.Add(retryAfter(1))
		case at >= 0:
			m, _ = s.missed.get(missedName(string(rec.Key), at))
		}
		m.Partition, m.Record = w.partition.spec.Name, nil
		if text := rec.Whole(body); len(text) <= offsets.MaxFileRecord {
			m.Record = slices.Clone(text)
		}
		sh.list, sh.missed[n] = append(sh.list, file{state: missedFile, element: e.Hash}), m
	}
	return sh, sh.tell()
}

// reasonOf is why a file could not be had, for people.
func reasonOf(err error) string {
	var e *cdc.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

func retryAfter(tries int) time.Duration { return min(retryFirst<<min(tries-1, 10), retryLast) }

// said is what the value says of a file.
type said struct {
	Index  int    `json:"index"`
	SHA256 string `json:"sha256,omitempty"`
	Size   *int64 `json:"size,omitempty"`
	Path   string `json:"path,omitempty"` // in the folder
	URL    string `json:"url,omitempty"`  // store: reference
	Error  string `json:"error,omitempty"`
}

// tell puts what is known of the files into the value.
func (sh *shelf) tell() error {
	all := make([]said, len(sh.list))
	for n, f := range sh.list {
		all[n] = said{Index: n, Error: sh.missed[n].Error}
		if f.state == storedFile {
			all[n] = said{Index: n, SHA256: f.Name(), Size: &f.Size, Path: f.Path()}
		}
	}
	return sh.put(all)
}

// refer puts where the files are into the value.
func (sh *shelf) refer(w *walk, rec *source.Record, body []byte, elements []source.Element) error {
	all := make([]said, len(elements))
	for n, e := range elements {
		all[n] = said{Index: n}
		if request, err := w.partition.request.File(w.partition.spec, rec.Stream, body, rec, e); err != nil {
			all[n].Error = reasonOf(err)
		} else {
			all[n].URL = request.URL
		}
	}
	return sh.put(all)
}

// put appends the member of the files to the value, which is a map without it.
func (sh *shelf) put(all []said) error {
	var list bytes.Buffer
	enc := json.NewEncoder(&list)
	enc.SetEscapeHTML(false) // there are URLs in it
	if err := enc.Encode(all); err != nil {
		return err
	}
	open := bytes.TrimRight(sh.text[:len(sh.text)-1], " \t\r\n")
	comma := ","
	if len(open) == len("{") {
		comma = ""
	}
	sh.text = fmt.Appendf(slices.Clip(open), `%s"%s":%s}`, comma, source.FilesField, bytes.TrimSpace(list.Bytes()))
	return nil
}

// shelve stages what is known of a record's files, in the transaction of its event (1).
func (o *ownership) shelve(s *stream, key []byte, sh *shelf) error {
	name := string(key)
	known, _ := s.files.get(name)
	if len(known) == 0 && len(sh.list) == 0 {
		return nil
	}
	b, now := o.filling, time.Now().UTC()
	for n := range max(len(known), len(sh.list)) {
		k := offsets.Key{Kind: offsets.KindFile, Connection: o.name, Stream: s.spec.Name, Name: name, Number: n}
		m, missed := sh.missed[n]
		switch {
		case n >= len(sh.list):
			b.records.Offset(k.Append(nil), nil)
		case n < len(known) && known[n] == sh.list[n] && !missed:
			continue
		default:
			if f := sh.list[n]; !missed {
				m = offsets.File{Element: offsets.Hex(f.element), Digest: f.Name(), Size: f.Size, At: now}
			}
			value, err := offsets.Encode(m)
			if err != nil {
				return err
			}
			b.records.Offset(k.Append(nil), value)
		}
		if missed {
			s.missed.put(b.id, missedName(name, n), m)
		} else if n < len(known) && known[n].state == missedFile {
			s.missed.remove(b.id, missedName(name, n))
		}
	}
	if len(sh.list) > 0 {
		s.files.put(b.id, name, sh.list)
	} else {
		s.files.remove(b.id, name)
	}
	b.press(s)
	return nil
}

// applyFile takes the state of one file of a restore.
func (s *stream) applyFile(k offsets.Key, value []byte) error {
	f := file{}
	name := missedName(k.Name, k.Number)
	var m offsets.File
	if value != nil {
		var err error
		if m, err = offsets.Decode[offsets.File](value); err != nil {
			return err
		}
		f.state, f.element = missedFile, uint64(m.Element)
		if m.Digest != "" {
			f.state = storedFile
			if f.Stored, err = fetch.ParseStored(m.Digest, m.Size); err != nil {
				return cdc.Errorf(cdc.Halt, cdc.Connection, "restore", "Write a tombstone under the key, or restore an export; then start again", "%s: %w", k, err)
			}
		}
	}
	s.missed.apply(name, m, f.state != missedFile)
	list := slices.Clone(s.files.committed[k.Name])
	for len(list) <= k.Number {
		list = append(list, file{})
	}
	list[k.Number] = f
	for len(list) > 0 && list[len(list)-1].state == unknownFile {
		list = list[:len(list)-1]
	}
	s.files.apply(k.Name, list, len(list) == 0)
	return nil
}

// retry tries the files again that could not be had and are due, a few at a time.
func (o *ownership) retry(now time.Time) error {
	o.lastRetry = now
	for _, s := range o.streams {
		if s.halted != nil {
			continue
		}
		for name, m := range s.missed.committed {
			if len(o.retrying) >= retriesAtOnce {
				return nil
			}
			id := keyed{s, name}
			p := o.partitionOf(s, m.Partition)
			if o.retrying[id] || m.Record == nil || now.Before(m.Next) || p == nil || p.halted != nil {
				continue
			}
			if again, ok := s.missed.get(name); !ok || again.Element != m.Element || !again.Next.Equal(m.Next) {
				continue // it moved on, in a batch that is not settled
			}
			if err := o.retryOne(p, s, name, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// retryOne asks again for the file of an element of the record that is kept for it.
func (o *ownership) retryOne(p *partition, s *stream, name string, m offsets.File) error {
	d := &download{want: wanted{stream: s.spec.Index, element: uint64(m.Element)}, stream: s, missed: name}
	request, err := o.again(p, s, m)
	if err != nil {
		return o.retried(d, err)
	}
	d.foreign, request.Background = request.Foreign, true
	o.retrying[keyed{s, name}] = true
	o.download(fetched{file: d}, request, s.spec.Files.MaxBytes)
	return nil
}

// again writes the request for the file of a record that was kept.
func (o *ownership) again(p *partition, s *stream, m offsets.File) (*fetch.Request, error) {
	var page source.Page
	rec, err := p.request.Reread(p.spec, s.spec.Index, m.Record, &page)
	if err != nil {
		return nil, err
	}
	elements, err := s.spec.Elements(m.Record, rec)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(elements, func(e source.Element) bool { return e.Hash == uint64(m.Element) })
	if i < 0 {
		return nil, cdc.Errorf(cdc.Park, cdc.Record, "ask for file", "", "its record has no such element under the rules of today")
	}
	return p.request.File(p.spec, s.spec.Index, m.Record, rec, elements[i])
}

// retried takes what became of a file that was tried again. When it is there its record is published once more.
func (o *ownership) retried(d *download, failed error) error {
	s, now := d.stream, time.Now().UTC()
	delete(o.retrying, keyed{s, d.missed})
	m, ok := s.missed.get(d.missed)
	if !ok || uint64(m.Element) != d.want.element || s.halted != nil || o.ctx.Err() != nil {
		return nil //nolint:nilerr // its record was published anew meanwhile, or is gone
	}
	cut := strings.LastIndexByte(d.missed, '/')
	key := d.missed[:cut]
	known, _ := s.files.get(key)
	n, err := strconv.Atoi(d.missed[cut+1:])
	if err != nil || n >= len(known) {
		return cdc.Errorf(cdc.Reopen, cdc.Connection, "download file", "", "stream %s has no place for file %q: %w", s.spec.Name, d.missed, err)
	}
	sh := shelf{list: slices.Clone(known), missed: map[int]offsets.File{}}
	for i := range known { // those that are still missed stay so
		if other, ok := s.missed.get(missedName(key, i)); ok {
			sh.missed[i] = other
		}
	}
	if failed != nil {
		if err := s.blames(d.foreign, failed); err != nil && !errors.Is(err, fetch.ErrFolder) {
			if remedy, scope := cdc.Verdict(err); remedy == cdc.Halt && scope == cdc.Stream {
				o.haltStream(s, err)
				return nil
			} else if remedy != cdc.Retry {
				return err
			}
		}
		m.Tries, m.Error, m.At = m.Tries+1, reasonOf(failed), now
		m.Next = now.Add(retryAfter(m.Tries))
		sh.missed[n] = m
		return o.shelve(s, []byte(key), &sh)
	}
	delete(sh.missed, n)
	sh.list[n] = file{storedFile, uint64(m.Element), d.Stored}
	if err := o.shelve(s, []byte(key), &sh); err != nil {
		return err
	}
	return o.reissue(s, key, m)
}

// reissue publishes a record once more, since there is more to say of its files. Where the record changed meanwhile, its own event
// says it, or the next one will.
func (o *ownership) reissue(s *stream, key string, m offsets.File) error {
	p := o.partitionOf(s, m.Partition)
	if p == nil {
		return nil
	}
	var page source.Page
	rec, err := p.request.Reread(p.spec, s.spec.Index, m.Record, &page)
	if err != nil || string(rec.Key) != key {
		return nil //nolint:nilerr // the definition reads such records otherwise now
	}
	known, ok := s.table.Get(rec.Key, rec.KeyHash)
	if !ok || !known.Live() || known.Hash != rec.Hash || known.Rules != s.rules || o.refused[content{s, rec.KeyHash, rec.Hash}] {
		return nil
	}
	w := &walk{partition: p}
	sh, err := o.arrange(w, s, rec, page.Body)
	if err == nil {
		err = o.issue(s, rec, page.Body, sh.text, cdc.Updated, cdc.Filed)
	}
	if err != nil {
		o.log.Warn("a record is not published again with its file", "stream", s.spec.Name, "key", key, "error", err)
		return nil
	}
	o.store(s, rec.Key, rec.KeyHash, known) // (1): it stays what it was
	return nil
}

// hasFiles reports whether records of the walk may have files to download.
func (o *ownership) hasFiles(w *walk) bool {
	return slices.ContainsFunc(w.partition.request.Streams, func(st *source.Stream) bool { return st.Files != nil && st.Files.Folder })
}

// FilesTrouble says what is wrong with files, for people.
func (s StreamStatus) FilesTrouble() string {
	return many(s.FilesMissed, "file could not be had and is", "files could not be had and are") + " tried again: " + s.FilesError
}

// filesStatus says what is known of the files of a stream.
func (s *stream) filesStatus(st *StreamStatus) {
	for _, list := range s.files.committed {
		for _, f := range list {
			if f.state == storedFile {
				st.Files++
			}
		}
	}
	st.FilesMissed = s.missed.len()
	first := ""
	for name, m := range s.missed.committed {
		if first == "" || name < first {
			first, st.FilesError = name, clip(name)+": "+m.Error
		}
	}
}
