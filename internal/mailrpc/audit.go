package mailrpc

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Recorded are the events of an instance; see emailprovider.Service.
type Recorded interface {
	AllEvents(ctx context.Context, instance string, after uint64, limit int) (page []emailprovider.Event, next uint64, err error)
}

// Verifier verifies events; see audit.Verifier.
type Verifier interface {
	Verify(ctx context.Context, instance string, from audit.Progress, limit int) (audit.Report, error)
}

// Audit implements AuditService.
type Audit struct {
	events     Recorded
	verifier   Verifier
	deprecated func(procedure string) bool
}

var _ mailkeepv1connect.AuditServiceHandler = Audit{}

// NewAudit returns the service; deprecated tells the procedures that are.
func NewAudit(events Recorded, verifier Verifier, deprecated func(procedure string) bool) Audit {
	return Audit{events, verifier, deprecated}
}

// ListEvents implements AuditService.
func (s Audit) ListEvents(ctx context.Context, req *mailkeepv1.ListEventsRequest) (*mailkeepv1.ListEventsResponse, error) {
	events, next, err := s.events.AllEvents(ctx, instance(ctx), req.GetAfterSequence(), decodePageSize(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListEventsResponse{NextAfterSequence: next}
	for _, e := range events {
		res.Events = append(res.Events, &mailkeepv1.AuditEvent{ProviderId: e.ProviderID, Event: encodeEvent(e, s.deprecated(e.By.Procedure))})
	}
	return res, nil
}

// mostVerified is how many events are verified in one call.
const mostVerified = 1000

// VerifyEvents implements AuditService.
func (s Audit) VerifyEvents(ctx context.Context, req *mailkeepv1.VerifyEventsRequest) (*mailkeepv1.VerifyEventsResponse, error) {
	limit := cmp.Or(decodePageSize(req.GetPageSize()), mostVerified)
	if limit > mostVerified {
		return nil, badValue("page_size is not from 1 to %d", mostVerified)
	}
	from := audit.Progress{After: req.GetAfterSequence(), Chained: req.GetChained()}
	report, err := s.verifier.Verify(ctx, instance(ctx), from, limit)
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.VerifyEventsResponse{
		Verified: uint64(report.Checked), BeforeChain: uint64(report.Before), LastSequence: report.Sequence,
		More: report.More, NextAfterSequence: report.Next.After, Chained: report.Next.Chained, Head: hex.EncodeToString(report.Head),
	}
	for _, f := range report.Findings {
		res.Findings = append(res.Findings, encodeFinding(f))
	}
	return res, nil
}

// findings are the words and the kind for each thing that can be wrong.
var findings = map[audit.Wrong]struct {
	kind mailkeepv1.AuditFindingKind
	text string
}{
	audit.Missing:   {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_MISSING, "missing: dropped, or moved away"},
	audit.Changed:   {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_CHANGED, "not what was recorded here: changed, moved here, or made up"},
	audit.Replaced:  {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_REPLACED, "one does not follow the other: in place of one of them something else was recorded"},
	audit.Unchained: {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_UNCHAINED, "not in the chain, as it should be"},
	audit.Extra:     {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_EXTRA, "after the last change of the instance"},
	audit.Cut:       {mailkeepv1.AuditFindingKind_AUDIT_FINDING_KIND_CUT, "not the end of the chain: newer events were dropped, or it was put back"},
}

func encodeFinding(f audit.Finding) *mailkeepv1.AuditFinding {
	says := findings[f.What]
	events := fmt.Sprintf("event %d", f.First)
	if f.Last != f.First {
		events = fmt.Sprintf("events %d to %d", f.First, f.Last)
	}
	return &mailkeepv1.AuditFinding{
		FirstSequence: f.First, LastSequence: f.Last, Kind: says.kind, Text: events + ": " + says.text,
	}
}
