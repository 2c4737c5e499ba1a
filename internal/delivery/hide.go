package delivery

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// vocabulary is what servers say of mails, whatever these say: words that would be taken for the
// mail's, and those that stand side by side in both. Anything else that a server says is shown unless
// the mail has it.
var vocabulary = wordSet(`
	accepted account accounts actively address addresses administrator administrative alignment anonymous attachment
	attachments authenticate authenticated authentication authorization authorized available base64 because blacklist
	blacklisted blocklist blocklisted bulk bounced certificate characters choosing classified closed command commands
	complaint complaints complete completed compliance configuration configured conformant connected connecting connection
	connections contact contains contained contacting contents continue currently database deferred delivered delivering
	delivery destination detected directly disabled disallowed discarded disconnect dmarc doesn domain domains duplicate e-mail email
	emails encoding encountered encryption enhanced envelope error exceeded exceeding exceeds excessive exchange exist existing
	expected external filtered following forbidden format forwarding frequency generated greylisted greylisting guidelines
	hostname identified identity implemented inactive including information insufficient internal internet ipv4 ipv6 invalid
	invalidated language limitation limitations listed local mailbox mailboxes mail malformed malicious malware maximum message messages
	microsoft mismatch multiple negative newsletter occurred operation originating originator outbound overloaded parameter
	parameters permanent permanently permission permitted phishing please policies policy position postmaster potentially
	prevented previous previously processed processing prohibited protection protocol provided provider quarantine quarantined
	quota reached reasons receive received receiver receiving recipient recipients redacted refused rejected rejecting
	rejection relaying repeatedly reputation request requested require required requirement requirements requires resolved
	resources response restricted restriction restrictions returned schedule scheduled security sender senders sending sequence
	server servers service services sha256 signature signatures similar smtputf8 8bitmime software something spam spamhaus storage submission
	submit submitted subscribe successful successfully suspected suspended suspicious syntax system temporarily temporary
	terminated threshold throttled timeout timestamp transaction transmission transport troubleshooting unacceptable
	unauthenticated unauthorized unavailable undelivered undeliverable unexpected unfortunately unknown unrecognized
	unsolicited unsubscribe unsupported unusual unverified user utf8 validation verification verified verify violates violation
	webhook whitelist`)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}

var (
	webPrefix = regexp.MustCompile(`https?://(?:www\.)?`)
	mailbox   = regexp.MustCompile(`[^\s<>()@,;:"'\x00]+@[^\s<>()@,;:"'\x00]+`)
	ipv4      = regexp.MustCompile(`\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b`)
	// status is an enhanced status code (RFC 3463) with the reply code before it, if there is one.
	status = regexp.MustCompile(`\b(?:[245][0-9]{2}[ -])?[245]\.[0-9]{1,3}\.[0-9]{1,3}\b`)
)

// hide returns a text in lower case, with NULs for what may be repeated: the addresses that server and
// operator know anyway, status codes, and the vocabulary. Other addresses are asked for as a whole.
func (c *content) hide(s *search, v view) []byte {
	text := v.lower()
	hidden := func(from, to int) { clear(text[from:to]) }
	for _, m := range webPrefix.FindAllIndex(text, -1) {
		hidden(m[0], m[1])
	}
	for _, known := range c.known {
		if strings.Contains(known, "@") {
			eachWhole(text, known, hidden)
		}
	}
	for _, m := range mailbox.FindAllIndex(text, -1) {
		s.word(v, text, m[0], m[1], false)
	}
	for _, m := range ipv4.FindAllIndex(text, -1) { // its parts tell nothing
		s.word(v, text, m[0], m[1], false)
		hidden(m[0], m[1])
	}
	for _, m := range status.FindAllIndex(text, -1) {
		hidden(m[0], m[1])
	}
	for _, known := range c.known {
		eachWhole(text, known, hidden)
	}
	for i, j := range spans(string(text), inWord) {
		if vocabulary[string(text[i:j])] || c.names[string(text[i:j])] {
			hidden(i, j)
		}
	}
	return text
}

// eachWhole calls see for every place where a name is in text, not as a part of a longer word.
func eachWhole(text []byte, name string, see func(from, to int)) {
	for i := 0; name != ""; {
		at := bytes.Index(text[i:], []byte(name))
		if at < 0 {
			return
		}
		from, to := i+at, i+at+len(name)
		before, _ := utf8.DecodeLastRune(text[:from])
		after, _ := utf8.DecodeRune(text[to:])
		if !inWord(before) && !inWord(after) {
			see(from, to)
		}
		i = to
	}
}
