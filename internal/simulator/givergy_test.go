package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/simulator"
)

func gala(o simulator.Options, events, items, purchases, guests int) *simulator.Givergy {
	o.Records = map[string]int{"events": events, "items": items, "purchases": purchases, "guests": guests}
	return simulator.NewGivergy(o)
}

const loginBody = `{"username":"` + simulator.GivergyUsername + `","password":"` + simulator.GivergyPassword + `","version":0}`

// givergyLogin logs in, and returns the cookie.
func givergyLogin(t *testing.T, g *simulator.Givergy) string {
	t.Helper()
	w := send(g.Handler(), "POST", "/checkin/v1/auth/login", loginBody)
	if w.Code != 200 || len(w.Result().Cookies()) != 1 || w.Header().Get("X-CSRF-Token") == "" {
		t.Fatalf("login: got %d %s %v", w.Code, w.Body, w.Header())
	}
	cookie := w.Result().Cookies()[0]
	return cookie.Name + "=" + cookie.Value
}

func askGivergy(t *testing.T, g *simulator.Givergy, path string) *httptest.ResponseRecorder {
	t.Helper()
	return send(g.Handler(), "GET", path, "", "Cookie", givergyLogin(t, g))
}

// rows is the answer to a list request that must be well.
func rows[T any](t *testing.T, g *simulator.Givergy, path string) T {
	t.Helper()
	w := askGivergy(t, g, path)
	if w.Code != 200 {
		t.Fatalf("%s: got %d %s", path, w.Code, w.Body)
	}
	return decoded[T](t, w)
}

func idsOf(records []object) []string {
	ids := []string{}
	for _, r := range records {
		ids = append(ids, r["id"].(string))
	}
	return ids
}

const exported = "/" + simulator.GivergyNamespace + "/v1/events"

func TestGivergyLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gala(simulator.Options{RateBudget: -1}, 3, 0, 0, 0)
		cookie := givergyLogin(t, g)
		with := func(cookie string) int { return send(g.Handler(), "GET", exported, "", "Cookie", cookie).Code }
		if got := []int{with(""), with("session=x"), with(cookie)}; !slices.Equal(got, []int{401, 401, 200}) {
			t.Errorf("none, wrong, good: got %v", got)
		}
		wait(time.Hour)
		if got := with(cookie); got != 401 {
			t.Errorf("a session that has ended: got %d, want 401", got)
		}
		cookie = givergyLogin(t, g)
		g.ExpireSessions()
		if got := with(cookie); got != 401 {
			t.Errorf("after ExpireSessions: got %d, want 401", got)
		}
		for body, want := range map[string]int{
			strings.Replace(loginBody, "-password", "-guess", 1): 401, `{"username":"a","password":"b"}`: 400, `{`: 400,
		} {
			w := send(g.Handler(), "POST", "/checkin/v1/auth/login", body)
			if w.Code != want || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s: got %d, want %d", body, w.Code, want)
			}
		}
	})
}

func TestGivergyErrors(t *testing.T) {
	g := gala(simulator.Options{RateBudget: -1}, 3, 2, 2, 2)
	event := idsOf(rows[[]object](t, g, exported+"?since=-1"))[0]
	for path, want := range map[string]string{
		exported + "?limit=1001": "bad_request", // more than 1000 is 400 [doc]
		exported + "?limit=0":    "bad_request", exported + "?limit=x": "bad_request", exported + "?offset=-1": "bad_request",
		exported + "?since=-2": "bad_request", exported + "?since=yesterday": "bad_request", exported + "?orderBy=name": "bad_request",
		exported + "/" + event + "/items?limit=1001": "bad_request", exported + "/x/items": "not_found", exported + "/" + event + "/dogs": "not_found",
		"/nobody/v1/events": "not_found", "/salesforce/v1/events": "not_found", "/blackbaud/v1/events": "not_found", // only one family lists events [doc]
		exported + "/x": "not_found", exported + "/" + event + "/guests/x": "not_found",
	} {
		w := askGivergy(t, g, path)
		body := decoded[map[string]string](t, w)
		if body["code"] != want || body["message"] == "" || len(body["extra"]) != 36 || w.Code != map[string]int{"bad_request": 400, "not_found": 404}[want] {
			t.Errorf("%s: got %d %s, want %s", path, w.Code, w.Body, want)
		}
	}
	for _, family := range []string{"salesforce", "blackbaud", simulator.GivergyNamespace} {
		for _, kind := range []string{"items", "purchases", "guests"} {
			if w := askGivergy(t, g, "/"+family+"/v1/events/"+event+"/"+kind); w.Code != 200 {
				t.Errorf("%s of %s: got %d", kind, family, w.Code)
			}
		}
	}
}

