package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dialling are the packages that connect somewhere without the guard in internal/egress: none of them to
// a host that a caller has named. Of issuers the operator has.
var dialling = []string{
	"bench", "conformance", "demo", "e2e", "egress", "faultproxy", "loopback", "pgcluster", "sqlstore", "testall", "tools",
	"delivery/smtptest", "auth/oidc", "auth/oidctest",
}

// ways are how the standard library connects.
var ways = map[string][]string{
	"net": {
		"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer",
	},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
	"net/http":   {"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport", "ProxyFromEnvironment", "ProxyURL"},
	"net/smtp":   {"Dial", "SendMail"},
}

// TestDials: nothing leaves the machine but through the guard. What connects must be given something to
// dial with; http.Client and http.Transport have defaults that are not.
func TestDials(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(dialling, path) || d.Name() == "testdata"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		checked++
		for _, found := range dialsIn(t, path, nil) {
			t.Error(found)
		}
		return nil
	})
	if err != nil || checked < 100 {
		t.Errorf("%d files: %v", checked, err)
	}
	// What would be caught.
	for _, code := range []string{
		`import "net"; var d net.Dialer`,
		`import n "net"; func f() { n.Dial("tcp", "x:25") }`,
		`import "crypto/tls"; func f() { tls.Dial("tcp", "x:25", nil) }`,
		`import "net/http"; func f() { http.Get("http://x") }`,
		`import "net/http"; var c = &http.Client{Timeout: 1}`,
		`import "net/http"; var c http.Client`,
		`import "net/http"; var c = new(http.Client)`,
		`import "net/http"; var c = http.Client{Transport: &http.Transport{}}`,
		`import "net/http"; var c = http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: d}`,
		`import . "net"; var d Dialer`,
	} {
		if len(dialsIn(t, "control.go", "package control; "+code)) == 0 {
			t.Errorf("not caught: %s", code)
		}
	}
}

// dialsIn returns what in a file connects without being given a dialer.
func dialsIn(t *testing.T, path string, source any) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{}
	for _, i := range file.Imports {
		from := strings.Trim(i.Path.Value, `"`)
		name := from[strings.LastIndexByte(from, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		if _, ok := ways[from]; ok && name == "." {
			found = append(found, fmt.Sprintf("%s: imports %s without its name", path, from))
		}
		imported[name] = from
	}
	given := map[ast.Node]bool{} // clients and transports that get what they dial with
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if needs := map[string]string{"Client": "Transport", "Transport": "DialContext"}[nameIn(n.Type, imported, "net/http")]; needs != "" {
				given[n.Type] = slices.ContainsFunc(n.Elts, func(e ast.Expr) bool { return keyOf(e) == needs })
			}
		case *ast.StarExpr: // a pointer to one that was made elsewhere
			given[n.X] = true
		case *ast.SelectorExpr:
			for from, names := range ways {
				if slices.Contains(names, nameIn(n, imported, from)) {
					found = append(found, fmt.Sprintf("%s: uses %s.%s", files.Position(n.Pos()), from, n.Sel.Name))
				}
			}
			if name := nameIn(n, imported, "net/http"); (name == "Client" || name == "Transport") && !given[n] {
				found = append(found, fmt.Sprintf("%s: an http.%s that dials with its default", files.Position(n.Pos()), name))
			}
		}
		return true
	})
	return found
}

// nameIn returns the name that an expression has in an imported package, or nothing.
func nameIn(e ast.Expr, imported map[string]string, from string) string {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := selector.X.(*ast.Ident); ok && imported[x.Name] == from {
		return selector.Sel.Name
	}
	return ""
}

func keyOf(e ast.Expr) string {
	if pair, ok := e.(*ast.KeyValueExpr); ok {
		if key, ok := pair.Key.(*ast.Ident); ok {
			return key.Name
		}
	}
	return ""
}
