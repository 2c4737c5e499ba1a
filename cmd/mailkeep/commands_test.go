package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/app"
)

// step is one command and all that it prints. ID1 stands for the first provider, TOKEN1 for the id of
// the first token, M1 for the first mail, MAIL for the mail server.
type step struct {
	before func(*service, *testing.T, *names) // nil for nothing
	args   string
	stdin  string
	out    string
	err    string
	status int
}

const (
	changed = "sequence: N\nchanged: TIME\n"
	created = "sequence: N\ncreated: TIME\nchanged: TIME\n"
	smtpID1 = "host: MAIL\ntls: true\nsender-address: from@example.com\nsender-name: From\n"
	heads   = "ID  STATE  SERVER  SENDER  AUTH  CHANGED  DESCRIPTION\n"
)

var steps = []step{
	{args: "provider list", out: heads},
	{args: "provider get", err: "mailkeep: email provider not found (QUERY-fwofw)\n", status: 1},

	// An SMTP provider, its password and its mail.
	{args: "provider add-smtp --host MAIL --sender-address from@example.com --sender-name From --user user --password-stdin",
		stdin: "first\n", out: "id: ID1\n" + changed},
	{args: "provider get ID1", out: "id: ID1\nstate: inactive\n" + smtpID1 + "user: user\nauth: plain\n" + created},
	{args: "provider test ID1 --to you@example.com", out: "id: ID1\naccepted for: you@example.com\n"},
	{args: "provider test ID1 --to you@example.com --json", out: "{}\n"},
	{args: "provider activate ID1", out: "id: ID1\n" + changed},
	{args: "provider get", out: "id: ID1\nstate: active\n" + smtpID1 + "user: user\nauth: plain\n" + created},
	{args: "provider set-password ID1", stdin: "wrong", out: "id: ID1\n" + changed},
	{args: "provider test ID1 --to you@example.com",
		err: "mailkeep: sending failed at step auth: 535 5.7.8 Authentication failed (EMAIL-s9kfs)\n", status: 1},
	{args: "provider set-password ID1", stdin: "first\r\n", out: "id: ID1\n" + changed},
	{args: "provider test ID1 --to you@example.com", out: "id: ID1\naccepted for: you@example.com\n"},
	{args: "provider set-password ID1", stdin: "\n", err: "mailkeep: the password is empty; nothing was changed\n", status: 1},
	{args: "provider set-password ID1", stdin: "\xff", err: "mailkeep: the password is not UTF-8; nothing was changed\n", status: 1},
	{args: "provider set-password ID1", stdin: strings.Repeat("x", maxSecret+1),
		err: "mailkeep: the password is too long; nothing was changed\n", status: 1},
	{args: "provider set-password 123456789012345678", stdin: "x",
		err: "mailkeep: email provider not found (COMMAND-rDHzqjGuKQ)\n", status: 1},

	// Updates leave alone what they don't name.
	{args: "provider update ID1 --reply-to answer@example.com --description D", out: "id: ID1\n" + changed},
	{args: "provider update ID1 --sender-name Other", out: "id: ID1\n" + changed},
	{args: "provider get ID1", out: "id: ID1\nstate: active\nhost: MAIL\ntls: true\nsender-address: from@example.com\n" +
		"sender-name: Other\nreply-to: answer@example.com\nuser: user\nauth: plain\ndescription: D\n" + created},
	{args: "provider test ID1 --to you@example.com", out: "id: ID1\naccepted for: you@example.com\n"},
	{args: "provider update ID1 --no-tls --host localhost:25", status: 1,
		err: "mailkeep: the stored secret belongs to the present settings; a request that changes host, tls must bring " +
			"the secret with it (MAILKEEP-BIND); give the password again with --password-stdin\n"},
	{args: "provider update ID1 --no-tls --host localhost:25 --password-stdin", stdin: "first", out: "id: ID1\n" + changed},
	{args: "provider list", out: heads + "ID1  active  localhost:25  from@example.com  plain  TIME  D\n"},
	{args: "provider update ID1 --reply-to= --description= --auth none --sender-name From", out: "id: ID1\n" + changed},
	{args: "provider get ID1", out: "id: ID1\nstate: active\nhost: localhost:25\ntls: false\nsender-address: from@example.com\n" +
		"sender-name: From\nuser: user\nauth: none\n" + created},
	{args: "provider update ID1 --user= --tls", out: "id: ID1\n" + changed},
	{args: "provider update ID1 --auth plain", err: "mailkeep: the password is missing: --password-stdin reads it from standard input\n", status: 1},
	{args: "provider update ID1 --user user --host MAIL --password-stdin", stdin: "first", out: "id: ID1\n" + changed},
	{args: "provider test ID1 --to you@example.com", out: "id: ID1\naccepted for: you@example.com\n"},
	{args: "provider update ID1", err: "mailkeep: provider update: nothing to change; name a setting with its flag\n", status: 2},
	{args: "provider update ID1 --endpoint https://example.com --new-signing-key",
		err: "mailkeep: ID1 is an SMTP provider, which has no --endpoint, --new-signing-key\n", status: 1},

	// XOAUTH2.
	{args: "provider update ID1 --client-id x", status: 1,
		err: "mailkeep: ID1 authenticates with plain: --token-endpoint, --client-id, --scope and --client-secret-stdin are for --auth xoauth2\n"},
	{args: "provider update ID1 --auth xoauth2", err: "mailkeep: --auth xoauth2 needs --token-endpoint and --client-id\n", status: 1},
	{args: "provider update ID1 --auth xoauth2 --token-endpoint https://example.com/token --client-id x", status: 1,
		err: "mailkeep: the client secret is missing: --client-secret-stdin reads it from standard input\n"},
	{args: "provider update ID1 --auth xoauth2 --token-endpoint https://example.com/token --client-id x --scope a,b --scope c --client-secret-stdin",
		stdin: "secret", out: "id: ID1\n" + changed},
	{args: "provider update ID1 --scope d", out: "id: ID1\n" + changed},
	{args: "provider update ID1 --client-secret-stdin", stdin: "other", out: "id: ID1\n" + changed},
	{args: "provider get ID1", out: "id: ID1\nstate: active\n" + smtpID1 + "user: user\nauth: xoauth2\n" +
		"token-endpoint: https://example.com/token\nclient-id: x\nscope: d\n" + created},
	{args: "provider update ID1 --sender-name From2 --scope=", out: "id: ID1\n" + changed},
	{args: "provider get ID1", out: "id: ID1\nstate: active\nhost: MAIL\ntls: true\nsender-address: from@example.com\n" +
		"sender-name: From2\nuser: user\nauth: xoauth2\ntoken-endpoint: https://example.com/token\nclient-id: x\n" + created},
	{args: "provider update ID1 --client-id y", status: 1,
		err: "mailkeep: the stored secret belongs to the present settings; a request that changes client_id must bring " +
			"the secret with it (MAILKEEP-BIND); give the client secret again with --client-secret-stdin\n"},
	{args: "provider update ID1 --password-stdin", stdin: "x", status: 1,
		err: "mailkeep: ID1 authenticates with xoauth2: --password-stdin is for --auth plain, which needs --user\n"},
	{args: "provider set-password ID1", stdin: "x", status: 1,
		err: "mailkeep: the provider authenticates with XOAUTH2; update its settings instead (MAILKEEP-XOAUTH2)\n"},
	{args: "provider update ID1 --auth plain --password-stdin", stdin: "first", out: "id: ID1\n" + changed},
	{args: "provider test ID1 --to you@example.com", out: "id: ID1\naccepted for: you@example.com\n"},

	// Other ways to add.
	{args: "provider add-smtp --host relay:25 --no-tls --sender-address from@example.com --sender-name From --user u --auth none",
		out: "id: ID2\n" + changed},
	{args: "provider add-smtp --host smtp:587 --sender-address from@example.com --sender-name From --auth xoauth2 " +
		"--token-endpoint https://example.com/token --client-id x --scope a --scope b --client-secret-stdin",
		stdin: "secret\n", out: "id: ID3\n" + changed},
	{args: "provider add-smtp --host smtp --sender-address from@example.com --sender-name From",
		err: "mailkeep: host must be host:port (COMMAND-EvAtufIinh)\n", status: 1},
	{args: "provider add-smtp --host smtp:587 --sender-address a@example.com",
		err: "mailkeep: missing flags: --sender-name=NAME\n", status: 2},
	{args: "provider add-smtp --host smtp:587 --sender-address a@example.com --sender-name A --auth plain --password-stdin",
		err: "mailkeep: provider add-smtp: --auth plain needs --user\n", status: 2},
	{args: "provider add-smtp --host smtp:587 --sender-address a@example.com --sender-name A --user u", stdin: "first",
		err: "mailkeep: provider add-smtp: the password is missing: --password-stdin reads it from standard input\n", status: 2},
	{args: "provider add-smtp --host smtp:587 --sender-address a@example.com --sender-name A --auth xoauth2",
		err: "mailkeep: provider add-smtp: --auth xoauth2 needs --token-endpoint and --client-id\n", status: 2},
	{args: "provider add-smtp --host smtp:587 --sender-address a@example.com --sender-name A --password-stdin",
		err: "mailkeep: provider add-smtp: --password-stdin is for --auth plain, which needs --user\n", status: 2},

	// HTTP providers.
	{args: "provider add-http --endpoint https://example.com/hook --description H", out: "id: ID4\n" + changed + "signing-key: KEY\n"},
	{args: "provider update ID4 --endpoint https://example.com/other", out: "id: ID4\n" + changed},
	{args: "provider get ID4", out: "id: ID4\nstate: inactive\nendpoint: https://example.com/other\nsigning-key: (--json shows it)\n" +
		"description: H\n" + created},
	{args: "provider update ID4 --new-signing-key --description=", out: "id: ID4\n" + changed + "signing-key: KEY\n"},
	{args: "provider update ID4 --no-tls --user u", err: "mailkeep: ID4 is an HTTP provider, which has no --tls, --user\n", status: 1},
	{args: "provider update ID4 --endpoint ftp://x", status: 1,
		err: "mailkeep: endpoint must be an absolute http or https URL (COMMAND-Sz84nFo3aK)\n"},
	{args: "provider list --limit 2 --oldest-first", out: heads +
		"ID1  active  MAIL  from@example.com  plain  TIME  -\nID2  inactive  relay:25  from@example.com  none  TIME  -\n",
		err: "There are 4 providers; --offset 2 shows the next.\n"},
	{args: "provider list --offset 1", out: heads + "ID3  inactive  smtp:587  from@example.com  xoauth2  TIME  -\n" +
		"ID2  inactive  relay:25  from@example.com  none  TIME  -\nID1  active  MAIL  from@example.com  plain  TIME  -\n"},
	{args: "provider activate ID4", out: "id: ID4\n" + changed},
	{args: "provider list --limit 1", out: heads + "ID4  active  https://example.com/other  -  -  TIME  -\n",
		err: "There are 4 providers; --offset 1 shows the next.\n"},
	{args: "provider deactivate ID4", out: "id: ID4\n" + changed},
	{args: "provider remove ID4", err: "mailkeep: provider remove: --yes is needed when standard input is not a terminal\n", status: 2},
	{args: "provider remove ID4 --yes", out: "id: ID4\n" + changed},
	{args: "provider remove ID4 --yes", err: "mailkeep: email provider not found (COMMAND-09CXlTDL6w)\n", status: 1},

	// Tokens, keys, deprecated methods.
	{args: "token create viewer --role IAM_OWNER_VIEWER --lifetime 720h", out: "SECRET\n",
		err: "token TOKEN1 with IAM_OWNER_VIEWER, until TIME; it is not shown again\n"},
	{args: "token create owner --role IAM_OWNER,IAM_OWNER_VIEWER", out: "SECRET\n",
		err: "token TOKEN2 with IAM_OWNER, IAM_OWNER_VIEWER, for ever; it is not shown again\n"},
	{args: "token list", out: "ID  NAME  ROLES  CREATED  EXPIRES\nadmin  admin  IAM_OWNER,SYSTEM_OWNER  TIME  never\n" +
		"TOKEN1  viewer  IAM_OWNER_VIEWER  TIME  TIME\nTOKEN2  owner  IAM_OWNER,IAM_OWNER_VIEWER  TIME  never\n"},
	{args: "token revoke TOKEN1", out: "revoked: TOKEN1\n"},
	{args: "token revoke TOKEN1", err: "mailkeep: token not found (MAILKEEP-TOKEN)\n", status: 1},
	{args: "token create x --role NOBODY", status: 1,
		err: "mailkeep: roles contains one that does not exist; there are IAM_LOGIN_CLIENT, IAM_OWNER, IAM_OWNER_VIEWER, MESSAGE_SENDER, SYSTEM_OWNER (MAILKEEP-ROLE)\n"},
	{args: "token create x --role IAM_OWNER --lifetime 0s", status: 2,
		err: "mailkeep: token create: --lifetime must be more than nothing; leave it out for ever\n"},
	{args: "token create x", err: "mailkeep: missing flags: --role=ROLE,...\n", status: 2},
	{args: "keys rotate", out: "primary-key: N\nsealed-again: N\n"},

	// Instances.
	{args: "instance add acme --domain Mail.Acme.example --max-tokens 5", out: "SECRET\n",
		err: "instance acme, and the token of its owner, which is not shown again\n"},
	{args: "instance update acme --name ACME --domain a.example --domain b.example --sender-domain acme.example --max-open-mails 9",
		out: "id: acme\nname: ACME\ndomains: a.example,b.example\npolicy: sender-domains=acme.example max-open-mails=9 max-tokens=5\n"},
	{args: "instance update acme --no-domain --no-sender-domain --max-tokens 0", out: "id: acme\nname: ACME\npolicy: max-open-mails=9\n"},
	{args: "instance update acme --domain a.example --no-domain", status: 2,
		err: "mailkeep: instance update: --domain and --no-domain: give one of them\n"},
	{args: "instance update none --name x", err: "mailkeep: instance not found (MAILKEEP-INSTANCE)\n", status: 1},
	{args: "instance list", out: "ID  NAME  DOMAINS  POLICY  CREATED  REMOVED\nacme  ACME  -  max-open-mails=9  TIME  -\ndefault  default  -  -  -  -\n"},
	{args: "instance remove acme", err: "mailkeep: instance remove: --yes is needed when standard input is not a terminal\n", status: 2},
	{args: "instance remove acme --yes", out: "removed: acme\n"},
	{args: "instance remove default --yes", err: "mailkeep: the instance default can't be removed (MAILKEEP-INSTANCE)\n", status: 1},
	{args: "instance list --removed", out: "ID  NAME  DOMAINS  POLICY  CREATED  REMOVED\ndefault  default  -  -  -  -\nacme  ACME  -  -  TIME  TIME\n"},
	{args: "instance add acme", err: "mailkeep: this id is or was an instance's; ids are given once (MAILKEEP-INSTANCE)\n", status: 1},
	{before: (*service).callDeprecated, args: "deprecated", out: "METHOD  USE INSTEAD  CALLS  TOKEN  LAST USED  CLIENT\n" +
		"GetSMTPConfigById  GetEmailProviderById  2  admin  TIME  old client\n"},
}

