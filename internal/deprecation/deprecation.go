// Package deprecation counts who still calls deprecated methods, so that an operator can see whom a
// cut-over would hit.
package deprecation

import (
	"context"
	"time"
)

// Use is the use of one deprecated method by one caller with one user agent.
type Use struct {
	Instance  string
	Method    string // such as UpdateSMTPConfigPassword
	Caller    string // name of the token
	UserAgent string
	Calls     uint64
	First     time.Time
	Last      time.Time
}

// Bounds of what a Store keeps.
const (
	// MaxAgents is how many user agents of one caller and method are told apart.
	MaxAgents = 100
	// Other is the user agent (and caller) that uses beyond a bound are counted under.
	Other = "(other)"
)

// Store keeps uses. Its contract is the suite in storetest.
type Store interface {
	// AddUses adds each entry's calls to the stored entry with the same instance, method, caller
	// and user agent, and widens its dates; all entries or none, but for those of instances that there are
	// not, or not any more, which are left out (Unknown). A user agent beyond MaxAgents of
	// one instance, method and caller is Other.
	AddUses(ctx context.Context, uses []Use) error
	// Uses returns the uses of an instance, the latest first, ties by method, caller, user agent.
	Uses(ctx context.Context, instance string) ([]Use, error)
}
