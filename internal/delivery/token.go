package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// maxTokenAnswer bounds what is read of a token endpoint's answer.
const maxTokenAnswer = 64 << 10

// Bearer is a bearer token.
type Bearer struct {
	Token secret.Text
	Life  time.Duration // that its endpoint has given it; 0 if that is not known
	Kept  bool          // it was not got for this session
}

// TokenClient gets bearer tokens with the client credentials grant (RFC 6749, section 4.4). It
// follows no redirects and uses no proxy. Each call gets a new token.
type TokenClient struct {
	Dialer  Dialer         // default an egress.Guard for one instance
	Roots   *x509.CertPool // nil for the system's
	Timeout time.Duration  // of one request; default DefaultStepTimeout
}

var _ TokenSource = (*TokenClient)(nil)

// Token implements TokenSource. A failure is a *emailprovider.DeliveryError.
func (c *TokenClient) Token(ctx context.Context, via emailprovider.Route) (Bearer, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, DefaultStepTimeout))
	defer cancel()
	token, err := c.ask(ctx, via.SMTP.XOAuth2, via.Secret)
	if err != nil {
		return Bearer{}, explain(ctx, at(emailprovider.StepToken, err), newRedactor(via.Secret))
	}
	return token, nil
}

// ask posts one token request. The client is named in the way that every server must support
// (RFC 6749, section 2.3.1).
func (c *TokenClient) ask(ctx context.Context, x emailprovider.XOAuth2, key secret.Text) (Bearer, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(x.Scopes) > 0 {
		form.Set("scope", strings.Join(x.Scopes, " "))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.TokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return Bearer{}, refused(emailprovider.StepToken, "the token endpoint is not an absolute http(s) URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(x.ClientID), url.QueryEscape(key.Reveal()))
	resp, err := c.client(req.URL.Scheme == "http").Do(req)
	if err != nil {
		return Bearer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	if err != nil {
		return Bearer{}, err
	}
	return tokenIn(resp.StatusCode, body)
}

func (c *TokenClient) client(inClear bool) *http.Client {
	dialer := c.Dialer
	if dialer == nil {
		dialer = egress.NewGuard(egress.Options{})
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, address)
				if err == nil && inClear && !isLoopback(conn.RemoteAddr()) {
					_ = conn.Close()
					return nil, refused(emailprovider.StepToken, "the client secret is not sent over a connection without TLS; use https")
				}
				return conn, err
			},
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxTokenAnswer,
		},
	}
}

// maxAccessToken bounds a bearer token, in bytes. What servers say is searched for it in many forms,
// which takes memory in proportion.
const maxAccessToken = 8 << 10

// tokenIn reads an answer (RFC 6749, sections 5.1 and 5.2). Of a refusal it shows the status and the
// error code only.
func tokenIn(status int, body []byte) (Bearer, error) {
	var answer struct {
		AccessToken string `json:"access_token"`
		Type        string `json:"token_type"`
		ExpiresIn   any    `json:"expires_in"`
		Error       string `json:"error"`
	}
	err := json.Unmarshal(body, &answer)
	switch {
	case status != http.StatusOK:
		return Bearer{}, &emailprovider.DeliveryError{
			Step:      emailprovider.StepToken,
			Code:      status,
			Text:      strings.TrimSpace("from the token endpoint " + answer.Error),
			Temporary: status >= 500 || status == http.StatusTooManyRequests,
		}
	case len(answer.AccessToken) > maxAccessToken:
		return Bearer{}, refused(emailprovider.StepToken, "the token endpoint's access_token is longer than 8 KiB")
	case err != nil || answer.AccessToken == "":
		return Bearer{}, refused(emailprovider.StepToken, "the token endpoint's answer has no access_token")
	case answer.Type != "" && !strings.EqualFold(answer.Type, "Bearer"):
		return Bearer{}, refused(emailprovider.StepToken, "the token endpoint's token_type is not Bearer")
	}
	return Bearer{Token: secret.New(answer.AccessToken), Life: lifeOf(answer.ExpiresIn)}, nil
}

// lifeOf reads expires_in, which some endpoints send as a text; what is no number of seconds is 0.
func lifeOf(expiresIn any) time.Duration {
	seconds, ok := expiresIn.(float64)
	if text, isText := expiresIn.(string); isText {
		n, err := strconv.ParseFloat(text, 64)
		seconds, ok = n, err == nil
	}
	if !ok || !(seconds > 0) { // NaN too
		return 0
	}
	return time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
}
