package admin

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tidemark/internal/capture"
)

// Fleet is what the process runs; the supervisor is one.
type Fleet interface {
	// Status returns a copy of what the process knows. It answers soon after ctx ends, if only with the phases.
	Status(ctx context.Context) capture.FleetStatus
}

// Options are what the admin pages show. Both must be given.
type Options struct {
	Fleet   Fleet
	Version string // of the program
}

// How long the connections may take to answer. A health check must not outlast the second that probes usually give it.
const (
	statusWithin = 5 * time.Second
	healthWithin = 500 * time.Millisecond
)

//go:embed page.html page.css page.js icon.svg
var assets embed.FS

// server answers for one process.
type server struct {
	Options
	page    *pageTemplate
	unowned *watch
	metrics http.Handler
}

// New returns the handler of the status page (/), the status as JSON (/status.json), liveness (/healthz), readiness (/readyz)
// and the metrics (/metrics). It serves GET and HEAD, and changes nothing.
func New(o Options) http.Handler {
	s := &server{Options: o, page: newPage(), unowned: &watch{since: map[string]time.Time{}}}
	s.metrics = promhttp.HandlerFor(registry(o), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.serveStatus)
	mux.HandleFunc("GET /status.json", s.serveJSON)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /metrics", s.metrics.ServeHTTP)
	for name, kind := range map[string]string{"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		mux.HandleFunc("GET /"+name, asset(name, kind+"; charset=utf-8"))
	}
	return guard(mux)
}

// guard sets the headers that keep the pages to themselves, and refuses what a page of another site could send through a
// browser on this machine.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cache-Control", "no-store")
		if !welcome(r) {
			http.Error(w, fmt.Sprintf("This server listens on this machine alone and does not answer as %.100q: ask for localhost or 127.0.0.1.",
				r.Host), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// welcome reports whether a request that came in over loopback asks for a name of loopback. A name that another site lets
// point to 127.0.0.1 would make its page and ours one origin, which may read everything (DNS rebinding). Where we listen on
// other addresses, the names by which we are known are not ours to know, and who can reach the port may read anyway.
func welcome(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// status asks the fleet, for at most within.
func (s *server) status(r *http.Request, within time.Duration) (capture.FleetStatus, []late) {
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	st := s.Fleet.Status(ctx)
	return st, s.unowned.look(st, time.Now())
}

func (s *server) serveStatus(w http.ResponseWriter, r *http.Request) {
	st, late := s.status(r, statusWithin)
	text, err := s.page.render(view(st, late, s.Version, time.Now()))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(text) // a reader that went away
}

func (s *server) serveJSON(w http.ResponseWriter, r *http.Request) {
	st, _ := s.status(r, statusWithin)
	text, err := json.MarshalIndent(struct {
		Version string `json:"version"`
		capture.FleetStatus
	}{s.Version, st}, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // a reader that went away
}

// serveHealth is liveness: a failure says that this process should be started again.
func (s *server) serveHealth(w http.ResponseWriter, r *http.Request) {
	_, late := s.status(r, healthWithin)
	var why []string
	for _, l := range late { // K6
		why = append(why, l.String())
	}
	answer(w, why)
}

// serveReady is readiness: every connection of an assigned shard runs.
func (s *server) serveReady(w http.ResponseWriter, r *http.Request) {
	st, _ := s.status(r, healthWithin)
	var why []string
	for _, c := range st.Connections {
		if assigned(st, c) && c.Phase.Name != running {
			why = append(why, strings.TrimSuffix(fmt.Sprintf("connection %s: %s: %s", c.Connection, c.Phase.Name, c.Phase.Error), ": "))
		}
	}
	answer(w, why)
}

// answer says ok, or line by line why not.
func answer(w http.ResponseWriter, why []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(why) == 0 {
		_, _ = fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, strings.Join(why, "\n"))
}

// asset serves one embedded file.
func asset(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, err := assets.ReadFile(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(text) // a reader that went away
	}
}
