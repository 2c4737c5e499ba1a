package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// rootsFor returns the certificate authorities that a route's server must have its certificate from: the
// provider's own, or else everybody's.
func (t *Transport) rootsFor(via emailprovider.Route) (*x509.CertPool, error) {
	if via.CA == "" {
		return t.roots, nil
	}
	own := x509.NewCertPool()
	if !own.AppendCertsFromPEM([]byte(via.CA)) {
		return nil, refused(emailprovider.StepTLS, "the certificate authorities of the provider can't be read")
	}
	return own, nil
}

// maxHooks is how many webhooks with certificate authorities of their own have connections kept.
const maxHooks = 256

// hooks are what mails are posted with. A connection is only ever used under the authorities that it was
// opened with: a webhook that has its own shares none.
type hooks struct {
	common *http.Transport

	mu  sync.Mutex
	own map[place]ownHook
	t   *Transport
}

type ownHook struct {
	*http.Transport
	ca string
}

func newHooks(t *Transport) *hooks {
	return &hooks{common: newWebhooks(t, t.roots), own: map[place]ownHook{}, t: t}
}

// of returns what to post with to the webhook of a route. What was kept under other authorities ends.
func (h *hooks) of(via emailprovider.Route) (*http.Transport, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := place{via.Instance, via.ProviderID}
	kept, ok := h.own[at]
	switch {
	case ok && kept.ca == via.CA:
		return kept.Transport, nil
	case ok:
		kept.CloseIdleConnections()
		delete(h.own, at)
	}
	if via.CA == "" {
		return h.common, nil
	}
	roots, err := h.t.rootsFor(via)
	if err != nil {
		return nil, err
	}
	if len(h.own) >= maxHooks {
		h.clear()
	}
	h.own[at] = ownHook{newWebhooks(h.t, roots), via.CA}
	return h.own[at].Transport, nil
}

func (h *hooks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clear()
	h.common.CloseIdleConnections()
}

// clear is called with the lock held.
func (h *hooks) clear() {
	for _, o := range h.own {
		o.CloseIdleConnections()
	}
	clear(h.own)
}

// newWebhooks returns what mails are posted with: HTTP/1.1 over kept connections, without a proxy.
// A redirect is an answer like any other.
func newWebhooks(t *Transport, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.stepTimeout)
			defer cancel()
			return t.dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Time: t.now},
		TLSHandshakeTimeout:    t.stepTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		MaxIdleConnsPerHost:    keptPerHost,
		IdleConnTimeout:        keptTime,
		DisableCompression:     true,
	}
}
