package source

import "slices"

// keyTable is one map of the language with the keys that it may have. The parser knows no others (linter.fields), and the JSON Schema
// and the reference page are made of it, so the three cannot differ.
type keyTable struct {
	name string // in the reference and in the schema
	doc  string
	keys []key
	like *keyTable // whose keys are among them; the reference has them there
}

// key is one key of a keyTable.
type key struct {
	name   string
	is     form
	of     []string // the values of the table's `type` that have it; nil: all
	needs  []string // those that cannot do without it; in a table without a `type`: always
	absent string   // what holds where it is not written, as YAML
	doc    string
	rule   string // the rules that it is about
}

var always = []string{""}

func (k *key) has(kind string) bool  { return k.of == nil || slices.Contains(k.of, kind) }
func (k *key) need(kind string) bool { return slices.Contains(k.needs, kind) }

// more is a table that has the keys of t, and others.
func (t *keyTable) more(name, doc string, k ...key) *keyTable {
	return &keyTable{name, doc, slices.Concat(t.keys, k), t}
}

// some returns those of the table's keys that are named.
func (t *keyTable) some(names ...string) []key {
	return slices.DeleteFunc(slices.Clone(t.keys), func(k key) bool { return !slices.Contains(names, k.name) })
}

func (t *keyTable) key(name string) *key {
	i := slices.IndexFunc(t.keys, func(k key) bool { return k.name == name })
	return &t.keys[i] // a name that is not there is a mistake in this package
}

// options returns what a key with a choice may be.
func (t *keyTable) options(name string) []string { return t.key(name).is.options }

// names returns the keys that a definition may have.
func (t *keyTable) names() []string {
	var known []string
	for _, k := range t.keys {
		known = append(known, k.name)
	}
	return known
}

// form says what may stand under a key.
type form struct {
	shape   formShape
	options []string  // a choice
	of      []form    // either: one of them; a list or a map: its elements
	in      *keyTable // a map with these keys
}

type formShape uint8

const (
	anything formShape = iota // maps, lists and templates: a body
	textShape
	templateShape
	exprShape
	placeShape
	booleanShape
	integerShape
	numberShape
	durationShape
	choiceShape // of options
	eitherShape // of forms
	listShape
	mapShape // with free names
	tableShape
)

var (
	aText       = form{shape: textShape}
	aTemplate   = form{shape: templateShape}
	anExpr      = form{shape: exprShape}
	aPlace      = form{shape: placeShape}
	aSignal     = form{shape: exprShape} // a place, or an expression over `response`
	aBoolean    = form{shape: booleanShape}
	anInteger   = form{shape: integerShape}
	aNumber     = form{shape: numberShape}
	aDuration   = form{shape: durationShape}
	aBody       = form{shape: anything}
	aParameters = namesTo(either(aTemplate, listOf(aTemplate)))
)

func choiceOf(options ...string) form { return form{shape: choiceShape, options: options} }
func either(forms ...form) form       { return form{shape: eitherShape, of: forms} }
func listOf(f form) form              { return form{shape: listShape, of: []form{f}} }
func oneOrMore(f form) form           { return either(f, listOf(f)) }
func namesTo(f form) form             { return form{shape: mapShape, of: []form{f}} }
func inside(t *keyTable) form         { return form{shape: tableShape, in: t} }

