package codec

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"tidemark/internal/cdc"

	"github.com/twmb/franz-go/pkg/sr"
)

// RegistryOptions are the settings of a registry's client. The zero value speaks to an open registry.
type RegistryOptions struct {
	User     string
	Password cdc.Secret
	Token    cdc.Secret    // bearer token, instead of user and password
	TLS      *tls.Config   // nil: the system's
	Timeout  time.Duration // of one request; 0: 10 s
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Registry speaks the Confluent schema registry API, as Confluent, Apicurio (under /apis/ccompat/v7), Karapace, Redpanda
// and the embedded one do. It may be shared.
type Registry struct {
	client    *sr.Client
	transport *http.Transport

	mu         sync.Mutex // around the maps alone, never across a request
	registered map[string]int
	schemas    map[int][]byte
}

// responseBytes bounds an answer (10); the largest is a schema.
const responseBytes = 8 << 20

// NewRegistry returns a client of the registry at address, a URL; of several, separated by commas, the next is tried
// where one cannot be reached. User and password may stand in the URL. Nothing is sent yet.
func NewRegistry(address string, o RegistryOptions) (*Registry, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.TLS
	if o.Dial != nil {
		transport.DialContext, transport.Proxy = o.Dial, nil
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	var urls []string
	for each := range strings.SplitSeq(address, ",") {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// The text is not quoted: it may hold a password.
			return nil, cdc.Errorf(cdc.Halt, cdc.Process, "read registry URL", "Write it as http://host:port or https://host/path", "it is no http or https URL")
		}
		if u.User != nil {
			password, _ := u.User.Password()
			o.User, o.Password, u.User = u.User.Username(), cdc.NewSecret(password), nil
		}
		urls = append(urls, u.String())
	}
	options := []sr.ClientOpt{
		sr.URLs(urls...), sr.UserAgent("tidemark"),
		sr.HTTPClient(&http.Client{
			Timeout: o.Timeout, Transport: bounded{transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // credentials stay here
		}),
	}
	switch {
	case !o.Token.IsZero():
		options = append(options, sr.BearerToken(o.Token.Reveal()))
	case o.User != "":
		options = append(options, sr.BasicAuth(o.User, o.Password.Reveal()))
	}
	client, err := sr.NewClient(options...)
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Process, "make registry client", "Check the registry's settings", "%w", err)
	}
	return &Registry{client: client, transport: transport, registered: map[string]int{}, schemas: map[int][]byte{}}, nil
}

// Close closes connections that are kept open. The registry can be used again.
func (r *Registry) Close() { r.transport.CloseIdleConnections() }

// bounded limits the length of answers.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, responseBytes)
	}
	return response, err
}

// Subject returns the subject of a topic's values by TopicNameStrategy.
func Subject(topic string) string { return topic + "-value" }

// Register returns the id of schema under subject. A schema that stands there already is only looked up, so that a
// registry that is read-only, or its word on compatibility changed since, stops nobody who restarts. A new one is checked
// against the earlier versions, as the subject's compatibility says, and registered. What the registry refuses halts the
// stream, with its reasons; a registry that cannot be reached, or fails, is to be tried again.
func (r *Registry) Register(ctx context.Context, subject string, schema []byte) (int, error) {
	key := subject + "\x00" + string(schema)
	r.mu.Lock()
	id, known := r.registered[key]
	r.mu.Unlock()
	if known {
		return id, nil
	}
	id, err := r.register(ctx, subject, sr.Schema{Schema: string(schema)})
	if err != nil {
		return 0, err
	}
	if id < 0 || id > math.MaxInt32 {
		return 0, refusal("register schema", subject, fmt.Errorf("the registry answered with id %d", id))
	}
	r.mu.Lock()
	r.registered[key] = id
	r.mu.Unlock()
	return id, nil
}

func (r *Registry) register(ctx context.Context, subject string, schema sr.Schema) (int, error) {
	found, err := r.client.LookupSchema(ctx, subject, schema)
	if err == nil {
		return found.ID, nil
	}
	if status(err) != http.StatusNotFound { // 404: no such subject, or no such schema in it
		return 0, fault("look up schema", subject, err)
	}
	if err := r.compatible(ctx, subject, schema); err != nil {
		return 0, err
	}
	id, err := r.client.RegisterSchema(ctx, subject, schema, -1, -1)
	if err != nil {
		return 0, fault("register schema", subject, err)
	}
	return id, nil
}

// The versions that CheckCompatibility takes beside numbers.
const (
	latestVersion = -1
	allVersions   = -2 // as many as the subject's level asks for
)

