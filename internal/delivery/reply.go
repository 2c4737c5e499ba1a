package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// How much of a reply is read. RFC 5321, section 4.5.3.1.5 has 512 octets a line.
const (
	maxReplyLine = 4 << 10
	maxReply     = 64 << 10
)

// codeClosing: the server closes the connection, whatever was asked (RFC 5321, section 3.8).
const codeClosing = 421

// What is wrong with a reply. None of them repeats it.
var (
	errLineTooLong  = errors.New("the server sent a line of more than 4096 bytes")
	errReplyTooLong = errors.New("the server sent a reply of more than 65536 bytes")
	errNotAReply    = errors.New("the server sent something that is not an SMTP reply")
	errOutOfStep    = errors.New("the server sent a reply that does not fit what it was asked")
)

// reply is one reply of a server: at least one line, without code and line end.
type reply struct {
	code  int
	lines []string
}

func (r reply) text() string { return strings.Join(r.lines, " ") }

// must returns err, or a *replyError unless the reply has one of the wanted codes.
func (r reply) must(err error, want ...int) error {
	if err != nil || slices.Contains(want, r.code) {
		return err
	}
	return &replyError{r}
}

// replyError is a reply that is not the one that was hoped for.
type replyError struct{ reply }

// Error implements error. The text has not been cleaned.
func (e *replyError) Error() string { return e.text() }

// newReplyReader returns a reader whose buffer is the longest line that readReply takes.
func newReplyReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, maxReplyLine) }

// readReply reads one reply (RFC 5321, section 4.2). It holds no more than maxReply of it.
func readReply(in *bufio.Reader) (reply, error) { return readUnless(in, 0) }

// readUnless is readReply, but leaves out the lines of a reply that begins with a digit that says all.
func readUnless(in *bufio.Reader, digit int) (reply, error) {
	var r reply
	for size := 0; ; {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return reply{}, errLineTooLong
		case err == io.EOF:
			return reply{}, io.ErrUnexpectedEOF
		case err != nil:
			return reply{}, err
		}
		if size += len(line); size > maxReply {
			return reply{}, errReplyTooLong
		}
		code, last, text, ok := parseReplyLine(bytes.TrimRight(line, "\r\n"))
		if !ok || r.code != 0 && code != r.code {
			return reply{}, errNotAReply
		}
		r.code = code
		if code/100 != digit {
			r.lines = append(r.lines, string(text))
		}
		if last {
			return r, nil
		}
	}
}

func parseReplyLine(line []byte) (code int, last bool, text []byte, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, nil, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, true, nil, true
	case line[3] == ' ' || line[3] == '-':
		return code, line[3] == ' ', line[4:], true
	}
	return 0, false, nil, false
}
