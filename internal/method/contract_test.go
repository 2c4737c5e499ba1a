package method_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/method"
)

// The wire of the admin API, as data; testdata/contract.json has it.
type (
	contract struct {
		Service  string
		Methods  []contractMethod
		Messages []contractMessage
		Enums    []contractEnum
	}
	contractMethod struct {
		Name       string `json:"name"`
		Input      string `json:"input"`
		Output     string `json:"output"`
		Verb       string `json:"http_verb"`
		Path       string `json:"http_path"`
		Body       string `json:"http_body"`
		Permission string `json:"permission"`
		Deprecated bool   `json:"deprecated"`
		Successor  string `json:"replaced_by"`
	}
	contractMessage struct {
		Name   string
		Fields []contractField
	}
	contractField struct {
		Number       int    `json:"number"`
		Name         string `json:"name"`
		JSON         string `json:"json"`
		Type         string `json:"type"`
		Oneof        string `json:"oneof"`
		Repeated     bool   `json:"repeated"`
		Optional     bool   `json:"optional"`
		MinRunes     uint64 `json:"min_runes"`
		MaxRunes     uint64 `json:"max_runes"`
		Email        bool   `json:"email"`
		MaxItems     uint64 `json:"max_items"`
		ItemMinRunes uint64 `json:"item_min_runes"`
		ItemMaxRunes uint64 `json:"item_max_runes"`
		Const        string `json:"const"`
	}
	contractEnum struct {
		Name   string
		Values map[string]int
	}
)

func readContract(t *testing.T) contract {
	t.Helper()
	data, err := os.ReadFile("testdata/contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var c contract
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Methods) != 24 || len(c.Messages) == 0 || len(c.Enums) == 0 {
		t.Fatalf("the contract has %d methods, %d messages, %d enums", len(c.Methods), len(c.Messages), len(c.Enums))
	}
	return c
}

func zitadelFiles() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		adminv1.File_zitadel_admin_v1_admin_proto, settingsv1.File_zitadel_settings_v1_settings_proto,
		zitadelv1.File_zitadel_v1_object_proto, zitadelv1.File_zitadel_v1_error_detail_proto,
	}
}

// TestContractMethods compares the methods in their order, so that none is missing or added.
func TestContractMethods(t *testing.T) {
	want := readContract(t)
	set := adminMethods(t)
	service := adminv1.File_zitadel_admin_v1_admin_proto.Services().ByName("AdminService")
	if string(service.FullName()) != want.Service {
		t.Errorf("service %s, want %s", service.FullName(), want.Service)
	}
	var got []contractMethod
	for i := range service.Methods().Len() {
		got = append(got, describeMethod(set["/"+string(service.FullName())+"/"+string(service.Methods().Get(i).Name())]))
	}
	if diff := cmp.Diff(want.Methods, got); diff != "" {
		t.Errorf("methods (-contract +descriptors):\n%s", diff)
	}
}

func describeMethod(m *method.Method) contractMethod {
	out := contractMethod{
		Name: m.Name, Input: string(m.Descriptor.Input().FullName()), Output: string(m.Descriptor.Output().FullName()),
		Verb: m.Route.Verb, Path: m.Route.Path, Permission: m.Permission, Deprecated: m.Deprecated,
	}
	if m.Route.Body {
		out.Body = "*"
	}
	if m.Successor != nil {
		out.Successor = m.Successor.Name
	}
	return out
}

// TestContractMessages compares every message, field by field in the order of declaration, and
// refuses messages that the contract does not have.
func TestContractMessages(t *testing.T) {
	got := map[string][]contractField{}
	for _, file := range zitadelFiles() {
		describeMessages(file.Messages(), got)
	}
	want := map[string][]contractField{}
	for _, m := range readContract(t).Messages {
		want[m.Name] = slices.Clip(append([]contractField{}, m.Fields...))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-contract +descriptors):\n%s", diff)
	}
}

func describeMessages(messages protoreflect.MessageDescriptors, into map[string][]contractField) {
	for i := range messages.Len() {
		m := messages.Get(i)
		fields := []contractField{}
		for j := range m.Fields().Len() {
			fields = append(fields, describeField(m.Fields().Get(j)))
		}
		into[string(m.FullName())] = fields
		describeMessages(m.Messages(), into)
	}
}

func describeField(fd protoreflect.FieldDescriptor) contractField {
	rules, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
	out := contractField{
		Number: int(fd.Number()), Name: string(fd.Name()), JSON: fd.JSONName(), Type: fieldType(fd),
		Repeated: fd.IsList(), Optional: fd.HasOptionalKeyword(),
		MinRunes: rules.GetString().GetMinLen(), MaxRunes: rules.GetString().GetMaxLen(), Email: rules.GetString().GetEmail(),
		MaxItems:     rules.GetRepeated().GetMaxItems(),
		ItemMinRunes: rules.GetRepeated().GetItems().GetString().GetMinLen(),
		ItemMaxRunes: rules.GetRepeated().GetItems().GetString().GetMaxLen(),
	}
	if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		out.Oneof = string(oneof.Name())
	}
	if c := rules.GetDuration().GetConst(); c != nil && c.AsDuration() == 0 {
		out.Const = "0s"
	}
	return out
}

func fieldType(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().FullName())
	case fd.Enum() != nil:
		return string(fd.Enum().FullName())
	default:
		return fd.Kind().String()
	}
}

func TestContractEnums(t *testing.T) {
	got := map[string]map[string]int{}
	for _, file := range zitadelFiles() {
		for i := range file.Enums().Len() {
			e := file.Enums().Get(i)
			values := map[string]int{}
			for j := range e.Values().Len() {
				values[string(e.Values().Get(j).Name())] = int(e.Values().Get(j).Number())
			}
			got[string(e.FullName())] = values
		}
	}
	want := map[string]map[string]int{}
	for _, e := range readContract(t).Enums {
		want[e.Name] = maps.Clone(e.Values)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("enums (-contract +descriptors):\n%s", diff)
	}
}
