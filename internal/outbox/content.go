package outbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// Sealer encrypts what mails say. What was sealed for an instance, with some associated data, opens for no
// other.
type Sealer interface {
	SealBytes(instance string, plain, associated []byte) (Sealed, error)
	OpenBytes(instance string, sealed Sealed, associated []byte) ([]byte, error)
}

// What is sealed of a mail. The names are part of the associated data.
const (
	fieldContent     = "content"
	fieldFingerprint = "fingerprint"
)

// associated encodes what a sealed value belongs to so that no two have the same bytes: a version,
// then each part with its length before it.
func associated(field, instance, id string, more ...string) []byte {
	out := append(make([]byte, 0, 128), "mailkeep/message/1"...)
	for _, s := range append([]string{field, instance, id}, more...) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

// forContent is what a content belongs to: a mail, and those who may get it.
func forContent(m Message) []byte {
	who := make([]string, 0, 2*len(m.Recipients))
	for _, r := range m.Recipients {
		who = append(who, string(r.Kind), r.Address)
	}
	return associated(fieldContent, m.Instance, m.ID, who...)
}

func sealContent(s Sealer, m Message, c Content) (Sealed, error) {
	plain, err := encodeContent(c)
	if err != nil {
		return Sealed{}, fmt.Errorf("outbox: %w", err)
	}
	return s.SealBytes(m.Instance, plain, forContent(m))
}

func openContent(s Sealer, m Message, sealed Sealed) (Content, error) {
	plain, err := s.OpenBytes(m.Instance, sealed, forContent(m))
	if err != nil {
		return Content{}, err
	}
	c, ok := decodeContent(plain)
	if !ok {
		return Content{}, fmt.Errorf("outbox: the content of mail %s is not what it should be", m.ID)
	}
	return c, nil
}

// contentVersion is the first byte of an encoded content.
const contentVersion = 1

// encodeContent puts the small parts of a content into JSON, which has its length before it, and the
// large ones behind it as they are: escaping and scanning them would cost more than sealing.
func encodeContent(c Content) ([]byte, error) {
	large := []string{c.Text, c.HTML}
	small := c
	small.Text, small.HTML, small.Attachments = "", "", slices.Clone(c.Attachments)
	for i := range small.Attachments {
		large = append(large, string(small.Attachments[i].Data))
		small.Attachments[i].Data = nil
	}
	head, err := json.Marshal(small)
	if err != nil {
		return nil, err
	}
	size := len(head)
	for _, part := range large {
		size += len(part)
	}
	out := append(make([]byte, 0, size+(2+len(large))*binary.MaxVarintLen32), contentVersion)
	out = append(binary.AppendUvarint(out, uint64(len(head))), head...)
	for _, part := range large {
		out = append(binary.AppendUvarint(out, uint64(len(part))), part...)
	}
	return out, nil
}

// decodeContent is the inverse of encodeContent.
func decodeContent(in []byte) (c Content, ok bool) {
	if len(in) == 0 || in[0] != contentVersion {
		return Content{}, false
	}
	in = in[1:]
	next := func() []byte {
		n, used := binary.Uvarint(in)
		if used <= 0 || n > uint64(len(in)-used) {
			ok = false
			return nil
		}
		part := in[used : used+int(n)]
		in = in[used+int(n):]
		return part
	}
	ok = true
	if head := next(); !ok || json.Unmarshal(head, &c) != nil {
		return Content{}, false
	}
	c.Text, c.HTML = string(next()), string(next())
	for i := range c.Attachments {
		c.Attachments[i].Data = next()
	}
	return c, ok && len(in) == 0
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
