package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"

	"tidemark/internal/source"
)

// TestComposeFile loads docker-compose.yml as Compose would, since no container engine runs where this is tested, and holds what
// it says against the program: the variables exist, the file of connections binds, the services that are waited for are there.
func TestComposeFile(t *testing.T) {
	root := filepath.Join("..", "..")
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithName("tidemark"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	connector, err := project.GetService("connector")
	if err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{}
	for name, value := range connector.Environment {
		environment[name] = *value
	}
	known := map[string]bool{}
	variables, err := documented()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		known[v.name] = true
	}
	for name := range environment {
		if !known[name] {
			t.Errorf("docker-compose.yml sets %s, which the connector does not read", name)
		}
	}
	s, err := loadSettings(func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
	if err != nil {
		t.Fatal("the connector would refuse its environment: ", err)
	}
	if s.sealKey() == nil {
		t.Error("SECRET_KEY is no key")
	}
	for _, name := range []string{"kafka", "registry", "salesloft"} {
		if _, ok := connector.DependsOn[name]; !ok {
			t.Errorf("the connector does not wait for %s", name)
		}
	}
	for _, v := range connector.Volumes {
		if !strings.HasSuffix(v.Source, "connections.yaml") {
			continue
		}
		data, err := os.ReadFile(v.Source)
		if err != nil {
			t.Fatal(err)
		}
		all, err := source.ParseConnections(v.Source, data, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if _, err := bind(c); err != nil {
				t.Errorf("connection %s: %v", c.Name, err)
			}
		}
		return
	}
	t.Error("the connector has no file of connections")
}
