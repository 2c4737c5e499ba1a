package httpserver

import (
	"net/http"

	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// allowOrigins answers preflights and marks answers for the origins, any if there are none named.
// Never with credentials: tokens come in a header, there are no cookies.
func allowOrigins(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		origins = []string{"*"}
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: append(connectcors.AllowedMethods(), http.MethodPut, http.MethodDelete),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Accept", "Authorization", "X-Zitadel-Orgid", requestIDHeader,
			"Connect-Accept-Encoding", "Connect-Content-Encoding", "Grpc-Accept-Encoding", "Grpc-Encoding"),
		ExposedHeaders: append(connectcors.ExposedHeaders(), "Deprecation", "Link", "Retry-After", "Sunset", "Www-Authenticate", requestIDHeader),
		MaxAge:         7200, // seconds; the most that Chromium keeps
	}).Handler(next)
}
