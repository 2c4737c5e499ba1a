package delivery

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// heard notes a reply.
func (w *watch) heard(r reply) {
	w.note(func(step *emailprovider.StepReport) { step.Code, step.Text = r.code, w.clean.show(r.text()) })
}

// offered notes the reply to EHLO, and what follows AUTH in it.
func (w *watch) offered(r reply, mechanisms string) {
	w.note(func(step *emailprovider.StepReport) {
		step.Text = w.clean.show(r.lines[0])
		step.Capabilities = w.list(r.lines[1:])
		step.Mechanisms = strings.Fields(w.clean.show(mechanisms))
	})
}

// loggingIn notes the mechanism that was chosen.
func (w *watch) loggingIn(mechanism string) {
	w.note(func(step *emailprovider.StepReport) { step.Mechanism = mechanism })
}

// spokePlain notes that a server has answered a TLS handshake with an SMTP greeting.
func (w *watch) spokePlain() {
	w.note(func(step *emailprovider.StepReport) {
		step.Text = "the server does not begin with TLS; a new connection tries STARTTLS"
	})
}

// shookHands notes a TLS connection, also one whose handshake has failed on the way.
func (w *watch) shookHands(conn *tls.Conn) {
	w.note(func(step *emailprovider.StepReport) {
		state := conn.ConnectionState()
		if state.CipherSuite == 0 {
			return // the server has not even chosen one
		}
		step.TLS = &emailprovider.TLSDetails{
			Version:     tls.VersionName(state.Version),
			CipherSuite: tls.CipherSuiteName(state.CipherSuite),
			Chain:       w.chain(state.PeerCertificates),
		}
	})
}

// How much of what a server lists is shown: several times what real ones have.
const (
	maxChain        = 10
	maxCapabilities = 64
)

func (w *watch) chain(certs []*x509.Certificate) []emailprovider.Certificate {
	var shown []emailprovider.Certificate
	for _, c := range certs[:min(len(certs), maxChain)] {
		// A name may be outside of the subject only (RFC 5280, section 4.1.2.6).
		subject := cmp.Or(c.Subject.String(), strings.Join(c.DNSNames, " "))
		shown = append(shown, emailprovider.Certificate{
			Subject: w.clean.show(subject), Issuer: w.clean.show(c.Issuer.String()), Expires: c.NotAfter,
		})
	}
	return shown
}

// list returns lines that can be shown. Secrets are looked for in all of them together, since a
// server may fold what it repeats.
func (w *watch) list(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	text := strings.Join(lines[:min(len(lines), maxCapabilities)], "\n")
	shown := strings.Split(w.clean.remove(text[:min(len(text), maxRead)]), "\n")
	for i, line := range shown {
		shown[i] = cut(printable(line))
	}
	return shown
}
