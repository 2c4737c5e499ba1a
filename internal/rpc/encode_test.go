package rpc

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

// wantSame holds the codec to what protojson writes, compacted, and to its errors.
func wantSame(t *testing.T, m proto.Message) {
	t.Helper()
	var got, want bytes.Buffer
	err := NewJSONCodec().MarshalWrite(t.Context(), &got, m)
	text, wantErr := protojson.Marshal(m)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%s: error %v, protojson %v", m.ProtoReflect().Descriptor().FullName(), err, wantErr)
	}
	if err != nil || wantErr != nil {
		return
	}
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("%s:\n got %s\nwant %s", m.ProtoReflect().Descriptor().FullName(), &got, &want)
	}
}

// TestJSONLikeProtojson fills every message of both APIs with values of every kind, and with none.
func TestJSONLikeProtojson(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		adminv1.File_zitadel_admin_v1_admin_proto, mailkeepv1.File_mailkeep_v1_token_proto,
		mailkeepv1.File_mailkeep_v1_operations_proto, (&descriptorpb.FieldDescriptorProto{}).ProtoReflect().Descriptor().ParentFile(),
	} {
		for i := range file.Messages().Len() {
			kind, err := protoregistry.GlobalTypes.FindMessageByName(file.Messages().Get(i).FullName())
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, kind.New().Interface())
			for variant := range 6 {
				m := kind.New()
				fill(m, variant, 4)
				wantSame(t, m.Interface())
			}
		}
	}
}

// fill sets every field; of a oneof, the one that the variant picks.
func fill(m protoreflect.Message, variant, depth int) {
	if t, ok := m.Interface().(*timestamppb.Timestamp); ok {
		t.Seconds = []int64{0, -62135596800, 253402300799, 253402300800, 1, -1}[variant]
		t.Nanos = []int32{0, 1, 120e6, 0, 999_999_000, 1e9}[variant]
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if one := fd.ContainingOneof(); one != nil && one.Fields().Get(variant%one.Fields().Len()) != fd {
			continue
		}
		switch {
		case fd.Message() != nil && depth == 0:
		case fd.IsMap():
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), scalar(fd.MapValue(), variant))
		case fd.IsList() && fd.Message() != nil:
			fill(m.Mutable(fd).List().AppendMutable().Message(), variant, depth-1)
			fill(m.Mutable(fd).List().AppendMutable().Message(), variant, 0)
		case fd.IsList():
			for n := range 3 {
				m.Mutable(fd).List().Append(scalar(fd, n))
			}
		case fd.Message() != nil:
			fill(m.Mutable(fd).Message(), variant, depth-1)
		default:
			m.Set(fd, scalar(fd, variant))
		}
	}
}

var texts = []string{"", "a@example.com", "\"\\/<>&\b\f\n\r\t\x00\x1f\x7f", "žluťoučký 🐎 \u2028\ufffd", strings.Repeat("long\n", 300), "no UTF-8 \xff"}

func scalar(fd protoreflect.FieldDescriptor, variant int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(texts[variant])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts[variant]))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(variant%2 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(variant))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32([]int32{0, 1, math.MinInt32, math.MaxInt32, -1, 7}[variant])
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32([]uint32{0, 1, math.MaxUint32, 2, 3, 4}[variant])
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64([]int64{0, 1, math.MinInt64, math.MaxInt64, -1, 7}[variant])
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64([]uint64{0, 1, math.MaxUint64, 2, 3, 4}[variant])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0, 1, math.Inf(1), 1e-7, 0.1, 1e21}[variant])
	}
	panic("no values for " + fd.Kind().String())
}

// TestJSONLeftToProtojson has what appendJSON must not try.
func TestJSONLeftToProtojson(t *testing.T) {
	for _, m := range []proto.Message{
		durationpb.New(1), structpb.NewNullValue(), structpb.NewNumberValue(0.5), &structpb.Struct{},
		&descriptorpb.FieldOptions{}, // can be extended
		&mailkeepv1.ListDeprecatedUsesResponse{},
	} {
		wantSame(t, m)
	}
}

func TestJSONIsNoMessage(t *testing.T) {
	if err := NewJSONCodec().MarshalWrite(t.Context(), new(bytes.Buffer), "text"); err == nil {
		t.Error("a text was encoded as a message")
	}
}

func BenchmarkJSON(b *testing.B) {
	m := new(adminv1.GetEmailProviderByIdResponse)
	fill(m.ProtoReflect(), 1, 4)
	codec, out := NewJSONCodec(), new(bytes.Buffer)
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			if err := codec.MarshalWrite(b.Context(), out, m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("protojson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			if err := codec.MarshalWriteStable(b.Context(), out, m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