// The tables of a definition.
var (
	definitionTable = &keyTable{name: "definition", doc: "A source definition: one API.", keys: []key{
		{name: "source", is: aText, needs: always,
			doc: "the definition's name: 1 to 64 letters, digits, `_` and `-`. With `extends` it may be left out"},
		{name: "extends", is: choiceOf(Catalog()...),
			doc: "a shipped definition that this one is laid over: maps merge, `null` removes, anything else replaces"},
		{name: "doc", is: aText, doc: "what it is, for people"},
		{name: "config", is: namesTo(inside(settingTable)),
			doc: "the settings that a connection has to give, by name; templates see them as `config.NAME`"},
		{name: "base_url", is: aTemplate, needs: always, doc: "what every `path` is put behind"},
		{name: "headers", is: aParameters, doc: "headers of every request"},
		{name: "authenticator", is: either(inside(authTable), inside(selectTable)), absent: "{type: none}",
			doc: "how a connection proves who asks"},
		{name: "rate_limit", is: inside(rateTable), doc: "what an account may ask for", rule: "P22"},
		{name: "defaults", is: inside(streamTable), doc: "keys of every stream that does not say otherwise; `null` in a stream removes one"},
		{name: "streams", is: namesTo(inside(streamTable)), needs: always,
			doc: "the streams by name: a-z, 0-9, `_` and `-`, beginning with a letter"},
	}}

	settingTable = &keyTable{name: "setting", doc: "One entry of `config`.", keys: []key{
		{name: "type", is: choiceOf("string", "integer", "number", "boolean", "list"), absent: "string", doc: "what its value is"},
		{name: "default", is: aBody, doc: "its value where the connection gives none"},
		{name: "secret", is: aBoolean, absent: "false", doc: "it is printed as `***` everywhere, and has no default"},
		{name: "optional", is: aBoolean, absent: "false", doc: "it may be missing, and is null then"},
		{name: "doc", is: aText, doc: "what it is, for people"},
	}}

	authTable = &keyTable{name: "authenticator", doc: "How a connection proves who asks. What it holds are templates over `config`.", keys: []key{
		{name: "type", is: choiceOf("bearer", "api_key", "basic", "oauth2", "session", "none"), needs: always,
			doc: "the way"},
		{name: "token", is: aTemplate, of: []string{"bearer", "session"}, needs: []string{"bearer"},
			doc: "bearer: the token. session: its place in the login's answer"},
		{name: "header", is: aText, of: []string{"api_key", "session"}, doc: "the header that the key or the token goes under"},
		{name: "query", is: aText, of: []string{"api_key"}, doc: "the query parameter that the key goes under, instead of a header"},
		{name: "value", is: aTemplate, of: []string{"api_key"}, needs: []string{"api_key"}, doc: "the key"},
		{name: "username", is: aTemplate, of: []string{"basic"}, needs: []string{"basic"},
			doc: "with `password`; both may be optional settings, and without them nothing is sent"},
		{name: "password", is: aTemplate, of: []string{"basic"}, needs: []string{"basic"}, doc: "see `username`"},
		{name: "grant_type", is: choiceOf(GrantRefresh, GrantClient), of: []string{"oauth2"}, needs: []string{"oauth2"},
			doc: "`refresh_token`: single-use tokens, stored sealed before they are used. `client_credentials`: kept in memory", rule: "K19"},
		{name: "token_url", is: aTemplate, of: []string{"oauth2"}, needs: []string{"oauth2"}, doc: "where tokens are got"},
		{name: "client_id", is: aTemplate, of: []string{"oauth2"}, needs: []string{"oauth2"}, doc: "the client"},
		{name: "client_secret", is: aTemplate, of: []string{"oauth2"}, needs: []string{"oauth2"}, doc: "its secret"},
		{name: "refresh_token", is: aTemplate, of: []string{"oauth2"},
			doc: "the first one, for `grant_type: refresh_token`; an optional setting where `connector login` gets it"},
		{name: "scopes", is: oneOrMore(aText), of: []string{"oauth2"}, doc: "what is asked for"},
		{name: "authorize_url", is: aTemplate, of: []string{"oauth2"}, doc: "where a person agrees, for `connector login`"},
		{name: "pkce", is: aBoolean, of: []string{"oauth2"}, absent: "true",
			doc: "whether the first grant is asked for with a proof key; needs `authorize_url`"},
		{name: "login", is: inside(loginTable), of: []string{"session"}, needs: []string{"session"},
			doc: "the request that begins a session, sent without cookies"},
		{name: "prefix", is: aText, of: []string{"session"}, doc: "what stands before the token in the header, such as `\"Bearer \"`"},
		{name: "cookies", is: aBoolean, of: []string{"session"}, absent: "false", doc: "the session is in cookies, instead of `token`"},
		{name: "expires", is: either(aDuration, aPlace), of: []string{"session"},
			doc: "how long a session is used, or the place of seconds, Unix time or a date in the login's answer; without it till a 401"},
	}}

	selectTable = &keyTable{name: "authenticator with select", doc: "Several authenticators to choose from.", keys: []key{
		{name: "select", is: anExpr, needs: always, doc: "an expression over `config` that gives the name of a case"},
		{name: "cases", is: namesTo(inside(authTable)), needs: always, doc: "two authenticators or more, by name"},
	}}

	rateTable = &keyTable{name: "rate_limit", doc: "What an account may ask for; all streams of all its connections share it.", keys: []key{
		{name: "cost", is: anExpr, absent: "1", doc: "what a request costs; sees what the request's templates see of its page"},
		{name: "budget", is: aNumber, doc: "what may be spent in `per`; without it nothing is assumed"},
		{name: "per", is: aDuration, absent: "1m", doc: "the stretch of time that `budget` is for"},
		{name: "remaining_header", is: aText, doc: "the header that says what is left"},
		{name: "reset_header", is: aText, doc: "the header that says when there is more: in seconds, as Unix time or as a date"},
		{name: "max_concurrent", is: anInteger, doc: "how many requests are under way at a time"},
	}}

	requestTable = &keyTable{name: "request", doc: "A request. What is written is what is sent; a value that is null leaves its parameter out.", keys: []key{
		{name: "path", is: aTemplate, doc: "what comes behind `base_url`: begins with /, or is empty"},
		{name: "url", is: aTemplate, doc: "an absolute address, instead of `path`"},
		{name: "method", is: choiceOf("GET", "POST"), absent: "GET", doc: "the method"},
		{name: "query", is: aParameters, doc: "query parameters; a list repeats its parameter"},
		{name: "headers", is: aParameters, doc: "headers; they replace those of the definition"},
		{name: "body", is: aBody, doc: "a JSON body as maps and lists, or a text that is sent as it is; with `method: POST`"},
		{name: "form", is: aParameters, doc: "form fields, instead of `body`"},
	}}

	loginTable = requestTable.more("login", "The request that begins a session, over `config` and `now`.")
	headTable  = requestTable.more("head", "A request of its own that tells how far a sequence has got.",
		key{name: "place", is: aPlace, needs: always, doc: "where in its answer the newest sequence lies", rule: "P11"})
	hydrateTable = requestTable.more("hydrate", "The request for a whole record, where the list gives a part (`\"/people/{{ record.id }}\"`).",
		key{name: "records", is: aPlace, absent: ".", doc: "where the record lies in its answer"})
	lookupTable = requestTable.more("lookup", "How one record is asked for by its key (`\"/people/{{ key.id }}\"`).",
		key{name: "records", is: aPlace, doc: "where the record lies in its answer; default: where the stream's list has them"},
		key{name: "gone", is: anExpr, doc: "states of a found record that mean that it is gone", rule: "D4"})
	fileRequestTable = requestTable.more("files.request", "The request for the file of an element (`item`).")
	filesTable       = &keyTable{name: "files", doc: "Files that elements of a record name, one request each.", keys: []key{
		{name: "each", is: aPlace, needs: always, doc: "where in a record the elements lie that name a file each"},
		{name: "request", is: inside(fileRequestTable), needs: always, doc: "how the file of an element is asked for; it names `item`"},
		{name: "max_bytes", is: either(anInteger, aText), absent: "64MiB", doc: "the most bytes of one file"},
		{name: "store", is: choiceOf("folder", "reference"), absent: "folder",
			doc: "`folder`: downloaded into FILES_DIR, under the hash of its content. `reference`: the value names its URL"},
		{name: "on_error", is: choiceOf("continue", "halt"), absent: "continue",
			doc: "`continue`: the record goes out without a file that cannot be had, which is tried again apart"},
	}}
	listingTable = requestTable.more("listing", "How every live record is listed, where that is not the stream's request without its cursor.",
		key{name: "records", is: aPlace, doc: "where they lie; default: as in the stream"},
		key{name: "paginator", is: inside(paginatorTable), doc: "default: the stream's"})

	paginatorTable = &keyTable{name: "paginator", doc: "How the next page is asked for.", keys: []key{
		{name: "type", is: choiceOf("keyset", "page", "offset", "token", "link", "none"), needs: always,
			doc: "`keyset`: from the last record's cursor, `{{ anchor }}`. `page`: by number, `{{ page }}`. `offset`: by rows, `{{ offset }}`. `token`: by what the answer gave, `{{ page_token }}`. `link`: by the URL that the answer gave", rule: "P5, P6, P9"},
		{name: "size_echo", is: aPlace, of: []string{"keyset", "page", "offset"},
			doc: "where the answer says the page size: only then a shorter page is the last one", rule: "P10"},
		{name: "reanchor_after", is: anInteger, of: []string{"keyset"}, doc: "no more than so many records between two moves of the anchor"},
		{name: "next", is: aPlace, of: []string{"page", "token", "link"},
			doc: "where the next page's number, token or URL lies; a token may be `{{ last.X }}` of the request instead"},
		{name: "more", is: aSignal, of: []string{"page", "offset", "token", "link"},
			doc: "true while there is more: a place, or an expression over `response`. One that is not in the answer is no end; where the API leaves it out at the end, say so: `response.body.X ?? false`", rule: "P10"},
		{name: "done", is: aSignal, of: []string{"page", "offset", "token", "link"}, doc: "true at the end, instead of `more`", rule: "P10"},
		{name: "stable", is: aBoolean, of: []string{"token"}, absent: "false",
			doc: "a token stays good, so that a crash goes on at the page", rule: "P5"},
		{name: "header", is: aBoolean, of: []string{"link"}, doc: "the URL is in the Link header; default: where `next` is missing"},
		{name: "start", is: anInteger, of: []string{"page"}, absent: "1", doc: "the first page's number: 0 or 1"},
		{name: "size", is: anInteger, of: []string{"offset"}, doc: "the rows that a request asks for"},
		{name: "overlap", is: aBoolean, of: []string{"offset"}, absent: "false",
			doc: "a page begins with the last row of the one before, so that moving rows show; needs `size`", rule: "P9"},
	}}

	incrementalTable = &keyTable{name: "incremental", doc: "What the cursor is. Without it the stream is a snapshot: every pass lists everything.", keys: []key{
		{name: "type", is: choiceOf("timestamp", "opaque", "sequence"), absent: "timestamp",
			doc: "`timestamp`: a time of the records. `opaque`: what the answer gave. `sequence`: the same, an integer that rises"},
		{name: "cursor_field", is: aPlace, of: []string{"timestamp"}, needs: []string{"timestamp"}, doc: "the record's time", rule: "P3"},
		{name: "format", is: either(aText, inside(formatTable)), of: []string{"timestamp"}, needs: []string{"timestamp"},
			doc: "`rfc3339`, `date`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, or a pattern such as `%Y-%m-%d %H:%M:%S`: see [times](#times)", rule: "P16"},
		{name: "granularity", is: aDuration, of: []string{"timestamp"}, absent: "1s", doc: "how finely the server compares", rule: "P8"},
		{name: "inclusive", is: aBoolean, of: []string{"timestamp"}, absent: "true",
			doc: "whether a record at the very cursor is shown again", rule: "P6"},
		{name: "order", is: choiceOf("asc", "desc", "none"), of: []string{"timestamp"}, absent: "none",
			doc: "the order by `cursor_field`; it is verified where it counts: `asc` with keyset, `desc` of a log", rule: "P7"},
		{name: "lookback", is: either(aDuration, anInteger), of: []string{"timestamp", "sequence"}, absent: "1m",
			doc: "how far back every pass reads, for late commits. sequence: a count of numbers, default 0", rule: "P12"},
		{name: "deep_lookback", is: inside(deepTable), of: []string{"timestamp"}, doc: "further back, more rarely", rule: "P12"},
		{name: "settle", is: aDuration, of: []string{"timestamp"}, absent: "0s",
			doc: "how far the cursor stays behind the server's time", rule: "P3, P12"},
		{name: "window", is: aDuration, of: []string{"timestamp"},
			doc: "a pass asks for one such stretch after the other, from `{{ cursor }}` to `{{ cursor_end }}`", rule: "P15"},
		{name: "start", is: aTemplate, doc: "where to begin without a cursor"},
		{name: "next", is: aPlace, of: []string{"opaque", "sequence"}, needs: []string{"opaque", "sequence"},
			doc: "where the answer's cursor lies"},
		{name: "more", is: aSignal, of: []string{"opaque", "sequence"},
			doc: "true while there is more; without it a pass ends at an empty page or an unchanged cursor", rule: "P10"},
		{name: "checkpoint", is: choiceOf("page", "pass"), of: []string{"opaque", "sequence"}, absent: "page",
			doc: "`pass`: a cursor in mid-chain is not kept", rule: "P5, P17"},
		{name: "head", is: inside(headTable), of: []string{"opaque", "sequence"},
			doc: "how far the sequence has got: one below the cursor means that it was recreated", rule: "P11"},
	}}

	formatTable = &keyTable{name: "format", doc: "A time that records and requests write differently.", keys: []key{
		{name: "record", is: aText, needs: always, doc: "how records write it"},
		{name: "request", is: aText, doc: "how requests write it; default: as records do"},
		{name: "zone", is: aText, absent: "UTC", doc: "the zone of texts without an offset: an IANA name"},
	}}

	deepTable = &keyTable{name: "deep_lookback", doc: "A longer lookback, more rarely.", keys: []key{
		{name: "every", is: aDuration, needs: always, doc: "how often"},
		{name: "span", is: aDuration, needs: always, doc: "how far; more than `lookback`"},
	}}

	parentTable = &keyTable{name: "partition of a parent", doc: "One partition for each record of another stream.", keys: []key{
		{name: "stream", is: aText, needs: always, doc: "the parent stream", rule: "P21"},
		{name: "or", is: either(aTemplate, listOf(aTemplate)), doc: "ids from the configuration, beside the parent's records"},
		{name: "when", is: choiceOf("changed"),
			doc: "a child is read when its parent was seen to change, and not by `interval`", rule: "P21"},
		{name: "by", is: oneOrMore(aPlace),
			doc: "the parent's fields that are the partition's value; default: its `primary_key`", rule: "P24"},
		{name: "fields", is: oneOrMore(aPlace), doc: "the parent's fields that are kept; default: those that the stream uses", rule: "P21"},
	}}

	reconcileTable = &keyTable{name: "reconcile", doc: "How deletions that nobody declares are found. Absent: they are not.", keys: []key{
		{name: "every", is: aDuration, doc: "how often everything is listed; a snapshot stream does that at every pass", rule: "D10"},
		{name: "schedule", is: inside(scheduleTable), doc: "set times instead of `every`", rule: "P22"},
		{name: "lookup", is: inside(lookupTable), doc: "how one record is asked for; it confirms a deletion", rule: "D4"},
		{name: "listing", is: inside(listingTable), doc: "how every live record is listed", rule: "D1"},
		{name: "cap", is: anInteger, doc: "a listing that reaches so many rows is not complete", rule: "D1"},
		{name: "total", is: aPlace, doc: "where the answer says how many records there are: the listing must show as many", rule: "D1"},
		{name: "guard", is: inside(guardTable), doc: "more deletions than this wait for an approval", rule: "D5"},
		{name: "orphans", is: choiceOf("withhold", "delete", "keep"), absent: "withhold",
			doc: "what becomes of the children of a deleted parent", rule: "D8"},
		{name: "order", is: choiceOf("key"), doc: "the listing is sorted by the key, ascending: then a restart goes on where it was", rule: "D3"},
	}}

	guardTable = &keyTable{name: "guard", doc: "Deletions wait when there are more than both.", keys: []key{
		{name: "records", is: anInteger, absent: "20", doc: "so many, over a rolling day", rule: "D5"},
		{name: "percent", is: aNumber, absent: "5", doc: "so many of a hundred of the live keys", rule: "D5"},
	}}

	hashTable = &keyTable{name: "hash", doc: "What counts as a change; what does not goes stale downstream.", keys: []key{
		{name: "include", is: oneOrMore(aPlace), doc: "only these paths of the published value", rule: "P23"},
		{name: "exclude", is: oneOrMore(aPlace), doc: "all but these", rule: "P23"},
	}}

	errorTable = &keyTable{name: "errors", doc: "What an answer means; the first rule that matches holds.", keys: []key{
		{name: "status", is: oneOrMore(anInteger), doc: "HTTP statuses; any where it is missing"},
		{name: "when", is: aSignal, doc: "a place, or an expression over `response`"},
		{name: "do", is: choiceOf("retry", "park_record", "skip_partition", "restart_pass", "expired", "halt"), needs: always,
			doc: "what follows. `expired`: the cursor is not known any more", rule: "P17"},
		{name: "cursor_from", is: aSignal,
			doc: "where the answer says from which cursor to begin instead; with `expired` and `restart_pass`", rule: "P17"},
		{name: "hint", is: aText, doc: "what the operator should do"},
	}}

	intervalTable = &keyTable{name: "interval rule", doc: "One of several intervals; evaluated anew each minute.", keys: []key{
		{name: "when", is: anExpr, doc: "an expression over `partition`, `config` and `now`; all but the last rule have one"},
		{name: "every", is: aDuration, needs: always, doc: "how often a partition is polled"},
	}}

	scheduleTable = &keyTable{name: "schedule", doc: "Set times instead of an interval.", keys: []key{
		{name: "cron", is: aText, needs: always, doc: "minute, hour, day of the month, month, day of the week", rule: "P22"},
		{name: "zone", is: aText, absent: "UTC", doc: "an IANA name"},
	}}

	topicTable = &keyTable{name: "topic", doc: "The events topic of a stream.", keys: []key{
		{name: "name", is: aText, doc: "its name; default: by the deployment's rule"},
		{name: "partitions", is: anInteger, doc: "how many; 6 where nobody says"},
		{name: "cleanup", is: choiceOf("compact", "delete", "compact,delete"), doc: "the topic's cleanup.policy; `delete` for a log"},
	}}

	selectionTable = &keyTable{name: "element of records", doc: "One of several lists with records of one stream.", keys: []key{
		{name: "path", is: aPlace, needs: always, doc: "where they lie"},
		{name: "op", is: choiceOf("delete"), doc: "what is listed here is gone"},
	}}

	streamTable = requestTable.more("stream", "One kind of record, one events topic; with several under `records`, the request of several streams.", slices.Concat(
		[]key{
			{name: "records", is: either(aPlace, listOf(either(aPlace, inside(selectionTable))), namesTo(either(aPlace, inside(kindTable)))), needs: always,
				doc: "where the records lie: a path, `.` for the whole; a list of them; or several streams by name"},
		}, kindKeys.keys[:1], []key{
			{name: "key_scope", is: choiceOf("stream", "partition"), absent: "partition",
				doc: "`stream`: partition values are no part of the key", rule: "P24"},
		}, kindKeys.keys[1:], []key{
			{name: "paginator", is: inside(paginatorTable), absent: "{type: none}", doc: "how the next page is asked for"},
			{name: "incremental", is: inside(incrementalTable), doc: "what the cursor is; absent: a snapshot stream"},
			{name: "partition", is: namesTo(either(aTemplate, listOf(aTemplate), inside(parentTable))),
				doc: "one cursor for each value of a list, or for each record of a parent stream; several names multiply", rule: "P21, P24"},
			{name: "errors", is: listOf(inside(errorTable)), doc: "what answers mean"},
			{name: "interval", is: either(aDuration, listOf(inside(intervalTable))), absent: "5m",
				doc: "how often a partition is polled, or rules"},
			{name: "schedule", is: inside(scheduleTable), doc: "set times instead of `interval`", rule: "P22"},
		})...)

	// kindKeys are the keys that a stream of a request with several may have for itself; what it does not say, the request says.
	kindKeys = &keyTable{name: "stream", keys: []key{
		{name: "primary_key", is: oneOrMore(aPlace), needs: always,
			doc: "the field that names a record, a list of them, or `content` (SHA-256 of the canonical content)", rule: "P24"},
		{name: "record_id", is: aPlace, doc: "a log feed: every entry is an event of its key, and this tells entries apart", rule: "P13"},
		{name: "version", is: aPlace, doc: "a version: a lower one than the known is held; default: the cursor field", rule: "P14"},
		{name: "filter", is: anExpr, doc: "a condition over `record`: what is captured", rule: "P20"},
		{name: "on_leave", is: choiceOf("delete", "keep"), absent: "delete",
			doc: "what becomes of a known key that leaves the filter", rule: "P20"},
		{name: "delete", is: anExpr, doc: "a condition over `record`: what the feed declares deleted", rule: "P20"},
		{name: "value", is: aPlace, absent: ".", doc: "what of the record is published"},
		{name: "add_fields", is: namesTo(aBody),
			doc: "members that are added to the published value: constants, or templates over `record`, `partition` and `config`"},
		{name: "remove_fields", is: oneOrMore(aPlace), doc: "members that are removed from it"},
		{name: "hydrate", is: inside(hydrateTable), doc: "the request for a whole record"},
		{name: "schema", is: aText, absent: "json", doc: "a shipped Avro schema such as `salesloft/person`, an `.avsc` file beside the definition, or `json`"},
		{name: "hash", is: inside(hashTable), doc: "what counts as a change", rule: "P23"},
		{name: "reconcile", is: inside(reconcileTable), doc: "how silent deletions are found", rule: "D1"},
		{name: "topic", is: inside(topicTable), doc: "the events topic"},
		{name: "retention", is: either(aDuration, choiceOf("forever")), doc: "how long history stays"},
		{name: "files", is: inside(filesTable), doc: "a file for each element of a record"},
	}}

	kindTable = kindKeys.more("stream of several", "One of several streams of a request; what it does not say, the request says.",
		key{name: "path", is: aPlace, needs: always, doc: "where its records lie"})
)

