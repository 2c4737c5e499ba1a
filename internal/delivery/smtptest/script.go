package smtptest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Stages of a session that a Script can answer in its own way. Auth is the AUTH command, Response
// every line that follows it, Body the final dot.
const (
	Greeting = "GREETING"
	EHLO     = "EHLO"
	Upgrade  = "STARTTLS"
	Auth     = "AUTH"
	Response = "RESPONSE"
	MailFrom = "MAIL"
	RcptTo   = "RCPT"
	Rset     = "RSET"
	Data     = "DATA"
	Body     = "BODY"
	Quit     = "QUIT"
)

// errFriendly has the server give the answer that it has for friends.
var errFriendly = errors.New("no answer of its own")

// Answer writes the reply to one line. An error ends the session.
type Answer func(w io.Writer, line string) error

// Script is how a Hostile server behaves. Stages without an answer get a friendly one.
type Script struct {
	Answers     map[string]Answer
	Certificate *tls.Certificate // offers STARTTLS if set and not Implicit
	Implicit    bool             // TLS from the first byte
	MaxVersion  uint16           // highest TLS version, and then any lower one too; 0 for the usual ones
	AuthOffer   string           // mechanisms; default "PLAIN LOGIN"
	Pipelining  bool             // offer PIPELINING (RFC 2920)
}

// Say answers with a text as it is; it must bring its own CRLF.
func Say(reply string) Answer {
	return func(w io.Writer, _ string) error {
		_, err := io.WriteString(w, reply)
		return err
	}
}

// Echo answers with a format that gets the received line, without CRLF, as its only argument.
func Echo(format string) Answer {
	return func(w io.Writer, line string) error {
		_, err := fmt.Fprintf(w, format, line)
		return err
	}
}

// Stall never answers; it returns when the client closes.
func Stall() Answer {
	return func(w io.Writer, _ string) error {
		if r, ok := w.(io.Reader); ok {
			_, _ = io.Copy(io.Discard, r)
		}
		return io.EOF
	}
}

// Hangup closes the connection without an answer.
func Hangup() Answer { return func(io.Writer, string) error { return io.EOF } }

// Reset closes the connection with an RST, without an answer.
func Reset() Answer {
	return func(w io.Writer, _ string) error {
		if p, ok := w.(*player); ok {
			p.reset()
		}
		return io.EOF
	}
}

// Endless repeats chunk until the client closes.
func Endless(chunk string) Answer {
	return func(w io.Writer, _ string) error {
		block := []byte(strings.Repeat(chunk, 1+(32<<10)/len(chunk)))
		for {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
	}
}
