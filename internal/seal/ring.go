package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// InstanceKeys stores the keys of instances.
type InstanceKeys interface {
	// InstanceKeys returns those of an instance, the one that seals first; none if it was removed.
	InstanceKeys(ctx context.Context, id string) ([]instance.Key, error)
	// AddInstanceKey makes a key the one that seals, unless there is no such instance.
	AddInstanceKey(ctx context.Context, k instance.Key) error
	// RewrapInstanceKey stores another wrapping of a key.
	RewrapInstanceKey(ctx context.Context, k instance.Key) error
	// PresentInstances returns the ids of all instances.
	PresentInstances(ctx context.Context) ([]string, error)
}

// Ring seals and opens with the keys of instances, which are stored sealed with the keyset: without its
// stored keys nothing of an instance opens, whoever has the keyset. It is safe for concurrent use.
//
// What Default had before it got a key of its own is sealed with the keyset itself.
type Ring struct {
	keyset *Keyset
	stored InstanceKeys
	now    func() time.Time

	mu      sync.RWMutex
	of      map[string]*instanceRing
	changes uint64 // counts calls of Forget: what was read before one is not kept after it
}

// instanceRing is the keys of one instance. Nobody changes it.
type instanceRing struct {
	primary uint32 // seals
	keys    map[uint32]tink.AEAD
}

// loadPatience bounds how long a key may take to be read.
const loadPatience = 5 * time.Second

// errNoKey: the instance has no key, or not the one that is needed.
var errNoKey = fault.New(fault.FailedPrecondition, "MAILKEEP-SEALED", "the instance does not have the key; it may have been removed")

// errUnread: whether it opens will show when the store answers.
var errUnread = fault.New(fault.Unavailable, "MAILKEEP-STORE", "the keys of the instance can not be read at present")

// NewRing returns a Ring that knows no keys yet.
func NewRing(keyset *Keyset, stored InstanceKeys, now func() time.Time) *Ring {
	return &Ring{keyset: keyset, stored: stored, now: now, of: map[string]*instanceRing{}}
}

// Seal implements emailprovider.Sealer.
func (r *Ring) Seal(plain secret.Text, to emailprovider.Binding) (emailprovider.Sealed, error) {
	s := scratches.Get().(*scratch)
	defer s.put()
	s.plain = append(s.plain, plain.Reveal()...)
	s.associated = to.AppendAssociatedData(s.associated)
	return r.SealBytes(to.Instance, s.plain, s.associated)
}

// Open implements emailprovider.Sealer.
func (r *Ring) Open(sealed emailprovider.Sealed, to emailprovider.Binding) (secret.Text, error) {
	s := scratches.Get().(*scratch)
	defer s.put()
	s.associated = to.AppendAssociatedData(s.associated)
	plain, err := r.OpenBytes(to.Instance, sealed, s.associated)
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New(string(plain)), nil
}

