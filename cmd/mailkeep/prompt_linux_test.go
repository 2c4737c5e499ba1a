package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal. What is typed at one end is read at the other, and echoed as the
// command has set it.
type terminal struct {
	keys *os.File // the end of the person
	in   *os.File // the end of the command
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return &terminal{keys, in}
}

func (p *terminal) echoes(t *testing.T) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(p.in.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// waitQuiet waits until the terminal does not echo, or until running ends.
func (p *terminal) waitQuiet(running context.Context, t *testing.T) {
	t.Helper()
	for p.echoes(t) && running.Err() == nil {
		runtime.Gosched()
	}
}

func (p *terminal) typeLine(t *testing.T, line string) {
	t.Helper()
	if _, err := p.keys.WriteString(line + "\n"); err != nil {
		t.Error(err)
	}
}

// shown returns what the terminal has echoed; nothing can be typed after.
func (p *terminal) shown(t *testing.T) string {
	t.Helper()
	if err := p.in.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(p.keys) // ends with EIO, for there is nobody at the other side
	return string(text)
}

// runAt runs a command at the terminal, and meanwhile what the person does, who sees when it ends.
func (s *service) runAt(ctx context.Context, t *testing.T, p *terminal, person func(running context.Context), args ...string) result {
	t.Helper()
	running, ended := context.WithCancel(t.Context())
	defer ended()
	var wait sync.WaitGroup
	wait.Go(func() { person(running) })
	var out, errs bytes.Buffer
	status := run(ctx, append(args, "--data-dir", s.dir), streams{p.in, &out, &errs})
	ended()
	wait.Wait()
	return result{out.String(), errs.String(), status}
}

func TestPasswordAtATerminal(t *testing.T) {
	const password = " tÿped pass "
	s := startService(t, nil)
	s.mail.SetPassword("user", password)
	settings := []string{"--host", s.mail.Addr(), "--sender-address", "from@example.com", "--user", "user"}
	commands := []struct {
		args   []string
		prompt string
	}{
		{[]string{"provider", "set-password", s.add(t, "first")}, "password: \n"},
		{[]string{"provider", "rotate", s.add(t, "first")}, "new password: \n"},
		{[]string{"provider", "verify", s.add(t, "first"), "--password-stdin"}, "password: \n"},
		{append([]string{"provider", "verify"}, settings...), "password: \n"},
		{[]string{"provider", "update", s.add(t, "first"), "--password-stdin"}, "password: \n"},
		{append([]string{"provider", "add-smtp", "--sender-name", "From"}, settings...), "password: \n"},
	}
	for _, command := range commands {
		args := command.args
		p := openTerminal(t)
		got := s.runAt(t.Context(), t, p, func(running context.Context) { p.waitQuiet(running, t); p.typeLine(t, password) }, args...)
		if got.status != 0 || got.err != command.prompt {
			t.Errorf("%v: %+v", args, got)
		}
		if !p.echoes(t) {
			t.Errorf("%v left the terminal without echo", args)
		}
		if text := p.shown(t); strings.Contains(text, "pass") {
			t.Errorf("%v: the terminal shows %q", args, text)
		}
		if args[1] == "verify" {
			continue // it stores nothing
		}
		id := idPattern.FindString(strings.Join(args, " ") + " " + got.out)
		if got := s.run(t, "", "provider", "test", id, "--to", "you@example.com"); got.status != 0 {
			t.Errorf("%v: %s", args, got.err)
		}
	}
}

func TestNothingTyped(t *testing.T) {
	s := startService(t, nil)
	for _, keys := range []string{"", "\x04"} { // return, and end of file
		p := openTerminal(t)
		got := s.runAt(t.Context(), t, p, func(running context.Context) { p.waitQuiet(running, t); p.typeLine(t, keys) }, "provider", "set-password", "1")
		if got.status != 1 || got.err != "password: \nmailkeep: the password is empty; nothing was changed\n" {
			t.Errorf("%q: %+v", keys, got)
		}
	}
}

// A signal ends ctx but not the read.
func TestInterruptedPrompt(t *testing.T) {
	s := startService(t, nil)
	p := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := s.runAt(ctx, t, p, func(running context.Context) { p.waitQuiet(running, t); cancel() }, "provider", "set-password", "1")
	if got.status != 1 || got.err != "password: \nmailkeep: interrupted\n" {
		t.Errorf("%+v", got)
	}
	if !p.echoes(t) {
		t.Error("the terminal is left without echo")
	}
	p.typeLine(t, "") // ends the read
}

func TestRemoveAsks(t *testing.T) {
	s := startService(t, nil)
	id := s.add(t, "first")
	question := "Remove the inactive provider " + id + " (" + s.mail.Addr() + ") and its secrets for good? [y/N] "
	for _, test := range []struct {
		answer string
		status int
		err    string
	}{
		{"", 1, question + "mailkeep: nothing was removed\n"},
		{"n", 1, question + "mailkeep: nothing was removed\n"},
		{"yeah", 1, question + "mailkeep: nothing was removed\n"},
		{"Y", 0, question},
		{"y", 1, "mailkeep: email provider not found (QUERY-fwofw)\n"},
	} {
		p := openTerminal(t)
		got := s.runAt(t.Context(), t, p, func(context.Context) { p.typeLine(t, test.answer) }, "provider", "remove", id)
		if got.status != test.status || got.err != test.err {
			t.Errorf("%q: %+v", test.answer, got)
		}
	}
}
