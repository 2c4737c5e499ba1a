package main

import (
	"context"
	"sync"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
)

// fake is a service that answers by a script: for what a real one says only with luck or with much
// ado. Each answer is a message, an error, or a func(context.Context) error that goes between two
// messages of a stream. A call takes one answer, a stream all that are left.
type fake struct {
	adminv1connect.UnimplementedAdminServiceHandler
	messageFake
	credentialFake
	url   string
	token string // file
}

type script struct {
	mu       sync.Mutex
	answers  []any
	requests []proto.Message
}

func (s *script) took(req proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
}

func (s *script) next() (answer any, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return nil, false
	}
	answer, s.answers = s.answers[0], s.answers[1:]
	return answer, true
}

// answer takes the next answer of the script, which must be of the right type.
func answer[M proto.Message](ctx context.Context, s *script, req proto.Message) (none M, _ error) {
	s.took(req)
	switch next, _ := s.next(); next := next.(type) {
	case M:
		return next, nil
	case error:
		return none, next
	case func(context.Context) error:
		return none, next(ctx)
	default:
		return none, connect.Errorf(connect.CodeInternal, "the script has %T for %T", next, req)
	}
}

// play sends what is left of the script.
func play[M proto.Message](ctx context.Context, s *script, req proto.Message, send func(M) error) error {
	s.took(req)
	for {
		next, ok := s.next()
		if !ok {
			return nil
		}
		err := connect.Errorf(connect.CodeInternal, "the script has %T for %T", next, req)
		switch next := next.(type) {
		case M:
			if err := send(next); err != nil {
				return err
			}
			continue
		case error:
			return next
		case func(context.Context) error:
			if err := next(ctx); err != nil {
				return err
			}
			continue
		}
		return err
	}
}

type messageFake struct {
	mailkeepv1connect.UnimplementedMessageServiceHandler
	*script
}

func (f messageFake) SendMessage(ctx context.Context, req *mailkeepv1.SendMessageRequest) (*mailkeepv1.SendMessageResponse, error) {
	return answer[*mailkeepv1.SendMessageResponse](ctx, f.script, req)
}

func (f messageFake) GetMessage(ctx context.Context, req *mailkeepv1.GetMessageRequest) (*mailkeepv1.GetMessageResponse, error) {
	return answer[*mailkeepv1.GetMessageResponse](ctx, f.script, req)
}

func (f messageFake) GetMessageContent(ctx context.Context, req *mailkeepv1.GetMessageContentRequest) (*mailkeepv1.GetMessageContentResponse, error) {
	return answer[*mailkeepv1.GetMessageContentResponse](ctx, f.script, req)
}

func (f messageFake) ListMessages(ctx context.Context, req *mailkeepv1.ListMessagesRequest) (*mailkeepv1.ListMessagesResponse, error) {
	return answer[*mailkeepv1.ListMessagesResponse](ctx, f.script, req)
}

func (f messageFake) RetryMessage(ctx context.Context, req *mailkeepv1.RetryMessageRequest) (*mailkeepv1.RetryMessageResponse, error) {
	return answer[*mailkeepv1.RetryMessageResponse](ctx, f.script, req)
}

func (f messageFake) CancelMessage(ctx context.Context, req *mailkeepv1.CancelMessageRequest) (*mailkeepv1.CancelMessageResponse, error) {
	return answer[*mailkeepv1.CancelMessageResponse](ctx, f.script, req)
}

func (f messageFake) WatchMessages(ctx context.Context, req *mailkeepv1.WatchMessagesRequest, s mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
	return play(ctx, f.script, req, s.Send)
}

type credentialFake struct {
	mailkeepv1connect.UnimplementedProviderServiceHandler
	*script
}

func (f credentialFake) GetProviderStatus(ctx context.Context, req *mailkeepv1.GetProviderStatusRequest) (*mailkeepv1.GetProviderStatusResponse, error) {
	return answer[*mailkeepv1.GetProviderStatusResponse](ctx, f.script, req)
}

func (f credentialFake) ListProviderEvents(ctx context.Context, req *mailkeepv1.ListProviderEventsRequest) (*mailkeepv1.ListProviderEventsResponse, error) {
	return answer[*mailkeepv1.ListProviderEventsResponse](ctx, f.script, req)
}

func (f credentialFake) VerifyProvider(ctx context.Context, req *mailkeepv1.VerifyProviderRequest) (*mailkeepv1.VerifyProviderResponse, error) {
	return answer[*mailkeepv1.VerifyProviderResponse](ctx, f.script, req)
}

func (f credentialFake) VerifySettings(ctx context.Context, req *mailkeepv1.VerifySettingsRequest) (*mailkeepv1.VerifySettingsResponse, error) {
	return answer[*mailkeepv1.VerifySettingsResponse](ctx, f.script, req)
}

func (f credentialFake) RollbackPassword(ctx context.Context, req *mailkeepv1.RollbackPasswordRequest) (*mailkeepv1.RollbackPasswordResponse, error) {
	return answer[*mailkeepv1.RollbackPasswordResponse](ctx, f.script, req)
}

func (f credentialFake) WatchRotatePassword(ctx context.Context, req *mailkeepv1.WatchRotatePasswordRequest, s mailkeepv1connect.ProviderServiceWatchRotatePasswordServerStream) error {
	return play(ctx, f.script, req, s.Send)
}

type auditFake struct {
	mailkeepv1connect.UnimplementedAuditServiceHandler
	*script
}

func (f auditFake) ListEvents(ctx context.Context, req *mailkeepv1.ListEventsRequest) (*mailkeepv1.ListEventsResponse, error) {
	return answer[*mailkeepv1.ListEventsResponse](ctx, f.script, req)
}

func (f auditFake) VerifyEvents(ctx context.Context, req *mailkeepv1.VerifyEventsRequest) (*mailkeepv1.VerifyEventsResponse, error) {
	return answer[*mailkeepv1.VerifyEventsResponse](ctx, f.script, req)
}

// GetEmailProviderById is what verify asks for the stored settings.
func (f *fake) GetEmailProviderById(ctx context.Context, req *adminv1.GetEmailProviderByIdRequest) (*adminv1.GetEmailProviderByIdResponse, error) {
	return answer[*adminv1.GetEmailProviderByIdResponse](ctx, f.messageFake.script, req)
}
