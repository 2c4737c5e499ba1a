// Package seal encrypts secrets with a Tink keyset: AES-GCM with 256 bits in the keys it makes, the primary key seals, every key
// of the set opens. What a secret belongs to goes in as associated data, so a ciphertext opens
// nowhere else.
//
// The keyset is kept in clear, in a file that only the service can read; whoever has the file and
// the database has the secrets.
package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// File is where a keyset is kept. Write is durable when it returns; Read answers fs.ErrNotExist
// when nothing was written yet.
type File interface {
	Read() ([]byte, error)
	Write(data []byte) error
}

// Keyset seals and opens. It is safe for concurrent use.
type Keyset struct {
	file File

	turn   sync.Mutex // to change what follows
	known  []byte     // what the file held when it was last read or written here
	handle *keyset.Handle
	ids    []uint32 // of the keys

	mu    sync.RWMutex // not held while the file is written: a disk that hangs keeps no secret shut
	aead  tink.AEAD
	audit auditKeys
}

var errChanged = fault.New(fault.FailedPrecondition, "MAILKEEP-KEYSET",
	"the keyset file was removed, or lacks a key that is in use; restart the service with the right one")

// What callers are told when the file can't be written: nothing is sealed with a new key then.
var (
	errUnwritten = fault.New(fault.Unavailable, "MAILKEEP-STORE", "the keyset can not be written to at present")
	errFull      = fault.New(fault.ResourceExhausted, "MAILKEEP-STORE", "there is no space left for the keyset")
)

// ErrNoKeyset is returned by Load when the file does not exist.
var ErrNoKeyset = errors.New("seal: there is no keyset")

// Load reads the keyset, or returns ErrNoKeyset.
func Load(file File) (*Keyset, error) {
	data, err := file.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoKeyset
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keyset: %w", err)
	}
	handle, err := parse(data)
	if err != nil {
		return nil, err
	}
	k := &Keyset{file: file, known: data}
	return k, k.use(handle)
}

func parse(data []byte) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		// The cause may quote the keyset.
		return nil, errors.New("the keyset file is not a Tink keyset in JSON")
	}
	return handle, nil
}

// Create makes a keyset with one new key and writes it.
func Create(file File) (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	k := &Keyset{file: file}
	if err := k.write(handle); err != nil {
		return nil, err
	}
	return k, k.use(handle)
}

// Rotate adds a new primary key and returns its id. It is in the file before it seals anything. Keys that
// another process has put there are taken over. If the file has lost one that is in use here, nothing is
// done: what was sealed with it would be lost.
func (k *Keyset) Rotate() (primary uint32, err error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	_, handle, err := k.latest() // whose keys seal nothing before the file was written here
	if err != nil {
		return 0, errChanged.Because(err)
	}
	manager := keyset.NewManagerFromHandle(handle)
	if primary, err = manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return 0, err
	}
	if err := manager.SetPrimary(primary); err != nil {
		return 0, err
	}
	if handle, err = manager.Handle(); err != nil {
		return 0, err
	}
	if err := k.write(handle); err != nil {
		return 0, err
	}
	return primary, k.use(handle)
}

// Seal implements emailprovider.Sealer.
func (k *Keyset) Seal(plain secret.Text, to emailprovider.Binding) (emailprovider.Sealed, error) {
	return k.SealBytes([]byte(plain.Reveal()), to.AssociatedData())
}

// Open implements emailprovider.Sealer.
func (k *Keyset) Open(sealed emailprovider.Sealed, to emailprovider.Binding) (secret.Text, error) {
	plain, err := k.OpenBytes(sealed, to.AssociatedData())
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New(string(plain)), nil
}

// SealBytes encrypts plain so that it opens with the same associated data only.
func (k *Keyset) SealBytes(plain, associated []byte) (emailprovider.Sealed, error) {
	ciphertext, err := k.current().Encrypt(plain, associated)
	if err != nil {
		return emailprovider.Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return emailprovider.Sealed{KeyID: keyID(ciphertext), Ciphertext: ciphertext}, nil
}

// OpenBytes is the inverse of SealBytes. A key that is not known may be one that another process has put
// into the file.
func (k *Keyset) OpenBytes(sealed emailprovider.Sealed, associated []byte) ([]byte, error) {
	plain, err := k.current().Decrypt(sealed.Ciphertext, associated)
	if err != nil && len(sealed.Ciphertext) >= 5 && k.reload(keyID(sealed.Ciphertext)) {
		plain, err = k.current().Decrypt(sealed.Ciphertext, associated)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return plain, nil
}

// keyID reads the id from the prefix that Tink puts before a ciphertext: one byte of version, then
// four of the key's id.
func keyID(ciphertext []byte) uint32 { return binary.BigEndian.Uint32(ciphertext[1:5]) }

func (k *Keyset) current() tink.AEAD {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.aead
}

// reload reports whether a key is there, if need be from the file.
func (k *Keyset) reload(id uint32) bool {
	k.turn.Lock()
	defer k.turn.Unlock()
	if slices.Contains(k.ids, id) {
		return true // by another call meanwhile, or it is not what was missing
	}
	data, handle, err := k.latest()
	if err != nil || k.use(handle) != nil {
		return false
	}
	k.known = data
	return slices.Contains(k.ids, id)
}

// latest returns what is in the file, which may have got keys from others. It must still have those
// known here.
func (k *Keyset) latest() (data []byte, handle *keyset.Handle, err error) {
	data, err = k.file.Read()
	if err != nil || bytes.Equal(data, k.known) {
		return data, k.handle, err
	}
	if handle, err = parse(data); err != nil {
		return nil, nil, err
	}
	ids := idsOf(handle)
	for _, id := range k.ids {
		if !slices.Contains(ids, id) {
			return nil, nil, fmt.Errorf("key %d is not in the file any more", id)
		}
	}
	return data, handle, nil
}

// idsOf returns the ids of the keys of a keyset.
func idsOf(handle *keyset.Handle) (ids []uint32) {
	for _, key := range handle.KeysetInfo().GetKeyInfo() {
		ids = append(ids, key.GetKeyId())
	}
	return ids
}

func (k *Keyset) use(handle *keyset.Handle) error {
	if err := checkKeys(handle); err != nil {
		return err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return fmt.Errorf("the keyset is not for encryption with associated data: %w", err)
	}
	audit, err := deriveAuditKeys(handle)
	if err != nil {
		return err
	}
	k.handle, k.ids = handle, idsOf(handle)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aead, k.audit = primitive, audit
	return nil
}

// checkKeys refuses keys whose ciphertexts do not begin with the id of the key, and other ciphers than
// the documented one.
func checkKeys(handle *keyset.Handle) error {
	for _, key := range handle.KeysetInfo().GetKeyInfo() {
		if key.GetTypeUrl() != aead.AES256GCMKeyTemplate().GetTypeUrl() || key.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
			return fmt.Errorf("key %d of the keyset is not an AES-GCM key with Tink's prefix", key.GetKeyId())
		}
	}
	return nil
}

func (k *Keyset) write(handle *keyset.Handle) error {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return errors.New("seal: the keyset can't be written as JSON")
	}
	if err := k.file.Write(buf.Bytes()); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errFull.Because(err)
	} else if err != nil {
		return errUnwritten.Because(err)
	}
	k.known = buf.Bytes()
	return nil
}
