package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
)

// httpStatus is the HTTP status of each code, as google.rpc.Code documents it.
var httpStatus = map[connect.Code]int{
	connect.CodeCanceled:           499,
	connect.CodeUnknown:            http.StatusInternalServerError,
	connect.CodeInvalidArgument:    http.StatusBadRequest,
	connect.CodeDeadlineExceeded:   http.StatusGatewayTimeout,
	connect.CodeNotFound:           http.StatusNotFound,
	connect.CodeAlreadyExists:      http.StatusConflict,
	connect.CodePermissionDenied:   http.StatusForbidden,
	connect.CodeResourceExhausted:  http.StatusTooManyRequests,
	connect.CodeFailedPrecondition: http.StatusBadRequest,
	connect.CodeAborted:            http.StatusConflict,
	connect.CodeOutOfRange:         http.StatusBadRequest,
	connect.CodeUnimplemented:      http.StatusNotImplemented,
	connect.CodeInternal:           http.StatusInternalServerError,
	connect.CodeUnavailable:        http.StatusServiceUnavailable,
	connect.CodeDataLoss:           http.StatusInternalServerError,
	connect.CodeUnauthenticated:    http.StatusUnauthorized,
}

// status is google.rpc.Status in JSON.
type status struct {
	Code    connect.Code      `json:"-"`
	Number  uint32            `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details,omitempty"`
}

func writeError(w http.ResponseWriter, err error) {
	s := status{Code: connect.CodeOf(err)}
	var verdict *connect.Error
	if errors.As(err, &verdict) {
		s.Message = verdict.Message()
		for _, d := range verdict.Details() {
			if detail, err := protojson.Marshal(connectproto.ErrorDetailToAny(d)); err == nil {
				s.Details = append(s.Details, detail)
			}
		}
	}
	writeStatus(w, httpStatus[s.Code], s)
}

func writeStatus(w http.ResponseWriter, code int, s status) {
	s.Number = uint32(s.Code)
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil { // compacts the details too
		code = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"code":13,"message":"internal error"}`)
	}
	writeJSON(w, code, bytes.TrimSpace(body.Bytes()))
}

func writeJSON(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // a client that went away has nobody to tell
}