// The tables of connections.yaml.
var (
	connectionTable = &keyTable{name: "connection", doc: "A named instance of a source.", keys: []key{
		{name: "name", is: aText, needs: always,
			doc: "part of topic names and of the transactional id: 1 to 64 letters, digits, `_` and `-`"},
		{name: "source", is: aText, needs: always, doc: "a name of the catalog, or a path relative to this file"},
		{name: "account", is: aText, doc: "connections of one account share a rate budget and a shard; default: the name"},
		{name: "config", is: namesTo(either(aTemplate, listOf(aBody), inside(fileTable))),
			doc: "the source's settings; `${VAR}` as a whole value is a variable of the environment"},
		{name: "proxy", is: aText, doc: "for requests to upstream: http, https or socks5"},
		{name: "ca_file", is: aText, doc: "certificates that are trusted beside the system's"},
		{name: "allow_hosts", is: oneOrMore(aText), doc: "hosts with private addresses that answers may name"},
		{name: "streams", is: either(listOf(aText), namesTo(inside(overrideTable))), doc: "the chosen streams; without it all of them"},
		{name: "rate_limit", is: inside(rateOverrideTable), doc: "instead of the definition's", rule: "P22"},
	}}
	fileTable = &keyTable{name: "setting from a file", doc: "A setting that is the content of a file.", keys: []key{
		{name: "file", is: aText, needs: always, doc: "its path; line breaks at its end are cut off"},
	}}
	overrideTable = &keyTable{name: "stream of a connection", doc: "What a connection changes of a stream.", keys: slices.Concat([]key{
		{name: "interval", is: aDuration, doc: "how often a partition is polled"},
		{name: "hash", is: inside(hashTable), doc: "what counts as a change, instead of the definition's", rule: "P23"},
		{name: "reconcile", is: either(aBoolean, inside(everyTable)), doc: "how often everything is listed; `false`: never"},
	}, kindKeys.some("topic", "retention"))}
	everyTable = &keyTable{name: "reconcile of a connection", doc: "When everything is listed.", keys: reconcileTable.some("every", "guard")}

	rateOverrideTable = &keyTable{name: "rate_limit of a connection", doc: "What an account may ask for.", keys: rateTable.some("budget", "per", "max_concurrent")}
)
