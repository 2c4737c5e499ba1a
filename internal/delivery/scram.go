package delivery

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/wneessen/go-mail/smtp"
)

// maxSCRAMIterations bounds the work that a server can make us do: about half a second.
const maxSCRAMIterations = 600_000

var errSCRAM = errors.New("the server does not keep to the SCRAM protocol")

// scram holds a server to the order of RFC 5802, section 3, which go-mail's client does not: it
// takes the messages in any order, any number of iterations, and success without the server's proof.
type scram struct {
	smtp.Auth
	step int
}

// Next implements smtp.Auth.
func (s *scram) Next(message []byte, more bool) ([]byte, error) {
	s.step++
	var good bool
	switch {
	case !more:
		good = s.step == 4 // the proof has been checked
	case s.step == 1:
		good = len(message) == 0
	case s.step == 2:
		good = bytes.HasPrefix(message, []byte("r=")) && iterationsInBounds(message)
	case s.step == 3:
		good = bytes.HasPrefix(message, []byte("v="))
	}
	if !good {
		return nil, errSCRAM
	}
	return s.Auth.Next(message, more)
}

// iterationsInBounds looks at the field that go-mail's client reads them from.
func iterationsInBounds(message []byte) bool {
	fields := bytes.Split(message, []byte(","))
	if len(fields) < 3 || !bytes.HasPrefix(fields[2], []byte("i=")) {
		return false
	}
	n, err := strconv.Atoi(string(fields[2][2:]))
	return err == nil && n > 0 && n <= maxSCRAMIterations
}
