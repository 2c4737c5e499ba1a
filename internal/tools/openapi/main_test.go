package main

import (
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const document = "../../../gen/openapi/openapi.yaml"

// load returns the committed document as what JSON would be.
func load(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		t.Fatal(err)
	}
	return plain.(map[string]any)
}

// TestSchemas holds messages that the service takes and gives to their schemas, and what it refuses.
func TestSchemas(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("doc.json", load(t)); err != nil {
		t.Fatal(err)
	}
	const add, read = "zitadel.admin.v1.AddEmailProviderSMTPRequest", "zitadel.settings.v1.EmailProvider"
	const send, list, status = "mailkeep.v1.SendMessageRequest", "mailkeep.v1.ListMessagesRequest", "mailkeep.v1.GetProviderStatusResponse"
	const failure = "../responses/Error/content/application~1json/schema"
	for _, c := range []struct {
		schema, message string
		valid           bool
	}{
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","plain":{"password":"x"}}`, true},
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","user":"u","password":"x"}`, true},
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","none":{}}`, true},
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","xoauth2":{"tokenEndpoint":"https://t","clientCredentials":{"clientId":"c","clientSecret":"s"}}}`, true},
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","someday":1}`, true},
		{add, `{"senderAddress":"a@b.co","senderName":"n","host":"h:25","none":{},"plain":{}}`, false},
		{add, `{"senderAddress":1}`, false},
		{add, `{"senderName":"` + strings.Repeat("n", 201) + `"}`, false},
		{read, `{"details":{"sequence":"1"},"id":"1","state":"EMAIL_PROVIDER_ACTIVE","smtp":{"senderAddress":"a@b.co","host":"h:25","plain":{}}}`, true},
		{read, `{"id":"1","state":"EMAIL_PROVIDER_INACTIVE","http":{"endpoint":"https://e"}}`, true},
		{read, `{"id":1}`, false},
		{send, `{"to":["a@b.co"],"text":"t","expiresIn":"90.5s","attachments":[{"name":"f","data":"eA=="}]}`, true},
		{send, `{"to":["a@b.co"],"expiresIn":"PT90S"}`, false},
		{send, `{"to":"a@b.co"}`, false},
		{list, `{"states":["MESSAGE_STATE_FAILED"],"createdFrom":"2031-02-03T04:05:06Z","pageSize":10}`, true},
		{list, `{"states":["FAILED"]}`, false},
		{status, `{"status":{"id":"1","credentialVersion":"2","breaker":"BREAKER_STATE_OPEN","current":{"version":"2","mails":"3"}}}`, true},
		{failure, `{"code":9,"message":"m","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"i","message":"m"},` +
			`{"@type":"type.googleapis.com/mailkeep.v1.VerificationReport","steps":[{"step":"auth","code":535,"duration":"0.001s"}]}]}`, true},
		{failure, `{"code":9,"message":"m","details":[{"@type":"type.googleapis.com/other","id":"i"}]}`, false},
	} {
		schema, err := compiler.Compile("doc.json#" + path.Join("/components/schemas", c.schema))
		if err != nil {
			t.Fatal(err)
		}
		message, err := jsonschema.UnmarshalJSON(strings.NewReader(c.message))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(message); (err == nil) != c.valid {
			t.Errorf("%s: %.100s is valid: %t, want %t (%v)", c.schema, c.message, err == nil, c.valid, err)
		}
	}
}

// TestOperations wants an error answer on each, and the deprecated ones marked.
func TestOperations(t *testing.T) {
	operations, deprecated := 0, 0
	for path, verbs := range load(t)["paths"].(map[string]any) {
		for verb, operation := range verbs.(map[string]any) {
			o := operation.(map[string]any)
			operations++
			if o["deprecated"] == true {
				deprecated++
			}
			if answers := o["responses"].(map[string]any); answers["200"] == nil || answers["default"] == nil {
				t.Errorf("%s %s answers %v", verb, path, answers)
			}
		}
	}
	if operations != 49 || deprecated != 11 {
		t.Errorf("%d operations, %d of them deprecated; want 49 and 11", operations, deprecated)
	}
}

// TestStreams wants nothing of methods that REST does not have.
func TestStreams(t *testing.T) {
	doc := load(t)
	for name := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
		if strings.HasPrefix(name, "mailkeep.v1.Watch") {
			t.Errorf("there is the schema %s", name)
		}
	}
	for path := range doc["paths"].(map[string]any) {
		if strings.Contains(path, "Watch") || strings.HasPrefix(path, "/mailkeep.") {
			t.Errorf("there is the path %s", path)
		}
	}
}
