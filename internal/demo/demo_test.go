package demo

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
)

// output is what the demo prints; it calls done when that ends with the commands.
type output struct {
	bytes.Buffer
	done func()
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Buffer.Write(p)
	if bytes.Contains(p, []byte("provider test")) {
		o.done()
	}
	return n, err
}

func config() app.Config {
	return app.Config{Listen: "127.0.0.1:0", DrainTimeout: time.Second, KeepPrevious: time.Hour, Log: slog.New(slog.DiscardHandler)}
}

// stepsIn returns the four steps of the rotation, and wants the commands after them.
func stepsIn(t *testing.T, printed string) []string {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^  \d\. .*$`).FindAllString(printed, -1)
	if len(lines) != 4 || !strings.Contains(printed, "\nThe same from the command line:\n") {
		t.Fatalf("printed:\n%s", printed)
	}
	if n := strings.Count(printed, "\n"); n > 40 {
		t.Errorf("%d lines are more than a screen has:\n%s", n, printed)
	}
	return lines
}

func TestDemoShowsARotation(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &output{done: cancel}
	if err := Run(ctx, config(), out); err != nil {
		t.Fatal(err)
	}
	want := `  1. a mail through the active provider: delivered, credential version 1 (inbox saw version 1)
  2. rotate to a wrong password: refused at step auth (535 5.7.8 Authentication failed); it stays at version 1
  3. the inbox gets a new password; rotate to it: dns ok, tcp ok, greeting ok, ehlo ok, auth ok; stored as version 2
  4. the next mail: delivered, credential version 2 (inbox saw version 2)`
	if got := strings.Join(stepsIn(t, out.String()), "\n"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	dir := regexp.MustCompile(`MAILKEEP_DATA_DIR=(.*)`).FindStringSubmatch(out.String())
	if _, err := os.Stat(dir[1]); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", dir[1], err)
	}
}

// Without its inbox the demo says what goes wrong, and serves all the same.
func TestDemoWithoutItsInbox(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &output{done: cancel}
	inbox, err := startInbox(out)
	if err != nil {
		t.Fatal(err)
	}
	c := config()
	c.DataDir = t.TempDir()
	service, err := app.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{service: service, inbox: inbox, out: out, patience: 100 * time.Millisecond}
	if err := d.addProvider(ctx); err != nil {
		t.Fatal(err)
	}
	if err := inbox.close(); err != nil {
		t.Fatal(err)
	}
	if err := d.serve(ctx); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`the active provider is still queued \(dial: .*refused\)`, "rotate to a wrong password: .*step dial: connection refused", "rotate to the inbox's new password: .*step dial: connection refused",
		`the next mail is still queued`,
	} {
		line := stepsIn(t, out.String())[i]
		if !strings.Contains(line, "went wrong: ") || !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s\nwant %s", line, want)
		}
	}
}
