package outbox

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"
)

// An id is 26 digits of base32hex (RFC 4648, section 7) in lower case, whose order is that of what
// they encode: the time in microseconds since 1970, then random bits.
const (
	idLength   = 26
	timeDigits = 11 // 55 bits, enough for a thousand years
	digits     = "0123456789abcdefghijklmnopqrstuv"
)

var encoding = base32.NewEncoding(digits).WithPadding(base32.NoPadding)

// NewID returns an id for a mail that is taken at the time. It has 75 random bits.
func NewID(at time.Time) string {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return timePart(at) + encoding.EncodeToString(random[:])[:idLength-timeDigits]
}

// FirstID returns the lowest id that a mail taken at the time can have.
func FirstID(at time.Time) string {
	return timePart(at) + strings.Repeat(digits[:1], idLength-timeDigits)
}

func timePart(at time.Time) string {
	n := uint64(max(0, at.UnixMicro()))
	var out [timeDigits]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = digits[n%32]
		n /= 32
	}
	return string(out[:])
}
