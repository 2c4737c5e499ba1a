package method_test

import (
	"strings"
	"testing"

	healthv1 "github.com/mailkeep/mailkeep/gen/grpc/health/v1"
	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/internal/method"
)

func adminMethods(t *testing.T) method.Set {
	t.Helper()
	set, err := method.Read(adminv1.File_zitadel_admin_v1_admin_proto.Services().ByName("AdminService"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestTwins holds every deprecated method to a successor that needs the same permission and does the
// same over REST, and every other method to being a successor or one of the HTTP provider's.
func TestTwins(t *testing.T) {
	set := adminMethods(t)
	succeeded := map[*method.Method]string{}
	for _, m := range set {
		if !m.Deprecated {
			continue
		}
		if earlier, taken := succeeded[m.Successor]; taken {
			t.Errorf("%s and %s have the same successor", m.Name, earlier)
		}
		succeeded[m.Successor] = m.Name
		if m.Successor.Permission != m.Permission || m.Successor.Route.Verb != m.Route.Verb || m.Successor.Deprecated {
			t.Errorf("%s and its successor %s differ in permission or verb, or both are deprecated", m.Name, m.Successor.Name)
		}
		if strings.Join(m.Route.Variables(), ",") != strings.Join(m.Successor.Route.Variables(), ",") {
			t.Errorf("%s and its successor have different variables in their paths", m.Name)
		}
	}
	for _, m := range set {
		if !m.Deprecated && succeeded[m] == "" && m.Name != "AddEmailProviderHTTP" && m.Name != "UpdateEmailProviderHTTP" {
			t.Errorf("%s succeeds nothing", m.Name)
		}
	}
	if len(set) != 24 || len(succeeded) != 11 {
		t.Errorf("%d methods, %d of them successors; want 24 and 11", len(set), len(succeeded))
	}
}

func TestReadRefusesMethodsWithoutPolicy(t *testing.T) {
	_, err := method.Read(healthv1.File_grpc_health_v1_health_proto.Services().ByName("Health"))
	if err == nil || !strings.Contains(err.Error(), "has no permission") {
		t.Errorf("err = %v", err)
	}
}

func TestExpand(t *testing.T) {
	r := method.Route{Path: "/admin/v1/email/smtp/{id}/password"}
	for value, want := range map[string]string{
		"123":       "/admin/v1/email/smtp/123/password",
		"a/b":       "/admin/v1/email/smtp/a%2Fb/password",
		"..":        "/admin/v1/email/smtp/../password",
		"x\r\nY: z": "/admin/v1/email/smtp/x%0D%0AY%3A%20z/password",
		"é>":        "/admin/v1/email/smtp/%C3%A9%3E/password",
		"":          "/admin/v1/email/smtp/{id}/password",
	} {
		if got := r.Expand(func(string) string { return value }); got != want {
			t.Errorf("Expand(%q) = %s, want %s", value, got, want)
		}
	}
}
