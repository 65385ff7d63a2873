package fetch

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/cdc"
)

// names are the files below dir, by their paths.
func names(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(rel)] = info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestStore: a file is streamed under the name of its content, whole or not at all, and no more of it than is allowed (10).
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		folder, err := OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		tries := 0
		c := client(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/big", "/copy":
				w.Write(big) //nolint:errcheck // the client sees a short body
			case "/zipped":
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				z.Write(big) //nolint:errcheck // as above
				z.Close()    //nolint:errcheck // as above
			case "/empty":
			case "/cut": // at first
				w.Header().Set("Content-Length", fmt.Sprint(len(big)))
				if tries++; tries == 1 {
					w.Write(big[:1000]) //nolint:errcheck // as above
					return
				}
				w.Write(big) //nolint:errcheck // as above
			case "/longer":
				w.(http.Flusher).Flush()  // its length is not said
				w.Write(append(big, 'x')) //nolint:errcheck // as above
			case "/said":
				w.Header().Set("Content-Length", fmt.Sprint(len(big)+1))
			default:
				http.NotFound(w, r)
			}
		}, nil)
		for _, path := range []string{"/big", "/copy", "/zipped", "/cut"} {
			s, err := c.Store(t.Context(), get(path), folder, int64(len(big)))
			if err != nil || s.Size != int64(len(big)) || s.Digest != sha256.Sum256(big) {
				t.Errorf("%s: %+v, %v", path, s, err)
			}
			if again, err := ParseStored(s.Name(), s.Size); err != nil || again != s {
				t.Errorf("%+v, %v", again, err)
			}
		}
		if s, err := c.Store(t.Context(), get("/empty"), folder, 1); err != nil || s.Size != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		for _, path := range []string{"/longer", "/said"} {
			_, err := c.Store(t.Context(), get(path), folder, int64(len(big)))
			want(t, err, cdc.Halt, cdc.Record, "longer than 1048576 bytes", "max_bytes")
		}
		_, err = c.Store(t.Context(), get("/none"), folder, 10)
		want(t, err, cdc.Halt, cdc.Stream, "404")
		one, none := Stored{Digest: sha256.Sum256(big)}, Stored{Digest: sha256.Sum256(nil)}
		if got := names(t, dir); len(got) != 2 || got[one.Path()] != int64(len(big)) || got[none.Path()] != 0 {
			t.Errorf("the folder holds %v", got)
		}
		if used, _ := c.pages.Used(); used != 0 {
			t.Errorf("%d bytes of pages are still held", used)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		_, err = c.Store(t.Context(), get("/empty"), folder, 10)
		if want(t, err, cdc.Retry, cdc.Stream, "FILES_DIR"); !errors.Is(err, ErrFolder) {
			t.Error(err)
		}
	})
}

// TestStoreTakesNoPages: whoever downloads may hold a page, so a download waits for no bytes of pages.
func TestStoreTakesNoPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages := NewPages(minPage)
		c := client(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") }, func(o *Options) { o.Pages = pages })
		held, err := c.Do(t.Context(), get("/page"))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Release()
		folder, err := OpenFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if s, err := c.Store(t.Context(), get("/file"), folder, 10); err != nil || s.Size != 2 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// TestOpenFolder takes away what a crash left unfinished long ago, and nothing else.
func TestOpenFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := OpenFolder(dir); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{".part-old": 25 * time.Hour, ".part-new": time.Hour, "old": 48 * time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFolder(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("the folder holds %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenFolder(filepath.Join(dir, "file"))
	if !errors.Is(err, ErrFolder) {
		t.Error(err)
	}
}
