package simulator

import (
	"fmt"
	"strconv"
	"strings"
)

var (
	sellerNames = []string{"First Meridian Credit", "Bank of the Plains", "Consumer Loans \\u0026 Co", "Crédit du Nord"}
	assetTypes  = []string{"CreditCard", "AutoDeficiency", "Installment", "Medical"}
	loanStates  = []string{"Current", "Delinquent", "ChargedOff", "PaidInFull"}
	eventKinds  = []string{"Add", "Payment", "Update", "Transfer"} // Add and Payment [doc], the others [chosen]
)

// loanID is "<sellerPartnerGuid>|<sellerLoanId>" [doc].
func loanID(seed uint64, id int64) string {
	return sellerOf(seed, id) + "|" + sellerLoanID(id)
}

func sellerNumber(seed uint64, id int64) int64 { return int64(mix(seed^uint64(id)<<20^10) % 4) }

func sellerOf(seed uint64, id int64) string { return guid(seed, saltSeller, 1+sellerNumber(seed, id)) }

func sellerLoanID(id int64) string { return fmt.Sprintf("LN-%07d", id) }

// sellerLoanNumber is the number of the loan with that sellerLoanId; 0: there is none.
func sellerLoanNumber(text string) int64 {
	digits, ok := strings.CutPrefix(text, "LN-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 1 || sellerLoanID(n) != text {
		return 0
	}
	return n
}

func (w *writer) loan() {
	seller := sellerNumber(w.seed, w.m.id)
	w.key(func() { w.text("id", loanID(w.seed, w.m.id)) })
	w.text("sellerPartnerId", guid(w.seed, saltSeller, 1+seller))
	w.text("sellerPartnerName", sellerNames[seller])
	w.text("sellerLoanId", sellerLoanID(w.m.id))
	w.time("dateListed", w.created)
	// From here on [chosen].
	w.time("dateModified", w.m.updated)
	w.text("assetType", word(assetTypes, w.draw(11)))
	w.text("status", word(loanStates, w.shift(12)))
	w.number("revision", int64(w.m.content))
	w.money("originalBalance", 100_000+w.draw(13)%5_000_000)
	w.money("currentBalance", w.shift(14)%5_000_000)
	w.raw("interestRate", "0."+w.digits(15, 4))
	w.text("state", word([]string{"GA", "TX", "OH", "NY"}, w.draw(16)))
	w.number("creditScore", int64(500+w.shift(17)%300))
	w.truth("isBankrupt", w.shift(18)%16 == 0)
	w.null("dateOfLastPayment")
	w.objects("documents", w.documents(), func(i int) {
		w.text("documentId", w.documentID(i))
		w.text("name", word([]string{"Agreement", "Statement", "Assignment"}, uint64(i)), " ", strconv.Itoa(i+1), ".pdf")
		w.text("contentType", "application/pdf")
		w.number("size", int64(w.documentSize(i)))
		w.time("dateCreated", w.created+int64(i)*day)
	})
}

// documents is how many documents a loan has: one more with each count.
func (w *writer) documents() int { return int(min(w.draw(19)%3+uint64(w.m.counts), 20)) }

func (w *writer) documentID(i int) string { return guid(w.seed, saltDocument+uint64(i), w.m.id) }

func (w *writer) documentSize(i int) int { return 200 + int(w.draw(20+uint64(i))%4000) }

// loanEvent is an entry of a loan's log [doc]; what is in listingMetadata is [chosen].
func (w *writer) loanEvent() {
	w.text("kind", eventKinds[w.m.counts])
	w.time("dateCreated", w.m.updated)
	w.key(func() { w.text("eventId", guid(w.seed, saltEvent, w.m.id)) })
	w.text("loanId", loanID(w.seed, w.parent))
	w.text("sellerPartnerId", sellerOf(w.seed, w.parent))
	w.text("sellerLoanId", sellerLoanID(w.parent))
	w.object("listingMetadata", func() {
		w.number("revision", int64(w.m.content))
		w.money("amount", w.shift(10)%100_000)
	})
}
