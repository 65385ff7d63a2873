package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidemark/internal/cdc"
)

// ErrFolder is inside every error of a folder that cannot be written: no file of upstream is to blame for it.
var ErrFolder = errors.New("the folder of files cannot be written")

// Folder keeps files under the SHA-256 of their content: what is in it never changes, and the same content stands there once,
// whoever named it. Several processes may share one. Nothing is ever removed from it but what a crash left unfinished.
type Folder struct{ dir string }

const (
	partial  = ".part-" // begins the names of files that are being written
	leftover = 24 * time.Hour
)

// OpenFolder makes the folder at dir ready, and takes away what was left unfinished long ago.
func OpenFolder(dir string) (*Folder, error) {
	f := &Folder{dir}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, f.fail(err)
	}
	probe, err := os.CreateTemp(dir, partial)
	if err != nil {
		return nil, f.fail(err)
	}
	probe.Close()
	_ = os.Remove(probe.Name()) // or the next OpenFolder of another day does
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, f.fail(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), partial) && time.Since(info.ModTime()) > leftover {
			_ = os.Remove(filepath.Join(dir, e.Name())) // another process may have been faster
		}
	}
	return f, nil
}

func (f *Folder) fail(err error) error {
	return &cdc.Error{Op: "store file", Where: f.dir, Err: errors.Join(ErrFolder, err), Remedy: cdc.Retry, Scope: cdc.Stream,
		Hint: "Look at the space and the rights of FILES_DIR; it is tried again"}
}

// Stored is a file of a folder.
type Stored struct {
	Digest [sha256.Size]byte
	Size   int64
}

// Name is the digest in hexadecimal.
func (s Stored) Name() string { return hex.EncodeToString(s.Digest[:]) }

// ParseStored reads what Name wrote of a file of that size.
func ParseStored(name string, size int64) (Stored, error) {
	s := Stored{Size: size}
	b, err := hex.DecodeString(name)
	if err != nil || copy(s.Digest[:], b) != len(s.Digest) || len(b) != len(s.Digest) {
		return Stored{}, fmt.Errorf("%.80q is no SHA-256", name)
	}
	return s, nil
}

// Path is where the file lies in its folder, with slashes.
func (s Stored) Path() string { return s.Name()[:2] + "/" + s.Name() }

// sink writes one file into a folder: what an answer brings goes to a temporary name, and only a whole one to its own.
type sink struct {
	folder *Folder
	most   int64
	file   *os.File
	sum    hash.Hash
	size   int64
}

// fill streams the body of answer into a temporary file. Whatever the server sends, no more than the limit is taken (10).
func (s *sink) fill(c *Client, answer *http.Response) (wire int64, err error) {
	s.discard() // of the attempt before
	if answer.ContentLength > s.most {
		return 0, tooBig(s.most)
	}
	if s.file, err = os.CreateTemp(s.folder.dir, partial); err != nil {
		return 0, s.folder.fail(err)
	}
	s.sum, s.size = sha256.New(), 0
	counted := counter{r: answer.Body, limit: s.most}
	body := io.Reader(&counted)
	switch encoding(answer.Header) {
	case "":
	case "gzip", "x-gzip": // it was not asked for
		z, ok := c.pages.inflaters.Get().(*gzip.Reader)
		if !ok {
			z = new(gzip.Reader)
		}
		defer c.pages.inflaters.Put(z)
		if err := z.Reset(body); err != nil {
			return counted.n, err
		}
		body = z
	default:
		return 0, cdc.Errorf(cdc.Halt, cdc.Stream, "store file", "The server must honour Accept-Encoding: is a proxy in between?",
			"the answer has Content-Encoding %.40q, asked for was none", strings.Join(answer.Header["Content-Encoding"], ", "))
	}
	err = s.copy(body)
	if counted.n > s.most { // the counter speaks of pages
		err = tooBig(s.most)
	}
	return counted.n, err
}

func (s *sink) copy(body io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if s.size += int64(n); s.size > s.most {
			return tooBig(s.most)
		}
		s.sum.Write(buf[:n]) // never fails
		if _, e := s.file.Write(buf[:n]); e != nil {
			return s.folder.fail(e)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func tooBig(limit int64) error {
	return cdc.Errorf(cdc.Halt, cdc.Record, "store file", "Raise `files.max_bytes` in the definition if it may be as long", "the file is longer than %d bytes", limit)
}

// keep gives the file its own name. It is there, whole, when keep returns, and after a crash too.
func (s *sink) keep() (Stored, error) {
	out := Stored{Size: s.size}
	s.sum.Sum(out.Digest[:0])
	to := filepath.Join(s.folder.dir, filepath.FromSlash(out.Path()))
	name := s.file.Name()
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	if err == nil {
		err = os.Mkdir(filepath.Dir(to), 0o750)
		if err == nil || errors.Is(err, os.ErrExist) {
			err = os.Rename(name, to)
		}
	}
	for _, dir := range []string{filepath.Dir(to), s.folder.dir} { // the names are as lasting as the bytes
		if err == nil {
			err = syncDir(dir)
		}
	}
	if err != nil {
		_ = os.Remove(name) // the next OpenFolder of another day does
		return Stored{}, s.folder.fail(err)
	}
	return out, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// discard takes away what was written and not kept.
func (s *sink) discard() {
	if s.file != nil {
		s.file.Close()
		_ = os.Remove(s.file.Name()) // as above
		s.file = nil
	}
}
