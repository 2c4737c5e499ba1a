// Package method reads from the descriptors what the transports and the authorization need to know
// of an RPC: route, permission, successor, size. A method that does not say is not served.
package method

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	optionsv1 "github.com/mailkeep/mailkeep/gen/mailkeep/options/v1"
)

// Method is one RPC.
type Method struct {
	Procedure  string // "/zitadel.admin.v1.AdminService/GetSMTPConfig"
	Name       string // "GetSMTPConfig"
	Permission string // that the caller needs
	Deprecated bool
	Successor  *Method // of a deprecated method
	Streams    bool    // the answer is a stream
	Route      Route   // zero for a method that streams: REST has one answer for a call
	MaxBytes   int     // largest request message; 0 for the default of the server
	Descriptor protoreflect.MethodDescriptor
}

// Route is the REST route of a method (google.api.http).
type Route struct {
	Verb string
	Path string // as in the rule: "/admin/v1/smtp/{id}/password"
	Body bool   // the request message is the body; else it is built from the path alone
}

// Set is the methods of an installation by procedure.
type Set map[string]*Method

// Read returns the methods of the services, or an error that names a method without a permission, one
// that lacks a route or streams and has one, or a deprecated one whose successor does not exist.
func Read(services ...protoreflect.ServiceDescriptor) (Set, error) {
	set := Set{}
	for _, service := range services {
		for i := range service.Methods().Len() {
			m, err := read(service.Methods().Get(i))
			if err != nil {
				return nil, err
			}
			set[m.Procedure] = m
		}
	}
	for _, m := range set {
		if err := set.link(m); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func read(d protoreflect.MethodDescriptor) (*Method, error) {
	options, _ := d.Options().(*descriptorpb.MethodOptions)
	m := &Method{
		Procedure:  procedure(d.Parent().FullName(), d.Name()),
		Name:       string(d.Name()),
		Permission: policyOf(d).GetPermission(),
		Deprecated: options.GetDeprecated(),
		Streams:    d.IsStreamingServer(),
		MaxBytes:   int(policyOf(d).GetMaxBytes()),
		Descriptor: d,
	}
	if m.Permission == "" {
		return nil, fmt.Errorf("method: %s has no permission in its options", d.FullName())
	}
	rule, _ := proto.GetExtension(options, annotations.E_Http).(*annotations.HttpRule)
	var err error
	switch {
	case d.IsStreamingClient():
		err = errors.New("a stream of requests is not supported")
	case m.Streams && rule != nil:
		err = errors.New("it streams, which google.api.http can't say")
	case !m.Streams:
		m.Route, err = readRoute(rule)
	}
	if err != nil {
		return nil, fmt.Errorf("method: %s: %w", d.FullName(), err)
	}
	return m, nil
}

func policyOf(d protoreflect.MethodDescriptor) *optionsv1.MethodPolicy {
	policy, _ := proto.GetExtension(d.Options(), optionsv1.E_Method).(*optionsv1.MethodPolicy)
	return policy
}

func procedure(service protoreflect.FullName, name protoreflect.Name) string {
	return "/" + string(service) + "/" + string(name)
}

func readRoute(rule *annotations.HttpRule) (Route, error) {
	r := Route{Body: rule.GetBody() == "*"}
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		r.Verb, r.Path = "GET", pattern.Get
	case *annotations.HttpRule_Put:
		r.Verb, r.Path = "PUT", pattern.Put
	case *annotations.HttpRule_Post:
		r.Verb, r.Path = "POST", pattern.Post
	case *annotations.HttpRule_Delete:
		r.Verb, r.Path = "DELETE", pattern.Delete
	default:
		return Route{}, fmt.Errorf("google.api.http has no get, put, post or delete")
	}
	if body := rule.GetBody(); body != "" && body != "*" {
		return Route{}, fmt.Errorf("google.api.http has body %q; only * and none are supported", body)
	}
	return r, nil
}

// link resolves the successor of a deprecated method.
func (s Set) link(m *Method) error {
	name := policyOf(m.Descriptor).GetSuccessor()
	if m.Deprecated != (name != "") {
		return fmt.Errorf("method: %s must have a successor if and only if it is deprecated", m.Descriptor.FullName())
	}
	if name == "" {
		return nil
	}
	m.Successor = s[procedure(m.Descriptor.Parent().FullName(), protoreflect.Name(name))]
	if m.Successor == nil || m.Successor.Streams {
		return fmt.Errorf("method: %s has successor %q, which does not exist or has no route", m.Descriptor.FullName(), name)
	}
	return nil
}

// Expand returns the path with its variables filled in by value; a variable without a value stays
// as it is.
func (r Route) Expand(value func(name string) string) string {
	segments := strings.Split(r.Path, "/")
	for i, s := range segments {
		if name, ok := variable(s); ok && value(name) != "" {
			segments[i] = escapeSegment(value(name))
		}
	}
	return strings.Join(segments, "/")
}

// Variables returns the names of the path's variables.
func (r Route) Variables() []string {
	var names []string
	for s := range strings.SplitSeq(r.Path, "/") {
		if name, ok := variable(s); ok {
			names = append(names, name)
		}
	}
	return names
}

// variable returns the name in a segment such as "{id}".
func variable(segment string) (name string, ok bool) {
	name, ok = strings.CutPrefix(segment, "{")
	return strings.TrimSuffix(name, "}"), ok
}

// escapeSegment escapes everything that is not unreserved (RFC 3986, section 2.3), as google.api.http
// wants it.
func escapeSegment(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
