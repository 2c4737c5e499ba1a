package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// Every mail is the same, whoever sends it: 2 KiB to one recipient.
const (
	sender    = "noreply@example.com"
	recipient = "somebody@example.org"
	subject   = "Your order has been sent"
	mailSize  = 2 << 10 // of the text
)

var text = strings.Repeat(strings.Repeat("x", 62)+"\r\n", mailSize/64)

// mails are as many mails for a transport.
func mails(n int) []emailprovider.Mail {
	all := make([]emailprovider.Mail, n)
	for i := range all {
		all[i] = emailprovider.Mail{
			MessageID: strconv.Itoa(i) + "@example.com", Date: time.Now(), To: []string{recipient},
			Recipients: []string{recipient}, Subject: subject, Text: text,
		}
	}
	return all
}

// draft is the mail for the outbox.
func draft() outbox.Draft {
	return outbox.Draft{To: []string{recipient}, Subject: subject, Text: text}
}

// sendMessageConnect is the mail for the service.
func sendMessageConnect(url, _ string) (*http.Request, error) {
	body, err := json.Marshal(map[string]any{"to": []string{recipient}, "subject": subject, "text": text})
	if err != nil {
		return nil, err
	}
	return request(http.MethodPost, url+mailkeepv1connect.MessageServiceSendMessageProcedure, string(body))
}

func sendMessageGRPC(string) proto.Message {
	return &mailkeepv1.SendMessageRequest{To: []string{recipient}, Subject: subject, Text: text}
}
