// Package mailrpc serves Mailkeep's own methods, package mailkeep.v1.
package mailrpc

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Tokens implements TokenService.
type Tokens struct {
	tokens *auth.Service
	log    *slog.Logger
}

var _ mailkeepv1connect.TokenServiceHandler = Tokens{}

// NewTokens returns the service; what is done to tokens goes to log.
func NewTokens(tokens *auth.Service, log *slog.Logger) Tokens { return Tokens{tokens, log} }

// CreateToken implements TokenService.
func (s Tokens) CreateToken(ctx context.Context, req *mailkeepv1.CreateTokenRequest) (*mailkeepv1.CreateTokenResponse, error) {
	var lifetime *time.Duration
	if d := req.GetLifetime(); d != nil {
		lifetime = new(d.AsDuration())
	}
	token, plain, err := s.tokens.Create(ctx, rpc.CallFrom(ctx).Caller, req.GetName(), req.GetRoles(), lifetime)
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "token created", "request_id", rpc.CallFrom(ctx).RequestID, "caller", rpc.CallFrom(ctx).Caller.Name,
		"token_id", token.ID, "name", token.Name, "roles", token.Roles, "expires", token.Expires)
	return &mailkeepv1.CreateTokenResponse{Token: encodeToken(token), Secret: plain.Reveal()}, nil
}

// ListTokens implements TokenService.
func (s Tokens) ListTokens(ctx context.Context, _ *mailkeepv1.ListTokensRequest) (*mailkeepv1.ListTokensResponse, error) {
	tokens, err := s.tokens.List(ctx, rpc.CallFrom(ctx).Caller)
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListTokensResponse{}
	for _, t := range tokens {
		res.Tokens = append(res.Tokens, encodeToken(t))
	}
	return res, nil
}

// RevokeToken implements TokenService.
func (s Tokens) RevokeToken(ctx context.Context, req *mailkeepv1.RevokeTokenRequest) (*mailkeepv1.RevokeTokenResponse, error) {
	if err := s.tokens.Revoke(ctx, rpc.CallFrom(ctx).Caller, req.GetId()); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "token revoked", "request_id", rpc.CallFrom(ctx).RequestID, "caller", rpc.CallFrom(ctx).Caller.Name,
		"token_id", req.GetId())
	return &mailkeepv1.RevokeTokenResponse{}, nil
}

func encodeToken(t auth.Token) *mailkeepv1.Token {
	out := &mailkeepv1.Token{Id: t.ID, Name: t.Name, Roles: t.Roles, CreationDate: timestamppb.New(t.Created)}
	if !t.Expires.IsZero() {
		out.ExpirationDate = timestamppb.New(t.Expires)
	}
	return out
}
