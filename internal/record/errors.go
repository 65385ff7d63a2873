package record

import (
	"errors"
	"fmt"
)

// The kinds of fault that a SyntaxError can be; errors.Is tells them apart. Only ErrTruncated and ErrMalformed mean that
// the text around the record cannot be trusted either; after the others Skip still finds where the record ends, so that
// it can be parked alone (P19).
var (
	ErrTruncated = errors.New("the text ends too early")
	ErrMalformed = errors.New("not JSON")
	ErrEncoding  = errors.New("text that is not UTF-8")
	ErrDuplicate = errors.New("a name stands twice in one object")
	ErrDepth     = errors.New("nested too deeply")
	ErrSize      = errors.New("too large")
)

// SyntaxError is JSON text that was refused. Err is one of the kinds above.
type SyntaxError struct {
	Offset int    // bytes from the start of the buffer
	What   string // what was found, or expected
	Err    error
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%v: %s at byte %d", e.Err, e.What, e.Offset)
}

// Unwrap returns the kind of fault.
func (e *SyntaxError) Unwrap() error { return e.Err }
