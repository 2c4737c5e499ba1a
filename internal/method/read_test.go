package method_test

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	optionsv1 "github.com/mailkeep/mailkeep/gen/mailkeep/options/v1"
	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/method"
)

// service returns a service with the methods.
func service(t *testing.T, methods ...*descriptorpb.MethodDescriptorProto) protoreflect.ServiceDescriptor {
	t.Helper()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("t.proto"), Package: new("t"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("M")}},
		Service:     []*descriptorpb.ServiceDescriptorProto{{Name: new("S"), Method: methods}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

// rpc returns a method that is read without an error, changed.
func rpc(name string, change func(m *descriptorpb.MethodDescriptorProto)) *descriptorpb.MethodDescriptorProto {
	m := &descriptorpb.MethodDescriptorProto{
		Name: &name, InputType: new(".t.M"), OutputType: new(".t.M"), Options: &descriptorpb.MethodOptions{},
	}
	proto.SetExtension(m.Options, optionsv1.E_Method, &optionsv1.MethodPolicy{Permission: "p", MaxBytes: 7})
	proto.SetExtension(m.Options, annotations.E_Http, &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/" + name}})
	change(m)
	return m
}

func withoutRoute(m *descriptorpb.MethodDescriptorProto) {
	proto.ClearExtension(m.Options, annotations.E_Http)
}

// TestRead has what a method must say, and what it must not.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(m *descriptorpb.MethodDescriptorProto)
		problem string // empty for none
	}{
		"unary":               {func(*descriptorpb.MethodDescriptorProto) {}, ""},
		"unary without route": {withoutRoute, "has no get"},
		"stream": {func(m *descriptorpb.MethodDescriptorProto) {
			m.ServerStreaming = new(true)
			withoutRoute(m)
		}, ""},
		"stream with route":       {func(m *descriptorpb.MethodDescriptorProto) { m.ServerStreaming = new(true) }, "it streams"},
		"stream of requests":      {func(m *descriptorpb.MethodDescriptorProto) { m.ClientStreaming = new(true) }, "stream of requests"},
		"without permission":      {func(m *descriptorpb.MethodDescriptorProto) { proto.ClearExtension(m.Options, optionsv1.E_Method) }, "no permission"},
		"deprecated, unsucceeded": {func(m *descriptorpb.MethodDescriptorProto) { m.Options.Deprecated = new(true) }, "must have a successor"},
		"succeeded by a stream": {func(m *descriptorpb.MethodDescriptorProto) {
			m.Options.Deprecated = new(true)
			proto.SetExtension(m.Options, optionsv1.E_Method, &optionsv1.MethodPolicy{Permission: "p", Successor: "Watch"})
		}, "has no route"},
	} {
		t.Run(name, func(t *testing.T) {
			watch := rpc("Watch", func(m *descriptorpb.MethodDescriptorProto) {
				m.ServerStreaming = new(true)
				withoutRoute(m)
			})
			set, err := method.Read(service(t, rpc("Do", c.change), watch))
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("err = %v, want one with %q", err, c.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m := set["/t.S/Do"]
			if m.MaxBytes != 7 || m.Streams != (name == "stream") || m.Streams == (m.Route.Path == "/Do") {
				t.Errorf("%+v", m)
			}
		})
	}
}

// TestOwnMethods wants of Mailkeep's own methods that somebody may call each, and that of all only the
// one that takes attachments takes much.
func TestOwnMethods(t *testing.T) {
	methods := 0
	for _, file := range []protoreflect.FileDescriptor{
		mailkeepv1.File_mailkeep_v1_message_proto, mailkeepv1.File_mailkeep_v1_provider_proto,
		mailkeepv1.File_mailkeep_v1_token_proto, mailkeepv1.File_mailkeep_v1_operations_proto, mailkeepv1.File_mailkeep_v1_audit_proto,
	} {
		for i := range file.Services().Len() {
			set, err := method.Read(file.Services().Get(i))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range set {
				methods++
				if !(auth.Caller{Roles: []string{"IAM_OWNER", "SYSTEM_OWNER"}}).May(m.Permission) {
					t.Errorf("%s needs %s, which nobody has", m.Name, m.Permission)
				}
				if want := map[string]int{"SendMessage": 5 << 20}[m.Name]; m.MaxBytes != want {
					t.Errorf("%s takes %d bytes, want %d", m.Name, m.MaxBytes, want)
				}
				if m.Streams != strings.HasPrefix(m.Name, "Watch") {
					t.Errorf("%s streams: %t", m.Name, m.Streams)
				}
			}
		}
	}
	if methods != 23 {
		t.Errorf("%d methods", methods)
	}
}
