package main

import (
	"encoding/json"
	"os"
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
	} {
		schema, err := compiler.Compile("doc.json#/components/schemas/" + c.schema)
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
	if operations != 29 || deprecated != 11 {
		t.Errorf("%d operations, %d of them deprecated; want 29 and 11", operations, deprecated)
	}
}
