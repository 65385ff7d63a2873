package capture

import "testing"

// TestP2OverlayKeepsEachBatchApart: the value of a settled batch is committed although a later batch, whose outcome is not
// known, has staged another one; when the ownership dies that one alone is forgotten (2).
func TestP2OverlayKeepsEachBatchApart(t *testing.T) {
	o := newOverlay[int]()
	o.put(1, "k", 10)
	o.put(2, "k", 20)
	o.remove(2, "gone")
	if v, ok := o.get("k"); !ok || v != 20 {
		t.Fatalf("staged over committed: got %v %v", v, ok)
	}
	o.settle(1)
	o.drop()
	if v, ok := o.get("k"); !ok || v != 10 {
		t.Fatalf("batch 1 was committed and batch 2 was not: got %v %v, want 10", v, ok)
	}
	o.remove(3, "k")
	if _, ok := o.get("k"); ok {
		t.Fatal("a staged removal is not seen")
	}
	o.settle(3)
	if o.len() != 0 {
		t.Fatal("a settled removal left the key")
	}
}
