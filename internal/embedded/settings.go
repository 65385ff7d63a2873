package embedded

import (
	"net/http"
	"slices"
	"strings"
)

// modes are the modes of the Confluent API.
var modes = []string{"READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT"}

// postCompatibility checks a schema against one version, or, without one in the path, against what the subject's level
// says. An unknown subject is compatible with everything, as in Confluent's registry.
func (r *Registry) postCompatibility(q *http.Request, body []byte) (answer, error) {
	var sent request
	if err := decode(body, &sent); err != nil {
		return nil, err
	}
	name := q.PathValue("subject")
	earlier := r.subjects[name].live(false)
	if q.PathValue("version") != "" {
		n, err := number(q)
		if err != nil {
			return nil, err
		}
		v, err := r.version(name, n, false)
		if err != nil && n != -1 {
			return nil, fail(40402, "Version %d not found.", n)
		}
		if earlier = nil; v != nil {
			earlier = []*version{v}
		}
	}
	s, err := r.prepare(sent, true)
	if err != nil {
		return nil, err
	}
	result := struct {
		Is       bool     `json:"is_compatible"`
		Messages []string `json:"messages,omitempty"`
	}{}
	messages := incompatible(r.levelOf(name), s.parsed, earlier)
	if result.Is = len(messages) == 0; flag(q, "verbose") {
		result.Messages = messages
	}
	return result, nil
}

func (r *Registry) getConfig(q *http.Request, _ []byte) (answer, error) {
	name := q.PathValue("subject")
	if s := r.subjects[name]; name != "" && (s == nil || s.level == "") && !flag(q, "defaultToGlobal") {
		return nil, fail(40408, "Subject '%s' does not have subject-level compatibility configured", name)
	}
	return map[string]string{"compatibilityLevel": r.levelOf(name)}, nil
}

func (r *Registry) putConfig(q *http.Request, body []byte) (answer, error) {
	var sent struct {
		Compatibility string `json:"compatibility"`
	}
	if err := decode(body, &sent); err != nil {
		return nil, err
	}
	level := strings.ToUpper(sent.Compatibility)
	if !slices.Contains(levels, level) {
		return nil, fail(42203, "Invalid compatibility level. Valid values are %s", strings.Join(levels, ", "))
	}
	if name := q.PathValue("subject"); name != "" {
		r.settings(name).level = level
	} else {
		r.level = level
	}
	return map[string]string{"compatibility": level}, nil
}

// removeConfig goes back to the global level, or from that to BACKWARD; it answers what held before.
func (r *Registry) removeConfig(q *http.Request, _ []byte) (answer, error) {
	name := q.PathValue("subject")
	before := r.levelOf(name)
	if name == "" {
		r.level = "BACKWARD"
	} else if s := r.subjects[name]; s != nil && s.level != "" {
		s.level = ""
	} else {
		return nil, fail(40408, "Subject '%s' does not have subject-level compatibility configured", name)
	}
	return map[string]string{"compatibilityLevel": before}, nil
}

func (r *Registry) getMode(q *http.Request, _ []byte) (answer, error) {
	name := q.PathValue("subject")
	if s := r.subjects[name]; name != "" && (s == nil || s.mode == "") && !flag(q, "defaultToGlobal") {
		return nil, fail(40409, "Subject '%s' does not have subject-level mode configured", name)
	}
	return map[string]string{"mode": r.modeOf(name)}, nil
}

func (r *Registry) putMode(q *http.Request, body []byte) (answer, error) {
	var sent struct {
		Mode string `json:"mode"`
	}
	if err := decode(body, &sent); err != nil {
		return nil, err
	}
	mode := strings.ToUpper(sent.Mode)
	if !slices.Contains(modes, mode) {
		return nil, fail(42204, "Invalid mode. Valid values are %s", strings.Join(modes, ", "))
	}
	name := q.PathValue("subject")
	// Importing chooses ids; over registered ones they would clash (Confluent's registry asks for force=true).
	busy := name == "" && len(r.schemas) > 0 || len(r.subjects[name].live(false)) > 0
	if mode == "IMPORT" && busy && !flag(q, "force") {
		return nil, fail(42205, "Cannot import since found existing subjects")
	}
	if name != "" {
		r.settings(name).mode = mode
	} else {
		r.mode = mode
	}
	return map[string]string{"mode": mode}, nil
}

func (r *Registry) removeMode(q *http.Request, _ []byte) (answer, error) {
	name := q.PathValue("subject")
	before := r.modeOf(name)
	if name == "" {
		r.mode = "READWRITE"
	} else if s := r.subjects[name]; s != nil && s.mode != "" {
		s.mode = ""
	} else {
		return nil, fail(40409, "Subject '%s' does not have subject-level mode configured", name)
	}
	return map[string]string{"mode": before}, nil
}

// settings returns the subject, made if it was not there: settings may come before the first version.
func (r *Registry) settings(name string) *subject {
	if r.subjects[name] == nil {
		r.subjects[name] = &subject{}
	}
	return r.subjects[name]
}
