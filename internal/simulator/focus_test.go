package simulator_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/simulator"
)

func focus(o simulator.Options, recordings int) *simulator.Focus {
	o.Records = map[string]int{"client/recording": recordings}
	return simulator.NewFocus(o)
}

// focusLogin logs in, and returns both tokens.
func focusLogin(t *testing.T, f *simulator.Focus) (token, refresh string) {
	t.Helper()
	w := send(f.Handler(), "POST", "/api/authWithApiKey",
		fmt.Sprintf(`{"clientId":%d,"apiKey":%q,"username":%q}`, simulator.FocusClientID, simulator.APIKey, simulator.FocusUsername))
	if w.Code != 200 {
		t.Fatalf("login: got %d %s", w.Code, w.Body)
	}
	tokens := decoded[struct{ Token, RefreshToken string }](t, w)
	return tokens.Token, tokens.RefreshToken
}

func askFocus(t *testing.T, f *simulator.Focus, verb, body string) *httptest.ResponseRecorder {
	t.Helper()
	token, _ := focusLogin(t, f)
	return send(f.Handler(), "POST", "/api/client/recording."+verb, body, "Authorization", "Bearer "+token)
}

type recordingPage struct {
	Cursor     string
	Recordings []object
}

func (p recordingPage) ids() []int {
	ids := []int{}
	for _, r := range p.Recordings {
		ids = append(ids, int(r["interactionId"].(float64)))
	}
	return ids
}

