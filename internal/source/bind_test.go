package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/cdc"
)

const settings = `source: shop
config:
  url:   {default: "https://api.example.com"}
  token: {secret: true}
  shops: {type: list, default: [a, b]}
  limit: {type: integer, optional: true}
  since: {optional: true}
  live:  {type: boolean, default: true}
base_url: "{{ config.url }}"
authenticator: {type: bearer, token: "{{ config.token }}"}
streams:
  orders:
    path: "/shops/{{ partition.shop }}/orders"
    partition: {shop: "{{ config.shops }}"}
    query: {limit: "{{ config.limit }}", since: "{{ cursor ?? start }}", live: "{{ config.live }}"}
    records: data
    primary_key: id
    incremental: {cursor_field: updated_at, format: rfc3339, start: "{{ config.since }}"}
    hash: {exclude: [counts]}
  users: {path: /users, records: data, primary_key: id}
`

func TestBind(t *testing.T) {
	d := mustParse(t, settings)
	s, err := d.Bind("east", map[string]any{"token": cdc.NewSecret("hunter2"), "shops": []string{"x y", "z"}, "limit": "5", "since": "2024-01-31",
		"url": "https://api.example.com/v2/"}, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if s.BaseURL != "https://api.example.com/v2" || !slices.Equal(s.Origins, []string{"https://api.example.com"}) || s.Connection != "east" {
		t.Errorf("%q %q", s.BaseURL, s.Origins)
	}
	if s.Auth.Kind != AuthBearer || s.Auth.Value.Reveal() != "hunter2" || len(s.Secrets) != 1 || strings.Contains(fmt.Sprintf("%+v", s), "hunter2,") {
		t.Errorf("%+v", s.Auth)
	}
	r := s.Requests[0]
	var names []string
	for _, p := range r.Partitions() {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"shop=x+y", "shop=z"}, names); diff != "" {
		t.Error(diff)
	}
	if r.incremental.start != "2024-01-31T00:00:00Z" || !r.incremental.startTime.Equal(time.Date(2024, 1, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("start %v", r.incremental.start)
	}
	v := r.vars(r.Partitions()[0], time.Time{})
	if _, url, _, _, err := r.list.compose(s, &v); err != nil || url != "https://api.example.com/v2/shops/x%20y/orders?limit=5&live=true" {
		t.Errorf("%s %v", url, err)
	}
	if p := s.Requests[1].Partitions(); len(p) != 1 || p[0].Name != cdc.NoPartition {
		t.Errorf("%v", p)
	}
}

// TestBindErrors proves that a connection hears of everything that is wrong with its settings, and never of a secret.
func TestBindErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		config map[string]any
		want   []string
	}{
		{"missing and unknown", map[string]any{"tokn": "x", "shop": "y"},
			[]string{"config.token is missing (declared in x.yaml:4)", `config.tokn is no setting of shop (did you mean "token"?)`, `(did you mean "shops"?)`}},
		{"types", map[string]any{"token": "t", "shops": "a", "limit": "many", "live": "perhaps"},
			[]string{`config.shops: "a" is no list`, `config.limit: "many" is no integer`, `config.live: "perhaps" is no boolean`}},
		{"secret list", map[string]any{"token": []any{"hunter2"}}, []string{"config.token: it must be a string"}},
		{"empty", map[string]any{"token": ""}, []string{"config.token: it must be a string"}},
		{"empty list", map[string]any{"token": "t", "shops": []any{}}, []string{"partition shop (line 14): no values"}},
		{"twice", map[string]any{"token": "t", "shops": []any{"a", "a"}}, []string{"partition shop has a twice"}},
		{"nested list", map[string]any{"token": "t", "shops": []any{map[string]any{}}}, []string{"element 0 of the list is an empty map"}},
		{"scheme", map[string]any{"token": "t", "url": "ftp://x"}, []string{"must begin with https://"}},
		{"user in url", map[string]any{"token": "t", "url": "https://a:hunter2@x"}, []string{"belongs into the authenticator"}},
		{"start", map[string]any{"token": "t", "since": "yesterday"}, []string{`start "yesterday" is no time`}},
	} {
		_, err := mustParse(t, settings).Bind("c", c.config, Overrides{})
		if err == nil {
			t.Errorf("%s: taken", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in %v", c.name, w, err)
			}
		}
		if r, s := cdc.Verdict(err); r != cdc.Halt || s != cdc.Connection || cdc.Hint(err) == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOverrides(t *testing.T) {
	d := mustParse(t, settings)
	config := map[string]any{"token": "t"}
	s, err := d.Bind("c", config, Overrides{
		Streams: map[string]StreamOverride{"orders": {Interval: time.Hour, Hash: &HashOverride{Include: []string{"b", "a"}}, ReconcileEvery: 48 * time.Hour,
			Topic: TopicSettings{Name: "my.orders", Partitions: 12, Retention: -1}}},
		Rate: &RateOverride{Budget: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	st, r := s.Streams[0], s.Requests[0]
	if len(s.Streams) != 1 || r.Interval.fixed != time.Hour || st.Reconcile.Every != 48*time.Hour || s.Rate.Budget != 10 || s.Rate.Per != time.Minute ||
		st.Topic != (TopicSettings{Name: "my.orders", Partitions: 12, Retention: -1}) ||
		!slices.Equal(st.Rules.Include, []string{"a", "b"}) || st.Rules.Exclude != nil {
		t.Errorf("%+v %+v", st, r.Interval)
	}
	// The definition itself did not change: the next connection gets what is written.
	s, err = d.Bind("d", config, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Streams) != 2 || !slices.Equal(s.Streams[0].Rules.Exclude, []string{"counts"}) || s.Requests[0].Interval.fixed != defaultEvery {
		t.Errorf("%+v", s.Streams[0].Rules)
	}
	if _, err := d.Bind("c", config, Overrides{Streams: map[string]StreamOverride{"ordrs": {}}}); err == nil || !strings.Contains(err.Error(), `did you mean "orders"?`) {
		t.Error(err)
	}
	if _, err := d.Bind("c", config, Overrides{Streams: map[string]StreamOverride{}}); err == nil {
		t.Error("no stream was chosen")
	}
}

func TestAuth(t *testing.T) {
	for text, want := range map[string]Auth{
		"{type: none}": {Kind: AuthNone},
		"{type: basic, username: u, password: p}":                                     {Kind: AuthBasic, Username: "u", Password: cdc.NewSecret("p")},
		`{type: basic, username: "{{ config.none }}", password: "{{ config.none }}"}`: {Kind: AuthNone},
		"{type: api_key, query: key, value: v}":                                       {Kind: AuthAPIKey, Query: "key", Value: cdc.NewSecret("v")},
		"{type: oauth2, grant_type: refresh_token, token_url: 'https://auth.example.com/t', client_id: i, client_secret: s, refresh_token: r, scopes: [a]}": {
			Kind: AuthOAuth2, GrantType: "refresh_token", TokenURL: "https://auth.example.com/t", ClientID: "i", ClientSecret: cdc.NewSecret("s"),
			RefreshToken: cdc.NewSecret("r"), Scopes: []string{"a"}},
	} {
		s := mustBind(t, strings.Replace(minimal, "streams:", "config: {none: {optional: true}}\nauthenticator: "+text+"\nstreams:", 1), nil)
		if diff := cmp.Diff(want, s.Auth, cmp.Comparer(func(a, b cdc.Secret) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		if want.Kind == AuthOAuth2 && !slices.Contains(s.Origins, "https://auth.example.com") {
			t.Errorf("%q", s.Origins)
		}
	}
}

// TestURLOrigins proves that the origins to which credentials may go are known before anything is asked.
func TestURLOrigins(t *testing.T) {
	text := strings.Replace(minimal, "path: /orders", "url: 'https://other.example.com/{{ config.x }}/orders'", 1)
	s := mustBind(t, strings.Replace(text, "streams:", "config: {x: {}}\nstreams:", 1), map[string]any{"x": "a/b"})
	v := s.Requests[0].vars(s.Requests[0].Partitions()[0], time.Time{})
	if _, url, _, _, err := s.Requests[0].list.compose(s, &v); err != nil || url != "https://other.example.com/a%2Fb/orders" {
		t.Errorf("%s %v", url, err)
	}
	if !slices.Equal(s.Origins, []string{"https://api.example.com", "https://other.example.com"}) {
		t.Errorf("%q", s.Origins)
	}
	for _, url := range []string{"https://{{ config.x }}/orders", "https://a.{{ config.x }}/orders", "{{ config.x }}/orders"} {
		text := strings.Replace(minimal, "path: /orders", "url: '"+url+"'", 1)
		d := mustParse(t, strings.Replace(text, "streams:", "config: {x: {}}\nstreams:", 1))
		if _, err := d.Bind("c", map[string]any{"x": "evil.example.com"}, Overrides{}); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}

func TestIntervalRules(t *testing.T) {
	s := mustBind(t, withStream("partition: {view: [Listings, Other]}\ninterval:\n  - {when: \"partition.view == 'Listings' && unix(now) < 100\", every: 3m}\n  - {every: 1h}"), nil)
	r := s.Requests[0]
	for _, c := range []struct {
		view int
		at   int64
		want time.Duration
	}{{0, 50, 3 * time.Minute}, {0, 150, time.Hour}, {1, 50, time.Hour}} {
		if got, err := r.Every(r.Partitions()[c.view], time.Unix(c.at, 0)); err != nil || got != c.want {
			t.Errorf("%+v: %v %v", c, got, err)
		}
	}
}

func TestCost(t *testing.T) {
	d, err := Open("salesloft")
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Bind("c", map[string]any{"client_id": "a", "client_secret": "b", "refresh_token": "c"}, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	for page, want := range map[int64]int{0: 1, 100: 1, 101: 3, 151: 8, 251: 10, 501: 30} {
		v := &vars{}
		if page > 0 {
			v.tiePage = &page
		}
		if got, err := s.Requests[0].cost(v); err != nil || got != want {
			t.Errorf("page %d: %d %v", page, got, err)
		}
	}
	if got, err := mustBind(t, minimal, nil).Requests[0].cost(&vars{}); err != nil || got != 1 {
		t.Errorf("default: %d %v", got, err)
	}
}

// P16: the zone of an account is a setting of the connection: requests are written in it, and so are texts without an offset read.
func TestP16ZoneOfASetting(t *testing.T) {
	text := strings.Replace(settings, "  live:", "  zone:  {}\n  live:", 1)
	text = strings.Replace(text, "format: rfc3339", `format: {record: rfc3339, request: "%Y-%m-%d %H:%M", zone: "{{ config.zone }}"}`, 1)
	d := mustParse(t, text)
	bind := func(zone string) (*Source, error) {
		return d.Bind("east", map[string]any{"token": cdc.NewSecret("x"), "zone": zone, "since": "2024-07-31T12:00:00Z"}, Overrides{})
	}
	prints := map[string]bool{}
	for zone, start := range map[string]string{"Europe/Berlin": "2024-07-31 14:00", "America/New_York": "2024-07-31 08:00", "UTC": "2024-07-31 12:00"} {
		s, err := bind(zone)
		if err != nil {
			t.Fatal(err)
		}
		in := s.Requests[0].incremental
		if at, err := in.record.parse([]byte("2024-07-31T14:00:00")); in.start != start || zone == "Europe/Berlin" && (err != nil || !at.Equal(in.startTime)) {
			t.Errorf("%s: %v, %v %v", zone, in.start, at, err)
		}
		if s.Streams[0].versionFormat != in.record {
			t.Errorf("%s: versions are read in another zone", zone)
		}
		prints[s.Requests[0].RequestPrint] = true
	}
	if len(prints) != 3 {
		t.Error("P23: another zone is another request")
	}
	if _, err := bind("Mars"); err == nil || !strings.Contains(err.Error(), `format.zone: unknown zone "Mars"`) {
		t.Errorf("%v", err)
	}
}
