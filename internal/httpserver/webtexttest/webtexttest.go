// Package webtexttest speaks grpc-web-text as a client, for tests (gRPC-Web protocol, "base64 encoded").
package webtexttest

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect/v2/connecthttp"
)

const textType = "application/grpc-web-text+proto"

// Client has a client of binary gRPC-Web speak grpc-web-text, as Google's client does.
type Client struct{ Next connecthttp.HTTPClient }

// Do implements connecthttp.HTTPClient. An answer that is no grpc-web-text is left as it is.
func (c Client) Do(r *http.Request) (*http.Response, error) {
	frames, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	// Two chunks, each padded on its own.
	text := base64.StdEncoding.EncodeToString(frames[:1]) + base64.StdEncoding.EncodeToString(frames[1:])
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	r.Header.Set("Content-Type", textType)
	res, err := c.Next.Do(r)
	if err != nil || res.Header.Get("Content-Type") != textType {
		return res, err
	}
	res.Header.Set("Content-Type", "application/grpc-web+proto")
	res.Body = struct {
		io.Reader
		io.Closer
	}{NewDecoder(res.Body), res.Body}
	return res, nil
}

// NewDecoder decodes base64 with padding wherever a chunk ends, each four characters as they come. Some that are left
// over are io.ErrUnexpectedEOF.
func NewDecoder(text io.Reader) io.Reader { return &decoder{text: text} }

type decoder struct {
	text    io.Reader
	decoded []byte
}

// Read implements io.Reader.
func (d *decoder) Read(p []byte) (int, error) {
	if len(d.decoded) == 0 {
		var quantum [4]byte
		if _, err := io.ReadFull(d.text, quantum[:]); err != nil {
			return 0, err
		}
		var err error
		if d.decoded, err = base64.StdEncoding.DecodeString(string(quantum[:])); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.decoded)
	d.decoded = d.decoded[n:]
	return n, nil
}
