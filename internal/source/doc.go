// Package source turns source definitions (the YAML language of LANGUAGE.md) into requests, and answers into records.
//
// A definition lives three lives. Parse reads and checks it once: keys, paths, templates, expressions and their types, all
// problems reported together, each with file, line, column and a suggestion; what the language has and this version does not
// is refused by name. Bind fills in the settings of one connection and gives a Source: what remains are values that passes
// use as they are. A pass is then a value too: Begin makes a Position, Compose a request from it, Split records and the next
// Position from the answer. Nothing of the definition is interpreted per record but the expressions that a stream uses.
//
// What is written is what is sent. A template whose value is null leaves its parameter out, but only where LANGUAGE.md lets
// the name be null; any other null is an error, since a listing without its scope is a listing of something else. Conditions
// over records see undefined apart from null (P20): member chains on `record` become places of the record, planned when the
// definition is read and found by the scanner in its one walk; a place that is not there is an error that parks the record,
// unless the expression says ?? to its right.
//
// The package owns no connection or goroutine; it starts none, and has none to stop. Nothing in it blocks: requests are sent
// by fetch, and definitions are read from disk by Open alone. Its one file is a spool's (P13): the pass that it belongs to
// writes and reads it a block at a time, and gives it back at its end or by Abandon. A Definition does not change and may be
// shared. A Source belongs to one connection's loop: its conditions keep scratch memory between records, so one goroutine at a
// time uses it. It dies with the connection's configuration; a reload binds anew.
//
// Files: keys.go has every key that there is, and yaml.go reads nodes strictly by it; schema.go and reference.go make the JSON
// Schema and the reference page of the same tables; extends.go lays a definition over a shipped one; definition.go, streams.go and records.go
// are the language's keys; expr.go, condition.go and functions.go its expressions; template.go its templates and requests;
// secrets.go what they make of a secret;
// time.go and cron.go its times (P16, P22); bind.go settings; parents.go partitions that are records of another stream (P21);
// reconcile.go how deletions are found; fingerprint.go what may be reused after a change (P23); spec.go what passes build on.
// The rest are passes: pass.go, split.go, one file for each way of paging, recent.go and spool.go for log feeds (P13), circle.go
// for pages that lead round, and what happens to a record on its way out: hydrate.go, patch.go.
package source
