package auth

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRoles is who may do what.
func TestRoles(t *testing.T) {
	want := map[string][]string{
		"SYSTEM_OWNER": {"system.write"},
		"IAM_OWNER": {
			"audit.read", "iam.read", "iam.write", "message.content", "message.read", "message.send", "token.read", "token.write",
		},
		"IAM_OWNER_VIEWER": {"iam.read", "message.read", "token.read"},
		"IAM_LOGIN_CLIENT": {"iam.read"},
		"MESSAGE_SENDER":   {"message.read", "message.send"},
	}
	got := map[string][]string{}
	for role := range permissions {
		for _, p := range []string{
			"audit.read", "iam.read", "iam.write", "message.content", "message.read", "message.send", "system.write", "token.read", "token.write",
		} {
			if (Caller{Roles: []string{role}}).May(p) {
				got[role] = append(got[role], p)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

// TestMayGive is which roles' tokens a caller can make and revoke: those that may do no more.
func TestMayGive(t *testing.T) {
	want := map[string][]string{
		"SYSTEM_OWNER":     {"SYSTEM_OWNER"},
		"IAM_OWNER":        {"IAM_LOGIN_CLIENT", "IAM_OWNER", "IAM_OWNER_VIEWER", "MESSAGE_SENDER"},
		"IAM_OWNER_VIEWER": {"IAM_LOGIN_CLIENT", "IAM_OWNER_VIEWER"},
		"IAM_LOGIN_CLIENT": {"IAM_LOGIN_CLIENT"},
		"MESSAGE_SENDER":   {"MESSAGE_SENDER"},
	}
	got := map[string][]string{}
	for _, role := range Roles() {
		for _, given := range slices.Sorted(maps.Keys(permissions)) {
			if (Caller{Roles: []string{role}}).mayGive(given) {
				got[role] = append(got[role], given)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("may give (-want +got):\n%s", diff)
	}
}
