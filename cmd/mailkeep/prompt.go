package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// maxSecret bounds what is read as a secret, in bytes. The API takes fewer and says so itself.
const maxSecret = 64 << 10

// readSecret returns a secret that is never empty: typed without echo at a terminal, else all of in
// without one newline at its end.
func (s streams) readSecret(ctx context.Context, name string) (secret.Text, error) {
	var text []byte
	var err error
	if fd, ok := s.terminal(); ok {
		text, err = s.ask(ctx, fd, name)
	} else {
		text, err = interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(s.in, maxSecret+1)) })
		text = cutNewline(text)
	}
	switch {
	case err != nil:
		return secret.Text{}, fmt.Errorf("reading the %s: %w", name, err)
	case len(text) == 0:
		return secret.Text{}, fmt.Errorf("the %s is empty; nothing was changed", name)
	case len(text) > maxSecret:
		return secret.Text{}, fmt.Errorf("the %s is too long; nothing was changed", name)
	case !utf8.Valid(text):
		return secret.Text{}, fmt.Errorf("the %s is not UTF-8; nothing was changed", name)
	}
	return secret.New(string(text)), nil
}

func cutNewline(text []byte) []byte {
	if line, ok := bytes.CutSuffix(text, []byte("\n")); ok {
		return bytes.TrimSuffix(line, []byte("\r"))
	}
	return text
}

// ask reads a line from the terminal without echo, which is on again however it ends.
func (s streams) ask(ctx context.Context, fd int, name string) ([]byte, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "%s: ", name)
	line, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(s.err)
	if errors.Is(err, io.EOF) {
		err = nil // an empty line
	}
	return line, errors.Join(err, term.Restore(fd, state))
}

// confirm asks a question at the terminal; anything but y and yes is no.
func (s streams) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	line, err := interruptible(ctx, func() (string, error) { return bufio.NewReader(s.in).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

// interruptible returns what read returns, or earlier ctx's error: a signal does not end a read.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
