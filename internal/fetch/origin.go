package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"tidemark/internal/cdc"
)

// guard knows which places may be asked, with what, and at which addresses (DESIGN §9).
type guard struct {
	origins map[string]bool // scheme://host:port
	own     map[string]bool // host names of the origins: may be private, never link-local
	allow   map[string]bool // host or host:port that answers may name, wherever it is
	proxy   *url.URL        // nil: none
}

// newGuard parses the settings. Its errors never quote the proxy's URL, which may hold a password.
func newGuard(origins, allow []string, proxy string) (guard, error) {
	g := guard{origins: map[string]bool{}, own: map[string]bool{}, allow: map[string]bool{}}
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || !web(u) || u.Hostname() == "" || u.User != nil {
			return g, cdc.Errorf(cdc.Halt, cdc.Connection, "open connection", "Write it as https://host[:port][/path]; user and password belong into the authenticator.",
				"base_url or token_url is not the URL of a web server")
		}
		if a, ok := literal(u.Hostname()); ok && linkLocal(a) {
			return g, linkLocalError(u.Hostname())
		}
		g.origins[origin(u)] = true
		g.own[host(u)] = true
	}
	for _, a := range allow {
		g.allow[strings.ToLower(strings.TrimSpace(a))] = true
	}
	if proxy == "" {
		return g, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return g, cdc.Errorf(cdc.Halt, cdc.Connection, "open connection", "Write it as http://host:port, https://… or socks5://….", "proxy is not a proxy's URL")
	}
	g.proxy = u
	return g, nil
}

func web(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" }

// host returns the host of u as it is compared.
func host(u *url.URL) string { return strings.ToLower(u.Hostname()) }

// origin returns scheme, host and port of u as they are compared; url.Parse has lowered the scheme.
func origin(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(host(u), port(u))
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// check reports whether u is an origin's. Another place is an error, unless it is asked as foreign, at an address that is
// open to the world or allowed.
func (g guard) check(u *url.URL, foreign bool, where string) (own bool, err error) {
	const hint = "The answer or the definition leads away from base_url: if that host is the API's, name it in base_url; a redirecting or forged next link is never followed."
	switch {
	case !web(u) || u.Hostname() == "" || u.User != nil:
		return false, &cdc.Error{Op: "request", Err: errors.New("foreign URL: not an absolute http or https URL without user"), Hint: hint, Remedy: cdc.Halt, Scope: cdc.Stream}
	case g.origins[origin(u)]:
		return true, nil
	case !foreign && g.otherScheme(u):
		return false, &cdc.Error{Op: "request", Where: where, Err: fmt.Errorf("foreign URL: it begins with %s://, and base_url does not: the credential is not sent there", u.Scheme),
			Hint: schemeHint[u.Scheme], Remedy: cdc.Halt, Scope: cdc.Stream}
	case !foreign:
		return false, &cdc.Error{Op: "request", Where: where, Err: errors.New("foreign URL: the credential is not sent there"), Hint: hint, Remedy: cdc.Halt, Scope: cdc.Stream}
	}
	if a, ok := literal(u.Hostname()); ok {
		return false, g.permit(host(u), port(u), a)
	}
	return false, nil
}

// schemeHint is the way out where an answer's link has this scheme, and base_url the other one.
var schemeHint = map[string]string{
	"https": "It is the same host: write base_url with https://.",
	"http": "It is the same host, in clear text. An API behind a proxy may not know better: take the token out of the link, " +
		"with `paginator: {type: token}` and regex_find, or count pages.",
}

// otherScheme reports whether u differs from an origin in nothing but its scheme and the port that goes with it.
func (g guard) otherScheme(u *url.URL) bool {
	other := *u
	other.Scheme = map[string]string{"http": "https", "https": "http"}[u.Scheme]
	return g.origins[origin(&other)]
}

// permit reports whether a connection to host may go to address a.
func (g guard) permit(host, port string, a netip.Addr) error {
	switch {
	case g.proxy != nil && host == strings.ToLower(g.proxy.Hostname()):
		return nil // the operator's own choice
	case g.allow[host], g.allow[net.JoinHostPort(host, port)]:
		return nil
	case g.own[host]:
		if linkLocal(a) {
			return linkLocalError(host)
		}
		return nil
	case !public(a):
		return cdc.Errorf(cdc.Halt, cdc.Stream, "request", "If this host may be asked, name it in the connection's allow_hosts.",
			"foreign URL: an answer names host %.100s, whose address %s is private", host, a)
	}
	return nil
}

func linkLocalError(host string) error {
	return cdc.Errorf(cdc.Halt, cdc.Connection, "open connection", "Such addresses serve machine credentials, not APIs: mend base_url.",
		"host %.100s has a link-local address", host)
}

// dialer returns what the transport dials with. The address is checked again when it is known (a name may point anywhere, and
// elsewhere at every look-up), and it is the checked one that is connected to.
func (g guard) dialer(dial func(context.Context, string, string) (net.Conn, error), patience time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if dial != nil {
			return dial(ctx, network, addr)
		}
		name, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{KeepAlive: 30 * time.Second, Control: func(_, resolved string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return err
			}
			return g.permit(strings.ToLower(name), port, at.Addr())
		}}
		return d.DialContext(ctx, network, addr)
	}
}

// literal returns the address that a host is written as.
func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return a, err == nil
}

// plain takes an IPv4 address out of the IPv6 forms that carry one: mapped, NAT64 and 6to4.
func plain(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	b := a.As16()
	switch {
	case netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96).Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

func linkLocal(a netip.Addr) bool {
	a = plain(a)
	return a.IsLinkLocalUnicast() || a.IsMulticast()
}

// public reports whether a is an address of the open Internet.
func public(a netip.Addr) bool {
	a = plain(a)
	if !a.IsGlobalUnicast() || a.IsPrivate() || linkLocal(a) {
		return false // unspecified, loopback, multicast, link-local, private
	}
	if !a.Is4() {
		return true
	}
	b := a.As4()
	switch {
	case b[0] == 0, b[0] >= 240, // this network; reserved
		b[0] == 100 && b[1]&0xc0 == 64,            // 100.64/10: carrier's NAT
		b[0] == 192 && b[1] == 0 && b[2] == 0,     // 192.0.0/24: protocol assignments
		b[0] == 198 && (b[1] == 18 || b[1] == 19): // 198.18/15: benchmarks
		return false
	}
	return true
}
