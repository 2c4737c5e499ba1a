package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
)

func TestVerify(t *testing.T) {
	good := &mailkeepv1.VerificationReport{Passed: true, Steps: allSteps[:1]}
	const goodOut = "ok      tcp            0 ms\n"
	expired := &mailkeepv1.VerificationStep{Step: "tls", Text: "certificate has expired", Tls: &mailkeepv1.TLSDetails{
		Chain: []*mailkeepv1.CertificateDetails{{Subject: "CN=mail", Issuer: "CN=ca", ExpirationDate: at(0)}}}}
	stored := func() *adminv1.GetEmailProviderByIdResponse {
		return &adminv1.GetEmailProviderByIdResponse{Config: &settingsv1.EmailProvider{Config: &settingsv1.EmailProvider_Smtp{
			Smtp: &settingsv1.EmailProviderSMTP{Host: "h:25", User: "u", SenderAddress: "s@example.com"}}}}
	}
	ask := &adminv1.GetEmailProviderByIdRequest{Id: "p"}
	for _, x := range []exchange{
		{name: "stored", args: "provider verify p", answers: []any{&mailkeepv1.VerifyProviderResponse{Report: good}}, out: goodOut,
			requests: []proto.Message{&mailkeepv1.VerifyProviderRequest{Id: "p"}}},
		{name: "a wrong password", args: "provider verify p --recipient r@example.com", status: 1, out: allLines,
			answers:  []any{&mailkeepv1.VerifyProviderResponse{Report: &mailkeepv1.VerificationReport{Steps: allSteps}}},
			requests: []proto.Message{&mailkeepv1.VerifyProviderRequest{Id: "p", Recipient: "r@example.com"}},
			err:      "mailkeep: the verification failed at step auth: 535 5.7.8 authentication failed, with PLAIN\n"},
		{name: "a bad certificate", args: "provider verify p", status: 1,
			answers:  []any{&mailkeepv1.VerifyProviderResponse{Report: &mailkeepv1.VerificationReport{Steps: []*mailkeepv1.VerificationStep{expired}}}},
			requests: []proto.Message{&mailkeepv1.VerifyProviderRequest{Id: "p"}},
			out:      "FAILED  tls            0 ms  certificate has expired, the certificate is for CN=mail, by CN=ca, until 2027-03-01\n",
			err:      "mailkeep: the verification failed at step tls: certificate has expired, the certificate is for CN=mail, by CN=ca, until 2027-03-01\n"},
		{name: "JSON", args: "provider verify p --json", status: 1, answers: []any{&mailkeepv1.VerifyProviderResponse{Report: &mailkeepv1.VerificationReport{}}},
			requests: []proto.Message{&mailkeepv1.VerifyProviderRequest{Id: "p"}},
			out:      "{\n  \"report\": {}\n}\n", err: "mailkeep: the verification failed\n"},
		{name: "another password", args: "provider verify p --password-stdin", stdin: "other\n", out: goodOut,
			answers: []any{stored(), &mailkeepv1.VerifyProviderResponse{Report: good}},
			requests: []proto.Message{ask, &mailkeepv1.VerifyProviderRequest{Id: "p", Smtp: &mailkeepv1.SMTPSettings{
				Host: "h:25", User: "u", SenderAddress: "s@example.com", Password: "other"}}}},
		{name: "other settings with the stored password", args: "provider verify p --host i:26 --tls --user v --sender-address t@example.com",
			answers: []any{stored(), &mailkeepv1.VerifyProviderResponse{Report: good}}, out: goodOut,
			requests: []proto.Message{ask, &mailkeepv1.VerifyProviderRequest{Id: "p", Smtp: &mailkeepv1.SMTPSettings{
				Host: "i:26", Tls: true, User: "v", SenderAddress: "t@example.com"}}}},
		{name: "an HTTP provider", args: "provider verify p --no-tls", status: 1, err: "mailkeep: p is an HTTP provider, which can't be verified\n",
			answers: []any{&adminv1.GetEmailProviderByIdResponse{Config: &settingsv1.EmailProvider{
				Config: &settingsv1.EmailProvider_Http{Http: &settingsv1.EmailProviderHTTP{}}}}}, requests: []proto.Message{ask}},
		{name: "not stored", args: "provider verify --host h:25 --user u --password-stdin --recipient r@example.com", stdin: "pw\n", out: goodOut,
			answers: []any{&mailkeepv1.VerifySettingsResponse{Report: good}},
			requests: []proto.Message{&mailkeepv1.VerifySettingsRequest{Recipient: "r@example.com",
				Smtp: &mailkeepv1.SMTPSettings{Host: "h:25", Tls: true, User: "u", Password: "pw"}}}},
		{name: "not stored, a relay", args: "provider verify --host h:25 --no-tls", answers: []any{&mailkeepv1.VerifySettingsResponse{Report: good}},
			out: goodOut, requests: []proto.Message{&mailkeepv1.VerifySettingsRequest{Smtp: &mailkeepv1.SMTPSettings{Host: "h:25"}}}},
	} {
		t.Run(x.name, x.check)
	}
}

