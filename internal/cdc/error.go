package cdc

import (
	"context"
	"errors"
	"fmt"
)

// Remedy says what mends an error.
type Remedy uint8

// The remedies, from the mildest to the gravest.
const (
	Retry   Remedy = iota // the same again, after a pause
	Park                  // the record goes to the dead-letter topic, all else goes on (P19)
	Expired               // the cursor is no longer known upstream: a full pass (P17)
	Restart               // the pass starts again from its cursor
	Reopen                // the connection is owned anew (K9, K14)
	Halt                  // stopped until somebody mends it; the hint says who and how
)

var remedies = [...]string{"retry", "park", "expired", "restart", "reopen", "halt"}

// String returns the remedy's name.
func (r Remedy) String() string { return remedies[r] }

// Scope says how far an error reaches.
type Scope uint8

// The scopes, from the smallest to the largest.
const (
	Record Scope = iota
	Partition
	Stream
	Connection
	Process
)

var scopes = [...]string{"record", "partition", "stream", "connection", "process"}

// String returns the scope's name.
func (s Scope) String() string { return scopes[s] }

// Error is an error that knows its remedy and its reach. It reads "Op Where: Err. Hint".
type Error struct {
	Op     string // what was being done: "read page", "commit"
	Where  string // the connection, stream, partition, topic or file, as far as it is known
	Err    error  // what happened; may be nil
	Hint   string // what to do next; every Halt has one, and it says who lifts it
	Remedy Remedy
	Scope  Scope
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Op
	if e.Where != "" {
		s += " " + e.Where
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += ". " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error whose cause is formatted as by fmt.Errorf.
func Errorf(r Remedy, s Scope, op, hint, format string, args ...any) *Error {
	return &Error{Op: op, Hint: hint, Remedy: r, Scope: s, Err: fmt.Errorf(format, args...)}
}

// Verdict returns remedy and scope of err: those of the outermost Error in its chain. Anything else that went wrong
// reopens the connection (K14: when in doubt, own it again and read what Kafka holds); a cancelled context is a retry,
// since whoever cancelled decides.
func Verdict(err error) (Remedy, Scope) {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Remedy, e.Scope
	case errors.Is(err, context.Canceled):
		return Retry, Connection
	default:
		return Reopen, Connection
	}
}

// Hint returns the hint of the outermost Error in err's chain that has one.
func Hint(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
