package egress_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/egress"
)

// TestOneInstance: whoever owns the machine may use it, but for what is denied always.
func TestOneInstance(t *testing.T) {
	n, r := startNames(t), startRecorder(t)
	n.set("inbox.example.com", "127.0.0.1")
	n.set("metadata.example.com", "169.254.169.254")
	g := egress.NewGuard(egress.Options{Resolver: n.resolver()}).OnDial(staysHere)
	for _, target := range []string{"127.0.0.1:" + r.port, "inbox.example.com:" + r.port, "localhost:" + r.port} {
		conn, err := g.DialContext(t.Context(), "tcp", target)
		if err != nil || g.Denies(t.Context(), target) {
			t.Errorf("%s: %v", target, err)
			continue
		}
		_ = conn.Close()
	}
	for _, target := range []string{"10.0.0.1:25", "[fd12::1]:25", "100.64.0.1:25"} {
		if _, err := g.DialContext(t.Context(), "tcp", target); g.Denies(t.Context(), target) || !errors.Is(err, errStays) {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, target := range []string{
		"169.254.169.254:80", "[fe80::1]:25", "[fe80::1%lo]:25", "0.0.0.0:" + r.port, "[::]:" + r.port, "metadata.example.com:80",
		"2130706433:" + r.port, "224.0.0.1:25", "[::ffff:169.254.169.254]:80", ":" + r.port,
	} {
		if _, err := g.DialContext(t.Context(), "tcp", target); !g.Denies(t.Context(), target) || !errors.Is(err, egress.ErrDenied) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestMixed: of several addresses those that are not denied are used.
func TestMixed(t *testing.T) {
	n, r := startNames(t), startRecorder(t)
	n.set("mixed.example.com", "169.254.169.254,127.0.0.1")
	g := egress.NewGuard(egress.Options{Resolver: n.resolver()})
	conn, err := g.DialContext(t.Context(), "tcp", "mixed.example.com:"+r.port)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// TestSecondInstance: what was allowed is denied from the moment there are two.
func TestSecondInstance(t *testing.T) {
	r, two := startRecorder(t), false
	g := egress.NewGuard(egress.Options{Many: func(context.Context) bool { return two }})
	target := "127.0.0.1:" + r.port
	for _, two = range []bool{false, true, false} {
		conn, err := g.DialContext(t.Context(), "tcp", target)
		if err == nil {
			_ = conn.Close()
		}
		if errors.Is(err, egress.ErrDenied) != two || g.Denies(t.Context(), target) != two {
			t.Errorf("with two: %v, %v", two, err)
		}
	}
}

// TestManyIsAskedRarely: public addresses cost no look at the instances.
func TestManyIsAskedRarely(t *testing.T) {
	g := egress.NewGuard(egress.Options{Many: func(context.Context) bool { t.Error("asked"); return true }}).OnDial(staysHere)
	if g.Denies(t.Context(), "8.8.8.8:25") || !g.Denies(t.Context(), "169.254.169.254:80") {
		t.Error("denied, or not")
	}
}

// TestNoScanner: a denied target answers alike and at once, with a server there or without.
func TestNoScanner(t *testing.T) {
	r := startRecorder(t)
	g := egress.NewGuard(egress.Options{Many: many})
	begun := time.Now()
	texts := map[string]bool{}
	for _, port := range []string{r.port, "1"} {
		_, err := g.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		var inner *net.OpError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 || r.came.Load() != 0 || time.Since(begun) > time.Second {
		t.Errorf("%v after %s, %d connections", texts, time.Since(begun), r.came.Load())
	}
}

// TestSilentResolver: nobody waits long for names, and one that is not found at once is not denied.
func TestSilentResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		begun := time.Now()
		if egress.NewGuard(egress.Options{Many: many, Resolver: silent}).Denies(t.Context(), "smtp.example.com:25") {
			t.Error("denied")
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestParseTarget(t *testing.T) {
	for _, s := range []string{
		"mail.internal", "mail.internal:25", "Mail.Internal.", "10.1.2.3", "10.1.2.3:587", "10.1.0.0/16", "10.1.0.0/16:25", "fd00:1::/32",
		"[fd00:1::/32]:25", "[fd00::1]", "fd00::1", "127.0.0.0/8", "::1", "localhost:2525", "0.0.0.0/0", "::/0", "münchen.internal",
	} {
		if _, err := egress.ParseTarget(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"": "not a name", ":25": "not a name", "*": "not a name", "*.internal": "not a name", "a b": "not a name", "http://mail.internal": "port",
		"mail.internal:0": "port", "mail.internal:smtp": "port", "mail.internal:65536": "port", "10.1.2.3/33": "not a name",
		"10.1.2.3/16": "10.1.0.0/16", "2130706433": "not a name", "0x7f.1": "not a name", "169.254.169.254": "never", "169.254.0.0/16:80": "never",
		"fe80::1": "never", "fe80::1%eth0": "not a name", "[fd00::1": "not", "fd00:ec2::254": "never", "::ffff:10.1.2.3": "IPv4",
		"[fd00::1]25": "host:port", "a:b:c": "not a name", "10.1.0.0/16,10.2.0.0/16": "not a name",
	} {
		if _, err := egress.ParseTarget(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
