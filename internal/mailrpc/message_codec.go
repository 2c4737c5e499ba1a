package mailrpc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

var messageStates = map[outbox.State]mailkeepv1.MessageState{
	outbox.Queued:    mailkeepv1.MessageState_MESSAGE_STATE_QUEUED,
	outbox.Sending:   mailkeepv1.MessageState_MESSAGE_STATE_SENDING,
	outbox.Delivered: mailkeepv1.MessageState_MESSAGE_STATE_DELIVERED,
	outbox.Failed:    mailkeepv1.MessageState_MESSAGE_STATE_FAILED,
	outbox.Cancelled: mailkeepv1.MessageState_MESSAGE_STATE_CANCELLED,
	outbox.Expired:   mailkeepv1.MessageState_MESSAGE_STATE_EXPIRED,
}

var recipientKinds = map[outbox.RecipientKind]mailkeepv1.RecipientKind{
	outbox.To:  mailkeepv1.RecipientKind_RECIPIENT_KIND_TO,
	outbox.Cc:  mailkeepv1.RecipientKind_RECIPIENT_KIND_CC,
	outbox.Bcc: mailkeepv1.RecipientKind_RECIPIENT_KIND_BCC,
}

var recipientStates = map[outbox.RecipientState]mailkeepv1.RecipientState{
	outbox.Pending:  mailkeepv1.RecipientState_RECIPIENT_STATE_PENDING,
	outbox.Accepted: mailkeepv1.RecipientState_RECIPIENT_STATE_ACCEPTED,
	outbox.Refused:  mailkeepv1.RecipientState_RECIPIENT_STATE_REFUSED,
}

func decodeDraft(caller string, req *mailkeepv1.SendMessageRequest) (outbox.Draft, error) {
	d := outbox.Draft{
		Caller: caller,
		To:     req.GetTo(), Cc: req.GetCc(), Bcc: req.GetBcc(), ReplyTo: req.GetReplyTo(),
		Subject: req.GetSubject(), Text: req.GetText(), HTML: req.GetHtml(),
		IdempotencyKey: req.GetIdempotencyKey(), Tag: req.GetTag(),
	}
	for _, h := range req.GetHeaders() {
		d.Headers = append(d.Headers, emailprovider.Header{Name: h.GetName(), Value: h.GetValue()})
	}
	for _, a := range req.GetAttachments() {
		d.Attachments = append(d.Attachments, emailprovider.Attachment{
			Name: a.GetName(), ContentType: a.GetContentType(), Data: a.GetData(),
		})
	}
	if e := req.GetExpiresIn(); e != nil {
		d.ExpiresIn = e.AsDuration() // the nearest that fits
		if e.CheckValid() != nil || d.ExpiresIn == 0 {
			return d, badValue("expires_in is no positive duration; leave it out for the default")
		}
	}
	return d, nil
}

func decodeFilter(req *mailkeepv1.ListMessagesRequest) (f outbox.Filter, err error) {
	f = outbox.Filter{
		Tag: req.GetTag(), Recipient: req.GetRecipient(), ProviderID: req.GetProviderId(), After: req.GetPageToken(),
	}
	for _, state := range req.GetStates() {
		s, ok := decodeMessageState(state)
		if !ok {
			return f, badValue("states contains one that does not exist")
		}
		f.States = append(f.States, s)
	}
	if f.From, err = decodeTime("created_from", req.GetCreatedFrom()); err != nil {
		return f, err
	}
	if f.Before, err = decodeTime("created_before", req.GetCreatedBefore()); err != nil {
		return f, err
	}
	f.Limit = decodePageSize(req.GetPageSize())
	return f, err
}

func decodeMessageState(state mailkeepv1.MessageState) (outbox.State, bool) {
	for s, encoded := range messageStates {
		if encoded == state {
			return s, true
		}
	}
	return "", false
}

// decodeTime returns the zero time for none.
func decodeTime(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if t.CheckValid() != nil {
		return time.Time{}, badValue("%s is no time between the years 1 and 9999", field)
	}
	return t.AsTime(), nil
}

// encodeMessage leaves out the attempts.
func encodeMessage(m outbox.Message) *mailkeepv1.Message {
	out := &mailkeepv1.Message{
		Id: m.ID, State: messageStates[m.State], Reason: m.Reason, Tag: m.Tag, IdempotencyKey: m.IdempotencyKey,
		CreationDate: encodeTime(m.Created), ChangeDate: encodeTime(m.Changed), ExpirationDate: encodeTime(m.Expires),
		ProviderId: m.ProviderID, CredentialVersion: m.CredentialVersion, AttemptCount: encodeCount(m.Attempts),
	}
	if m.State == outbox.Queued {
		out.NextAttemptDate = encodeTime(m.Due)
	}
	for _, r := range m.Recipients {
		out.Recipients = append(out.Recipients, &mailkeepv1.Recipient{
			Address: r.Address, Kind: recipientKinds[r.Kind], State: recipientStates[r.State],
			Code: encodeCount(r.Code), Text: r.Text,
		})
	}
	return out
}

func encodeAttempt(a outbox.Attempt) *mailkeepv1.Attempt {
	out := &mailkeepv1.Attempt{
		Number: encodeCount(a.Number), ProviderId: a.ProviderID, CredentialVersion: a.CredentialVersion,
		StartDate: encodeTime(a.Started), Accepted: a.Accepted, Step: string(a.Step), Code: encodeCount(a.Code), Text: a.Text,
	}
	for _, s := range a.Steps {
		out.Steps = append(out.Steps, &mailkeepv1.StepTime{Step: string(s.Step), Duration: durationpb.New(s.Took)})
	}
	return out
}

func encodeContent(c outbox.Content) *mailkeepv1.MessageContent {
	out := &mailkeepv1.MessageContent{
		ReplyTo: c.ReplyTo, Subject: c.Subject, Text: c.Text, Html: c.HTML, MessageId: c.MessageID,
	}
	for _, h := range c.Headers {
		out.Headers = append(out.Headers, &mailkeepv1.Header{Name: h.Name, Value: h.Value})
	}
	for _, a := range c.Attachments {
		out.Attachments = append(out.Attachments, &mailkeepv1.Attachment{Name: a.Name, ContentType: a.ContentType, Data: a.Data})
	}
	return out
}
