// Package openapi holds the OpenAPI document of the REST routes, generated from the descriptors.
package openapi

import _ "embed"

// YAML is the document.
//
//go:embed openapi.yaml
var YAML []byte
