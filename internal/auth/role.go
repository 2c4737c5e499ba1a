package auth

import (
	"maps"
	"slices"
)

// Permissions that methods ask for.
const (
	ReadProviders  = "iam.read"
	WriteProviders = "iam.write"
	ReadTokens     = "token.read"
	WriteTokens    = "token.write"
	SendMessages   = "message.send"
	ReadMessages   = "message.read"    // what became of mails, and who got them
	ReadContents   = "message.content" // what mails say
	ReadAudit      = "audit.read"      // every event of the instance, and whether they are what was recorded
	WriteSystem    = "system.write"    // what touches all instances, such as the keyset
)

// permissions of each role. The IAM_ roles are ZITADEL's.
var permissions = map[string][]string{
	"SYSTEM_OWNER":     {WriteSystem},
	"IAM_OWNER":        {ReadProviders, WriteProviders, ReadTokens, WriteTokens, SendMessages, ReadMessages, ReadContents, ReadAudit},
	"IAM_OWNER_VIEWER": {ReadProviders, ReadTokens, ReadMessages},
	"IAM_LOGIN_CLIENT": {ReadProviders},
	"MESSAGE_SENDER":   {SendMessages, ReadMessages},
}

// Roles returns the names of all roles, sorted.
func Roles() []string { return slices.Sorted(maps.Keys(permissions)) }

// IsRole reports whether there is a role of that name.
func IsRole(name string) bool { return permissions[name] != nil }

// adminRoles are the roles of the token that an installation starts with, ownerRoles of the one that a further
// instance starts with.
var (
	adminRoles = []string{"IAM_OWNER", "SYSTEM_OWNER"}
	ownerRoles = []string{"IAM_OWNER"}
)

// Caller is who calls: a token of one instance, ours or another issuer's. The zero Caller may do nothing.
type Caller struct {
	Instance string
	TokenID  string
	Name     string
	Roles    []string
}

// May reports whether one of the caller's roles has the permission.
func (c Caller) May(permission string) bool {
	return slices.ContainsFunc(c.Roles, func(role string) bool {
		return slices.Contains(permissions[role], permission)
	})
}

// mayGive reports whether the caller has every permission of the role.
func (c Caller) mayGive(role string) bool {
	for _, p := range permissions[role] {
		if !c.May(p) {
			return false
		}
	}
	return true
}
