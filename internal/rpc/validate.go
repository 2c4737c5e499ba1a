package rpc

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// checkRules holds a message to the buf.validate rules in its descriptor. It knows the rules that the
// admin API uses and words a violation as that API does, which is why it is not protovalidate.
func checkRules(m protoreflect.Message) error {
	if violation := check(m); violation != "" {
		return fault.New(fault.InvalidArgument, "", violation)
	}
	return nil
}

// rule is a field and what it is held to.
type rule struct {
	field protoreflect.FieldDescriptor
	rules *validate.FieldRules // nil for a message field without any of its own
	where string               // how a violation begins
}

var rulesByMessage sync.Map // protoreflect.FullName -> []rule

func rulesOf(d protoreflect.MessageDescriptor) []rule {
	if known, ok := rulesByMessage.Load(d.FullName()); ok {
		return known.([]rule)
	}
	var rules []rule
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		set, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
		if set != nil || fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap() {
			rules = append(rules, rule{fd, set, "invalid " + string(d.Name()) + "." + goName(fd.Name())})
		}
	}
	rulesByMessage.Store(d.FullName(), rules)
	return rules
}

// check returns the first violation in the order of the fields, or nothing.
func check(m protoreflect.Message) string {
	for _, r := range rulesOf(m.Descriptor()) {
		if r.field.Kind() == protoreflect.MessageKind && !r.field.IsList() {
			if !m.Has(r.field) {
				continue
			}
			if want := r.rules.GetDuration().GetConst(); want != nil && !proto.Equal(m.Get(r.field).Message().Interface(), want) {
				return fmt.Sprintf("%s: value must equal %s", r.where, want.AsDuration())
			}
			if inner := check(m.Get(r.field).Message()); inner != "" {
				return r.where + ": embedded message failed validation | caused by: " + inner
			}
			continue
		}
		if violation := checkValue(r, m.Get(r.field)); violation != "" {
			return violation
		}
	}
	return ""
}

func checkValue(r rule, v protoreflect.Value) string {
	if !r.field.IsList() {
		if violation := checkString(v.String(), r.rules.GetString()); violation != "" {
			return r.where + ": " + violation
		}
		return ""
	}
	repeated := r.rules.GetRepeated()
	if limit := repeated.GetMaxItems(); limit > 0 && uint64(v.List().Len()) > limit {
		return fmt.Sprintf("%s: value must contain no more than %d item(s)", r.where, limit)
	}
	items := repeated.GetItems().GetString()
	for i := 0; items != nil && i < v.List().Len(); i++ { // the text of a message that is an item would be long
		if violation := checkString(v.List().Get(i).String(), items); violation != "" {
			return fmt.Sprintf("%s[%d]: %s", r.where, i, violation)
		}
	}
	return ""
}

func checkString(s string, rules *validate.StringRules) string {
	runes := uint64(utf8.RuneCountInString(s))
	tooShort, tooLong := runes < rules.GetMinLen(), rules.HasMaxLen() && runes > rules.GetMaxLen()
	switch {
	case (tooShort || tooLong) && rules.HasMinLen() && rules.HasMaxLen():
		return fmt.Sprintf("value length must be between %d and %d runes, inclusive", rules.GetMinLen(), rules.GetMaxLen())
	case tooLong:
		return fmt.Sprintf("value length must be at most %d runes", rules.GetMaxLen())
	case tooShort:
		return fmt.Sprintf("value length must be at least %d runes", rules.GetMinLen())
	case rules.GetEmail() && address.Check(s) != nil:
		return "value must be a valid email address"
	}
	return ""
}

// goName turns sender_address into SenderAddress.
func goName(name protoreflect.Name) string {
	var out strings.Builder
	for part := range strings.SplitSeq(string(name), "_") {
		out.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return out.String()
}
