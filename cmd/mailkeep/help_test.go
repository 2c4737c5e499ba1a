package main

import (
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestEveryCommandHasHelp(t *testing.T) {
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(false)
	if len(leaves) < 31 {
		t.Fatalf("only %d commands", len(leaves))
	}
	for _, command := range leaves {
		path := strings.Fields(command.FullPath())[1:]
		got := runWith(t, "", append(path, "--help")...)
		if got.status != 0 || got.err != "" {
			t.Errorf("%v --help ends with %d and says %q", path, got.status, got.err)
		}
		if command.Help == "" || !strings.Contains(unwrap(got.out), command.Help) {
			t.Errorf("%v --help does not say what the command does", path)
		}
		for _, flags := range command.AllFlags(false) {
			for _, flag := range flags {
				checkFlagHelp(t, path, flag, got.out)
			}
		}
	}
}

// unwrap makes one line of help that is wrapped to the width of the terminal.
func unwrap(help string) string { return strings.Join(strings.Fields(help), " ") }

func TestClientCommandsSayHowToFindTheService(t *testing.T) {
	for _, command := range []string{"provider list", "provider update", "provider rotate", "message send", "message watch", "token create", "keys rotate", "deprecated"} {
		got := runWith(t, "", append(strings.Fields(command), "--help")...)
		for _, variable := range []string{"$MAILKEEP_URL", "$MAILKEEP_TOKEN_FILE", "MAILKEEP_TOKEN has", "$MAILKEEP_DATA_DIR", "$MAILKEEP_CLIENT_CA_FILE"} {
			if !strings.Contains(unwrap(got.out), variable) {
				t.Errorf("%s --help does not mention %s", command, variable)
			}
		}
	}
}

func checkFlagHelp(t *testing.T, path []string, flag *kong.Flag, help string) {
	t.Helper()
	if flag.Help == "" {
		t.Errorf("%v: --%s has no help", path, flag.Name)
	}
	for _, variable := range flag.Envs {
		if !strings.Contains(help, "$"+variable) {
			t.Errorf("%v --help does not mention %s of --%s", path, variable, flag.Name)
		}
	}
	if strings.Contains(help, "${") {
		t.Errorf("%v --help has a variable without a value", path)
	}
}

// A secret in the arguments of a process can be read by everybody on the machine.
func TestNoFlagTakesASecret(t *testing.T) {
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	secretName := regexp.MustCompile(`password|secret|key|token|auth`)
	harmless := regexp.MustCompile(`-(file|endpoint|host)$|^(tls-key|auth|idempotency-key|keep-previous-password|max-tokens)$`)
	seen := 0
	for _, command := range parser.Model.Leaves(false) {
		for _, flag := range command.Flags {
			if !secretName.MatchString(flag.Name) || harmless.MatchString(flag.Name) {
				continue
			}
			seen++
			if flag.Target.Kind() != reflect.Bool {
				t.Errorf("%s --%s takes a value", command.FullPath(), flag.Name)
			}
		}
	}
	if seen == 0 {
		t.Error("no flag is about a secret")
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   string
		want   string
		status int
	}{
		{"", `mailkeep: expected one of "serve", "provider", "message", "token", "keys", ...`, 2},
		{"provider", `mailkeep: expected one of "list", "get", "add-smtp", "add-http", "update", ...`, 2},
		{"provider add-smtp --password=hunter2", `mailkeep: unknown flag --password, did you mean "--password-stdin"?`, 2},
		{"provider test 1", "mailkeep: missing flags: --to=ADDRESS", 2},
		{"provider set-password", `mailkeep: expected "<id>"`, 2},
		{"provider rotate 1 --password=hunter2", "mailkeep: unknown flag --password", 2},
		{"provider rotate 1 --verify maybe", `mailkeep: --verify must be one of "enforce","warn","off" but got "maybe"`, 2},
		{"provider verify", "mailkeep: provider verify: name a provider by its id, or a mail server with --host", 2},
		{"provider verify --host h:25 --user u", "mailkeep: provider verify: the password is missing: --password-stdin reads it from standard input", 2},
		{"provider verify --host h:25 --password-stdin", "mailkeep: provider verify: --password-stdin needs --user", 2},
		{"message send --text x", "mailkeep: message send: there is no recipient; name one with --to, --cc or --bcc", 2},
		{"message send --to a@example.com", "mailkeep: message send: the mail is empty; --text, --text-file, --html, --html-file and --attach fill it", 2},
		{"message send --to a@example.com --text-file - --html-file -", "mailkeep: message send: only one of --text-file and --html-file can be standard input", 2},
		{"message send --to a@example.com --text x --text-file y", "mailkeep: --text and --text-file can't be used together", 2},
		{"message send --to a@example.com --text x --expires-in 0s", "mailkeep: message send: --expires-in must be more than nothing", 2},
		{"message list --state gone", `mailkeep: --state must be one of "queued","sending","delivered","failed","cancelled","expired" but got "gone"`, 2},
		{"message list --limit 0", "mailkeep: message list: --limit must be 1 or more", 2},
		{"message list --since yesterday", "mailkeep: --since: must be a time such as 2027-01-31T09:00:00Z, or how long ago it was, such as 90m", 2},
		{"message list --since=-1h", "mailkeep: --since: must be a time such as 2027-01-31T09:00:00Z, or how long ago it was, such as 90m", 2},
		{"provider add-smtp --auth kerberos", `mailkeep: --auth must be one of "none","plain","xoauth2","" but got "kerberos"`, 2},
	} {
		got := runWith(t, "", strings.Fields(test.args)...)
		if got.out != "" || got.err != test.want+"\n" || got.status != test.status {
			t.Errorf("mailkeep %s: %+v", test.args, got)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := runWith(t, "", "version"); got.out != "mailkeep "+buildVersion()+"\n" || got.status != 0 {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct {
		module   string
		settings []debug.BuildSetting
		want     string
	}{
		{"(devel)", nil, "dev"},
		{"v1.2.3", nil, "v1.2.3"},
		{"v0.0.0-x", []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}, "0123456789ab"},
		{"", []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}, "0123456789ab+dirty"},
	} {
		if got := versionOf(&debug.BuildInfo{Main: debug.Module{Version: test.module}, Settings: test.settings}); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
