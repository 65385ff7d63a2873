package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tidemark/internal/cdc"
)

// registryProbe asks a schema registry the questions that change nothing; codec's client registers what it asks about.
type registryProbe struct {
	urls           []string
	user, password string
	client         *http.Client
}

func newRegistryProbe(s *settings) *registryProbe {
	r := &registryProbe{user: s.RegistryUser, password: s.RegistryPassword, client: &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // credentials stay here
	}}
	for each := range strings.SplitSeq(s.Registry, ",") {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil || u.Host == "" {
			continue // connect has refused it
		}
		if u.User != nil {
			r.user = u.User.Username()
			r.password, _ = u.User.Password()
			u.User = nil
		}
		r.urls = append(r.urls, strings.TrimRight(u.String(), "/"))
	}
	return r
}

// shown names the registry without its credentials.
func (r *registryProbe) shown() string { return strings.Join(r.urls, ", ") }

// call asks one URL after the other until one answers.
func (r *registryProbe) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	for _, base := range r.urls {
		var request *http.Request
		if request, err = http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body)); err != nil {
			return 0, nil, err
		}
		request.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
		if body != nil {
			request.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
		}
		if r.user != "" {
			request.SetBasicAuth(r.user, r.password)
		}
		var response *http.Response
		if response, err = r.client.Do(request); err != nil {
			continue
		}
		answer, err = io.ReadAll(io.LimitReader(response.Body, 8<<20))
		response.Body.Close()
		return response.StatusCode, answer, err
	}
	return 0, nil, err
}

// reach reports whether a registry answers.
func (r *registryProbe) reach(ctx context.Context) error {
	status, answer, err := r.call(ctx, http.MethodGet, "/subjects", nil)
	if err != nil {
		return err
	}
	var subjects []string
	if status != http.StatusOK || json.Unmarshal(answer, &subjects) != nil {
		return fmt.Errorf("%s answered %d, which no schema registry does: %s", r.shown(), status, clipped(string(answer), 200))
	}
	return nil
}

// ask reports whether a schema is registered under subject, or could be.
func (r *registryProbe) ask(ctx context.Context, subject string, schema []byte) (string, error) {
	body, err := json.Marshal(map[string]string{"schema": string(schema)})
	if err != nil {
		return "", err
	}
	where := "/subjects/" + url.PathEscape(subject)
	status, answer, err := r.call(ctx, http.MethodPost, where, body)
	switch {
	case err != nil:
		return "", err
	case status == http.StatusOK:
		return "registered", nil
	case status != http.StatusNotFound: // no such subject, or no such schema in it
		return "", refusedBy(subject, status, string(answer))
	}
	status, answer, err = r.call(ctx, http.MethodPost, "/compatibility"+where+"/versions?verbose=true", body)
	if err == nil && (status == http.StatusMethodNotAllowed || status == http.StatusNotFound) { // older registries know this one only
		status, answer, err = r.call(ctx, http.MethodPost, "/compatibility"+where+"/versions/latest?verbose=true", body)
	}
	var verdict struct {
		Is       bool     `json:"is_compatible"`
		Messages []string `json:"messages"`
	}
	switch {
	case err != nil:
		return "", err
	case status == http.StatusNotFound:
		return "new, will be registered", nil
	case status != http.StatusOK || json.Unmarshal(answer, &verdict) != nil:
		return "", refusedBy(subject, status, string(answer))
	case !verdict.Is:
		return "", refusedBy(subject, status, "not compatible with the versions that are registered: "+strings.Join(verdict.Messages, "; "))
	}
	return "compatible, will be registered", nil
}

func refusedBy(subject string, status int, why string) error {
	return cdc.Errorf(cdc.Halt, cdc.Stream, "check schema", "Whoever owns the registry decides: make the schema compatible, change the compatibility of this subject, or give the stream a new topic",
		"subject %s, the registry answered %d: %s", subject, status, clipped(why, 500))
}
