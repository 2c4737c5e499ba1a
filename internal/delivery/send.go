package delivery

import (
	"bufio"
	"bytes"
	"context"
	"net/textproto"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// envelope is a composed mail: who gets it from whom, and the message. The addresses have been
// checked, so they can't end a path or add a parameter.
type envelope struct {
	from, to string
	utf8     bool // an address needs SMTPUTF8 (RFC 6531)
	message  []byte
}

// send hands over one mail. After nil the server has it.
func (s *session) send(ctx context.Context, e envelope) error {
	params := ""
	if e.utf8 {
		if !s.offered("SMTPUTF8") {
			return refused(emailprovider.StepFrom, "an address has letters outside ASCII and the server does not offer SMTPUTF8")
		}
		params = " BODY=8BITMIME SMTPUTF8"
	}
	r, err := s.cmd(ctx, "MAIL FROM:<"+e.from+">"+params)
	if err := r.must(err, 250); err != nil {
		return at(emailprovider.StepFrom, err)
	}
	r, err = s.cmd(ctx, "RCPT TO:<"+e.to+">")
	if err := r.must(err, 250, 251, 252); err != nil {
		return at(emailprovider.StepRecipient, err)
	}
	r, err = s.cmd(ctx, "DATA")
	if err := r.must(err, 354); err != nil {
		return at(emailprovider.StepData, err)
	}
	r, err = s.exchange(ctx, s.stepTimeout, dotted(e.message))
	return at(emailprovider.StepData, r.must(err, 250))
}

// dotted returns a message as it follows DATA: dots doubled, with the final dot.
func dotted(message []byte) []byte {
	var b bytes.Buffer
	buffered := bufio.NewWriter(&b)
	w := textproto.NewWriter(buffered).DotWriter()
	_, _ = w.Write(message) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
