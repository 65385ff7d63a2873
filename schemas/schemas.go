package schemas

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed */*.avsc
var files embed.FS

// Get returns the schema with this name, as a definition writes it ("salesloft/person"). An unknown name is an error that
// lists the known ones.
func Get(name string) ([]byte, error) {
	text, err := files.ReadFile(name + ".avsc")
	if err != nil {
		return nil, fmt.Errorf("schema %q is not known; there are: %s", name, strings.Join(Names(), ", "))
	}
	return text, nil
}

// Names returns the names of all schemas, sorted.
func Names() []string {
	paths, err := fs.Glob(files, "*/*.avsc") // sorted, as directories are read in order
	if err != nil {
		panic(err) // the pattern above is constant
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(path, ".avsc")
	}
	return paths
}
