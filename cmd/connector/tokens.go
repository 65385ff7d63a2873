package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/kafka"
	"tidemark/internal/offsets"
)

// tokensCommand shows and replaces grants that rotate.
func tokensCommand(ctx context.Context, p *program, args []string) error {
	return p.verb(ctx, "tokens", args, []command{
		{name: "status", args: "[CONNECTION]", does: "what Kafka holds of each grant: generation, state, age; never the tokens", run: tokensStatus},
		{name: "replace", args: "CONNECTION [--env VARIABLE] --yes", does: "store another refresh token, from standard input or a variable", run: tokensReplace},
	})
}

// tokensStatus prints the token records of the offsets topic.
func tokensStatus(ctx context.Context, p *program, args []string) error {
	rest, err := parse(p.flags("tokens status", "[CONNECTION]"), args, 1)
	if err != nil {
		return err
	}
	d, err := p.distant("tokens status")
	if err != nil {
		return err
	}
	stored, err := readHoldings(ctx, d.kafka)
	if err != nil {
		return err
	}
	configured, err := d.connections()
	if err != nil {
		return err
	}
	rows := [][]string{{"CONNECTION", "GENERATION", "STATE", "SINCE", "ACCESS TOKEN", "NOTE"}}
	chosen := func(name string) bool { return len(rest) == 0 || rest[0] == name }
	known := map[string]bool{}
	for _, c := range configured {
		if !c.bound.Auth.Rotates() || !chosen(c.Name) {
			continue
		}
		known[c.Name] = true
		row := []string{c.Name, "0", "nothing is stored", "-", "-", "the refresh token of the configuration is next"}
		if c.bound.Auth.RefreshToken.IsZero() {
			row[5] = "there is no grant: connector login or connector tokens replace gives it one"
		}
		if h := d.of(stored, c); h.token != nil {
			row = d.tokenRow(h, "")
		}
		rows = append(rows, row)
	}
	for _, h := range stored {
		if h.token != nil && chosen(h.connection) && !known[h.connection] {
			rows = append(rows, d.tokenRow(h, "no grant of it rotates in "+d.settings.Connections))
		}
	}
	if len(rows) == 1 {
		if len(rest) > 0 {
			return cdc.Errorf(cdc.Halt, cdc.Process, "tokens status", "`connector tokens status` shows all of them", "connection %q has no grant that rotates", rest[0])
		}
		fmt.Fprintln(p.out, "No connection has a grant that rotates.")
		return nil
	}
	aligned(p.out, rows)
	return nil
}

// tokenRow says what a token record tells; what is sealed in it only as far as when it ends.
func (d *deployment) tokenRow(h *holdings, note string) []string {
	t := h.token
	now := time.Now()
	row := []string{h.connection, strconv.FormatInt(t.Generation, 10), "stored", t.At.Format(time.RFC3339) + " (" + ago(t.At, now) + ")", "-", note}
	if t.Intent {
		row[2] = "a refresh is under way, or its outcome is not known"
	}
	g, err := d.unseal(h)
	switch {
	case err != nil && note == "":
		row[5], _ = bare(err)
	case err != nil:
	case g.Access.IsZero():
		row[4] = "none yet"
	case g.Expires.IsZero():
		row[4] = "till it is refused"
	case g.Expires.Before(now):
		row[4] = "expired " + g.Expires.Format(time.RFC3339)
	default:
		row[4] = "till " + g.Expires.Format(time.RFC3339)
	}
	return row
}

// unseal opens what is stored of a grant. Of an intent that is the grant that was being replaced.
func (d *deployment) unseal(h *holdings) (offsets.Grant, error) {
	key, t := d.settings.sealKey(), h.token
	if key == nil {
		return offsets.Grant{}, errors.New("SECRET_KEY is not set")
	}
	if t.Intent {
		return offsets.OpenGrant(*key, h.connection, t.Generation-1, t.Previous)
	}
	return offsets.OpenGrant(*key, h.connection, t.Generation, t.Sealed)
}

// replacing puts another grant in the place of a connection's.
type replacing struct {
	surgery
	grant fetch.Grant
	wrote []int64 // the generations under which it was tried to be stored: of the commits only the last has a known outcome
	saw   *offsets.Token
}

// tokensReplace stores another refresh token.
func tokensReplace(ctx context.Context, p *program, args []string) error {
	r := replacing{surgery: surgery{p: p}}
	f := p.flags("tokens replace", "CONNECTION [--env VARIABLE] [--dry-run] --yes < FILE")
	variable := f.String("env", "", "take the refresh token from this variable instead of standard input")
	r.consent(f)
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: connector tokens replace CONNECTION", errUsage)
	}
	if err := r.prepare(ctx, "tokens replace", rest[0]); err != nil {
		return err
	}
	r.plan()
	if ok, err := r.agreed(); !ok {
		return err
	}
	refresh, err := p.secret(*variable)
	if err != nil {
		return err
	}
	r.grant.Refresh = refresh
	return r.store(ctx)
}

// secret reads a secret from a variable, or one line from standard input.
func (p *program) secret(variable string) (cdc.Secret, error) {
	var text string
	if variable != "" {
		text, _ = p.env(variable)
	} else if p.in != nil {
		const most = 64 << 10 // no token is as long
		all, err := io.ReadAll(io.LimitReader(p.in, most))
		if err != nil {
			return cdc.Secret{}, fmt.Errorf("read standard input: %w", err)
		}
		text = string(all)
	}
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return cdc.Secret{}, fmt.Errorf("%w: the refresh token must come alone, in one line, from standard input or from the variable that --env names", errUsage)
	}
	return cdc.NewSecret(text), nil
}

