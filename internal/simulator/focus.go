package simulator

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// What the simulated Focus takes as a login, beside the API key.
const (
	FocusClientID = 1
	FocusUsername = "simulated-user"
)

// Focus is a simulated Focus, the "cursor synchronization API" (APIS.md §3): resource "client/recording". Its methods may be
// called from any goroutine.
//
// Published are semantics only. Ours [chosen]: POST /client/recording.cursor with {}, {"start":…} or {"cursor":…}, and its
// answer; start is compared with the time of change, inclusively; the cursor is a place in the order (time of change,
// number), so that a late commit falls behind it; pages of 100; an unknown or expired cursor is 410, one beside a start 400;
// POST /client/recording.get {"interactionId":…} is a lookup; tokens live an hour; there is no budget; the bodies of errors.
type Focus struct {
	*Upstream
	recordings *resource
	logins     int64 // tokens of an older number are ended
}

// NewFocus returns a Focus as o describes it.
func NewFocus(o Options) *Focus {
	f := &Focus{Upstream: build(o, 100, -1)}
	f.routes = func(mux *http.ServeMux) {
		mux.HandleFunc("POST /api/authWithApiKey", f.serve(f.login))
		mux.HandleFunc("POST /api/client/recording.cursor", f.serve(f.listRecordings))
		mux.HandleFunc("POST /api/client/recording.get", f.serve(f.oneRecording))
	}
	f.failure, f.logout = focusFailure, func() { f.logins++ }
	f.instant = func(dst []byte, at int64) []byte {
		return time.UnixMicro(at).UTC().AppendFormat(dst, `"2006-01-02T15:04:05Z"`)
	}
	f.actions["expire_cursors"] = func(int) []string { f.ExpireCursors(); return nil }
	f.actions["expire_tokens"] = func(int) []string { f.ExpireTokens(); return nil }
	f.recordings = f.add(&resource{name: "client/recording", write: (*writer).recording}, o.Records["client/recording"])
	return f
}

func focusFailure(dst []byte, status int) []byte {
	return errorBody(dst, cmp.Or(map[int]string{
		http.StatusBadRequest:      "Bad request",
		http.StatusUnauthorized:    "Unauthorized",
		http.StatusForbidden:       "Forbidden",
		http.StatusNotFound:        "Recording not found",
		http.StatusGone:            "Unknown cursor",
		http.StatusTooManyRequests: "Too many requests",
	}[status], "Internal server error"))
}

// login answers POST /authWithApiKey with two tokens. When the first has expired one calls it again [doc].
func (f *Focus) login(c *call) reply {
	c.hit = f.hit(ask{name: "authWithApiKey"})
	if answer, refused := f.refused(c, c.hit); refused {
		return answer
	}
	var who struct {
		ClientID int    `json:"clientId"`
		APIKey   string `json:"apiKey"`
		Username string `json:"username"`
	}
	switch err := json.Unmarshal(c.form, &who); {
	case err != nil:
		return f.refusal(c, http.StatusBadRequest)
	case who.ClientID != FocusClientID || who.APIKey != f.o.APIKey || who.Username != FocusUsername:
		return f.refusal(c, http.StatusUnauthorized)
	}
	f.stats.Refreshes++
	return c.reply(http.StatusOK, fmt.Appendf(c.dst, `{"token":%q,"refreshToken":%q}`,
		f.jwt("access", c.now, f.o.TokenLife), f.jwt("refresh", c.now, 24*f.o.TokenLife)))
}