func TestGivergySince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait(26 * 365 * 24 * time.Hour) // a bubble begins in 2000
		g := gala(simulator.Options{Seed: 8, RateBudget: -1}, 200, 0, 0, 0)
		all := rows[[]object](t, g, exported+"?since=-1")
		byDefault := rows[[]object](t, g, exported)
		explicit := rows[[]object](t, g, exported+"?since=1606062358")
		if len(all) != 200 || len(byDefault) != 180 || !cmp.Equal(byDefault, explicit) {
			t.Errorf("-1: %d, left out: %d, explicit: %d; left out it is not everything [doc]", len(all), len(byDefault), len(explicit))
		}
		old := 0
		for _, e := range all {
			if e["updated"].(float64) < 1606062358 {
				old++
			}
		}
		if old != 20 {
			t.Errorf("%d events are older than November 2020", old)
		}
		some := int64(all[50]["updated"].(float64))
		ids := func(since int64) []string {
			return idsOf(rows[[]object](t, g, fmt.Sprintf("%s?since=%d", exported, since)))
		}
		if at, next := ids(some), ids(some+1); !slices.Contains(at, all[50]["id"].(string)) || slices.Contains(next, all[50]["id"].(string)) {
			t.Error("since is not inclusive, or not in seconds")
		}
		created := func(e object) float64 { return e["created"].(float64) }
		if !slices.IsSortedFunc(all, func(a, b object) int { return int(created(a) - created(b)) }) {
			t.Error("the default order is not createdAsc")
		}
		updated := rows[[]object](t, g, exported+"?since=-1&orderBy=updatedDesc")
		if !slices.IsSortedFunc(updated, func(a, b object) int { return int(b["updated"].(float64) - a["updated"].(float64)) }) {
			t.Error("orderBy=updatedDesc is in another order")
		}
	})
}

func TestGivergyPages(t *testing.T) {
	g := gala(simulator.Options{Seed: 2, RateBudget: -1}, 1, 40, 30, 1200)
	event := rows[[]object](t, g, exported+"?since=-1")[0]
	for _, name := range []string{"id", "name", "status", "startTime", "endTime", "created", "updated", "timezone", "currency"} {
		if event[name] == nil {
			t.Errorf("an event has no %s", name)
		}
	}
	path := exported + "/" + event["id"].(string)
	if first, rest := rows[[]object](t, g, path+"/guests?since=-1"), rows[[]object](t, g, path+"/guests?since=-1&offset=1000"); len(first) != 1000 || len(rest) != 200 {
		t.Errorf("limit is 1000 by default: got %d and %d guests", len(first), len(rest))
	}
	for bundle, want := range map[string]struct {
		categories []string
		n          int
	}{
		"items":     {[]string{"buyNows", "auctionItems", "pledges", "prizeDraws", "gliRaffles", "tickets"}, 40},
		"purchases": {[]string{"buyNows", "auctionItems", "donations", "prizeDraws", "gliRaffles", "tickets"}, 30},
	} {
		g.Delete(bundle+"/tickets", 7)
		seen := map[string][]string{}
		for offset := 0; ; offset += 15 { // until every category is empty
			w := askGivergy(t, g, fmt.Sprintf("%s/%s?since=-1&limit=15&offset=%d", path, bundle, offset))
			page := decoded[map[string][]object](t, w)
			n := 0
			for category, records := range page {
				if n += len(records); len(records) > 15 {
					t.Errorf("%s: %d records on a page", category, len(records))
				}
				seen[category] = append(seen[category], idsOf(records)...)
			}
			if len(page) != 6 {
				t.Fatalf("%s has %d arrays", bundle, len(page))
			}
			if n == 0 {
				if strings.Contains(w.Body.String(), "null") {
					t.Errorf("an empty bundle: got %s", w.Body)
				}
				break
			}
		}
		for _, category := range want.categories {
			n := want.n
			if category == "tickets" {
				n -= 7
			}
			ids := slices.Compact(slices.Sorted(slices.Values(seen[category])))
			if len(ids) != n || len(seen[category]) != n {
				t.Errorf("%s/%s: %d different of %d, want %d", bundle, category, len(ids), len(seen[category]), n)
			}
		}
	}
}

