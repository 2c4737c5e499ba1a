package delivery_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// pipelined is a friendly server that takes commands in groups, but for one stage.
func pipelined(stage string, a smtptest.Answer) smtptest.Script {
	script := answers(stage, a)
	script.Pipelining = true
	return script
}

// TestOverlap: the commands for the next mail are written before the reply to the last message, and
// what becomes of one mail is not taken for the fate of the other.
func TestOverlap(t *testing.T) {
	for dot, want := range map[string]string{
		"250 ok":        "ok, recipient 550, ok",
		"452 full":      "data 452 temporary, recipient 550, ok",
		"554 rejected":  "data 554, recipient 550, ok",
		"299 as it was": "ok, recipient 550, ok",
	} {
		var groups []string
		l := groupServer(t, func(group string) string {
			groups = append(groups, group)
			var replies strings.Builder
			message, commands, hasMessage := strings.Cut(group, "\r\n.\r\n")
			if !hasMessage {
				message, commands = "", group
			}
			switch {
			case strings.Contains(message, "<mail0@"):
				replies.WriteString(dot + "\r\n")
			case message != "":
				replies.WriteString("250 ok\r\n")
			}
			for line := range strings.Lines(commands) {
				switch {
				case strings.Contains(line, "rcpt1"):
					replies.WriteString("550 no\r\n")
				case line == "DATA\r\n" && strings.Contains(commands, "rcpt1"):
					replies.WriteString("554 nobody\r\n")
				case line == "DATA\r\n":
					replies.WriteString("354 go\r\n")
				default:
					replies.WriteString("250 ok\r\n")
				}
			}
			return replies.String()
		})
		transport := newTransport(t, delivery.Options{CarryStepTimeout: 5 * time.Second, FinalDotTimeout: 5 * time.Second})
		if got := fates(carry(t.Context(), t, transport, stored(plainRoute(l), 1, 1), letters(3))); got != want {
			t.Errorf("%s: %s, want %s", dot, got, want)
		}
		if len(groups) != 4 || !strings.HasSuffix(groups[1], ".\r\nRSET\r\nMAIL FROM:<sender@example.com>\r\nRCPT TO:<rcpt1@example.org>\r\nDATA\r\n") {
			t.Errorf("%s: groups %q", dot, groups)
		}
	}
}

// groupServer replies to whole groups only: to one that ends with DATA or the final dot.
func groupServer(t *testing.T, replies func(group string) string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		in := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, "220 hello\r\n")
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(conn, "250-hello\r\n250 PIPELINING\r\n")
		for group := ""; ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			group += line
			if line == "DATA\r\n" || line == ".\r\n" && in.Buffered() == 0 {
				_, _ = io.WriteString(conn, replies(group))
				group = ""
			}
		}
	}()
	return l.Addr().String()
}

