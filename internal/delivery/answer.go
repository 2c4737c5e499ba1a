package delivery

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// maxAnswer is how much of an answer's body is read so that the connection can be kept.
	maxAnswer = 64 << 10
	// echo is how much of a mail in a row an answer may repeat.
	echo = 16
)

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
	case http.StatusUnauthorized, http.StatusForbidden, // the signature is refused
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, // nobody is there
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.status/100 != 2 && a.status/100 != 4
}

// failure says what was answered to a notice.
func (a answer) failure(clean *redactor, n notice) *emailprovider.DeliveryError {
	e := &emailprovider.DeliveryError{Step: emailprovider.StepPost, Code: a.status, Temporary: a.ofEndpoint()}
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		e.Step, e.Temporary = emailprovider.StepAuth, false
	}
	text := fmt.Sprintf("the webhook answered %d", a.status)
	if a.text != "" {
		text += ": " + withoutEcho(a.text, n.content())
	}
	e.Text = clean.show(text)
	return e
}

// withoutEcho removes from a text what it repeats of the mail, as validators of JSON do: the text is
// kept for longer than the mail, and shown to people who may not read that.
func withoutEcho(text string, content []byte) string {
	found := map[string][]int{}
	for i := range max(0, len(text)-echo+1) {
		found[text[i:i+echo]] = append(found[text[i:i+echo]], i)
	}
	marks := make([]bool, len(text))
	for i := range max(0, len(content)-echo+1) {
		if at, ok := found[string(content[i:i+echo])]; ok {
			for _, from := range at {
				mark(marks, from, from+echo)
			}
			delete(found, string(content[i:i+echo]))
		}
	}
	return replaceMarked(text, marks)
}
