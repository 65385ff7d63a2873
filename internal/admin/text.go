package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// moment is an instant as people read it, and exactly.
type moment struct{ Text, Exact string }

// ago tells how long before now t was.
func ago(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	text := "just now"
	if d := now.Sub(t); d >= time.Second {
		text = span(d) + " ago"
	}
	return moment{text, t.UTC().Format(time.RFC3339Nano)}
}

// until tells how long after now t is.
func until(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	text := "now"
	if d := t.Sub(now); d >= time.Second {
		text = "in " + span(d)
	}
	return moment{text, t.UTC().Format(time.RFC3339Nano)}
}

// span prints d in one unit, of which there are enough to see it move.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int64(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int64(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int64(d.Hours()/24))
	}
}

// number groups n's digits by three.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// records counts them.
func records(n int) string { return count(n, "record") }

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(int64(n)) + " " + noun + "s"
}

// size prints bytes in the largest unit of which there is one.
func size(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// cut shortens s to at most n characters: cursors may be 16 KiB long (K5), and an answer's text stands in errors.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// without returns what an error says, without the hint with which cdc.Error ends: it is shown by itself.
func without(err, hint string) string {
	if hint == "" {
		return err
	}
	if head, _, ok := strings.Cut(err, ". "+hint); ok {
		return head
	}
	return err
}