func TestCommands(t *testing.T) {
	s := startService(t, nil)
	s.mail.SetPassword("user", "first")
	s.check(t, steps)
}

// check runs commands and compares all that they print.
func (s *service) check(t *testing.T, steps []step) {
	t.Helper()
	names := newNames(s)
	for i, want := range steps {
		if want.before != nil {
			want.before(s, t, names)
		}
		got := s.run(t, want.stdin, strings.Split(names.expand(want.args), " ")...)
		names.learn(got.out)
		diff := cmp.Diff(result{want.out, want.err, want.status},
			result{names.shorten(got.out), names.shorten(got.err), got.status}, cmp.AllowUnexported(result{}))
		if diff != "" {
			t.Errorf("step %d, mailkeep %s (-want +got):\n%s", i+1, want.args, diff)
		}
	}
}

// callDeprecated makes two calls of a deprecated method.
func (s *service) callDeprecated(t *testing.T, names *names) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, app.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.app.URL()+"/admin/v1/smtp/"+names.expand("ID1"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("User-Agent", "old client")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res.Status, err)
		}
	}
}

// names gives short names to what differs from run to run.
type names struct {
	short map[string]string // by what they stand for
	count map[string]int
}

func newNames(s *service) *names {
	return &names{map[string]string{s.mail.Addr(): "MAIL"}, map[string]int{}}
}

