package source

import (
	"slices"

	"tidemark/internal/cdc"
	"tidemark/internal/fetch"
)

// judge says whether an answer is one: the definition's `errors` first, then what the status alone says.
func (r *Request) judge(resp *fetch.Response, v *vars) error {
	rule, err := r.matching(resp, v)
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
		return cdc.Errorf(remedy, scope, "read", cmpOr(rule.hint, hint), "the answer %d is declared as %s: %s", resp.Status, rule.do, resp.Excerpt())
	}
	switch rule.do {
	case doRetry:
		return told(cdc.Retry, cdc.Partition, "")
	case doRestartPass:
		return told(cdc.Restart, cdc.Partition, "") // P17: a dead page token restarts the pass, not the world
	case doExpired:
		return told(cdc.Expired, cdc.Partition, "") // P17
	case doSkipPartition:
		return nil // Split sees it too
	default:
		return told(cdc.Halt, cdc.Stream, "See what the answer says, and `errors` in the definition")
	}
}

// matching returns the first rule that the answer matches.
func (r *Request) matching(resp *fetch.Response, v *vars) (*errorRule, error) {
	in := response{status: resp.Status, header: resp.Header, body: resp.Body}
	for i := range r.errors {
		rule := &r.errors[i]
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

// skips reports whether the answer is declared to skip the partition for this pass.
func (r *Request) skips(resp *fetch.Response, v *vars) (bool, error) {
	if !slices.ContainsFunc(r.errors, func(rule errorRule) bool { return rule.do == doSkipPartition }) {
		return false, nil // the judge has looked at the others
	}
	rule, err := r.matching(resp, v)
	return rule != nil && rule.do == doSkipPartition, err
}