// scratch is where a secret and what it belongs to are for the moment that it takes to seal.
type scratch struct{ plain, associated []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// put gives it back with nothing in it.
func (s *scratch) put() {
	clear(s.plain)
	s.plain, s.associated = s.plain[:0], s.associated[:0]
	scratches.Put(s)
}

// SealBytes implements outbox.Sealer.
func (r *Ring) SealBytes(id string, plain, associated []byte) (emailprovider.Sealed, error) {
	keys, err := r.ring(id)
	if err != nil {
		return emailprovider.Sealed{}, err
	}
	key, ok := keys.keys[keys.primary]
	switch {
	case !ok && id == instance.Default:
		return r.keyset.SealBytes(plain, associated)
	case !ok:
		return emailprovider.Sealed{}, errNoKey
	}
	ciphertext, err := key.Encrypt(plain, associated)
	if err != nil {
		return emailprovider.Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return emailprovider.Sealed{KeyID: keys.primary, Ciphertext: ciphertext}, nil
}

// OpenBytes implements outbox.Sealer. A key that is not known may be one that another process has made.
func (r *Ring) OpenBytes(id string, sealed emailprovider.Sealed, associated []byte) ([]byte, error) {
	if len(sealed.Ciphertext) < prefixSize {
		return nil, errNoKey
	}
	keys, err := r.ring(id)
	if err != nil {
		return nil, err
	}
	plain, err := keys.open(sealed.Ciphertext, associated)
	if !errors.Is(err, errNoKey) {
		return plain, err
	}
	if id == instance.Default {
		if plain, err := r.keyset.OpenBytes(sealed, associated); err == nil {
			return plain, nil
		}
	}
	if keys, err = r.read(id); err != nil {
		return nil, err
	}
	return keys.open(sealed.Ciphertext, associated)
}

// prefixSize is the size of what Tink puts before a ciphertext; see keyID.
const prefixSize = 5

func (k *instanceRing) open(ciphertext, associated []byte) ([]byte, error) {
	key, ok := k.keys[keyID(ciphertext)]
	if !ok {
		return nil, errNoKey
	}
	plain, err := key.Decrypt(ciphertext, associated)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return plain, nil
}

// Current returns the id of the key that seals for the instance now, 0 if there is none.
func (r *Ring) Current(id string) uint32 {
	keys, err := r.ring(id)
	if err != nil {
		return 0
	}
	return keys.primary
}

// ring returns the keys of an instance, from memory if they are there.
func (r *Ring) ring(id string) (*instanceRing, error) {
	r.mu.RLock()
	keys, ok := r.of[id]
	r.mu.RUnlock()
	if ok {
		return keys, nil
	}
	return r.read(id)
}

// read returns the stored keys of an instance. A key that does not unwrap is left out: what it has sealed
// does not open, and all else does.
func (r *Ring) read(id string) (*instanceRing, error) {
	r.mu.RLock()
	changes := r.changes
	r.mu.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), loadPatience)
	defer cancel()
	stored, err := r.stored.InstanceKeys(ctx, id)
	if err != nil {
		return nil, errUnread.Because(err)
	}
	keys := &instanceRing{keys: map[uint32]tink.AEAD{}}
	for _, k := range stored {
		key, err := r.unwrap(k)
		if err != nil {
			continue
		}
		if len(keys.keys) == 0 {
			keys.primary = k.ID
		}
		keys.keys[k.ID] = key
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes {
		r.of[id] = keys
	}
	return keys, nil
}

// Forget implements instance.Keys.
func (r *Ring) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	delete(r.of, id)
}

// wrapping is what a wrapped key is bound to, so that no instance's passes for another's.
func wrapping(id string, key uint32) []byte {
	out := binary.BigEndian.AppendUint32([]byte("mailkeep/instance key/1"), key)
	return append(out, id...)
}

// NewKey implements instance.Keys.
func (r *Ring) NewKey(id string) (instance.Key, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return instance.Key{}, err
	}
	var plain bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&plain)); err != nil {
		return instance.Key{}, errors.New("seal: a new key can't be written")
	}
	k := instance.Key{Instance: id, ID: handle.KeysetInfo().GetPrimaryKeyId(), Created: r.now().UTC().Truncate(time.Microsecond)}
	k.Wrapped, err = r.keyset.SealBytes(plain.Bytes(), wrapping(id, k.ID))
	return k, err
}

func (r *Ring) unwrap(k instance.Key) (tink.AEAD, error) {
	plain, err := r.keyset.OpenBytes(k.Wrapped, wrapping(k.Instance, k.ID))
	if err != nil {
		return nil, err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plain)))
	if err != nil {
		return nil, errors.New("seal: a stored key is not one") // the cause may quote it
	}
	if err := checkKeys(handle); err != nil {
		return nil, err
	}
	return aead.New(handle)
}

// Renew gives the instance a new key, which seals from then on.
func (r *Ring) Renew(ctx context.Context, id string) error {
	k, err := r.NewKey(id)
	if err != nil {
		return err
	}
	if err := r.stored.AddInstanceKey(ctx, k); err != nil {
		return err
	}
	r.Forget(id)
	return nil
}

// RenewAll gives each instance a new key, and wraps all that there were before with the primary key of the
// keyset. One that does not unwrap stays as it is.
func (r *Ring) RenewAll(ctx context.Context) error {
	ids, err := r.stored.PresentInstances(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := r.rewrap(ctx, id); err != nil {
			return err
		}
		if err := r.Renew(ctx, id); err != nil && !errors.Is(err, instance.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (r *Ring) rewrap(ctx context.Context, id string) error {
	keys, err := r.stored.InstanceKeys(ctx, id)
	if err != nil {
		return err
	}
	for _, k := range keys {
		plain, err := r.keyset.OpenBytes(k.Wrapped, wrapping(id, k.ID))
		if err != nil {
			continue
		}
		if k.Wrapped, err = r.keyset.SealBytes(plain, wrapping(id, k.ID)); err != nil {
			return err
		}
		if err := r.stored.RewrapInstanceKey(ctx, k); err != nil && !errors.Is(err, instance.ErrNotFound) {
			return err
		}
	}
	return nil
}
