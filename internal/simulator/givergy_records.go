package simulator

// givergyKind is one kind of record that belongs to an event: a category of a bundle, or guests.
type givergyKind struct {
	bundle, category string
	fields           func(*writer)
}

func (k givergyKind) name() string {
	if k.category == "" {
		return k.bundle
	}
	return k.bundle + "/" + k.category
}

// givergyKinds returns what belongs to an event. The categories of items are [doc]; of purchases only the types of records
// are published, their names in the bundle are [chosen].
func givergyKinds() []givergyKind {
	return []givergyKind{
		{"items", "buyNows", (*writer).buyNowItem},
		{"items", "auctionItems", (*writer).auctionItem},
		{"items", "pledges", (*writer).pledgeItem},
		{"items", "prizeDraws", (*writer).drawItem},
		{"items", "gliRaffles", (*writer).drawItem},
		{"items", "tickets", (*writer).ticketItem},
		{"purchases", "buyNows", (*writer).purchase},
		{"purchases", "auctionItems", (*writer).bid},
		{"purchases", "donations", (*writer).donation},
		{"purchases", "prizeDraws", (*writer).drawPurchase},
		{"purchases", "gliRaffles", (*writer).drawPurchase},
		{"purchases", "tickets", (*writer).ticketPurchase},
		{"guests", "", (*writer).guest},
	}
}

// write writes what all kinds have, and what only this has. Lists show status "active" only.
func (k givergyKind) write(salt uint64) func(*writer) {
	return func(w *writer) {
		w.key(func() { w.text("id", guid(w.seed, salt, w.m.id)) })
		w.text("eventId", guid(w.seed, saltGivergy, w.parent))
		w.text("status", "active")
		w.time("created", w.created)
		w.time("updated", w.m.updated)
		k.fields(w)
		w.number("revision", int64(w.m.content))
	}
}

func (w *writer) event() {
	w.key(func() { w.text("id", guid(w.seed, saltGivergy, w.m.id)) })
	w.text("name", word(companies, w.draw(10)), " Gala, ", word(cities, w.draw(11)))
	w.text("status", "active")
	w.time("startTime", w.start)
	w.time("endTime", w.start+day/6+int64(w.shift(12)%4)*day/48) // the end is put off at times
	w.time("created", w.created)
	w.time("updated", w.m.updated)
	w.text("timezone", word([]string{"Europe/London", "America/New_York", "Australia/Sydney"}, w.draw(13)))
	w.text("currency", word([]string{"GBP", "USD", "AUD"}, w.draw(13)))
	w.text("venue", word(cities, w.draw(14)), ", hall ", w.digits(15, 1))
	w.number("target", int64(w.draw(16)%10_000_000))
	w.number("revision", int64(w.m.content))
	w.number("views", int64(w.m.counts))
}

// guest is a person: personal data, which obfuscation takes away.
func (w *writer) guest() {
	w.text("firstName", word(firstNames, w.draw(10)))
	w.text("lastName", word(lastNames, w.draw(11)))
	w.text("email", "guest", w.digits(12, 6), "@example.com")
	w.text("mobile", "+44 7700 ", w.digits(13, 6))
	w.text("addressLine1", w.digits(14, 2), " High Street")
	w.null("addressLine2")
	w.text("city", word(cities, w.shift(15)))
	w.text("postcode", "N", w.digits(16, 1), " ", w.digits(17, 1), "AB")
	w.text("country", "GB")
	w.truth("emailConsent", w.shift(18)%2 == 0)
	w.truth("smsConsent", w.shift(19)%3 == 0)
	w.number("tableNumber", int64(w.shift(20)%40))
	w.number("visits", int64(w.m.counts))
}

// Money is in integer minor units [doc].

func (w *writer) item() {
	w.text("name", word(assetTypes, w.draw(10)), " for ", word(firstNames, w.draw(11)))
	w.text("description", "Kindly given by ", word(companies, w.draw(12)))
	w.number("views", int64(w.m.counts))
}

func (w *writer) buyNowItem() {
	w.item()
	w.number("price", 100+int64(w.draw(13)%50_000))
	w.number("quantity", 50)
	w.number("quantityRemaining", int64(w.shift(14)%50))
}

func (w *writer) auctionItem() {
	w.item()
	w.number("startingBid", 100+int64(w.draw(13)%50_000))
	w.number("increment", 500)
	w.number("currentBid", 100+int64(w.draw(13)%50_000)+500*int64(w.m.content-1))
	w.truth("silent", w.draw(14)%2 == 0)
}

func (w *writer) pledgeItem() {
	w.item()
	w.number("amount", 1000*int64(1+w.draw(13)%20))
	w.number("pledged", 1000*int64(w.shift(14)%500))
}

func (w *writer) drawItem() {
	w.item()
	w.number("ticketPrice", 100*int64(1+w.draw(13)%20))
	w.number("ticketsSold", int64(w.shift(14)%5000))
}

func (w *writer) ticketItem() {
	w.item()
	w.number("price", 1000*int64(1+w.draw(13)%100))
	w.number("capacity", int64(10+w.shift(14)%300))
}

func (w *writer) buyer() {
	w.text("guestId", guid(w.seed, saltGuest, 1+int64(w.draw(10)%20)))
	w.text("itemId", guid(w.seed, saltGivergy+1, 1+int64(w.draw(11)%20)))
	w.truth("paid", w.shift(12)%2 == 0)
	w.number("reminders", int64(w.m.counts))
}

func (w *writer) purchase() {
	w.buyer()
	w.number("quantity", int64(1+w.draw(13)%5))
	w.number("amount", 100+int64(w.draw(14)%50_000))
}

func (w *writer) bid() {
	w.buyer()
	w.number("amount", 100+int64(w.draw(13)%500_000))
	w.truth("winning", w.shift(14)%4 == 0)
}

func (w *writer) donation() {
	w.buyer()
	w.number("amount", 100*int64(1+w.draw(13)%5000))
	w.truth("giftAid", w.shift(14)%2 == 0)
	w.truth("anonymous", w.draw(15)%4 == 0)
}

func (w *writer) drawPurchase() {
	w.buyer()
	w.number("amount", 100*int64(1+w.draw(13)%50))
	w.list("ticketNumbers", w.digits(14, 5), w.digits(15, 5))
}

func (w *writer) ticketPurchase() {
	w.buyer()
	w.number("amount", 1000*int64(1+w.draw(13)%100))
	w.number("seats", int64(1+w.shift(14)%10))
}