// compatible asks whether the schema may follow those of the subject. A registry that does not know the question is asked
// the older one, and one that does not know the subject has nothing against the schema; registering asks once more.
func (r *Registry) compatible(ctx context.Context, subject string, schema sr.Schema) error {
	ctx = sr.WithParams(ctx, sr.Verbose) // else there are no reasons
	for _, version := range []int{allVersions, latestVersion} {
		verdict, err := r.client.CheckCompatibility(ctx, subject, version, schema)
		switch s := status(err); {
		case err == nil && verdict.Is:
			return nil
		case err == nil:
			reasons := strings.Join(verdict.Messages, "; ")
			if reasons == "" {
				reasons = "it gives no reason"
			}
			return refusal("check compatibility", subject, fmt.Errorf("the registry refuses the schema: %s", clip(reasons)))
		case s == http.StatusNotFound && code(err) == sr.ErrSubjectNotFound.Code:
			return nil
		case s != http.StatusNotFound && s != http.StatusMethodNotAllowed:
			return fault("check compatibility", subject, err)
		}
	}
	return nil
}

// Schema returns the schema with this id, as it was registered. Answers are kept for good: ids are never used again.
func (r *Registry) Schema(ctx context.Context, id int) ([]byte, error) {
	r.mu.Lock()
	text, ok := r.schemas[id]
	r.mu.Unlock()
	if ok {
		return text, nil
	}
	answer, err := r.client.SchemaByID(ctx, id)
	if err != nil {
		return nil, fault("read schema", fmt.Sprintf("id %d", id), err)
	}
	text = []byte(answer.Schema)
	r.mu.Lock()
	r.schemas[id] = text
	r.mu.Unlock()
	return text, nil
}

// Decoders decodes values of any schema of a registry. It is for one goroutine at a time.
type Decoders struct {
	registry *Registry
	byID     map[int]*Decoder
}

// Decoders returns decoders that ask r for schemas they have not met.
func (r *Registry) Decoders() *Decoders { return &Decoders{r, map[int]*Decoder{}} }

// Append appends the JSON text of a framed value to dst, as [Decoder.Append] does.
func (d *Decoders) Append(ctx context.Context, dst, value []byte) ([]byte, error) {
	id, ok := SchemaID(value)
	if !ok {
		return dst, fmt.Errorf("decode value: no registry framing in %d bytes", len(value))
	}
	if d.byID[id] == nil {
		schema, err := d.registry.Schema(ctx, id)
		if err != nil {
			return dst, err
		}
		decoder, err := NewDecoder(schema)
		if err != nil {
			return dst, err
		}
		d.byID[id] = decoder
	}
	return d.byID[id].Append(dst, value)
}

// status returns the HTTP status that err stands for, or 0.
func status(err error) int {
	var answer *sr.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// code returns the registry's own error code, or 0.
func code(err error) int {
	var answer *sr.ResponseError
	if errors.As(err, &answer) {
		return answer.ErrorCode
	}
	return 0
}

// fault makes a cdc.Error of what a request came to.
func fault(op, where string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s %s: %w", op, where, err)
	}
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	var large *http.MaxBytesError
	var certificate *tls.CertificateVerificationError
	out := &cdc.Error{Op: op, Where: where, Remedy: cdc.Halt, Scope: cdc.Stream}
	switch s := status(err); {
	case s == 0 && (errors.As(err, &syntax) || errors.As(err, &typed) || errors.As(err, &large)):
		out.Err = fmt.Errorf("what answers is no schema registry: %w", err)
		out.Hint = "Check the registry's URL (Apicurio's ends in /apis/ccompat/v7), then restart the stream"
	case s == 0 && errors.As(err, &certificate):
		out.Err, out.Hint = err, "Give the connector the registry's CA, then restart the stream"
	case s == 0:
		out.Err, out.Remedy, out.Hint = err, cdc.Retry, "Is the registry up, and its URL right?"
	case s >= 500 || s == http.StatusRequestTimeout || s == http.StatusTooManyRequests:
		out.Err, out.Remedy, out.Hint = answered(err), cdc.Retry, "The registry fails: see its log"
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		out.Err, out.Hint = answered(err), "Check the registry's user and password or token, and its right to this subject, then restart the stream"
	case s == http.StatusNotFound || s < 400:
		out.Err, out.Hint = answered(err), "Check the registry's URL (Apicurio's ends in /apis/ccompat/v7), then restart the stream"
	default:
		return refusal(op, where, answered(err))
	}
	return out
}

// refusal halts the stream because the registry does not take its schema.
func refusal(op, subject string, err error) error {
	return &cdc.Error{Op: op, Where: subject, Err: err, Remedy: cdc.Halt, Scope: cdc.Stream,
		Hint: "Whoever owns the registry decides: make the schema compatible, change the compatibility of this subject, or give the stream a new topic; then restart the stream"}
}

// answered is an answer with its status and its message.
func answered(err error) error {
	var answer *sr.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	return fmt.Errorf("the registry answered %d: %s", answer.StatusCode, clip(answer.Error()))
}

// clip shortens a message of the registry's.
func clip(s string) string {
	const most = 1000
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
