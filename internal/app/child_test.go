package app_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// child is a service in a process of its own.
type child struct {
	t      *testing.T
	client *http.Client
	url    string
	token  string // of the admin
	cmd    *exec.Cmd
	input  io.Closer // which the service ends at
	output io.Reader
}

// startChild starts a service on a data folder, with a flaw if one is named. Without a token it makes one.
func startChild(t *testing.T, client *http.Client, dir, flaw, token string) *child {
	t.Helper()
	c := launchChild(t, client, dir, flaw, token, os.Stderr)
	line, err := bufio.NewReader(c.output).ReadString('\n')
	if err != nil {
		t.Fatalf("the service does not start: %v, %v", err, c.cmd.Wait())
	}
	c.url = strings.TrimSpace(line)
	return c
}

// launchChild does not wait for the service to answer.
func launchChild(t *testing.T, client *http.Client, dir, flaw, token string, stderr io.Writer) *child {
	t.Helper()
	c := &child{t: t, client: client, token: token, cmd: exec.CommandContext(t.Context(), os.Args[0])}
	c.cmd.Env = append(os.Environ(), childVariable+"="+dir, flawVariable+"="+flaw, tokenVariable+"="+token)
	c.cmd.Stderr = stderr
	var err error
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.output, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after a test that has failed half-way
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// newClient returns a client for many callers.
func newClient(t *testing.T) *http.Client {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// call makes a call over REST and returns the answer.
func (c *child) call(verb, path, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(c.t.Context(), verb, c.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	res, err := c.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// kill ends the service as kill -9 does.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait()
}

// stop has the service end by itself.
func (c *child) stop() {
	c.t.Helper()
	c.client.CloseIdleConnections() // a server waits for one that was never used
	if err := errors.Join(c.input.Close(), c.cmd.Wait()); err != nil {
		c.t.Errorf("the service ended with %v", err)
	}
}
