package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

const (
	userAgent = "mailkeep-bench"
	password  = "correct horse battery staple"
)

// newRequest is a request as an ordinary client sends it: a token, a user agent, a body in JSON.
type newRequest func(url, provider string) (*http.Request, error)

func getConnect(url, provider string) (*http.Request, error) {
	return request(http.MethodPost, url+"/zitadel.admin.v1.AdminService/GetEmailProviderById", `{"id":"`+provider+`"}`)
}

func getREST(url, provider string) (*http.Request, error) {
	return request(http.MethodGet, url+"/admin/v1/email/"+provider, "")
}

func setPasswordConnect(url, provider string) (*http.Request, error) {
	return setPassword(url, provider, password)
}

func setPassword(url, provider, password string) (*http.Request, error) {
	return request(http.MethodPost, url+"/zitadel.admin.v1.AdminService/UpdateEmailProviderSMTPPassword",
		`{"id":"`+provider+`","password":"`+password+`"}`)
}

func setPasswordGRPC(provider string) proto.Message {
	return &adminv1.UpdateEmailProviderSMTPPasswordRequest{Id: provider, Password: password}
}

func request(method, url, body string) (*http.Request, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("User-Agent", userAgent)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// check makes the call once and wants 200 and an answer with the text in it.
func check(r *http.Request, text string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // nothing is left to read
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || !strings.Contains(string(body), text) {
		return fmt.Errorf("%s %s answered %s %s", r.Method, r.URL.Path, res.Status, body)
	}
	return nil
}
