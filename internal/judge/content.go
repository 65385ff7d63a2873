package judge

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"tidemark/internal/record"
)

// content stands for the content of a value: equal ones are equal under the rules. The zero one is that of no value.
type content [sha256.Size]byte

// gone is the content of a record that is not there.
var gone content

// canon makes contents.
type canon struct {
	plan  *record.Plan
	nulls bool // members that are null are dropped
}

func newCanon(rules record.Rules, dropNulls bool) (canon, error) {
	rules.Value = ""
	plan, err := record.NewPlan(nil, rules, 0)
	if err != nil {
		return canon{}, fmt.Errorf("content rules: %w", err)
	}
	return canon{plan: plan, nulls: dropNulls}, nil
}

// of returns the content of a value; nil is gone.
func (c canon) of(value []byte) (content, error) {
	if value == nil {
		return gone, nil
	}
	if err := record.Valid(value, record.Limits{}); err != nil {
		return content{}, err
	}
	text := c.plan.AppendCanonical(nil, value, whole(value))
	if c.nulls {
		var tree any
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber() // the texts of numbers are canonical by now
		if err := decoder.Decode(&tree); err != nil {
			return content{}, err
		}
		var err error
		if text, err = json.Marshal(dropNulls(tree)); err != nil {
			return content{}, err
		}
	}
	return sha256.Sum256(text), nil
}

// whole is the span of a document, without the white space around it.
func whole(value []byte) record.Span {
	const space = " \t\r\n"
	start := len(value) - len(bytes.TrimLeft(value, space))
	return record.Span{Off: int32(start), End: int32(len(bytes.TrimRight(value, space)))}
}

// dropNulls removes members that are null, at every depth.
func dropNulls(tree any) any {
	switch t := tree.(type) {
	case map[string]any:
		for name, value := range t {
			if value == nil {
				delete(t, name)
				continue
			}
			t[name] = dropNulls(value)
		}
	case []any:
		for i := range t {
			t[i] = dropNulls(t[i])
		}
	}
	return tree
}
