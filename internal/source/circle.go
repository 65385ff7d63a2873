package source

import "tidemark/internal/cdc"

// circle notices that a pass comes to a place for the second time: the answers lead round, and nothing but the limit of pages
// would end it (10). One place is remembered, and moved on after twice as many pages each time (Brent): so a circle shows
// within three of its rounds, however long the way into it. It is a value, as the Position that it belongs to.
type circle struct {
	place       string
	steps, upTo int
}

// closes reports whether place is the one that is remembered.
func (c *circle) closes(place string) bool {
	if c.upTo > 0 && place == c.place {
		return true
	}
	if c.steps++; c.steps > c.upTo {
		*c = circle{place: place, upTo: 2*c.upTo + 1}
	}
	return false
}

// round is the error of a pass that goes round.
func (p *Position) round(what, place, hint string) error {
	return p.fail(cdc.Halt, cdc.Stream, hint, "after %d pages the answers lead round: %s %.64q was given before", p.pages, what, place)
}
