package source

import (
	"errors"
	"fmt"
	"slices"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// moved is a cursor that an answer gave instead of records: upstream says where to begin anew.
type moved struct {
	cursor string
	err    error
}

func (m *moved) Error() string { return m.err.Error() }

// CursorFrom returns the cursor that the answer behind err gave (`errors: cursor_from`), and whether it gave one. The next pass
// begins there. It lists from there on and no more, so it proves nothing missing.
func CursorFrom(err error) (string, bool) {
	var m *moved
	if errors.As(err, &m) {
		return m.cursor, true
	}
	return "", false
}

// expiredHint says what comes of a cursor that upstream does not know any more.
const expiredHint = "Everything is read once more by itself, and only what has changed is published"

// judge says whether an answer is one: the definition's `errors` first, then what the status alone says. single is for requests
// for one record.
func (r *Request) judge(resp *fetch.Response, v *vars, single bool) error {
	rule, err := r.matching(resp, v, single)
	if err != nil {
		return err
	}
	switch {
	case rule != nil:
	case r.orphaned(resp, v):
		return cdc.Errorf(cdc.Halt, cdc.Partition, "read", "Its records stay as they are until the parent is deleted; it is asked again from time to time",
			"%w: the server answered %d: %s", ErrParentGone, resp.Status, resp.Excerpt()) // P21
	default:
		return fetch.DefaultJudge(resp)
	}
	told := func(remedy cdc.Remedy, scope cdc.Scope, hint string) error {
		err := fmt.Errorf("the answer %d is declared as %s: %s", resp.Status, rule.do, resp.Excerpt())
		if rule.from != nil {
			cursor, failed := r.cursorFrom(rule, resp, v)
			if failed != nil {
				return failed
			}
			err = &moved{cursor, err}
		}
		return cdc.Errorf(remedy, scope, "read", cmpOr(rule.hint, hint), "%w", err)
	}
	switch rule.do {
	case doParkRecord:
		return told(cdc.Park, cdc.Record, "See what the answer says, and `errors` in the definition")
	case doRetry:
		return told(cdc.Retry, cdc.Partition, againHint)
	case doRestartPass:
		return told(cdc.Restart, cdc.Partition, "The pass begins again by itself") // P17: a dead page token restarts the pass, not the world
	case doExpired:
		return told(cdc.Expired, cdc.Partition, expiredHint) // P17
	case doSkipPartition:
		return nil // Split sees it too
	default:
		return told(cdc.Halt, cdc.Stream, "See what the answer says, and `errors` in the definition")
	}
}

// cursorFrom reads the cursor of an answer whose rule says where it lies. Where it is not there the stream halts: to begin
// anywhere else would be a guess (7).
func (r *Request) cursorFrom(rule *errorRule, resp *fetch.Response, v *vars) (string, error) {
	in := response{status: resp.Status, header: resp.Header, body: resp.Body}
	text, err := rule.from.text(&in, v)
	switch {
	case err == nil && len(text) > maxCursor:
		err = fmt.Errorf("the cursor has %d bytes, and %d are allowed", len(text), maxCursor)
	case err == nil && r.incremental.kind == sequenceCursor:
		_, err = number(text)
	}
	if err != nil {
		return "", cdc.Errorf(cdc.Halt, cdc.Stream, "read", "Correct `cursor_from` in the definition",
			"the answer %d is declared as %s, and its cursor cannot be read: %w: %s", resp.Status, rule.do, err, resp.Excerpt())
	}
	return text, nil
}

// matching returns the first rule that the answer matches.
func (r *Request) matching(resp *fetch.Response, v *vars, single bool) (*errorRule, error) {
	in := response{status: resp.Status, header: resp.Header, body: resp.Body}
	for i := range r.errors {
		rule := &r.errors[i]
		if rule.do == doParkRecord && !single {
			continue // a list is not a record
		}
		if len(rule.status) > 0 && !slices.Contains(rule.status, resp.Status) {
			continue
		}
		if rule.when != nil {
			yes, err := rule.when.eval(&in, v)
			if err != nil {
				return nil, err
			}
			if !yes {
				continue
			}
		}
		return rule, nil
	}
	return nil, nil
}

// parks reports whether an answer to a request for one record sets that record aside.
func parks(err error) bool {
	if err == nil {
		return false
	}
	remedy, _ := cdc.Verdict(err)
	return remedy == cdc.Park
}

// skips reports whether the answer is declared to skip the partition for this pass.
func (r *Request) skips(resp *fetch.Response, v *vars) (bool, error) {
	if !slices.ContainsFunc(r.errors, func(rule errorRule) bool { return rule.do == doSkipPartition }) {
		return false, nil // the judge has looked at the others
	}
	rule, err := r.matching(resp, v, false)
	return rule != nil && rule.do == doSkipPartition, err
}
