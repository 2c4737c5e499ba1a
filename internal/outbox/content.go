package outbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Sealer encrypts what mails say. What was sealed with some associated data opens with no other.
type Sealer interface {
	SealBytes(plain, associated []byte) (Sealed, error)
	OpenBytes(sealed Sealed, associated []byte) ([]byte, error)
}

// What is sealed of a mail. The names are part of the associated data.
const (
	fieldContent     = "content"
	fieldFingerprint = "fingerprint"
)

// associated encodes what a sealed value belongs to so that no two have the same bytes: a version,
// then each part with its length before it.
func associated(field, instance, id string) []byte {
	out := append(make([]byte, 0, 96), "mailkeep/message/1"...)
	for _, s := range []string{field, instance, id} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

func sealContent(s Sealer, instance, id string, c Content) (Sealed, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return Sealed{}, fmt.Errorf("outbox: %w", err)
	}
	return s.SealBytes(plain, associated(fieldContent, instance, id))
}

func openContent(s Sealer, instance, id string, sealed Sealed) (c Content, err error) {
	plain, err := s.OpenBytes(sealed, associated(fieldContent, instance, id))
	if err != nil {
		return Content{}, err
	}
	if err := json.Unmarshal(plain, &c); err != nil {
		return Content{}, fmt.Errorf("outbox: the content of mail %s is not what it should be", id) // the cause may quote it
	}
	return c, nil
}

// fingerprint is what two drafts have in common if and only if they are the same.
func fingerprint(d Draft) ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	sum := sha256.Sum256(text)
	return sum[:], nil
}