func recordings(t *testing.T, f *simulator.Focus, body string) recordingPage {
	t.Helper()
	w := askFocus(t, f, "cursor", body)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"recordings":[`) {
		t.Fatalf("%s: got %d %s", body, w.Code, w.Body)
	}
	return decoded[recordingPage](t, w)
}

func from(cursor string) string { return fmt.Sprintf(`{"cursor":%q}`, cursor) }

// walkFocus reads to the empty page, which is the end.
func walkFocus(t *testing.T, f *simulator.Focus, body string) (ids []int, cursor string) {
	t.Helper()
	for {
		p := recordings(t, f, body)
		if len(p.Recordings) == 0 {
			return ids, p.Cursor
		}
		ids, body = append(ids, p.ids()...), from(p.Cursor)
	}
}

func TestFocusLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := focus(simulator.Options{}, 3)
		token, refresh := focusLogin(t, f)
		for _, part := range []string{token, refresh} {
			if strings.Count(part, ".") != 2 || !strings.HasPrefix(part, "eyJ") {
				t.Errorf("%s is no JWT", part)
			}
		}
		with := func(header string) int {
			return send(f.Handler(), "POST", "/api/client/recording.cursor", `{}`, "Authorization", header).Code
		}
		for name, c := range map[string]struct {
			header string
			want   int
		}{
			"none": {"", 401}, "no Bearer": {token, 401}, "not ours": {"Bearer a.b.c", 401}, "the refresh token": {"Bearer " + refresh, 401},
			"forged": {"Bearer " + token[:len(token)-2] + "xx", 401}, "good": {"Bearer " + token, 200},
		} {
			if got := with(c.header); got != c.want {
				t.Errorf("%s: got %d, want %d", name, got, c.want)
			}
		}
		wait(time.Hour)
		if got := with("Bearer " + token); got != 401 {
			t.Errorf("after an hour: got %d, want 401", got)
		}
		token, _ = focusLogin(t, f)
		if got := with("Bearer " + token); got != 200 {
			t.Errorf("logged in again: got %d", got)
		}
		f.ExpireTokens()
		if got := with("Bearer " + token); got != 401 {
			t.Errorf("after ExpireTokens: got %d, want 401", got)
		}
		for body, want := range map[string]int{
			`{"clientId":1,"apiKey":"wrong","username":"simulated-user"}`:                    401,
			`{"clientId":2,"apiKey":"` + simulator.APIKey + `","username":"simulated-user"}`: 401,
			`{"clientId":1}`: 401, `{`: 400,
		} {
			if w := send(f.Handler(), "POST", "/api/authWithApiKey", body); w.Code != want {
				t.Errorf("%s: got %d, want %d", body, w.Code, want)
			}
		}
	})
}

func TestFocusCursors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := focus(simulator.Options{Seed: 2, CursorLife: time.Hour}, 250)
		first := recordings(t, f, `{}`) // the initial request already returns data [guide]
		if len(first.Recordings) != 100 || first.Cursor == "" {
			t.Fatalf("got %d recordings, cursor %q", len(first.Recordings), first.Cursor)
		}
		ids, cursor := walkFocus(t, f, `{}`)
		if len(ids) != 250 {
			t.Fatalf("got %d recordings, want 250", len(ids))
		}
		wait(50 * time.Minute)
		empty := recordings(t, f, from(cursor))
		if len(empty.Recordings) != 0 || empty.Cursor == "" || empty.Cursor == cursor {
			t.Errorf("an empty answer still carries a cursor [guide]: got %+v", empty)
		}
		wait(20 * time.Minute)
		if w := askFocus(t, f, "cursor", from(cursor)); w.Code != 410 {
			t.Errorf("the cursor before it, 70 minutes old: got %d, want 410", w.Code)
		}
		changed := f.Change("client/recording", 3)
		if got := recordings(t, f, from(empty.Cursor)).ids(); len(got) != 3 || !slices.Contains(changed, fmt.Sprint(got[0])) {
			t.Errorf("after the stored one: got %v, want %v", got, changed)
		}
		if got, _ := walkFocus(t, f, fmt.Sprintf(`{"start":%q}`, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))); len(got) != 3 {
			t.Errorf("start: got %v, want %v", got, changed)
		}
		f.ExpireCursors()
		for body, want := range map[string]int{
			from(empty.Cursor): 410, from("abc"): 410, `{"cursor":"x","start":"2020-01-01"}`: 400, `{"start":"soon"}`: 400, `{`: 400,
		} {
			if w := askFocus(t, f, "cursor", body); w.Code != want {
				t.Errorf("%s: got %d %s, want %d", body, w.Code, w.Body, want)
			}
		}
	})
}

func TestFocusRecordingsVanish(t *testing.T) {
	f := focus(simulator.Options{Seed: 5}, 9)
	_, cursor := walkFocus(t, f, `{}`)
	gone := f.Delete("client/recording", 2)
	if got := recordings(t, f, from(cursor)); len(got.Recordings) != 0 {
		t.Errorf("the feed tells of a deletion: %v", got)
	}
	if ids, _ := walkFocus(t, f, `{}`); len(ids) != 7 {
		t.Errorf("got %v, want seven", ids)
	}
	for id := 1; id <= 9; id++ {
		w := askFocus(t, f, "get", fmt.Sprintf(`{"interactionId":%d}`, id))
		if slices.Contains(gone, fmt.Sprint(id)) {
			if w.Code != 404 {
				t.Errorf("%d is gone: got %d", id, w.Code)
			}
			continue
		}
		r := decoded[struct{ Recording object }](t, w).Recording
		if _, err := time.Parse("2006-01-02T15:04:05Z", r["startDatetimeUTC"].(string)); err != nil || r["interactionId"] != float64(id) {
			t.Errorf("%d: got %v", id, r)
		}
	}
	var last simulator.State
	for state := range f.History("client/recording") {
		last = state
	}
	if last.Value != nil || !slices.Contains(gone, last.Key) {
		t.Errorf("the history ends with %+v, want that one of %v is gone", last, gone)
	}
	f.Restore("client/recording", 2)
	if got := recordings(t, f, from(cursor)); len(got.Recordings) != 2 {
		t.Errorf("restored: got %v", got.ids())
	}
}

func TestFocusBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := focus(simulator.Options{RateBudget: 1}, 1)
		recordings(t, f, `{}`)
		if w := askFocus(t, f, "cursor", `{}`); w.Code != 429 || w.Header().Get("Retry-After") != "" {
			t.Errorf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
	})
}
