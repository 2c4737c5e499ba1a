package smtptest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// verify records an attempt and returns nil if a password of the user that is still good proves right.
type verify func(user string, proves func(password string) bool) error

// mechanisms are the SASL mechanisms that a server can offer.
var mechanisms = map[string]func(verify, func() *tls.ConnectionState) sasl.Server{
	"PLAIN":              func(v verify, _ func() *tls.ConnectionState) sasl.Server { return plain(v) },
	"LOGIN":              func(v verify, _ func() *tls.ConnectionState) sasl.Server { return login(v) },
	"XOAUTH2":            func(v verify, _ func() *tls.ConnectionState) sasl.Server { return xoauth2(v) },
	"CRAM-MD5":           func(v verify, _ func() *tls.ConnectionState) sasl.Server { return cramMD5(v) },
	"SCRAM-SHA-1":        func(v verify, _ func() *tls.ConnectionState) sasl.Server { return newSCRAM(sha1.New, v, nil) },
	"SCRAM-SHA-256":      func(v verify, _ func() *tls.ConnectionState) sasl.Server { return newSCRAM(sha256.New, v, nil) },
	"SCRAM-SHA-1-PLUS":   func(v verify, s func() *tls.ConnectionState) sasl.Server { return newSCRAM(sha1.New, v, s()) },
	"SCRAM-SHA-256-PLUS": func(v verify, s func() *tls.ConnectionState) sasl.Server { return newSCRAM(sha256.New, v, s()) },
}

// Mechanisms returns the names of all mechanisms that a server can offer.
func Mechanisms() []string {
	return []string{
		"PLAIN", "LOGIN", "XOAUTH2", "CRAM-MD5",
		"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
	}
}

// exchange is a sasl.Server made of one function.
type exchange func(response []byte) (challenge []byte, done bool, err error)

// Next implements sasl.Server. A nil response means that the client sent no initial response.
func (e exchange) Next(response []byte) ([]byte, bool, error) { return e(response) }

func equals(s string) func(string) bool { return func(password string) bool { return password == s } }

func plain(v verify) sasl.Server {
	return sasl.NewPlainServer(func(_, user, password string) error { return v(user, equals(password)) })
}

func login(v verify) sasl.Server {
	var user []byte
	return exchange(func(response []byte) ([]byte, bool, error) {
		switch {
		case response == nil:
			return []byte("Username:"), false, nil
		case user == nil:
			user = response
			return []byte("Password:"), false, nil
		}
		return nil, true, v(string(user), equals(string(response)))
	})
}

// xoauth2 tells a failure the way Google does: a challenge with JSON that wants an empty answer.
func xoauth2(v verify) sasl.Server {
	var failed error
	return exchange(func(response []byte) ([]byte, bool, error) {
		if response == nil {
			return nil, false, nil
		}
		if failed != nil {
			return nil, true, failed
		}
		user, rest, ok := strings.Cut(strings.TrimPrefix(string(response), "user="), "\x01")
		token, hasToken := strings.CutPrefix(strings.TrimSuffix(rest, "\x01\x01"), "auth=Bearer ")
		if !ok || !hasToken {
			return nil, true, errors.New("malformed XOAUTH2")
		}
		if failed = v(user, equals(token)); failed != nil {
			return []byte(`{"status":"401","schemes":"bearer","scope":"smtp"}`), false, nil
		}
		return nil, true, nil
	})
}

func cramMD5(v verify) sasl.Server {
	challenge := []byte("<" + rand.Text() + "@smtptest.localhost>")
	return exchange(func(response []byte) ([]byte, bool, error) {
		if response == nil {
			return challenge, false, nil
		}
		at := bytes.LastIndexByte(response, ' ')
		if at < 0 {
			return nil, true, smtp.ErrAuthFailed
		}
		digest := string(response[at+1:])
		return nil, true, v(string(response[:at]), func(password string) bool {
			mac := hmac.New(md5.New, []byte(password))
			mac.Write(challenge)
			return hex.EncodeToString(mac.Sum(nil)) == digest
		})
	})
}
