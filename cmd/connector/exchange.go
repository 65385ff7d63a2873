package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/source"
)

// sender answers requests: the API through fetch, or a directory of recorded answers.
type sender func(context.Context, *fetch.Request) (*fetch.Response, error)

// credentialOf is what a source puts on its requests. A grant that rotates is the connector's alone (9), so instead of it access
// is sent as a bearer token.
func credentialOf(src *source.Source, access cdc.Secret) (fetch.Credential, error) {
	if !access.IsZero() {
		return fetch.Bearer(access), nil
	}
	return src.Credential(nil)
}

// client are the options of a client for the connection's source, as a command asks it: with a budget of its own.
func (c declared) client(budget *fetch.Budget, credential fetch.Credential) fetch.Options {
	return fetch.Options{
		Origins: c.bound.Origins, Budget: budget, Credential: credential, Secrets: c.bound.Secrets, Attempts: 2, Proxy: c.Proxy, CAFile: c.CAFile,
		AllowHosts: c.AllowHosts, UserAgent: "tidemark/" + version,
	}
}

// veil hides the secrets that a trial knows, and more of them.
type veil func(text string, more ...cdc.Secret) string

// private are the headers whose values prove who asks, whatever they are made of.
var private = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"}

// header is a header's value as it is shown.
func (hide veil) header(name, value string, more []cdc.Secret) string {
	if slices.Contains(private, http.CanonicalHeaderKey(name)) {
		return "***"
	}
	return hide(value, more...)
}

// ask is a request as it is shown and kept: its URL and its body.
func (hide veil) ask(r *fetch.Request) (target, sent string) {
	return hide(r.URL, r.Secrets...), hide(string(r.Body), r.Secrets...)
}

// spoilt finds the texts of a JSON text, and what is no text and was hidden.
var spoilt = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s",:\[\]{}]*\*\*\*[^\s",:\[\]{}]*`)

// body is an answer's as it is kept. What was JSON stays JSON: a number that is a secret becomes 0.
func (hide veil) body(body []byte, more []cdc.Secret) []byte {
	text := hide(string(body), more...)
	if json.Valid(body) && !json.Valid([]byte(text)) {
		text = spoilt.ReplaceAllStringFunc(text, func(part string) string {
			if part[0] == '"' {
				return part
			}
			return "0"
		})
	}
	return []byte(text)
}

// exchanged is one request with its answer, as it stands in a directory: NNN.json, and the answer's body in NNN.body. Secrets are
// in neither.
type exchanged struct {
	Method   string      `json:"method"`
	URL      string      `json:"url"`
	Sent     string      `json:"sent,omitempty"` // the request's body
	Status   int         `json:"status"`
	Header   http.Header `json:"header"`
	Began    time.Time   `json:"began"`
	Received time.Time   `json:"received"`
	Server   time.Time   `json:"server_time"`
}

// recording is the rest of such a directory: what templates take from the clock.
type recording struct {
	Source string    `json:"source"`
	Now    time.Time `json:"now"`
	Onward bool      `json:"onward"` // the next pass was asked for, too
}

const recordingFile = "recording.json"

func methodOf(r *fetch.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// recorder writes exchanges into a directory.
type recorder struct {
	dir  string
	hide veil
	n    int
}

// newRecorder makes the directory, which must hold no other recording.
func newRecorder(dir string, hide veil, about recording) (*recorder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return nil, errors.Join(err, fmt.Errorf("--record %s: the directory is not empty; name a new one", dir))
	}
	return &recorder{dir: dir, hide: hide}, writeJSON(filepath.Join(dir, recordingFile), about)
}

func writeJSON(file string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the URLs are for people
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// write stores one exchange; the answer is only good during the call.
func (r *recorder) write(request *fetch.Request, answer *fetch.Response) error {
	r.n++
	base := filepath.Join(r.dir, fmt.Sprintf("%03d", r.n))
	header := http.Header{}
	for name, values := range answer.Header {
		if name == "Set-Cookie" {
			continue
		}
		for _, v := range values {
			header.Add(name, r.hide.header(name, v, request.Secrets))
		}
	}
	if err := os.WriteFile(base+".body", r.hide.body(answer.Body, request.Secrets), 0o644); err != nil {
		return err
	}
	target, sent := r.hide.ask(request)
	return writeJSON(base+".json", exchanged{
		Method: methodOf(request), URL: target, Sent: sent, Status: answer.Status, Header: header,
		Began: answer.Sent.UTC(), Received: answer.Received.UTC(), Server: answer.ServerTime.UTC(),
	})
}

// replayer answers from a directory: the n-th identical request gets its n-th answer, and after the last one that again.
type replayer struct {
	dir     string
	hide    veil
	about   recording
	answers map[string][]stored
}

// stored is a recorded answer.
type stored struct {
	exchanged
	body []byte
}

func openReplay(dir string) (*replayer, error) {
	r := &replayer{dir: dir, answers: map[string][]stored{}}
	text, err := os.ReadFile(filepath.Join(dir, recordingFile))
	if err == nil {
		err = json.Unmarshal(text, &r.about)
	}
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "replay", "Make a recording with --record DIR", "%w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, file := range files {
		var s stored
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &s.exchanged)
		}
		if err == nil {
			s.body, err = os.ReadFile(strings.TrimSuffix(file, ".json") + ".body")
		}
		if err != nil {
			return nil, fmt.Errorf("replay %s: %w", file, err)
		}
		key := askedAs(s.Method, s.URL, s.Sent)
		r.answers[key] = append(r.answers[key], s)
	}
	return r, nil
}

// askedAs tells requests apart. What an answer had a secret in is asked for without it: a page token is escaped then, stars and all.
func askedAs(method, target, sent string) string {
	return strings.ReplaceAll(method+" "+target+"\n"+sent, "%2A%2A%2A", "***")
}

// send implements sender. An answer that is to be asked for again is followed by the next recorded one.
func (r *replayer) send(_ context.Context, request *fetch.Request) (*fetch.Response, error) {
	target, sent := r.hide.ask(request)
	key := askedAs(methodOf(request), target, sent)
	for {
		left := r.answers[key]
		if len(left) == 0 {
			return nil, cdc.Errorf(cdc.Halt, cdc.Stream, "replay "+r.dir, "The definition asks for something else than when it was recorded; record anew if that is meant",
				"no recorded answer to %s %s", methodOf(request), target)
		}
		s := left[0]
		if len(left) > 1 {
			r.answers[key] = left[1:]
		}
		answer := &fetch.Response{
			Status: s.Status, Header: s.Header, Body: bytes.Clone(s.body), Sent: s.Began, Began: s.Began, Received: s.Received,
			ServerTime: s.Server, Wire: int64(len(s.body)),
		}
		judge := request.Judge
		if judge == nil {
			judge = fetch.DefaultJudge
		}
		err := judge(answer)
		if err == nil {
			return answer, nil
		}
		if remedy, _ := cdc.Verdict(err); remedy != cdc.Retry || len(left) == 1 {
			return nil, err
		}
	}
}
