package delivery

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// maxAnswer is how much of an answer's body is read so that the connection can be kept.
const maxAnswer = 64 << 10

// answer is what a webhook said.
type answer struct {
	status int
	text   string // the beginning of a body of text; not cleaned
}

// readAnswer reads a bounded part of the body, after which the connection can be used again if that
// was all.
func readAnswer(resp *http.Response) answer {
	a := answer{status: resp.StatusCode}
	start, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if err == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if strings.HasPrefix(mediaType, "text/") || mediaType == "application/json" || strings.HasSuffix(mediaType, "+json") {
		a.text = strings.TrimSpace(string(start))
	}
	return a
}

func (a answer) accepts() bool { return a.status/100 == 2 }

// ofEndpoint reports whether the answer tells of the endpoint rather than of the mail.
func (a answer) ofEndpoint() bool {
	switch a.status {
	case http.StatusUnauthorized, // the signature is refused
		http.StatusForbidden,                                              // somebody before the receiver does not like one body, or any
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, // nobody is there
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.status/100 != 2 && a.status/100 != 4
}

// failure says what was answered about the mail that the redactor is about.
func (a answer) failure(clean *redactor) *emailprovider.DeliveryError {
	e := &emailprovider.DeliveryError{Step: emailprovider.StepPost, Code: a.status, Temporary: a.ofEndpoint()}
	if a.status == http.StatusUnauthorized {
		e.Step, e.Temporary = emailprovider.StepAuth, false
	}
	e.Text = fmt.Sprintf("the webhook answered %d", a.status)
	if a.text != "" {
		e.Text = cut(e.Text + ": " + clean.quote(a.text))
	}
	return e
}
