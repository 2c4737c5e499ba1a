package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// auditKeys are the keys of the chain of events, by the ids of the keys that they come from.
type auditKeys struct {
	primary uint32
	keys    map[uint32][]byte
}

// auditPurpose keeps the keys of the chain apart from any others that may come from the same key (RFC 5869,
// info).
const auditPurpose = "mailkeep chain of events"

func deriveAuditKeys(handle *keyset.Handle) (auditKeys, error) {
	derived := auditKeys{keys: map[uint32][]byte{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return derived, fmt.Errorf("seal: %w", err)
		}
		key, ok := entry.Key().(*aesgcm.Key)
		if !ok {
			return derived, fmt.Errorf("key %d of the keyset is not an AES-GCM key", entry.KeyID())
		}
		material := key.KeyBytes().Data(insecuresecretdataaccess.Token{})
		if derived.keys[entry.KeyID()], err = hkdf.Key(sha256.New, material, nil, auditPurpose, sha256.Size); err != nil {
			return derived, fmt.Errorf("seal: %w", err)
		}
		clear(material)
		if entry.IsPrimary() {
			derived.primary = entry.KeyID()
		}
	}
	return derived, nil
}

// AuditKey implements audit.Keys. Like ciphertexts, events that another process has chained may need a key
// that is only in the file.
func (k *Keyset) AuditKey(id uint32) (uint32, []byte, error) {
	derived := k.auditKeys()
	if id == 0 {
		id = derived.primary
	}
	if derived.keys[id] == nil && k.reload(id) {
		derived = k.auditKeys()
	}
	if derived.keys[id] == nil {
		return 0, nil, fmt.Errorf("seal: the keyset has no key %d", id)
	}
	return id, derived.keys[id], nil
}

// AuditKeys implements audit.Keys.
func (k *Keyset) AuditKeys() []uint32 { return slices.Sorted(maps.Keys(k.auditKeys().keys)) }

func (k *Keyset) auditKeys() auditKeys {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.audit
}
