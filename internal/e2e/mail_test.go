//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// mailServer is where the tests' providers point. Its users get their passwords from newPassword
// or, for scripts, from `POST control/user`.
type mailServer struct {
	*smtptest.Server
	control string // URL
	caFile  string

	mu        sync.Mutex
	passwords []string
}

func startMail(t *testing.T) *mailServer {
	t.Helper()
	server, err := smtptest.Start(smtptest.Options{Mode: smtptest.ImplicitTLS, DemandAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	m := &mailServer{Server: server, caFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(m.caFile, server.CA().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{user}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(m.newPassword(r.PathValue("user"))) // the script notices
	})
	control := httptest.NewServer(mux)
	t.Cleanup(control.Close)
	m.control = control.URL
	return m
}

// newPassword makes a new password the only good one of the user.
func (m *mailServer) newPassword(user string) string {
	password := rand.Text()
	m.mu.Lock()
	m.passwords = append(m.passwords, password)
	m.mu.Unlock()
	m.SetPassword(user, password)
	return password
}

func (m *mailServer) everyPassword() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.passwords)
}

// expect wants exactly these sessions in this order, as "<user> <version of the password> sent" or
// "… refused". A mail says in its recipient, <user>.v<version>@example.com, which version its sender
// meant to be in effect.
func (m *mailServer) expect(t *testing.T, want []string) {
	t.Helper()
	mails := map[string]smtptest.Mail{}
	for _, mail := range m.Mails() {
		mails[mail.Remote] = mail
		meant := []string{fmt.Sprintf("%s.v%d@example.com", mail.User, mail.Version)}
		if diff := cmp.Diff(meant, mail.To); diff != "" {
			t.Errorf("recipients by the password that was used (-want +got):\n%s", diff)
		}
	}
	var got []string
	for _, attempt := range m.Attempts() {
		end := "refused"
		if attempt.OK {
			end = "accepted without a mail"
		}
		if _, ok := mails[attempt.Remote]; ok {
			end = "sent"
		}
		got = append(got, fmt.Sprintf("%s %d %s", attempt.User, attempt.Version, end))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sessions at the mail server (-want +got):\n%s", diff)
	}
	if sent := len(m.Mails()); sent != len(mails) {
		t.Errorf("%d mails in %d sessions, want one in each", sent, len(mails))
	}
}
