package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// locate returns where the service is: what --url says, else the address in the data folder.
func (c *connection) locate() (*url.URL, error) {
	if c.URL != "" {
		return c.parse("--url", c.URL)
	}
	if !datadir.InUse(c.DataDir) {
		// At an address that is left there somebody else may answer now, and would get the token.
		return nil, fmt.Errorf("no service is running with the data folder %s: start one with `mailkeep serve`; "+
			"--data-dir names another folder, --url a service elsewhere", c.DataDir)
	}
	path := filepath.Join(c.DataDir, app.AddressFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	return c.parse(path, strings.TrimSpace(string(text)))
}

// parse returns an address to which the token may be sent. What is refused is not repeated: it may
// have a password in it.
func (c *connection) parse(where, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("%s must be an address such as http://127.0.0.1:8080 or https://mail.example.com", where)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%s must be an address without user, query and fragment", where)
	case u.Scheme == "http" && !isLoopback(u) && !c.Insecure:
		return nil, fmt.Errorf("%s: the token would cross the network readable, over plain http to %s; "+
			"use https, or --insecure if the way there is safe", where, u.Host)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

func isLoopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(u.Hostname(), "localhost")
}

// token returns what to call with. The data folder's admin token is only for the service on this
// machine: --url alone must not be enough to send it away.
func (c *connection) token(base *url.URL) (secret.Text, error) {
	chosen := os.Getenv("MAILKEEP_TOKEN")
	switch {
	case c.TokenFile != "":
		return readToken(c.TokenFile)
	case chosen != "":
		return checkToken("MAILKEEP_TOKEN", chosen)
	case c.URL != "" && !isLoopback(base):
		return secret.Text{}, fmt.Errorf("the token for %s is missing: --token-file names a file with it, "+
			"MAILKEEP_TOKEN has the token itself (the data folder's is for the service on this machine)", base.Host)
	}
	return readToken(filepath.Join(c.DataDir, app.AdminTokenFile))
}

func readToken(path string) (secret.Text, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Text{}, fmt.Errorf("%s does not exist: --token-file names the file with the token, "+
			"MAILKEEP_TOKEN has the token itself", path)
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("reading the token: %w", err)
	}
	return checkToken(path, strings.TrimSpace(string(text)))
}

// checkToken refuses what no header can carry.
func checkToken(where, token string) (secret.Text, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return secret.Text{}, fmt.Errorf("%s does not have a token: it must be printable ASCII without spaces", where)
	}
	return secret.New(token), nil
}
