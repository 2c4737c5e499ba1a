package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// DefaultWebhookTimeout is how long one POST to a webhook may take in all.
const DefaultWebhookTimeout = 30 * time.Second

const (
	// maxAnswerHeader bounds the header of an answer, in bytes.
	maxAnswerHeader = 16 << 10
	// answerTime is how long reading the body of an answer may take. Nothing depends on it.
	answerTime = time.Second
	// keptPerHost and keptTime bound the connections that wait for a next mail.
	keptPerHost = 16
	keptTime    = 30 * time.Second
)

// post hands a mail to a webhook, with one POST for each recipient. A failure that is the endpoint's
// ends it: when somebody has got the mail before, it is a temporary refusal of all others, so that
// only these are tried again.
func (t *Transport) post(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
	d := emailprovider.Delivery{Started: t.now()}
	begun := time.Now()
	verdicts, failed := t.postEach(ctx, via, mail)
	d.Steps = []emailprovider.StepTime{{Step: emailprovider.StepPost, Took: time.Since(begun)}}
	accepted := false
	for _, v := range verdicts {
		accepted = accepted || v.Refused == nil
	}
	switch {
	case failed != nil && !accepted:
		d.Failed = failed
		return d
	case failed != nil:
		later := *failed
		later.Temporary = true
		for len(verdicts) < len(mail.Recipients) {
			verdicts = append(verdicts, emailprovider.Verdict{Refused: &later})
		}
	case !accepted:
		d.Failed = verdicts[0].Refused
	}
	d.Verdicts = verdicts
	return d
}

// postEach returns a verdict for each recipient up to a failure of the endpoint.
func (t *Transport) postEach(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) (
	verdicts []emailprovider.Verdict, failed *emailprovider.DeliveryError,
) {
	clean := newRedactor(via.Secret).about(via, mail)
	switch {
	case len(mail.Recipients) == 0:
		return nil, explain(ctx, refused(emailprovider.StepRecipient, "the mail has no recipients"), clean)
	case via.Secret.Empty(): // anybody could sign with that
		return nil, explain(ctx, refused(emailprovider.StepAuth, "the provider has no signing key"), clean)
	}
	n := newNotice(via, mail)
	for _, recipient := range mail.Recipients {
		n.Context.Recipient = recipient
		a, err := t.postOne(ctx, via, n)
		switch {
		case err != nil:
			return verdicts, endpointFailure(ctx, err, clean)
		case a.ofEndpoint():
			return verdicts, a.failure(clean)
		case a.accepts():
			verdicts = append(verdicts, emailprovider.Verdict{})
		default:
			verdicts = append(verdicts, emailprovider.Verdict{Refused: a.failure(clean)})
		}
	}
	return verdicts, nil
}

// endpointFailure says why there was no answer. Another attempt may get one, whatever it was.
func endpointFailure(ctx context.Context, err error, clean *redactor) *emailprovider.DeliveryError {
	e := explain(ctx, at(emailprovider.StepPost, err), clean)
	e.Temporary = true
	return e
}

// postOne posts a notice and returns the answer.
func (t *Transport) postOne(ctx context.Context, via emailprovider.Route, n notice) (answer, error) {
	body, err := json.Marshal(n)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.webhookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, via.HTTP.Endpoint, bytes.NewReader(body))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return answer{}, refused(emailprovider.StepPost, "the endpoint is not an absolute http(s) URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Mailkeep")
	req.Header.Set(SignatureHeader, Sign(via.Secret.Reveal(), t.now(), body))
	hook, err := t.webhooks.of(via)
	if err != nil {
		return answer{}, err
	}
	resp, err := hook.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	// The status has decided; a slow rest holds up nobody.
	defer time.AfterFunc(answerTime, cancel).Stop()
	return readAnswer(resp), nil
}