var mailPattern = regexp.MustCompile(`\b[0-9a-v]{26}\b`)

var tokenPattern = regexp.MustCompile(`mailkeep_([a-z2-7]{12})\.[\w-]{43}`)

var changing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{tokenPattern, "SECRET"},
	{regexp.MustCompile(`(signing-key: )\w{36}`), "${1}KEY"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+02:30`), "TIME"},
	{regexp.MustCompile(`(?m)^TIME  [0-9a-v]{26}  (queued|sending).*\n`), ""}, // how much of it is seen depends
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d\b`), "DATE"},
	{regexp.MustCompile(`\b\d+( ms| days? left)\b`), "N$1"},
	{regexp.MustCompile(`((?:sequence|primary-key|sealed-again): )\d+`), "${1}N"},
	{regexp.MustCompile(`  +`), "  "},
}

// learn numbers the ids of new providers and tokens.
func (n *names) learn(out string) {
	for _, id := range idPattern.FindAllString(out, -1) {
		n.add("ID", id)
	}
	for _, id := range mailPattern.FindAllString(out, -1) {
		n.add("M", id)
	}
	for _, token := range tokenPattern.FindAllStringSubmatch(out, -1) {
		n.add("TOKEN", token[1])
	}
}

func (n *names) add(prefix, long string) {
	if n.short[long] == "" {
		n.count[prefix]++
		n.short[long] = fmt.Sprintf("%s%d", prefix, n.count[prefix])
	}
}

func (n *names) shorten(text string) string {
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.with)
	}
	for long, short := range n.short {
		text = strings.ReplaceAll(text, long, short)
	}
	return text
}

// expand is the reverse of shorten, for arguments.
func (n *names) expand(args string) string {
	for long, short := range n.short {
		args = strings.ReplaceAll(args, short, long)
	}
	return args
}
