package capture

import "time"

// Unseen finds the keys of the only stream that the last complete listing of its only partition did not show, as the verdict on
// a listing does, and says how long that took. Run must have returned.
func (c *Connection) Unseen() (missing int64, took time.Duration) {
	o := &ownership{Connection: c}
	began := time.Now()
	pt := o.unseen(c.partitions[0], c.streams[0])
	return pt.missing, time.Since(began)
}
