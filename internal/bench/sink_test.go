package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// talk is one session with a sink. It says lines and wants the codes of their replies.
type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func talkTo(t *testing.T, address string) *talk {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &talk{t, conn, bufio.NewReader(conn)}
	c.want("220")
	return c
}

func (c *talk) want(codes ...string) {
	c.t.Helper()
	for _, code := range codes {
		line, err := c.in.ReadString('\n')
		for err == nil && len(line) > 3 && line[3] == '-' {
			line, err = c.in.ReadString('\n')
		}
		if err != nil || !strings.HasPrefix(line, code) {
			c.t.Fatalf("%q, %v, want %s", line, err, code)
		}
	}
}

func (c *talk) say(lines string, codes ...string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(lines)); err != nil {
		c.t.Fatal(err)
	}
	c.want(codes...)
}

const message = "Subject: x\r\n\r\n..\r\n.\r\n"

func TestSinkDemandsAuth(t *testing.T) {
	s := openSink(t, sinkOptions{auth: true})
	c := talkTo(t, s.address())
	c.say("EHLO bench\r\n", "250")
	c.say("MAIL FROM:<a@example.com>\r\n", "530")
	c.say("DATA\r\n", "530")
	c.say("AUTH PLAIN AGEAYg==\r\n", "535")
	c.say("MAIL FROM:<a@example.com>\r\n", "530")
	c.say(string(login), "235")
	c.say("MAIL FROM:<a@example.com>\r\n", "250")
	c.say("RCPT TO:<b@example.com>\r\n", "250")
	c.say("DATA\r\n", "354")
	c.say(message, "250")
	c.say("VRFY x\r\n", "502")
	c.say("QUIT\r\n", "221")
	wantTaken(t, s, 1)
}

func TestSinkTakesGroups(t *testing.T) {
	s := openSink(t, sinkOptions{pipelining: true})
	c := talkTo(t, s.address())
	c.say("EHLO bench\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", "250", "250", "250", "354")
	c.say(message+"RSET\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", "250", "250", "250", "250", "354")
	c.say("cut short\r\n")
	_ = c.conn.Close()
	wantTaken(t, s, 1)
}

// TestSinkAllocatesNothing is why allocations of the process are those of the sender.
func TestSinkAllocatesNothing(t *testing.T) {
	s := openSink(t, sinkOptions{})
	c := talkTo(t, s.address())
	mail := []byte("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" + message)
	replies := make([]byte, len(ok)+len(ok)+len(goAhead)+len(ok))
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := c.conn.Write(mail); err != nil {
			t.Error(err)
		}
		if _, err := c.in.Read(replies); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a mail", allocs)
	}
	_ = c.conn.Close()
}

func openSink(t *testing.T, o sinkOptions) server {
	t.Helper()
	s, err := o.open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantTaken(t *testing.T, s server, want int) {
	t.Helper()
	if n, err := s.close(); n != want || err != nil {
		t.Errorf("%d mails, %v, want %d", n, err, want)
	}
}

func TestBareLoop(t *testing.T) {
	s := openSink(t, sinkOptions{pipelining: true})
	if _, err := bareLoop(t.Context(), s.address(), 4*sessions+3); err != nil {
		t.Error(err)
	}
	wantTaken(t, s, 4*sessions+3)
	s = openSink(t, sinkOptions{auth: true})
	if _, err := bareLoop(t.Context(), s.address(), 1); err == nil || !strings.Contains(err.Error(), "530") {
		t.Errorf("%v, want what the server said", err)
	}
	wantTaken(t, s, 0)
}

// TestPostfix is for where smtp-source is installed or setup.sh has run.
func TestPostfix(t *testing.T) {
	p := findPostfix(t.Context())
	if p == nil {
		t.Skip("there is no smtp-source")
	}
	s, err := p.openSink()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.source(t.Context(), s.address(), 4*sessions+3); err != nil {
		t.Error(err)
	}
	wantTaken(t, s, 4*sessions+3)
	if _, err := p.source(t.Context(), s.address(), 1); err == nil {
		t.Error("smtp-source reached a server that has ended")
	}
	if (&postfix{folder: t.TempDir()}).works(t.Context()) {
		t.Error("programs that are not there work")
	}
	if (&postfix{folder: p.folder, env: []string{"LD_LIBRARY_PATH=/nowhere"}}).works(t.Context()) != (p.env == nil) {
		t.Error("programs without their libraries work")
	}
}

func TestLastCount(t *testing.T) {
	for counted, want := range map[string]int{
		"": 0, "sess=1 quit=0 mesg=12\rsess=1 quit=1 mesg=12\r": 12, "sess=1 quit=0 mesg=9\rsess=1 quit=0 mesg=10": 10,
	} {
		if n, err := lastCount([]byte(counted)); n != want || err != nil {
			t.Errorf("%q: %d, %v, want %d", counted, n, err, want)
		}
	}
	if _, err := lastCount([]byte("mesg=x")); err == nil {
		t.Error("a count that is no number")
	}
}

// TestTaken has senders that say they have handed over more or less than they did.
func TestTaken(t *testing.T) {
	for claimed, want := range map[int]string{6: "", 5: "the server has taken 6", 7: "the server has taken 6"} {
		_, err := taken(sinkOptions{}.open, func(ctx context.Context, address string) (sample, int, error) {
			_, err := bareLoop(ctx, address, 6)
			return sample{}, claimed, err
		})(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", claimed, err, want)
		}
	}
}

// TestTransportFails has a server that refuses what is measured.
func TestTransportFails(t *testing.T) {
	b := &bed{length: time.Millisecond}
	for _, c := range []*cell{
		b.carries("", sinkOptions{auth: true}.open, routeTo(false, false)),
		b.dials("", sinkOptions{auth: true}.open, routeTo(false, false)),
	} {
		measure, err := c.open()
		if err != nil {
			t.Fatal(err)
		}
		var refused *emailprovider.DeliveryError
		if _, err := measure(t.Context()); !errors.As(err, &refused) || refused.Code != 530 {
			t.Errorf("%v, want what the server said", err)
		}
	}
}

func TestBeyond(t *testing.T) {
	for _, c := range [][3]time.Duration{{1, 5, 4}, {5, 5, 5}, {9, 5, 5}} {
		if got := beyond(c[0], c[1]); got != c[2] {
			t.Errorf("%d beyond %d is %d, want %d", c[1], c[0], got, c[2])
		}
	}
}