// Archived and obfuscated records vanish without a sign; what belongs to an event goes with it, in 404 or in silence.
func TestGivergyArchive(t *testing.T) {
	g := gala(simulator.Options{Seed: 3, RateBudget: -1}, 8, 20, 20, 60)
	before := g.Stats().Live
	events := rows[[]object](t, g, exported+"?since=-1")
	counts := map[string]int{}
	for _, id := range idsOf(events) {
		counts[id] = len(rows[[]object](t, g, exported+"/"+id+"/guests?since=-1"))
	}
	guest := g.Delete("guests", 1)[0]
	answers := map[int]int{}
	for _, id := range g.Delete("events", 4) {
		w := askGivergy(t, g, exported+"/"+id+"/items?since=-1")
		answers[w.Code]++
		if w.Code == 200 && strings.Contains(w.Body.String(), `"id"`) {
			t.Errorf("an obfuscated event shows its items: %.200s", w.Body)
		}
		if w := askGivergy(t, g, exported+"/"+id); w.Code != 404 {
			t.Errorf("the lookup of an archived event: got %d", w.Code)
		}
	}
	if answers[404] == 0 || answers[200] == 0 {
		t.Errorf("children of archived events: got %v, want 404s and silence", answers)
	}
	gone := map[string]bool{}
	for state := range g.History("guests") {
		var key [2]string
		if err := json.Unmarshal([]byte(state.Key), &key); err != nil || key[0] != state.Partition || key[1] != state.ID || counts[key[0]] == 0 {
			t.Fatalf("%v: %+v", err, state)
		}
		if gone[state.ID] = state.Value == nil; gone[state.ID] {
			if w := askGivergy(t, g, exported+"/"+key[0]+"/guests/"+key[1]); w.Code != 404 {
				t.Errorf("the lookup of %s: got %d", state.Key, w.Code)
			}
		}
	}
	n := 0
	for _, is := range gone {
		if is {
			n++
		}
	}
	if live := g.Stats().Live["guests"]; !gone[guest] || n < 10 || live != 60-n {
		t.Errorf("%d guests are gone, %d live", n, live)
	}
	g.Restore("events", 4)
	g.Restore("guests", 1)
	if diff := cmp.Diff(before, g.Stats().Live); diff != "" {
		t.Errorf("restored: -want +got\n%s", diff)
	}
	w := askGivergy(t, g, exported+"/"+idsOf(events)[0]+"/guests?since=-1&limit=1")
	first := decoded[[]object](t, w)[0]
	if w := askGivergy(t, g, exported+"/"+idsOf(events)[0]+"/guests/"+first["id"].(string)); !cmp.Equal(first, decoded[object](t, w)) {
		t.Errorf("lookup: got %s", w.Body)
	}
}

// A child changes without its event's updated moving, and one that becomes visible late belongs to its event all the same.
func TestGivergyChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gala(simulator.Options{Seed: 5, RateBudget: -1}, 3, 5, 5, 30)
		before := rows[[]object](t, g, exported+"?since=-1")
		g.Change("guests", 30)
		if diff := cmp.Diff(before, rows[[]object](t, g, exported+"?since=-1")); diff != "" {
			t.Errorf("guests changed, and so did events: -want +got\n%s", diff)
		}
		now := float64(time.Now().Unix())
		states := map[string]int{}
		for _, e := range before {
			switch {
			case e["endTime"].(float64) < now:
				states["over"]++
			case e["startTime"].(float64) > now:
				states["to come"]++
			default:
				states["active"]++
			}
		}
		if len(states) != 3 {
			t.Errorf("events: %v", states)
		}
		g.Late("guests", 30, time.Minute)
		g.Delete("events", 3)
		wait(time.Hour)
		if live := g.Stats().Live["guests"]; live != 0 {
			t.Errorf("%d guests came back without their event", live)
		}
		g.Restore("events", 3)
		if live := g.Stats().Live["guests"]; live != 30 {
			t.Errorf("%d guests came back with their events", live)
		}
		g.Delete("events", 3)
		if made := g.Create("guests", 2); len(made) != 0 {
			t.Errorf("guests without an event: %v", made)
		}
	})
}

// Plan for one request a second; no Retry-After; 503 where it goes on.
func TestGivergyBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gala(simulator.Options{}, 1, 0, 0, 0)
		cookie := givergyLogin(t, g)
		var got []int
		for range 22 {
			w := send(g.Handler(), "GET", exported, "", "Cookie", cookie)
			if got = append(got, w.Code); w.Header().Get("Retry-After") != "" {
				t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
			}
		}
		want := append(append(slices.Repeat([]int{200}, 10), slices.Repeat([]int{429}, 10)...), 503, 503)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		for range 30 {
			wait(time.Second)
			if w := send(g.Handler(), "GET", exported, "", "Cookie", cookie); w.Code != http.StatusOK && w.Code != 503 {
				t.Errorf("one a second: got %d", w.Code)
			}
		}
		if w := send(g.Handler(), "GET", exported, "", "Cookie", cookie); w.Code != 200 {
			t.Errorf("after half a minute of peace: got %d", w.Code)
		}
	})
}
