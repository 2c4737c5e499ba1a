package demo

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/mail"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	user = "mailkeep@example.com"
	// keep is how many mails the inbox remembers.
	keep = 100
)

// inbox is a mail server that demands AUTH, and a page on loopback that shows its mails and changes
// its password.
type inbox struct {
	smtp  *smtptest.Server
	page  *http.Server
	addr  net.Addr
	first secret.Text
	loud  atomic.Bool
}

// startInbox starts the inbox. Once announce was called, each mail is shown on out.
func startInbox(out io.Writer) (*inbox, error) {
	in := &inbox{first: secret.New(rand.Text())}
	server, err := smtptest.Start(smtptest.Options{DemandAuth: true, Keep: keep, OnMail: func(m smtptest.Mail) {
		if in.loud.Load() {
			fmt.Fprintln(out, describe(m))
		}
	}})
	if err != nil {
		return nil, err
	}
	in.smtp = server
	server.SetPassword(user, in.first.Reveal())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mails", in.listMails)
	mux.HandleFunc("PUT /password", in.putPassword)
	in.addr, in.page = listener.Addr(), &http.Server{Handler: mux, ReadTimeout: 5 * time.Second}
	go func() { _ = in.page.Serve(listener) }() // ends with close
	return in, nil
}

func (in *inbox) url() string { return "http://" + in.addr.String() }

func (in *inbox) announce() { in.loud.Store(true) }

// versionOf returns the version of the password that the last mail with a subject came with; 0 if
// there is none.
func (in *inbox) versionOf(about string) (version int) {
	for _, m := range in.smtp.Mails() {
		if subject(m) == about {
			version = m.Version
		}
	}
	return version
}

func (in *inbox) close() error { return errors.Join(in.page.Close(), in.smtp.Close()) }

// shown is a mail as the page shows it.
type shown struct {
	At                time.Time `json:"at"`
	From              string    `json:"from"`
	To                []string  `json:"to"`
	Subject           string    `json:"subject"`
	CredentialVersion int       `json:"credentialVersion"`
}

func (in *inbox) listMails(w http.ResponseWriter, _ *http.Request) {
	mails := []shown{}
	for _, m := range in.smtp.Mails() {
		mails = append(mails, shown{m.At, m.From, m.To, subject(m), m.Version})
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(mails) // a client that went away has nobody to tell
}

// putPassword makes the body the only password that the inbox takes.
func (in *inbox) putPassword(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
	if password := strings.TrimSpace(string(body)); err == nil && password != "" {
		version := in.smtp.SetPassword(user, password)
		fmt.Fprintf(w, "The inbox now takes only this password; it is version %d.\n", version)
		return
	}
	http.Error(w, "send the new password as the body", http.StatusBadRequest)
}

func describe(m smtptest.Mail) string {
	return fmt.Sprintf("inbox: %q from %s to %s, authenticated as %s with credential version %d",
		subject(m), m.From, strings.Join(m.To, ", "), m.User, m.Version)
}

func subject(m smtptest.Mail) string {
	message, err := mail.ReadMessage(strings.NewReader(string(m.Data)))
	if err != nil {
		return ""
	}
	return message.Header.Get("Subject")
}
