package main

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func TestListMessages(t *testing.T) {
	const head = "ID  STATE  TAKEN  RECIPIENTS  TAG  ATTEMPTS  PROVIDER  CREDENTIAL  REASON\n"
	const empty = "  unspecified  -  -  -  -  -  -  -\n"
	page := func(next string, ids ...string) *mailkeepv1.ListMessagesResponse {
		p := &mailkeepv1.ListMessagesResponse{NextPageToken: next}
		for _, id := range ids {
			p.Messages = append(p.Messages, &mailkeepv1.Message{Id: id})
		}
		return p
	}
	one := page("", "m1")
	one.Messages[0] = &mailkeepv1.Message{
		Id: "m1", State: failed, CreationDate: at(0), Tag: "t", AttemptCount: 1, ProviderId: "p", CredentialVersion: 2, Reason: "no\n",
		Recipients: []*mailkeepv1.Recipient{{Address: "a@example.com"}, {Address: "b@example.com"}, {Address: "c@example.com"}},
	}
	many := make([]string, maxPage)
	for i := range many {
		many[i] = fmt.Sprint("m", i)
	}
	for _, x := range []exchange{
		{name: "filters", loose: true,
			args: "message list --state failed --state expired --tag t --recipient a@example.com --provider p " +
				"--since 2027-03-01T12:00:00Z --before 2027-03-01T12:01:00Z",
			answers: []any{one},
			requests: []proto.Message{&mailkeepv1.ListMessagesRequest{
				States: []mailkeepv1.MessageState{failed, expired}, Tag: "t", Recipient: "a@example.com", ProviderId: "p",
				CreatedFrom: at(0), CreatedBefore: at(1), PageSize: 100,
			}},
			out: head + "m1  failed  " + noon + "  a@example.com and 2 more  t  1  p  2  no\\n\n"},
		{name: "page after page, up to the limit", loose: true, args: "message list --limit 1002", answers: []any{page("2", many...), page("3", "x", "y")},
			requests: []proto.Message{&mailkeepv1.ListMessagesRequest{PageSize: 1000}, &mailkeepv1.ListMessagesRequest{PageSize: 2, PageToken: "2"}},
			err:      "There are more; --limit shows more of them, and --before the older ones.\n",
			out:      head + strings.Join(append(many, "x", "y", ""), empty)},
		{name: "pages that are shorter than asked for", args: "message list --json", answers: []any{page("2", "a"), page("", "b")},
			requests: []proto.Message{&mailkeepv1.ListMessagesRequest{PageSize: 100}, &mailkeepv1.ListMessagesRequest{PageSize: 99, PageToken: "2"}},
			out:      "{\n  \"messages\": [\n    {\n      \"id\": \"a\"\n    },\n    {\n      \"id\": \"b\"\n    }\n  ]\n}\n"},
	} {
		t.Run(x.name, x.check)
	}
}
