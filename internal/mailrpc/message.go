package mailrpc

import (
	"context"
	"errors"

	"connectrpc.com/connect/v2"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Outbox takes mails and knows what became of them; see outbox.Service.
type Outbox interface {
	Send(ctx context.Context, instance string, d outbox.Draft) (id string, err error)
	Get(ctx context.Context, instance, id string) (outbox.Message, []outbox.Attempt, error)
	Content(ctx context.Context, instance, id string) (outbox.Content, error)
	List(ctx context.Context, instance string, f outbox.Filter) (page []outbox.Message, next string, err error)
	Retry(ctx context.Context, instance, id string) (outbox.Message, error)
	Cancel(ctx context.Context, instance, id string) (outbox.Message, error)
	// Watch returns the error of ctx when that ends.
	Watch(ctx context.Context, instance, id, tag string, begun func() error, send func(outbox.Message) error) error
}

// Messages implements MessageService.
type Messages struct {
	outbox   Outbox
	draining context.Context
}

var _ mailkeepv1connect.MessageServiceHandler = Messages{}

// NewMessages returns the service. Watches end when draining does, so that the server can end.
func NewMessages(o Outbox, draining context.Context) Messages {
	return Messages{o, draining}
}

// SendMessage implements MessageService.
func (s Messages) SendMessage(ctx context.Context, req *mailkeepv1.SendMessageRequest) (*mailkeepv1.SendMessageResponse, error) {
	draft, err := decodeDraft(rpc.CallFrom(ctx).Caller.Name, req)
	if err != nil {
		return nil, err
	}
	id, err := s.outbox.Send(ctx, instance(ctx), draft)
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.SendMessageResponse{Id: id}, nil
}

// GetMessage implements MessageService.
func (s Messages) GetMessage(ctx context.Context, req *mailkeepv1.GetMessageRequest) (*mailkeepv1.GetMessageResponse, error) {
	m, attempts, err := s.outbox.Get(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	out := encodeMessage(m)
	for _, a := range attempts {
		out.Attempts = append(out.Attempts, encodeAttempt(a))
	}
	return &mailkeepv1.GetMessageResponse{Message: out}, nil
}

// GetMessageContent implements MessageService.
func (s Messages) GetMessageContent(ctx context.Context, req *mailkeepv1.GetMessageContentRequest) (*mailkeepv1.GetMessageContentResponse, error) {
	content, err := s.outbox.Content(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.GetMessageContentResponse{Content: encodeContent(content)}, nil
}

// ListMessages implements MessageService.
func (s Messages) ListMessages(ctx context.Context, req *mailkeepv1.ListMessagesRequest) (*mailkeepv1.ListMessagesResponse, error) {
	filter, err := decodeFilter(req)
	if err != nil {
		return nil, err
	}
	page, next, err := s.outbox.List(ctx, instance(ctx), filter)
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListMessagesResponse{NextPageToken: next}
	for _, m := range page {
		res.Messages = append(res.Messages, encodeMessage(m))
	}
	return res, nil
}

// RetryMessage implements MessageService.
func (s Messages) RetryMessage(ctx context.Context, req *mailkeepv1.RetryMessageRequest) (*mailkeepv1.RetryMessageResponse, error) {
	m, err := s.outbox.Retry(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.RetryMessageResponse{Message: encodeMessage(m)}, nil
}

// CancelMessage implements MessageService.
func (s Messages) CancelMessage(ctx context.Context, req *mailkeepv1.CancelMessageRequest) (*mailkeepv1.CancelMessageResponse, error) {
	m, err := s.outbox.Cancel(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.CancelMessageResponse{Message: encodeMessage(m)}, nil
}

// errDraining ends watches. It is no failure, so that the log has no line for each.
var errDraining = connect.NewError(connect.CodeUnavailable, "the service is going down")

// WatchMessages implements MessageService.
func (s Messages) WatchMessages(ctx context.Context, req *mailkeepv1.WatchMessagesRequest, stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.draining, func() { cancel(errDraining) })
	defer stop()
	// The first change may be far away, and clients wait for headers.
	err := s.outbox.Watch(ctx, instance(ctx), req.GetId(), req.GetTag(), stream.SendHeaders, func(m outbox.Message) error {
		return stream.Send(&mailkeepv1.WatchMessagesResponse{Message: encodeMessage(m)})
	})
	if err != nil && errors.Is(context.Cause(ctx), errDraining) {
		return errDraining
	}
	return err
}
