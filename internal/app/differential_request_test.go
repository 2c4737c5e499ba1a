package app_test

import (
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// entropy is the input of a fuzz target, read to its end; from there on it is zeros.
type entropy []byte

func (e *entropy) next() byte {
	if len(*e) == 0 {
		return 0
	}
	b := (*e)[0]
	*e = (*e)[1:]
	return b
}

func pick[T any](e *entropy, from []T) T { return from[int(e.next())%len(from)] }

// text reads a text that is UTF-8.
func (e *entropy) text() string {
	n := min(int(e.next()%32), len(*e))
	raw := (*e)[:n]
	*e = (*e)[n:]
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}

// How a field is filled in. More than half are as a caller with good intentions would have them, else
// no request would get beyond the rules.
const (
	leftOut = iota + 5 // and all below it: sensible
	nasty
	free
	ways
)

// notUTF8 stands for bytes that are not UTF-8, which no message in Go can be made of: breaking puts them
// there on the wire. It is as long as what it stands for.
const (
	notUTF8 = "nOtUtF8x"
	broken  = "nOt\xff\xfeF8x"
)

var nastyTexts = []string{
	"", " ", "\x00", "\r\nBcc: x@example.com", "a\tb", "\u202egnp.exe", "ünïcödé ✉", "..", ".", "a/../b", "%2e%2e%2f", "%",
	"?x=1", "#", "a;b", "a+b c", `"quoted\"`, "'; DROP TABLE providers; --", "{id}", "null", "\uFEFF", "\uFFFD", "\U0010FFFF", notUTF8,
	strings.Repeat("x", 101), strings.Repeat("ü", 201), strings.Repeat("y", 501), strings.Repeat("z", 4097),
}

// requests makes requests of one service. Two with equal ids and texts make the same of the same input.
type requests struct {
	inbox     string   // address of a mail server that knows user with the password p1
	providers []string // ids that there are, and were
	messages  []string
	tokens    []string
}

// make fills in a message as the input has it.
func (q requests) make(e *entropy, kind protoreflect.FullName) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(kind)
	if err != nil {
		panic(err)
	}
	m := found.New()
	q.fill(e, m)
	return m.Interface()
}

func (q requests) fill(e *entropy, m protoreflect.Message) {
	switch known := m.Interface().(type) {
	case *durationpb.Duration: // what has a form in JSON: within 10,000 years, one sign
		known.Seconds = pick(e, []int64{3600, 0, 1, 60, -1, 315576000000, -315576000000})
		return
	case *timestamppb.Timestamp: // from year 1 to 9999
		known.Seconds = pick(e, []int64{1767225600, 0, -1, 1, -62135596800, 253402300799})
		known.Nanos = pick(e, []int32{0, 1, 999999999})
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		how := e.next() % ways
		if oneof := fd.ContainingOneof(); how == leftOut || oneof != nil && !oneof.IsSynthetic() && e.next()%4 != 3 {
			continue
		}
		if !fd.IsList() {
			m.Set(fd, q.value(e, m, fd, how))
			continue
		}
		list := m.Mutable(fd).List()
		for range 1 + e.next()%3 {
			list.Append(q.value(e, m, fd, how))
		}
	}
}

func (q requests) value(e *entropy, m protoreflect.Message, fd protoreflect.FieldDescriptor, how byte) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		inner := m.NewField(fd)
		if fd.IsList() {
			inner = m.NewField(fd).List().NewElement()
		}
		q.fill(e, inner.Message())
		return inner
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(e.next()%2 == 1)
	case protoreflect.EnumKind: // one that does not exist, too
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int(e.next()) % (fd.Enum().Values().Len() + 1)))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(pick(e, []uint32{0, 1, 2, 1000, 1001, math.MaxUint32}))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(pick(e, []uint64{0, 1, 1000, 1 << 53, math.MaxInt64, math.MaxUint64}))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(e.text()))
	}
	return protoreflect.ValueOfString(q.string(e, string(fd.Parent().Name()), string(fd.Name()), how))
}

// string makes a text. Hosts are never made up: calls connect to them.
func (q requests) string(e *entropy, message, field string, how byte) string {
	goes := field == "host" || field == "endpoint" || field == "token_endpoint"
	switch {
	case how == nasty:
		return pick(e, nastyTexts)
	case how == free && !goes:
		return e.text()
	}
	switch field {
	case "name":
		return pick(e, []string{"X-Name", "something", "Bcc", "a.txt"})
	case "id", "provider_id":
		return pick(e, append(q.ids(message), "123456789012345678"))
	case "host":
		return pick(e, []string{q.inbox, " " + q.inbox, "127.0.0.1:1", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "[::1", "127.0.0.1:25:25"})
	case "endpoint", "token_endpoint":
		return pick(e, []string{"http://127.0.0.1:1/", "https://127.0.0.1:1/x?y=z", "ftp://127.0.0.1/", "//127.0.0.1", "http://u:p@127.0.0.1:1/"})
	case "user":
		return pick(e, []string{user, "", "other"})
	case "password":
		return pick(e, []string{"p1", "p2", ""})
	case "roles":
		return pick(e, []string{"IAM_OWNER", "IAM_OWNER_VIEWER", "NO_SUCH_ROLE", "SYSTEM_OWNER"})
	case "sender_address", "receiver_address", "reply_to_address", "reply_to", "to", "cc", "bcc", "recipient":
		return pick(e, []string{"one@example.com", "Two@Example.com", "ü@example.com", "nobody", "a@b@c", "<x@example.com>", "x@[127.0.0.1]"})
	case "content_type":
		return pick(e, []string{"text/plain", "text/html; charset=x", "nothing", "multipart/mixed"})
	}
	return pick(e, []string{"something", "else", "order 4711"})
}

// ids returns the ids that a field of the message may name.
func (q requests) ids(message string) []string {
	own := q.providers
	switch message {
	case "GetMessageRequest", "GetMessageContentRequest", "RetryMessageRequest", "CancelMessageRequest":
		own = q.messages
	case "RevokeTokenRequest":
		own = q.tokens
	}
	return append([]string(nil), own[max(0, len(own)-4):]...)
}
