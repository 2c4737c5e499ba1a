package rpc

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// appendJSON appends a message as protojson writes it, without the spaces that protojson adds at
// random, and without allocating. It reports false for what is left to protojson: maps,
// floats, extensions, well-known types besides Timestamp, and what has no JSON.
func appendJSON(out []byte, m protoreflect.Message) ([]byte, bool) {
	d := m.Descriptor()
	if t, ok := m.Interface().(*timestamppb.Timestamp); ok {
		return appendTimestamp(out, t)
	}
	if d.ParentFile().Package() == "google.protobuf" || d.ExtensionRanges().Len() > 0 {
		return out, false
	}
	out = append(out, '{')
	first := true
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(append(append(out, '"'), fd.JSONName()...), '"', ':')
		var ok bool
		if out, ok = appendField(out, fd, m.Get(fd)); !ok {
			return out, false
		}
	}
	return append(out, '}'), true
}

func appendField(out []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) (_ []byte, ok bool) {
	switch {
	case fd.IsMap():
		return out, false
	case !fd.IsList():
		return appendValue(out, fd, v)
	}
	out = append(out, '[')
	list := v.List()
	for i := range list.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		if out, ok = appendValue(out, fd, list.Get(i)); !ok {
			return out, false
		}
	}
	return append(out, ']'), true
}

func appendValue(out []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, bool) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return appendJSON(out, v.Message())
	case protoreflect.StringKind:
		return appendString(out, v.String())
	case protoreflect.BoolKind:
		return strconv.AppendBool(out, v.Bool()), true
	case protoreflect.EnumKind:
		return appendEnum(out, fd.Enum(), v.Enum())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(out, v.Int(), 10), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(out, v.Uint(), 10), true
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return append(strconv.AppendInt(append(out, '"'), v.Int(), 10), '"'), true
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return append(strconv.AppendUint(append(out, '"'), v.Uint(), 10), '"'), true
	case protoreflect.BytesKind:
		return append(base64.StdEncoding.AppendEncode(append(out, '"'), v.Bytes()), '"'), true
	default:
		return out, false
	}
}

func appendEnum(out []byte, d protoreflect.EnumDescriptor, n protoreflect.EnumNumber) ([]byte, bool) {
	if d.FullName() == "google.protobuf.NullValue" {
		return out, false
	}
	if value := d.Values().ByNumber(n); value != nil {
		return append(append(append(out, '"'), value.Name()...), '"'), true
	}
	return strconv.AppendInt(out, int64(n), 10), true
}

// appendTimestamp writes RFC 3339 with 0, 3, 6 or 9 digits after the second.
func appendTimestamp(out []byte, t *timestamppb.Timestamp) ([]byte, bool) {
	if t.CheckValid() != nil {
		return out, false
	}
	layout := `"2006-01-02T15:04:05.000000000Z"`
	switch nanos := t.GetNanos(); {
	case nanos == 0:
		layout = `"2006-01-02T15:04:05Z"`
	case nanos%1e6 == 0:
		layout = `"2006-01-02T15:04:05.000Z"`
	case nanos%1e3 == 0:
		layout = `"2006-01-02T15:04:05.000000Z"`
	}
	return t.AsTime().AppendFormat(out, layout), true
}

// appendString escapes what RFC 8259, section 7, wants escaped and nothing more.
func appendString(out []byte, s string) ([]byte, bool) {
	if !utf8.ValidString(s) {
		return out, false
	}
	out = append(out, '"')
	for {
		i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' })
		if i < 0 {
			return append(append(out, s...), '"'), true
		}
		out = appendEscaped(append(out, s[:i]...), s[i])
		s = s[i+1:]
	}
}

func appendEscaped(out []byte, b byte) []byte {
	const short, letters = "\"\\\b\f\n\r\t", `"\bfnrt`
	if i := strings.IndexByte(short, b); i >= 0 {
		return append(out, '\\', letters[i])
	}
	const hex = "0123456789abcdef"
	return append(out, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
}
