package fetch

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/cdc"
)

// DefaultJudge accepts a 2xx answer that is no web page, and gives every other one its remedy: 5xx, 408, 425 and 429 Retry;
// 410 Expired for the partition (P17); 401 Halt for the connection; 403, 404, redirects and the rest Halt for the stream, with
// the beginning of what the server said.
func DefaultJudge(r *Response) error {
	said := func(remedy cdc.Remedy, scope cdc.Scope, hint string) error {
		text := "the server answered " + strconv.Itoa(r.Status)
		if name := http.StatusText(r.Status); name != "" {
			text += " " + name
		}
		if s := r.Excerpt(); s != "" {
			text += ": " + s
		}
		return &cdc.Error{Op: "request", Err: errors.New(text), Hint: hint, Remedy: remedy, Scope: scope}
	}
	switch s := r.Status; {
	case s >= 200 && s < 300:
		return webPage(r)
	case s >= 300 && s < 400:
		return redirect(r)
	case s == http.StatusUnauthorized:
		return said(cdc.Halt, cdc.Connection, "The credential is not accepted: put a valid one into the connection's config and restart it.")
	case s == http.StatusForbidden:
		return said(cdc.Halt, cdc.Stream, "The credential lacks a right: grant it upstream, or leave this stream out, then restart the stream.")
	case s == http.StatusNotFound:
		return said(cdc.Halt, cdc.Stream, "Nothing is there: mend base_url or the stream's path, then restart the stream.")
	case s == http.StatusGone:
		return said(cdc.Expired, cdc.Partition, "Everything is read once more by itself, and only what has changed is published.")
	case s >= 500, s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests:
		return said(cdc.Retry, cdc.Stream, "It is asked again by itself; if it stays so, see what the server's operator says.")
	default:
		return said(cdc.Halt, cdc.Stream, "The server refuses the request: mend the stream's parameters in the source definition, then restart the stream.")
	}
}

// webPage refuses HTML with a status of success (P18): a login page or a proxy's notice is never an empty page.
func webPage(r *Response) error {
	kind := r.Header.Get("Content-Type")
	if k := strings.ToLower(kind); !strings.HasPrefix(k, "text/html") && !strings.HasPrefix(k, "application/xhtml") {
		return nil
	}
	return cdc.Errorf(cdc.Halt, cdc.Stream, "request", "It is a login page, or a proxy's: mend base_url or the credential, then restart the stream.",
		"the server answered %d with a web page (%.60q): %s", r.Status, kind, r.Excerpt())
}

// redirect refuses to follow (DESIGN §9): the credential would go wherever the answer says.
func redirect(r *Response) error {
	to := "nowhere"
	if u, err := url.Parse(r.Header.Get("Location")); err == nil && (u.Host != "" || u.Path != "") {
		u.RawQuery, u.Fragment, u.User = "", "", nil // the query may quote a credential
		to = excerpt([]byte(u.String()), r.hide)
	}
	return cdc.Errorf(cdc.Halt, cdc.Stream, "request", "Redirects are not followed: if that is the right place, write it into base_url or the path, then restart the stream.",
		"the server answered %d and points to %s", r.Status, to)
}

// retryAfter returns how long an answer asks to wait, and whether it says so (RFC 9110, 10.2.3): in seconds, or until a
// date, which is read by the server's own clock where it sends one. Neither a past date nor a negative number says anything.
// 429 and 503 may say it, and whatever else a definition declares as passing.
func retryAfter(r *Response) (time.Duration, bool) {
	text := strings.TrimSpace(r.Header.Get("Retry-After"))
	if text == "" {
		return 0, false
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		if math.IsNaN(s) || s < 0 {
			return 0, false
		}
		return seconds(s), true
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	wait := until.Sub(clock(r)) // saturates
	return wait, wait > 0
}

// seconds returns s seconds, rounded up, and no more than a hundred years.
func seconds(s float64) time.Duration {
	const most = 100 * 365 * 24 * 3600
	return time.Duration(math.Ceil(math.Min(s, most))) * time.Second
}
