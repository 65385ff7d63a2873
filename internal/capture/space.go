package capture

// space is a key space: keys with one hash each, of a partition or, with key_scope: stream, of all partitions of a request.
// Within it, answers are applied in the order in which they were requested (P1). So one reader has a request under way at a
// time, and readers take turns at page borders: incremental passes, listings, lookups. An older answer never overwrites a newer
// one, and no tombstone follows a re-creation.
type space struct {
	flight int      // requests under way
	queue  []reader // who waits for a turn, in the order in which they asked
}

// reader is what reads a key space: a pass, or the lookups of its candidates.
type reader interface {
	// send sends what is next; all requests of one turn count for flight.
	send(o *ownership) error
	// over reports whether it was given up while it waited.
	over() bool
	// fail takes an error of send; what it returns ends the ownership.
	fail(o *ownership, err error) error
}

// want lets r have its turn in sp: at once if nobody else is being answered (P1).
func (o *ownership) want(sp *space, r reader) error {
	sp.queue = append(sp.queue, r)
	return o.serve(sp)
}

// serve gives the turn to who waits longest, if it is free.
func (o *ownership) serve(sp *space) error {
	for sp.flight == 0 && len(sp.queue) > 0 {
		r := sp.queue[0]
		sp.queue = sp.queue[1:]
		if r.over() {
			continue
		}
		if err := r.send(o); err != nil {
			if err := r.fail(o, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends the request for the walk's next page, or the lookup of a held version that goes before it (P14).
func (w *walk) send(o *ownership) error {
	if len(w.lookups) > 0 {
		l := w.lookups[0]
		w.lookups = w.lookups[1:]
		return o.lookUp(w, l)
	}
	request, err := w.position.Request().Compose(&w.position)
	if err != nil {
		return err
	}
	o.fetch(w.partition.space, fetched{walk: w}, request)
	return nil
}

func (w *walk) over() bool { return w.partition.walk != w && w.partition.listing != w }

func (w *walk) fail(o *ownership, err error) error { return o.fail(w, err) }
