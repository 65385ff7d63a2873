package simulator

import "time"

// APIKey is the API key that the systems take when Options.APIKey is empty.
const APIKey = "simulated-api-key"

// The client and the first refresh token that the simulator takes when Options.Tokens is set.
const (
	ClientID     = "simulated-client"
	ClientSecret = "simulated-secret"
	RefreshToken = "simulated-refresh-token-0"
)

// Options shapes a simulated system. The zero value is an empty one that never changes, with the documented limits.
// Fractions are of changes, from 0 to 1.
type Options struct {
	// Seed fixes records, changes and tokens.
	Seed int64

	// How many records of each kind there are at the start; ids count from 1.
	People, Accounts, Calls, Emails, Cadences, CadenceMemberships, Notes, Users int
	// Records is how many there are of the resources that have no option of their own, by name ("tasks", "loans").
	Records map[string]int

	// ChangesPerSecond is how many changes Run makes a second, over all kinds, each record as likely as any other.
	ChangesPerSecond float64
	// Creates, CountsOnly, Touches, Reverts, Ties and LateCommits are what part of the changes creates a record; moves
	// counts and updated_at alone; moves updated_at alone; gives a record the content that it had before its present one;
	// gives 2 to 20 records one updated_at, as a bulk update does; becomes visible later than its updated_at says. The rest changes
	// content.
	Creates, CountsOnly, Touches, Reverts, Ties, LateCommits float64
	// Lateness is the longest time by which a late commit is late; 0 is 10 s.
	Lateness time.Duration
	// Deletes, Restores and Moves are what part of the changes removes a record without a sign; brings a removed one back;
	// moves a record to another partition, where the system has such.
	Deletes, Restores, Moves float64
	// NullUpdated is how many of the first records of each kind have no updated_at until they first change.
	NullUpdated int

	// PageCap is the largest page; 0 is what the system documents. What happens to who asks for more is the system's.
	PageCap int
	// RateBudget is the cost that a minute allows; 0 is what the system documents, below 0 there is no limit.
	RateBudget int
	// CursorLife is how long an opaque cursor is good after it was handed out; 0 is for ever.
	CursorLife time.Duration
	// Latency is how long every answer takes.
	Latency time.Duration
	// Gzip compresses answers for clients that accept it.
	Gzip bool
	// Skew is by how much the server's clock is ahead of ours, in everything it says.
	Skew time.Duration
	// Zone is the team's zone, whose offset timestamps carry; nil is America/New_York.
	Zone *time.Location

	// APIKey is the key that is always taken, for a login or instead of one; empty is the constant APIKey.
	APIKey string
	// Tokens switches SalesLoft's OAuth on at /oauth/token, with ClientID, ClientSecret and RefreshToken as the first grant.
	Tokens bool
	// TokenLife is the life of an access token or a session; 0 is the documented two hours, or an hour where nothing is documented.
	TokenLife time.Duration
	// TokenGrace keeps a used refresh token good until the access token it was exchanged for is first used, so that an answer that got lost can
	// be asked for again. Without it a refresh token is dead once it was answered.
	TokenGrace bool
}

// Lively returns the mixture of changes that the demo and the tests run on: ten changes a second with everything in it but
// deletions.
func Lively(seed int64) Options {
	return Options{
		Seed: seed, People: 500, Accounts: 60, Calls: 120, Emails: 200, Cadences: 12, CadenceMemberships: 150, Notes: 80, Users: 15,
		ChangesPerSecond: 10, Creates: 0.05, CountsOnly: 0.2, Touches: 0.05, Reverts: 0.05, Ties: 0.02, LateCommits: 0.05,
		Lateness: 5 * time.Second,
	}
}

// Spoil says what is wrong with a record.
type Spoil string

// The ways to spoil a record.
const (
	Sound     Spoil = ""           // nothing is wrong
	NoKey     Spoil = "no_key"     // there is no id
	WrongType Spoil = "wrong_type" // the first text holds an object, and the first boolean a text
	Huge      Spoil = "huge"       // a member more, of 2 MiB
)

// State is one state of a record, with the time when it became visible.
type State struct {
	Key       string    // ID, or the JSON list of Partition and ID where there are partitions
	ID        string    // the record's identity
	Partition string    // the value of its partition; empty where the resource has none
	At        time.Time // when it became visible in the API
	Updated   time.Time // when it says that it changed; zero: null
	Value     []byte    // the record as JSON; nil: it is gone
	Spoil     Spoil     // what is wrong with it
}

// Stats counts what happened.
type Stats struct {
	Requests  int64          `json:"requests"`  // requests to the API, of all kinds
	Throttled int64          `json:"throttled"` // of these, answered 429
	Failed    int64          `json:"failed"`    // of these, hit by a planted fault
	Records   int64          `json:"records"`   // records sent in lists
	Refreshes int64          `json:"refreshes"` // refresh tokens exchanged, and logins
	Changes   int64          `json:"changes"`   // states added to the history since the start
	Pending   int            `json:"pending"`   // late commits not yet visible
	Frozen    bool           `json:"frozen"`
	Live      map[string]int `json:"live"`             // records alive, by resource
	Struck    map[Kind]int64 `json:"struck,omitempty"` // how often each kind of fault has struck
}
