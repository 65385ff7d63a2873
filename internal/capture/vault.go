package capture

import (
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
	"tidemark/internal/offsets"
)

// vault keeps the connection's grant in the offsets topic, sealed (K19, 9): fetch.Vault for the credential. A write goes to
// the loop, travels in a transaction of its own, and returns when that is known to be committed. What could not be written
// because the ownership ended stays in the credential's hand, which the next ownership settles first.
type vault struct {
	connection string
	seal       *[32]byte
	writes     chan *tokenWrite

	mu    sync.Mutex // never held across I/O
	token *offsets.Token
	grant *fetch.Grant
	over  chan struct{} // closed when the present ownership ends; nil without one
}

// tokenWrite is one record of the token on its way.
type tokenWrite struct {
	key, value []byte
	token      offsets.Token
	grant      fetch.Grant
	done       chan error
}

var _ fetch.Vault = (*vault)(nil)

func newVault(connection string, seal *[32]byte) *vault {
	return &vault{connection: connection, seal: seal, writes: make(chan *tokenWrite)}
}

// begin opens the vault for an ownership; end closes it.
func (v *vault) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = make(chan struct{})
}

func (v *vault) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over != nil {
		close(v.over)
		v.over = nil
	}
}

// apply takes the token record of a restore.
func (v *vault) apply(value []byte) error {
	if value == nil {
		v.token = nil
		return nil
	}
	t, err := offsets.Decode[offsets.Token](value)
	if err != nil {
		return err
	}
	v.token = &t
	return nil
}

// open decrypts what was restored.
func (v *vault) open() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.token
	if t == nil {
		return nil
	}
	if v.seal == nil {
		return errNoSeal(v.connection)
	}
	sealed, generation := t.Sealed, t.Generation
	if t.Intent { // a refresh of the grant before was meant, and its outcome is not known
		sealed, generation = t.Previous, t.Generation-1
	}
	g, err := offsets.OpenGrant(*v.seal, v.connection, generation, sealed)
	if err != nil {
		return err
	}
	v.grant = &fetch.Grant{Access: g.Access, Refresh: g.Refresh, Expires: g.Expires, Generation: generation, Intent: t.Intent}
	return nil
}

func errNoSeal(connection string) error {
	e := cdc.Errorf(cdc.Halt, cdc.Connection, "open token", "Set SECRET_KEY to 32 bytes in base64 (`openssl rand -base64 32`), the same "+
		"for every instance, and keep it: what is sealed with it cannot be read without", "there is no key to seal tokens with")
	e.Where = connection
	return e
}

// Grant implements fetch.Vault.
func (v *vault) Grant() (fetch.Grant, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.grant == nil {
		return fetch.Grant{}, false
	}
	return *v.grant, true
}

// Intend implements fetch.Vault: the intent record holds the grant that is being replaced.
func (v *vault) Intend(ctx context.Context, g fetch.Grant) error {
	sealed, err := v.sealed(g)
	if err != nil {
		return err
	}
	g.Intent = true
	return v.write(ctx, g, offsets.Token{Generation: g.Generation + 1, Intent: true, Previous: sealed, At: time.Now().UTC()})
}

// Store implements fetch.Vault.
func (v *vault) Store(ctx context.Context, g fetch.Grant) error {
	sealed, err := v.sealed(g)
	if err != nil {
		return err
	}
	g.Intent = false
	return v.write(ctx, g, offsets.Token{Generation: g.Generation, Sealed: sealed, At: time.Now().UTC()})
}

func (v *vault) sealed(g fetch.Grant) ([]byte, error) {
	if v.seal == nil {
		return nil, errNoSeal(v.connection)
	}
	return offsets.Grant{Access: g.Access, Refresh: g.Refresh, Expires: g.Expires}.Seal(*v.seal, v.connection, g.Generation)
}

// write hands a record to the loop and waits until it is known to be committed. After any error the outcome is unknown.
func (v *vault) write(ctx context.Context, g fetch.Grant, token offsets.Token) error {
	value, err := offsets.Encode(token)
	if err != nil {
		return err
	}
	w := &tokenWrite{
		key:   offsets.Key{Kind: offsets.KindToken, Connection: v.connection}.Append(nil),
		value: value, token: token, grant: g, done: make(chan error, 1),
	}
	v.mu.Lock()
	over := v.over
	v.mu.Unlock()
	if over == nil {
		return errNoOwner
	}
	select {
	case v.writes <- w:
	case <-over:
		return errNoOwner
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-over:
		return errNoOwner
	}
}

var errNoOwner = &cdc.Error{
	Op: "store token", Err: errors.New("the ownership ended meanwhile"), Remedy: cdc.Retry, Scope: cdc.Connection,
}

// settled notes that w is committed, and lets its writer go on.
func (v *vault) settled(w *tokenWrite) {
	v.mu.Lock()
	g, t := w.grant, w.token
	v.grant, v.token = &g, &t // the tail of the next restore begins behind this commit (K9)
	v.mu.Unlock()
	w.done <- nil
}
