// Package audit chains events, so that whoever changes the database without the keyset can't change,
// drop, move, replace or make up one without being found out.
//
// Where an event stands in the chain is known in the database only, which must not see a key. What the
// key has to say goes into a tag, made before: an HMAC over everything of the event but its sequence.
// The database uses the tag to make, from the event's sequence n,
//
//	check_n ‖ mac_n = SHA-512(tag_n ‖ n)
//	link_n          = SHA-256(mac_n ‖ mac_n-1)
//
// and forgets it. Check and link are kept with the event. The mac is the head of the chain, kept with the
// instance until the next event's takes its place. Nobody makes a tag without the key, a mac without the
// tag, or a check, a link or a head without the mac; and nobody brings back the head of before who has not
// saved it, so that the newest events can't be dropped unnoticed either. Who has saved a whole database may
// put it back: that shows only against a head that was kept elsewhere.
package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"sync"
)

// Row is an event as the database has it. Everything in it is in the chain.
type Row struct {
	Instance   string
	Sequence   uint64
	Type       string
	ProviderID string
	At         int64 // microseconds since 1970
	TokenID    string
	Name       string
	Protocol   string
	Procedure  string
	UserAgent  string
	RequestID  string
	Details    string

	Chain []byte // empty if the row is not in the chain
}

// Page is a part of an instance's events, and the end of the chain, as of one moment.
type Page struct {
	Rows     []Row
	More     bool   // after these rows
	Sequence uint64 // of the instance's last change
	Head     []byte
	// Youngest is the latest change that any provider has: never after Sequence.
	Youngest uint64
}

// Store keeps events.
type Store interface {
	// AuditPage returns at most limit rows of an instance from a sequence on, in their order.
	AuditPage(ctx context.Context, instance string, from uint64, limit int) (Page, error)
}

// Keys are the keys of the chain.
type Keys interface {
	// AuditKey returns a key, that of new events if id is 0, and its id. It is 32 bytes.
	AuditKey(id uint32) (actual uint32, key []byte, err error)
	// AuditKeys returns the ids of all.
	AuditKeys() []uint32
}

// Sizes, in bytes.
const (
	keySize  = 4
	macSize  = sha256.Size
	rowChain = keySize + 2*macSize // key id ‖ check ‖ link
)

// Tag is what the key says of an event, after the key's id. It must not be stored.
type Tag [keySize + sha256.Size]byte

// Mac is the head of the chain after an event.
type Mac [macSize]byte

// Chain makes and checks chains. It is safe for concurrent use.
type Chain struct {
	keys    Keys
	signers sync.Map // of *signer, by id
}

// New returns the chain with these keys.
func New(keys Keys) *Chain { return &Chain{keys: keys} }

// signer keeps the states of HMAC with one key.
type signer struct{ states sync.Pool }

type state struct {
	mac         hash.Hash
	buffer, sum []byte
}

func (c *Chain) signer(id uint32) (uint32, *signer, error) {
	id, key, err := c.keys.AuditKey(id)
	if err != nil {
		return 0, nil, err
	}
	if s, ok := c.signers.Load(id); ok {
		return id, s.(*signer), nil
	}
	s := new(signer)
	s.states.New = func() any { return &state{mac: hmac.New(sha256.New, key)} }
	c.signers.Store(id, s)
	return id, s, nil
}

// What is signed begins with what it is.
const (
	eventLabel = "mailkeep event 1"
	baseLabel  = "mailkeep chain begins 1"
)

// Tag returns the tag of a new event.
func (c *Chain) Tag(r *Row) (Tag, error) { return c.tag(0, r) }

func (c *Chain) tag(key uint32, r *Row) (t Tag, err error) {
	id, s, err := c.signer(key)
	if err != nil {
		return t, err
	}
	st := s.states.Get().(*state)
	defer s.states.Put(st)
	b := appendText(st.buffer[:0], eventLabel)
	for _, text := range [...]string{
		r.Instance, r.Type, r.ProviderID, r.TokenID, r.Name, r.Protocol, r.Procedure, r.UserAgent, r.RequestID, r.Details,
	} {
		b = appendText(b, text)
	}
	st.buffer = binary.BigEndian.AppendUint64(b, uint64(r.At))
	return st.sign(id), nil
}

// sign returns the tag of what is in the buffer.
func (s *state) sign(id uint32) (t Tag) {
	s.mac.Reset()
	s.mac.Write(s.buffer)
	s.sum = s.mac.Sum(binary.BigEndian.AppendUint32(s.sum[:0], id))
	return Tag(s.sum)
}

func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

// Base returns the head of a chain that begins after events that are in none. The store sets it once.
func (c *Chain) Base(instance string, sequence uint64) (Mac, error) {
	return c.base(0, instance, sequence)
}

func (c *Chain) base(key uint32, instance string, sequence uint64) (Mac, error) {
	id, s, err := c.signer(key)
	if err != nil {
		return Mac{}, err
	}
	st := s.states.Get().(*state)
	defer s.states.Put(st)
	st.buffer = appendText(appendText(st.buffer[:0], baseLabel), instance)
	_, mac := st.sign(id).at(sequence)
	return mac, nil
}

// at returns the check and the mac of the event with the tag and the sequence.
func (t Tag) at(sequence uint64) (check, mac Mac) {
	var b [len(t) + 8]byte
	binary.BigEndian.PutUint64(b[copy(b[:], t[:]):], sequence)
	sum := sha512.Sum512(b[:])
	return Mac(sum[:macSize]), Mac(sum[macSize:])
}

// Add returns what is stored with an event, and the head after it; previous is the head before.
func (t Tag) Add(sequence uint64, previous []byte) (chain []byte, head Mac) {
	check, head := t.at(sequence)
	link := linkOf(head, Mac(previous))
	chain = append(make([]byte, 0, rowChain), t[:keySize]...)
	return append(append(chain, check[:]...), link[:]...), head
}

func linkOf(mac, previous Mac) Mac {
	var b [2 * macSize]byte
	copy(b[copy(b[:], mac[:]):], previous[:])
	return sha256.Sum256(b[:])
}
