package admin

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is an alert rule of Prometheus, with no more than ours need.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "deploy", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || file.Groups[0].Name == "" {
		t.Fatalf("%d groups", len(file.Groups))
	}
	return file.Groups[0].Rules
}

// left returns the labels that an alert has: those of the metrics, but what an aggregation drops.
func left(expr string, of map[string]string, names []string) []string {
	if m := regexp.MustCompile(`^[a-z]+ by \((.*?)\)`).FindStringSubmatch(expr); m != nil {
		return strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")
	}
	if regexp.MustCompile(`^(max|sum|absent)\(`).MatchString(expr) {
		return nil
	}
	return strings.Split(of[names[0]], ",")
}

// TestAlertsNameWhatExists: an alert on a metric, label or phase that is called otherwise would never fire.
func TestAlertsNameWhatExists(t *testing.T) {
	labels := map[string]string{}
	for _, m := range metrics() {
		labels[m.name] = m.labels
	}
	names, used := regexp.MustCompile(`tidemark_[a-z_]+`), regexp.MustCompile(`\$labels\.([a-z_]+)`)
	matchers := regexp.MustCompile(`(tidemark_[a-z_]+)\{([a-z]+)="([^"]*)"\}`)
	seen, watched := map[string]bool{}, map[string]bool{}
	for _, r := range rules(t) {
		if !strings.HasPrefix(r.Alert, "Tidemark") || seen[r.Alert] {
			t.Errorf("%q is not ours, or there twice", r.Alert)
		}
		seen[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || len(r.Labels) != 1 {
			t.Errorf("%s: labels %v", r.Alert, r.Labels)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || len(r.Annotations) != 2 {
			t.Errorf("%s says not enough: %v", r.Alert, r.Annotations)
		}
		found := names.FindAllString(r.Expr, -1)
		if len(found) == 0 {
			t.Fatalf("%s asks for none of our metrics: %s", r.Alert, r.Expr)
		}
		for _, name := range found {
			watched[name] = true
			if _, ok := labels[name]; !ok {
				t.Errorf("%s: %s does not exist", r.Alert, name)
			}
		}
		for _, m := range matchers.FindAllStringSubmatch(r.Expr, -1) {
			if !slices.Contains(strings.Split(labels[m[1]], ","), m[2]) || m[2] == "phase" && !slices.Contains(phases(), m[3]) {
				t.Errorf("%s: nothing is %s", r.Alert, m[0])
			}
		}
		have := left(r.Expr, labels, found)
		for _, text := range r.Annotations {
			for _, m := range used.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(have, m[1]) {
					t.Errorf("%s says %s and has only %v", r.Alert, m[0], have)
				}
			}
		}
	}
	for _, name := range []string{ // what stands still, deletes nothing or loses consumers must wake somebody
		"tidemark_connection_phase", "tidemark_stream_halted", "tidemark_partition_halted", "tidemark_stream_mismatch", "tidemark_connection_alarm",
		"tidemark_hanging_transactions", "tidemark_last_successful_pass_timestamp_seconds", "tidemark_cursor_timestamp_seconds",
		"tidemark_http_throttled_total", "tidemark_parked_keys", "tidemark_withheld", "tidemark_listing_incomplete",
	} {
		if !watched[name] {
			t.Errorf("no alert watches %s", name)
		}
	}
}