// prepare finds the connection, what stands of it, and whether there is a key to seal with.
func (r *replacing) prepare(ctx context.Context, name, connection string) (err error) {
	if r.d, err = r.p.distant(name); err != nil {
		return err
	}
	if err := r.choose(connection); err != nil {
		return err
	}
	refuse := func(hint, format string, args ...any) error {
		e := cdc.Errorf(cdc.Halt, cdc.Connection, name, hint, format, args...)
		e.Where = connection
		return e
	}
	switch {
	case !r.target.bound.Auth.Rotates():
		return refuse("Its credentials stand in "+r.d.settings.Connections, "source %s has no grant that rotates (its authenticator is %s)", r.target.bound.Name, authOf(r.target.bound))
	case r.d.settings.sealKey() == nil:
		return refuse("Set SECRET_KEY to the output of `openssl rand -base64 32`, the same for every instance, and keep it", "SECRET_KEY is not set, and the grant is stored sealed")
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.now == nil { // it has never run
		r.now, err = newHoldings(connection, r.d.kafka.ShardOf(r.target.Account), nil)
	}
	return err
}

// plan prints what will be done.
func (r *replacing) plan() {
	fmt.Fprintf(r.p.out, "replace the grant of %s (shard %d):\n", r.target.Name, r.now.shard)
	if t := r.now.token; t != nil {
		row := r.d.tokenRow(r.now, "")
		fmt.Fprintf(r.p.out, "  now: generation %d, %s since %s\n", t.Generation, row[2], row[3])
	} else {
		fmt.Fprintln(r.p.out, "  now: nothing is stored")
	}
	fmt.Fprintf(r.p.out, "  then: generation %d\n", r.next(r.now.token))
	fmt.Fprintln(r.p.out, "Another grant may see other records, so deletions that are found by listings wait for two complete passes (P23).")
}

// next is the generation of the new grant. An owner that has refreshed without being able to say so holds at most the one of its
// intent, so this one is newer than whatever is in its hand (K19).
func (r *replacing) next(t *offsets.Token) int64 {
	if t == nil {
		return 1
	}
	return t.Generation + 1
}

// store commits the new grant.
func (r *replacing) store(ctx context.Context) error {
	if _, err := kafka.EnsureTopics(ctx, r.d.kafka, r.d.kafka.SystemTopics()); err != nil { // as run does
		return err
	}
	if err := r.operate(ctx, r.work); err != nil {
		return err
	}
	fmt.Fprintf(r.p.out, "done: the grant of %s is stored as generation %d\n%s\nOne that had halted is started again with its process.\n", r.target.Name, r.wrote[len(r.wrote)-1], whenNoticed)
	return nil
}

// work commits the token record, and voids the listings' fingerprints in the same transaction.
func (r *replacing) work(ctx context.Context, h *hands) error {
	if done, err := r.before(h.held); done || err != nil {
		return err
	}
	generation := r.next(h.held.token)
	g := offsets.Grant{Access: r.grant.Access, Refresh: r.grant.Refresh, Expires: r.grant.Expires}
	sealed, err := g.Seal(*r.d.settings.sealKey(), r.target.Name, generation)
	if err != nil {
		return err
	}
	value, err := offsets.Encode(offsets.Token{Generation: generation, Sealed: sealed, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	b := kafka.NewBatch()
	b.Offset(offsets.Key{Kind: offsets.KindToken, Connection: r.target.Name}.Append(nil), value)
	for request, partitions := range h.held.cursors {
		for partition, cp := range partitions {
			if cp.Reconciled == nil {
				continue
			}
			mark := *cp.Reconciled
			mark.Listing, cp.Reconciled = anotherGrant, &mark
			value, err := offsets.Encode(cp)
			if err != nil {
				return err
			}
			b.Offset(offsets.Key{Kind: offsets.KindCursor, Connection: r.target.Name, Stream: request, Name: partition}.Append(nil), value)
		}
		for _, k := range h.held.of(request, offsets.KindWindow) { // D3: what it has finished was shown to the grant before
			b.Offset(k.Append(nil), nil)
		}
	}
	r.wrote, r.saw = append(r.wrote, generation), h.held.token
	return h.session.Commit(ctx, b)
}

// anotherGrant stands in a checkpoint for the fingerprint of a listing that was made under a grant which was replaced: it equals
// none (P23).
const anotherGrant = "replaced"

// before looks, at a second try, at what became of the first, whose outcome is not known (2). It reports whether the grant is
// stored already. Were it not for this look, the order could be: our commit happens; the running owner takes the connection
// back, refreshes our grant and stores the new token; we store the old one over it, which is used up.
func (r *replacing) before(held *holdings) (done bool, err error) {
	if len(r.wrote) == 0 || sameToken(r.saw, held.token) {
		return false, nil
	}
	at := int64(0)
	if held.token != nil {
		at = held.token.Generation
		if g, err := r.d.unseal(held); err == nil && g.Refresh == r.grant.Refresh {
			return true, nil
		}
	}
	return false, cdc.Errorf(cdc.Halt, cdc.Connection, "tokens replace", "A running connector refreshed meanwhile: perhaps the new grant, perhaps the one before. Stop it, see `connector tokens status`, "+
		"and if it halts for its token authorize anew", "whether the grant was stored is not known: %s stands at generation %d now", r.target.Name, at)
}

func sameToken(a, b *offsets.Token) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Generation == b.Generation && a.Intent == b.Intent && bytes.Equal(a.Sealed, b.Sealed) && bytes.Equal(a.Previous, b.Previous)
}
