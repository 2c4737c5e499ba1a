package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/demo"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

type serveCommand struct {
	Listen      string `default:"127.0.0.1:8080" env:"MAILKEEP_LISTEN" placeholder:"HOST:PORT" help:"Address to listen on, for every protocol (${default})."`
	AdminListen string `env:"MAILKEEP_ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Address for operators only, in plain HTTP: /metrics for Prometheus, /livez, /readyz (nowhere)."`

	DataDir string `default:"./mailkeep-data" env:"MAILKEEP_DATA_DIR" type:"path" help:"Folder of database, keyset and admin token; made if missing (${default})."`

	DatabaseURL string `name:"database-url" env:"MAILKEEP_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database to keep everything in, shared by any number of replicas: postgres://USER@HOST[,HOST…]/NAME?sslmode=verify-full. The password can come from PGPASSWORD or a file that passfile= names (a file in the data folder)."`

	KeysetFile     string `env:"MAILKEEP_KEYSET_FILE" type:"path" help:"Tink keyset in JSON that secrets are sealed with; made if missing and nothing is sealed yet (keyset.json in the data folder)."`
	AdminTokenFile string `env:"MAILKEEP_ADMIN_TOKEN_FILE" type:"path" help:"File with the admin token to use, 32 bytes or more; MAILKEEP_ADMIN_TOKEN has the token itself (made at the first start)."`

	OIDCIssuer        string            `name:"oidc-issuer" env:"MAILKEEP_OIDC_ISSUER" placeholder:"URL" help:"OpenID Connect issuer whose JWT access tokens are taken besides Mailkeep's own, exactly as it calls itself."`
	OIDCAudience      string            `name:"oidc-audience" env:"MAILKEEP_OIDC_AUDIENCE" help:"Audience that such tokens, and introspected ones, must have."`
	OIDCRoleClaim     string            `name:"oidc-role-claim" env:"MAILKEEP_OIDC_ROLE_CLAIM" placeholder:"PATH" help:"Claim with the caller's roles, such as realm_access.roles, urn:zitadel:iam:org:project:roles or roles: a list, an object's keys, or words."`
	OIDCRole          map[string]string `name:"oidc-role" mapsep:"," env:"MAILKEEP_OIDC_ROLE" placeholder:"VALUE=ROLE" help:"Role of Mailkeep for a value of that claim; may be repeated. Other values give none."`
	OIDCIntrospectJWT bool              `name:"oidc-introspect-jwt" env:"MAILKEEP_OIDC_INTROSPECT_JWT" help:"Introspect JWTs too at every call, so that a revoked one stops at once; else it is good until it expires."`

	IntrospectionURL              string `name:"introspection-url" env:"MAILKEEP_INTROSPECTION_URL" placeholder:"URL" help:"Endpoint (RFC 7662) that is asked about opaque tokens at every call."`
	IntrospectionClientID         string `name:"introspection-client-id" env:"MAILKEEP_INTROSPECTION_CLIENT_ID" help:"Client to ask it as."`
	IntrospectionClientSecretFile string `env:"MAILKEEP_INTROSPECTION_CLIENT_SECRET_FILE" type:"path" help:"File with that client's secret; MAILKEEP_INTROSPECTION_CLIENT_SECRET has the secret itself."`

	TLSCert string `env:"MAILKEEP_TLS_CERT" type:"path" help:"Certificate chain in PEM; with --tls-key the service speaks TLS only."`
	TLSKey  string `env:"MAILKEEP_TLS_KEY" type:"path" help:"Private key in PEM."`

	CORSOrigin   []string      `name:"cors-origin" env:"MAILKEEP_CORS_ORIGIN" placeholder:"URL" help:"Web origin that may call from a browser; may be repeated (any origin; never with cookies)."`
	DrainTimeout time.Duration `default:"15s" env:"MAILKEEP_DRAIN_TIMEOUT" help:"How long calls under way may take to finish after SIGTERM (${default})."`

	TrustedProxy []string `env:"MAILKEEP_TRUSTED_PROXY" placeholder:"CIDR" help:"Network of proxies that may say which host a request is for, in X-Zitadel-Instance-Host, Forwarded or X-Forwarded-Host; may be repeated (none)."`

	CredentialBinding string   `default:"strict" enum:"strict,compatible" env:"MAILKEEP_CREDENTIAL_BINDING" help:"What an update does that changes host, port, user or tls without bringing the secret: strict refuses it, compatible moves the secret along and records that (${default})."`
	SenderDomain      []string `env:"MAILKEEP_SENDER_DOMAIN" placeholder:"DOMAIN" help:"Domain that senders of the default instance must be in; may be repeated (any)."`

	EHLOName          string   `name:"ehlo-name" env:"MAILKEEP_EHLO_NAME" help:"Name to greet mail servers with (the machine's full name)."`
	CAFile            string   `name:"ca-file" env:"MAILKEEP_CA_FILE" type:"path" help:"Certificate authorities in PEM to trust for mail servers, token endpoints and the issuer, besides the system's."`
	PlaintextAuthHost []string `env:"MAILKEEP_PLAINTEXT_AUTH_HOST" placeholder:"HOST" help:"Mail server that may get a password over a plain connection; may be repeated (loopback only)."`
	EgressAllow       []string `env:"MAILKEEP_EGRESS_ALLOW" placeholder:"TARGET" help:"Loopback or private target that mails, webhooks and token requests may go to although there is more than one instance: a name, an address or a network, with or without :port, such as mail.internal:587, 10.1.0.0/16 or [fd00::1]:25; may be repeated (none)."`

	VerifyCompatibleCalls string        `default:"off" enum:"off,warn,enforce" env:"MAILKEEP_VERIFY_COMPATIBLE_CALLS" help:"Whether the admin API's password methods show a new password to the mail server before they store it: off stores it at once as that API does, warn logs a refusal and stores it, enforce refuses it (${default})."`
	KeepPreviousPassword  time.Duration `default:"24h" env:"MAILKEEP_KEEP_PREVIOUS_PASSWORD" help:"How long a replaced password stays, sealed, to be brought back with provider rollback; 0 destroys it at once (${default})."`

	MessageLifetime  time.Duration `default:"120h" env:"MAILKEEP_MESSAGE_LIFETIME" help:"How long a mail is tried that does not say so itself (${default})."`
	KeepBodies       bool          `env:"MAILKEEP_KEEP_BODIES" help:"Keep what mails say, sealed, after they are settled; else it is erased then."`
	ProviderSessions int           `default:"4" env:"MAILKEEP_PROVIDER_SESSIONS" help:"How many sessions an instance has to its mail server at a time (${default})."`

	Limits limitFlags `embed:""`

	UnsafeDurability bool `env:"MAILKEEP_UNSAFE_DURABILITY" help:"DANGEROUS: start even if the store's settings are such that changes and mails that were acknowledged may be lost in a power cut, a crash or a failover; else they are refused. For trials only."`

	Sunset           string `env:"MAILKEEP_SUNSET" placeholder:"YYYY-MM-DD" help:"Date to announce as the end of the deprecated methods (none)."`
	RefuseDeprecated bool   `env:"MAILKEEP_REFUSE_DEPRECATED" help:"Answer UNIMPLEMENTED to deprecated methods, to see what a cut-over would break."`

	LogFormat string     `default:"text" enum:"text,json" env:"MAILKEEP_LOG_FORMAT" help:"Format of the log on standard error: text or json (${default})."`
	LogLevel  slog.Level `default:"info" env:"MAILKEEP_LOG_LEVEL" help:"Least level to log: debug, info, warn or error (${default})."`

	Demo bool `help:"Run with a new temporary data folder, a local SMTP inbox that demands AUTH, and an active provider that points at it; prints commands to try."`
}

