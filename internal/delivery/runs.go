package delivery

import (
	"math/bits"
	"math/rand/v2"
)

// base is of the hash of runs. Nobody can know what collides; where something does by chance, too much
// is redacted.
var base = rand.Uint64() | 1

// maybeBits is how many bits of a hash are looked at first: ten bits for each key that there may be.
const maybeBits = 18

// runs finds runs of a size in one pass, by a hash that rolls over the bytes (Karp and Rabin,
// "Efficient randomized pattern-matching algorithms", 1987).
type runs struct {
	size   int
	out    uint64   // what the first byte of size and one more is multiplied by
	keys   []uint64 // what to look for; when ready a table by hash, where 0 is empty
	seen   []bool
	shift  int
	maybe  []uint64 // a bit for each key, since a table that is not in the processor's cache is slow
	hash   uint64
	count  int
	window [16]byte // the bytes that are in hash
}

func newRuns(size int) runs {
	r := runs{size: size, out: base}
	for range size {
		r.out *= base
	}
	return r
}

// reset begins a new text.
func (r *runs) reset() { r.hash, r.count, r.window = 0, 0, [16]byte{} }

// next returns the key of the run that ends with b, once there are enough bytes for one.
func (r *runs) next(b byte) (key uint64, full bool) {
	r.hash = (r.hash + uint64(b) + 1) * base
	if r.count >= r.size {
		r.hash -= r.out * (uint64(r.window[(r.count-r.size)&15]) + 1)
	}
	r.window[r.count&15] = b
	r.count++
	return max(r.hash, 1), r.count >= r.size
}

// ready makes the keys a table that is a quarter full at most.
func (r *runs) ready() {
	keys := r.keys
	width := bits.Len(uint(4 * len(keys)))
	r.shift = 64 - width
	r.keys, r.seen = make([]uint64, 1<<width), make([]bool, 1<<width)
	r.maybe = make([]uint64, 1<<(maybeBits-6))
	for _, key := range keys {
		r.keys[r.slot(key)] = key
		r.maybe[key>>(64-maybeBits+6)] |= 1 << (key >> (64 - maybeBits) & 63)
	}
	r.reset()
}

// slot returns where a key is, or the empty place where it would be.
func (r *runs) slot(key uint64) int {
	i := int(key >> r.shift)
	for r.keys[i] != 0 && r.keys[i] != key {
		i = (i + 1) & (len(r.keys) - 1)
	}
	return i
}

// look reads a byte of the mail.
func (r *runs) look(b byte) {
	key, full := r.next(b)
	if full && r.maybe[key>>(64-maybeBits+6)]>>(key>>(64-maybeBits)&63)&1 != 0 {
		r.seen[r.slot(key)] = true // also of an empty place, which nobody asks for
	}
}

func (r *runs) has(key uint64) bool { return r.seen[r.slot(key)] }