// TestCut cuts sessions between and in mails. None is sent twice, none is lost.
func TestCut(t *testing.T) {
	for name, c := range map[string]struct {
		script      smtptest.Script
		want, sent  string
		connections int
	}{
		"after the dot, with the next group sent": {
			pipelined(smtptest.Rset, smtptest.Nth(1, smtptest.Hangup())), "ok, ok, ok", "mail0 mail1 mail2", 2},
		"after the dot, one by one": {
			answers(smtptest.Rset, smtptest.Nth(1, smtptest.Reset())), "ok, ok, ok", "mail0 mail1 mail2", 2},
		"at the dot, with the next group sent": {
			pipelined(smtptest.Body, smtptest.Nth(1, smtptest.Hangup())), "data 0 temporary, ok, ok", "mail1 mail2", 2},
		"after each mail": {
			pipelined(smtptest.Rset, smtptest.Hangup()), "ok, ok, ok", "mail0 mail1 mail2", 3},
		"421 after each mail": {
			pipelined(smtptest.Rset, smtptest.Say("421 4.7.0 enough\r\n")), "ok, ok, ok", "mail0 mail1 mail2", 3},
		"500 to RSET": {
			answers(smtptest.Rset, smtptest.Say("500 what\r\n")), "ok, ok, ok", "mail0 mail1 mail2", 3},
		"421 to the second mail": {
			pipelined(smtptest.MailFrom, smtptest.Nth(2, smtptest.Say("421 4.7.0 enough\r\n"))), "ok, from 421 temporary, ok", "mail0 mail2", 2},
		"421 to a recipient": {
			answers(smtptest.RcptTo, smtptest.Nth(2, smtptest.Say("421 4.7.0 enough\r\n"))), "ok, recipient 421 temporary, ok", "mail0 mail2", 2},
		"421 instead of 354": {
			pipelined(smtptest.Data, smtptest.Nth(2, smtptest.Say("421 4.7.0 enough\r\n"))), "ok, data 421 temporary, ok", "mail0 mail2", 2},
		"accepted, then closed": {
			pipelined(smtptest.Body, func(w io.Writer, line string) error {
				_ = smtptest.Say("250 ok\r\n")(w, line)
				return io.EOF
			}), "ok, ok, ok", "mail0 mail1 mail2", 3},
		"no session any more": {
			smtptest.Script{Pipelining: true, Answers: map[string]smtptest.Answer{
				smtptest.Rset: smtptest.Hangup(), smtptest.Greeting: smtptest.Nth(2, smtptest.Say("554 go away\r\n")),
			}}, "ok, ehlo 554, untried", "mail0", 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHostile(t, c.script)
			transport := newTransport(t, delivery.Options{})
			if got := fates(carry(t.Context(), t, transport, stored(plainRoute(h.Addr()), 1, 1), letters(3))); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if got := ids(h.Messages()); got != c.sent || h.Connections() != c.connections {
				t.Errorf("the server took %q over %d connections", got, h.Connections())
			}
		})
	}
}

// TestDeadSession: a server that has closed an idle session costs nobody anything.
func TestDeadSession(t *testing.T) {
	h := startHostile(t, smtptest.Script{Pipelining: true})
	var conns []net.Conn
	transport := newTransport(t, delivery.Options{Dialer: dialerFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		conns = append(conns, conn)
		return conn, err
	})})
	via := stored(plainRoute(h.Addr()), 1, 1)
	for range 3 {
		if got := fates(carry(t.Context(), t, transport, via, letters(2))); got != "ok, ok" {
			t.Error(got)
		}
		_ = conns[len(conns)-1].Close()
	}
	if h.Connections() != 3 || len(h.Messages()) != 6 {
		t.Errorf("%d connections, %d messages", h.Connections(), len(h.Messages()))
	}
}

// TestNoJunk: a server that wants a message after it has refused sender or recipients gets none, not
// even an empty one, and is not waited for.
func TestNoJunk(t *testing.T) {
	for stage, want := range map[string]string{smtptest.MailFrom: "from 550, ok", smtptest.RcptTo: "recipient 550, ok"} {
		script := pipelined(stage, smtptest.First(1, smtptest.Say("550 no\r\n")))
		script.Answers[smtptest.Data] = smtptest.Say("354 go on\r\n")
		h := startHostile(t, script)
		transport := newTransport(t, delivery.Options{CarryStepTimeout: 5 * time.Second, FinalDotTimeout: 5 * time.Second})
		within(t, 2*time.Second, func() {
			if got := fates(carry(t.Context(), t, transport, stored(plainRoute(h.Addr()), 1, 1), letters(2))); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
		if got := ids(h.Messages()); got != "mail1" || h.Connections() != 2 {
			t.Errorf("the server took %q over %d connections", got, h.Connections())
		}
	}
}

// TestOutOfStep: a reply too many is never taken for one to a message.
func TestOutOfStep(t *testing.T) {
	twice := func(line string) smtptest.Answer { return smtptest.Say(line + "\r\n250 ok\r\n") }
	for _, pipelining := range []bool{true, false} {
		for stage, line := range map[string]string{
			smtptest.MailFrom: "250 ok", smtptest.RcptTo: "250 ok", smtptest.Data: "354 go",
		} {
			script := answers(stage, smtptest.Nth(1, twice(line)))
			script.Pipelining = pipelining
			h := startHostile(t, script)
			all := carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(h.Addr()), 1, 1), letters(2))
			if all[0].Failed == nil || !all[0].Failed.Temporary || fate(all[1]) != "ok" || ids(h.Messages()) != "mail1" {
				t.Errorf("%s, pipelining %v: %s, the server took %q", stage, pipelining, fates(all), ids(h.Messages()))
			}
		}
	}
}