// Run implements the command.
func (c *serveCommand) Run(ctx context.Context, s streams) error {
	app.Tune()
	if err := harden(); err != nil {
		return fmt.Errorf("keeping secrets out of core dumps: %w", err)
	}
	config, err := c.config(s.err)
	if err != nil {
		return err
	}
	if c.Demo && c.DatabaseURL != "" {
		return errors.New("--demo has a data folder of its own: leave --database-url and MAILKEEP_DATABASE_URL out")
	}
	if c.Demo {
		return demo.Run(ctx, config, s.out)
	}
	service, err := app.Open(ctx, config)
	if err != nil {
		return err
	}
	announce(s.out, service)
	return service.Run(ctx)
}

// announce says where the service is, and its admin token when it was made just now.
func announce(out io.Writer, service *app.App) {
	fmt.Fprintf(out, "mailkeep answers at %s (REST, Connect, gRPC, gRPC-Web); data in %s\n", service.URL(), service.DataDir())
	if token := service.NewAdminToken; !token.Empty() {
		fmt.Fprintf(out, "admin token, shown this once and kept in %s:\n%s\n", service.AdminTokenFile(), token.Reveal())
	}
}

// maxSessions is more than mail servers allow one client.
const maxSessions = 100

// config turns flags into a Config.
func (c *serveCommand) config(logTo io.Writer) (app.Config, error) {
	token, err := secretFrom("--admin-token-file", c.AdminTokenFile, "MAILKEEP_ADMIN_TOKEN")
	if err != nil {
		return app.Config{}, err
	}
	trust, err := c.trust()
	if err != nil {
		return app.Config{}, err
	}
	switch {
	case c.KeepPreviousPassword < 0:
		return app.Config{}, errors.New("--keep-previous-password must not be negative")
	case c.MessageLifetime < time.Second || c.MessageLifetime > outbox.MaxLifetime:
		return app.Config{}, fmt.Errorf("--message-lifetime must be from 1s to %s", outbox.MaxLifetime)
	case c.ProviderSessions < 1 || c.ProviderSessions > maxSessions:
		return app.Config{}, fmt.Errorf("--provider-sessions must be from 1 to %d", maxSessions)
	}
	if err := c.Limits.check(); err != nil {
		return app.Config{}, err
	}
	allowed, err := c.egressAllow()
	if err != nil {
		return app.Config{}, err
	}
	proxies, err := networks(c.TrustedProxy)
	if err != nil {
		return app.Config{}, fmt.Errorf("--trusted-proxy: %w", err)
	}
	var sunset time.Time
	if c.Sunset != "" {
		if sunset, err = time.Parse(time.DateOnly, c.Sunset); err != nil {
			return app.Config{}, errors.New("--sunset must be a date such as 2027-12-31")
		}
	}
	config := app.Config{
		Listen: c.Listen, AdminListen: c.AdminListen, DataDir: c.DataDir, DatabaseURL: secret.New(c.DatabaseURL), KeysetFile: c.KeysetFile, AdminToken: token,
		OIDC:    trust,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, CORSOrigins: c.CORSOrigin, TrustedProxies: proxies, DrainTimeout: c.DrainTimeout,
		Binding: emailprovider.BindingMode(c.CredentialBinding), SenderDomains: c.SenderDomain,
		EHLOName: c.EHLOName, CAFile: c.CAFile, PlaintextAuthHosts: c.PlaintextAuthHost, EgressAllow: allowed,
		VerifyCompatible: emailprovider.VerifyMode(c.VerifyCompatibleCalls), KeepPrevious: c.KeepPreviousPassword,
		MessageLifetime: c.MessageLifetime, KeepBodies: c.KeepBodies, Sessions: c.ProviderSessions,
		UnsafeDurability: c.UnsafeDurability, Sunset: sunset, RefuseDeprecated: c.RefuseDeprecated,
		Log: c.logger(logTo),
	}
	c.Limits.set(&config)
	return config, nil
}