// claims are what a token says.
type claims struct {
	Use      string `json:"use"`
	ClientID int    `json:"clientId"`
	Login    int64  `json:"login"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// jwt is a token of HS256.
func (f *Focus) jwt(use string, now time.Time, life time.Duration) string {
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		part(encoded(nil, claims{use, FocusClientID, f.logins, now.Unix(), now.Add(life).Unix()}))
	return text + "." + part(f.sign(text))
}

func (f *Focus) sign(text string) []byte {
	sum := hmac.New(sha256.New, []byte(f.o.APIKey))
	sum.Write([]byte(text))
	return sum.Sum(nil)
}

// authorized reports whether a token is one of ours, for access, and not expired.
func (f *Focus) authorized(token string, now time.Time) bool {
	dot := strings.LastIndexByte(token, '.')
	text, signature := token[:max(dot, 0)], token[dot+1:]
	_, payload, _ := strings.Cut(text, ".")
	body, err := base64.RawURLEncoding.DecodeString(payload)
	sum, err2 := base64.RawURLEncoding.DecodeString(signature)
	var says claims
	return err == nil && err2 == nil && hmac.Equal(sum, f.sign(text)) && json.Unmarshal(body, &says) == nil &&
		says.Use == "access" && says.Login == f.logins && now.Unix() < says.Expires
}

// ExpireTokens ends every token now; a new login is all that it takes.
func (f *Focus) ExpireTokens() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logout()
}

// begin refuses what every request is refused for: faults, the token, the budget, a body that is not as it should be.
func (f *Focus) begin(c *call, a ask, body any) (reply, bool) {
	f.stats.Requests++
	c.hit = f.hit(a)
	if answer, refused := f.refused(c, c.hit); refused {
		return answer, false
	}
	token, bearer := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	var status int
	switch {
	case !bearer || !f.authorized(token, c.now):
		status = http.StatusUnauthorized
	case !f.take(1, c.now):
		status = http.StatusTooManyRequests
	case json.Unmarshal(c.form, body) != nil:
		status = http.StatusBadRequest
	default:
		return reply{}, true
	}
	return f.refusal(c, status), false
}

// listRecordings answers POST /client/recording.cursor. There is no sign that more is to be had: the end is an empty page,
// and that page has a new cursor too [guide].
func (f *Focus) listRecordings(c *call) reply {
	var from struct{ Start, Cursor *string }
	carries := bytes.Contains(c.form, []byte(`"cursor"`))
	if answer, ok := f.begin(c, ask{name: "client/recording", list: true, later: carries, cursor: carries}, &from); !ok {
		return answer
	}
	l := listing{r: f.recordings, from: null, to: math.MaxInt64, size: f.o.PageCap, after: &entry{updated: null}}
	switch {
	case from.Start != nil && from.Cursor != nil:
		return c.reply(http.StatusBadRequest, errorBody(c.dst, "either start or cursor"))
	case from.Start != nil:
		at, ok := instant(*from.Start)
		if !ok {
			return c.reply(http.StatusBadRequest, errorBody(c.dst, "start must be an iso8601 timestamp"))
		}
		l.after.updated = at
	case from.Cursor != nil:
		at, ok := f.unseal(*from.Cursor)
		if !ok || f.expired(at, c.now) {
			return f.refusal(c, http.StatusGone)
		}
		l.after = &at.entry
	}
	p := f.list(l, c.hit)
	dst := fmt.Appendf(c.dst, `{"cursor":%q,"recordings":[`, f.seal(p.last, 0, c.now))
	return c.reply(http.StatusOK, append(f.appendAll(dst, p), `]}`...))
}

// oneRecording answers POST /client/recording.get.
func (f *Focus) oneRecording(c *call) reply {
	var which struct{ InteractionID int64 }
	if answer, ok := f.begin(c, ask{name: "client/recording", lookup: true}, &which); !ok {
		return answer
	}
	r, w := f.find(f.recordings, which.InteractionID, c.hit)
	if w == nil {
		return f.refusal(c, http.StatusNotFound)
	}
	return c.reply(http.StatusOK, append(f.render(append(c.dst, `{"recording":`...), r, w.moment, w.origin), '}'))
}

// recording is a recorded conversation. interactionId and startDatetimeUTC are in the guide's example, the rest is [chosen].
func (w *writer) recording() {
	w.key(func() { w.number("interactionId", w.m.id) })
	w.time("startDatetimeUTC", w.created)
	w.time("endDatetimeUTC", w.created+int64(30+w.draw(10)%3600)*1_000_000)
	w.number("durationSeconds", int64(30+w.draw(10)%3600))
	w.text("direction", word([]string{"inbound", "outbound"}, w.draw(11)))
	w.text("channel", word([]string{"voice", "video"}, w.draw(12)))
	w.text("agentName", word(firstNames, w.draw(13)), " ", word(lastNames, w.draw(14)))
	w.text("phoneNumber", "+44 20 ", w.digits(15, 7))
	w.text("transcriptStatus", word([]string{"pending", "partial", "complete"}, w.shift(16)))
	w.number("revision", int64(w.m.content))
	w.truth("flagged", w.shift(17)%8 == 0)
	w.list("topics", word(moods, w.shift(18)), word(outcomes, w.shift(19)))
	w.number("playbackCount", int64(w.m.counts))
	w.null("reviewedBy")
}
