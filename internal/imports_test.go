package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mailkeep/mailkeep/"

// TestImports keeps the packages apart: who may import whom.
func TestImports(t *testing.T) {
	// The domains know nothing of ours but the words they share.
	vocabulary := []string{"internal/address", "internal/fault", "internal/secret"}
	domains := map[string][]string{
		"internal/emailprovider": nil,
		"internal/auth":          nil,
		"internal/deprecation":   nil,
		"internal/audit":         nil,
		"internal/outbox":        {"internal/emailprovider"}, // mails go through providers, never the other way round
		"internal/instance":      {"internal/auth", "internal/emailprovider"},
	}
	// Only these see each of the packages; a name that ends in / is everything below it.
	onlyIn := map[string][]string{
		module + "gen/": {
			"gen/", "internal/adminrpc", "internal/mailrpc", "internal/rpc", "internal/method", "internal/health",
			"internal/app", "cmd/mailkeep", "internal/bench", "internal/conformance/server",
		},
		"modernc.org/sqlite":                  {"internal/sqlstore"},
		"database/sql":                        {"internal/sqlstore"},
		"github.com/pressly/goose":            {"internal/sqlstore"},
		"github.com/wneessen/go-mail":         {"internal/delivery"},
		"github.com/emersion/":                {"internal/delivery/smtptest"},
		"github.com/tink-crypto/":             {"internal/seal"},
		"github.com/prometheus/":              {"internal/metrics"},
		"github.com/coreos/go-oidc/":          {"internal/auth/oidc"},
		"github.com/go-jose/":                 {"internal/auth/oidc"},
		"github.com/rs/cors":                  {"internal/httpserver"},
		"net/smtp":                            {},
		module + "internal/app":               {"cmd/mailkeep", "internal/demo", "internal/bench"},
		module + "internal/sqlstore":          {"internal/app"},
		module + "internal/delivery/smtptest": {"internal/demo"},
		module + "internal/egress":            {"internal/delivery", "internal/app", "cmd/mailkeep"},
		module + "internal/pgcluster":         {"internal/bench", "internal/pgcluster/pgtest"},
		module + "internal/faultproxy":        {},
		module + "internal/auth/oidctest":     {},
	}
	used := map[string]bool{}
	for name, imports := range packages(t) {
		for _, imported := range imports {
			own := strings.TrimPrefix(imported, module)
			if more, ok := domains[name]; ok && own != imported && !slices.Contains(vocabulary, own) && !slices.Contains(more, own) {
				t.Errorf("%s is a domain and imports %s", name, own)
			}
			for what, allowed := range onlyIn {
				if !strings.HasPrefix(imported, what) {
					continue
				}
				i := slices.IndexFunc(allowed, func(a string) bool {
					return name == a || strings.HasSuffix(a, "/") && strings.HasPrefix(name, a)
				})
				if i < 0 {
					t.Errorf("%s imports %s", name, imported)
				} else {
					used[what+" in "+allowed[i]] = true
				}
			}
		}
	}
	for what, allowed := range onlyIn {
		for _, a := range allowed {
			if !used[what+" in "+a] {
				t.Errorf("%s does not import %s any more: the rule is out of date", a, what)
			}
		}
	}
}

// packages returns the imports of each package of the module, its tests left out.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
	if len(found) < 20 {
		t.Fatalf("only %d packages", len(found))
	}
	return found
}