func (c *serveCommand) egressAllow() (all []egress.Target, err error) {
	for _, s := range c.EgressAllow {
		t, err := egress.ParseTarget(s)
		if err != nil {
			return nil, fmt.Errorf("--egress-allow: %w", err)
		}
		all = append(all, t)
	}
	return all, nil
}

// networks reads networks in CIDR notation; an address is the network of itself.
func networks(texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8 or fd00::/8", text)
		}
		all = append(all, network.Masked())
	}
	return all, nil
}

// trust is whose tokens are taken.
func (c *serveCommand) trust() (oidc.Config, error) {
	const flag, variable = "--introspection-client-secret-file", "MAILKEEP_INTROSPECTION_CLIENT_SECRET"
	key, err := secretFrom(flag, c.IntrospectionClientSecretFile, variable)
	if err != nil {
		return oidc.Config{}, err
	}
	config := oidc.Config{
		Issuer: c.OIDCIssuer, Audience: c.OIDCAudience, RoleClaim: c.OIDCRoleClaim, Roles: c.OIDCRole,
		Introspection: oidc.Introspection{
			URL: c.IntrospectionURL, ClientID: c.IntrospectionClientID, Secret: key, JWT: c.OIDCIntrospectJWT,
		},
	}
	return config, config.Check()
}

// secretFrom reads a secret that the operator chose, if any, from a file or else from a variable.
func secretFrom(flag, file, variable string) (secret.Text, error) {
	if file == "" {
		return secret.New(os.Getenv(variable)), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return secret.Text{}, fmt.Errorf("%s: %w", flag, err)
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return secret.Text{}, fmt.Errorf("%s: %s is empty", flag, file)
	}
	return secret.New(string(data)), nil
}

func (c *serveCommand) logger(to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}
