package record

import "fmt"

// Value decodes the value at s, which must have been checked: nil, bool, string, []any, map[string]any; of numbers int64
// where the value is an integer that fits, float64 where its shortest decimal text is the same number, else json.Number
// with the text as it came. nil where there is no value. What cannot be the start of a value is a *SyntaxError.
func Value(buf []byte, s Span) (any, error) {
	if s.IsZero() {
		return nil, nil
	}
	switch KindAt(buf, s) {
	case Null:
		return nil, nil
	case False:
		return false, nil
	case True:
		return true, nil
	case String:
		content, _ := Text(nil, buf, s)
		return string(content), nil
	case Number:
		return numberValue(s.Of(buf)), nil
	case Array:
		list := []any{}
		for e := range Elements(buf, s) {
			v, err := Value(buf, e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case Object:
		object := map[string]any{}
		for name, value := range Members(buf, s) {
			v, err := Value(buf, value)
			if err != nil {
				return nil, err
			}
			content, _ := Text(nil, buf, name)
			object[string(content)] = v
		}
		return object, nil
	default:
		return nil, &SyntaxError{int(s.Off), fmt.Sprintf("expected a value, found %q", s.Of(buf)), ErrMalformed}
	}
}