// TestSmuggling: nothing in a mail becomes a command, and no address leaves its path.
func TestSmuggling(t *testing.T) {
	const evil = "\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>\r\nDATA\r\n"
	mails := letters(6)
	for i, end := range []string{"\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n"} {
		mails[i].Text = "first" + end + evil + "last" + end
		mails[i].HTML = mails[i].Text
		mails[i].Attachments = []emailprovider.Attachment{{Name: "x.txt", ContentType: "text/plain", Data: []byte(mails[i].Text)}}
	}
	mails[5].Recipients = []string{"x@example.org>\r\nRCPT TO:<evil@example.com"}
	for _, pipelining := range []bool{true, false} {
		h := startHostile(t, smtptest.Script{Pipelining: pipelining})
		all := carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(h.Addr()), 1, 1), mails)
		if got := fates(all); got != "ok, ok, ok, ok, ok, recipient 0" {
			t.Error(got)
		}
		if n := len(h.Messages()); n != 5 {
			t.Errorf("%d messages", n)
		}
		for _, m := range h.Messages() {
			if !strings.Contains(m, "Message-ID: <mail") {
				t.Errorf("a message that is none of ours: %q", m)
			}
		}
	}
}

// TestLocalRefusals: a mail that can't be sent at all does not hold up the others.
func TestLocalRefusals(t *testing.T) {
	mails := letters(5)
	mails[0].Recipients = nil
	mails[2].Recipients = []string{"用户@例子.广告"}
	mails[4].MessageID = "bad"
	h := startHostile(t, smtptest.Script{Pipelining: true})
	all := carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(h.Addr()), 1, 1), mails)
	if got := fates(all); got != "recipient 0, ok, from 0, ok, data 0" || ids(h.Messages()) != "mail1 mail3" {
		t.Errorf("%s, the server took %q", got, ids(h.Messages()))
	}
}

// TestCarryCanceled: the mail under way fails, and those after it are untried.
func TestCarryCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := startHostile(t, pipelined(smtptest.Body, smtptest.Nth(2, func(w io.Writer, line string) error {
		cancel()
		return smtptest.Stall()(w, line)
	})))
	within(t, 5*time.Second, func() {
		all := carry(ctx, t, newTransport(t, delivery.Options{FinalDotTimeout: 20 * time.Second}), stored(plainRoute(h.Addr()), 1, 1), letters(4))
		if got := fates(all); got != "ok, data 0 temporary, untried, untried" || all[1].Failed.Text != "canceled" {
			t.Errorf("%s, %v", got, all[1].Failed)
		}
	})
}

// TestManyMails: a session ends after so many mails, and the next one takes over.
func TestManyMails(t *testing.T) {
	s := startServer(t, smtptest.Options{})
	for _, d := range carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(s.Addr()), 1, 1), letters(1001)) {
		if fate(d) != "ok" {
			t.Fatal(fate(d))
		}
	}
	if mails := s.Mails(); len(mails) != 1001 || mails[999].Session != 1 || mails[1000].Session != 2 {
		t.Errorf("%d mails over %d sessions", len(mails), s.Connections())
	}
}

// TestCarryPosts: mails for a webhook are posted one after another, until it has trouble.
func TestCarryPosts(t *testing.T) {
	var posts atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if posts.Add(1) == 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	via := emailprovider.Route{ProviderID: "1", HTTP: &emailprovider.HTTP{Endpoint: s.URL}, Secret: secret.New("key")}
	all := carry(t.Context(), t, newTransport(t, delivery.Options{}), via, letters(4))
	if got := fates(all); got != "ok, ok, post 503 temporary, untried" {
		t.Error(got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if got := fates(carry(ctx, t, newTransport(t, delivery.Options{}), via, letters(2))); got != "untried, untried" || posts.Load() != 3 {
		t.Error(got)
	}
}