func TestStatus(t *testing.T) {
	request := []proto.Message{&mailkeepv1.GetProviderStatusRequest{Id: "p"}}
	for _, x := range []exchange{
		{name: "all of it", args: "provider status p", requests: request, answers: []any{&mailkeepv1.GetProviderStatusResponse{Status: &mailkeepv1.ProviderStatus{
			Id: "p", Active: true, CredentialVersion: 3, CredentialSetDate: at(0), CredentialSetBy: "admin\x1b",
			Current: &mailkeepv1.CredentialUse{Version: 3, FirstUsed: at(1), LastSuccess: at(2), LastFailure: at(3), LastFailureStep: "auth",
				LastFailureCode: 535, LastFailureText: "n\no", Mails: 7, Failures: 1},
			Former:  []*mailkeepv1.CredentialUse{{Version: 2, LastFailure: at(0), LastFailureStep: "dial"}},
			Breaker: mailkeepv1.BreakerState_BREAKER_STATE_OPEN, NextProbeDate: at(4),
			CertificateExpirationDate: timestamppb.New(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)), RollbackUntilDate: at(5), RollbackVersion: 2,
		}}}, out: `id: p
state: active
credential-version: 3
set: 2027-03-01T14:30:00+02:30
set-by: admin\x1b
first-used: 2027-03-01T14:31:00+02:30
last-success: 2027-03-01T14:32:00+02:30
last-failure: 2027-03-01T14:33:00+02:30 at auth: 535 n\no
breaker: open, next probe 2027-03-01T14:34:00+02:30
certificate: expired 2020-01-01T02:30:00+02:30
rollback: to version 2 until 2027-03-01T14:35:00+02:30

CREDENTIAL  MAILS  FAILURES  FIRST USED                 LAST SUCCESS               LAST FAILURE
3           7      1         2027-03-01T14:31:00+02:30  2027-03-01T14:32:00+02:30  2027-03-01T14:33:00+02:30 at auth: 535 n\no
2           0      0         -                          -                          2027-03-01T14:30:00+02:30 at dial
`},
		{name: "not used yet", args: "provider status p", requests: request, answers: []any{&mailkeepv1.GetProviderStatusResponse{
			Status: &mailkeepv1.ProviderStatus{Id: "p", CredentialVersion: 1, Current: &mailkeepv1.CredentialUse{Version: 1}}}},
			out: `id: p
state: inactive
credential-version: 1
first-used: not yet
breaker: closed

CREDENTIAL  MAILS  FAILURES  FIRST USED  LAST SUCCESS  LAST FAILURE
1           0      0         -           -             -
`},
		{name: "JSON", args: "provider status p --json", requests: request, out: "{\n  \"status\": {\n    \"id\": \"p\"\n  }\n}\n",
			answers: []any{&mailkeepv1.GetProviderStatusResponse{Status: &mailkeepv1.ProviderStatus{Id: "p"}}}},
	} {
		t.Run(x.name, x.check)
	}
}

func TestValidity(t *testing.T) {
	now := at(0).AsTime()
	for left, want := range map[time.Duration]string{
		47 * time.Hour: "valid until 2027-03-03T13:30:00+02:30, 1 day left",
		time.Minute:    "valid until 2027-03-01T14:31:00+02:30, 0 days left",
		-time.Minute:   "expired 2027-03-01T14:29:00+02:30",
	} {
		if got := validity(timestamppb.New(now.Add(left)), now); got != want {
			t.Errorf("%v: %s", left, got)
		}
	}
}

func TestEvents(t *testing.T) {
	first := &mailkeepv1.ListProviderEventsResponse{NextAfterSequence: 8, Events: []*mailkeepv1.ProviderEvent{
		{Sequence: 8, Date: at(0), Type: "provider.password_changed", Caller: "admin\x1b", Protocol: "grpc", Deprecated: true, CredentialVersion: 2},
	}}
	second := &mailkeepv1.ListProviderEventsResponse{Events: []*mailkeepv1.ProviderEvent{
		{Sequence: 9, Date: at(1), Type: "provider.changed", Caller: "admin", Protocol: "rest", Fields: []string{"host", "tls"}, KeptCredential: true},
	}}
	requests := []proto.Message{
		&mailkeepv1.ListProviderEventsRequest{Id: "p", AfterSequence: 7, PageSize: 1000},
		&mailkeepv1.ListProviderEventsRequest{Id: "p", AfterSequence: 8, PageSize: 1000},
	}
	exchange{args: "provider events p --after 7", answers: []any{first, second}, requests: requests,
		out: `SEQUENCE  WHEN                       WHAT                       WHO        PROTOCOL  DEPRECATED  CREDENTIAL  FIELDS
8         2027-03-01T14:30:00+02:30  provider.password_changed  admin\x1b  grpc      yes         2           -
9         2027-03-01T14:31:00+02:30  provider.changed           admin      rest      -           -           host,tls (with the stored secret)
`}.check(t)
	exchange{args: "provider events p --json", answers: []any{&mailkeepv1.ListProviderEventsResponse{}},
		requests: []proto.Message{&mailkeepv1.ListProviderEventsRequest{Id: "p", PageSize: 1000}}, out: "{}\n"}.check(t)
}
