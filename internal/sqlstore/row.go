package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// providerColumns are what providerRow scans. SQLite's driver copies the name and the declared type
// of each column for each query: one letter and an expression, which has no declared type, save two
// allocations a column.
const providerColumns = `
	CAST(id AS TEXT) AS a, CAST(kind AS TEXT) AS b, CAST(active AS BOOLEAN) AS c,
	CAST(description AS TEXT) AS d, CAST(sender_address AS TEXT) AS e,
	CAST(sender_name AS TEXT) AS f, CAST(reply_to AS TEXT) AS g, CAST(host AS TEXT) AS h,
	CAST(tls AS BOOLEAN) AS i, CAST(smtp_user AS TEXT) AS j, CAST(auth AS TEXT) AS k,
	CAST(token_endpoint AS TEXT) AS l, CAST(client_id AS TEXT) AS m, CAST(scopes AS TEXT) AS n,
	CAST(endpoint AS TEXT) AS o, CAST(credential_version AS BIGINT) AS p,
	COALESCE(key_id, 0) AS q, ciphertext AS r, CAST(set_at AS BIGINT) AS s,
	CAST(set_by AS TEXT) AS t, CAST(created AS BIGINT) AS u, CAST(changed AS BIGINT) AS v,
	CAST(sequence AS BIGINT) AS w, COALESCE(prev_version, 0) AS x, COALESCE(prev_key_id, 0) AS y,
	prev_ciphertext AS z, COALESCE(prev_user, '') AS aa, COALESCE(prev_set_at, 0) AS ab,
	COALESCE(prev_set_by, '') AS ac, COALESCE(prev_until, 0) AS ad,
	CAST(ca AS TEXT) AS ae`

// What the column kind holds.
const (
	kindSMTP = "smtp"
	kindHTTP = "http"
)

// providerRow is a row of providers as the database has it.
type providerRow struct {
	id, kind                                              string
	active                                                bool
	description, senderAddress, senderName, replyTo, host string
	tls                                                   bool
	user, auth, tokenEndpoint, clientID, scopes, endpoint string
	credentialVersion                                     uint64
	keyID                                                 uint32
	ciphertext                                            []byte
	setAt                                                 int64
	setBy                                                 string
	created, changed                                      int64
	sequence                                              uint64
	previous                                              previousRow
	ca                                                    string
}

// scanner is *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// scanProvider reads providerColumns, and before them what first is for.
func scanProvider(from scanner, instance *string, first ...any) (emailprovider.Provider, error) {
	var r providerRow
	if err := r.scan(from, first...); err != nil {
		return emailprovider.Provider{}, err
	}
	return r.provider(*instance)
}

func (r *providerRow) scan(from scanner, first ...any) error {
	return from.Scan(append(first,
		&r.id, &r.kind, &r.active, &r.description, &r.senderAddress, &r.senderName, &r.replyTo,
		&r.host, &r.tls, &r.user, &r.auth, &r.tokenEndpoint, &r.clientID, &r.scopes, &r.endpoint,
		&r.credentialVersion, &r.keyID, &r.ciphertext, &r.setAt, &r.setBy, &r.created, &r.changed,
		&r.sequence, &r.previous.version, &r.previous.keyID, &r.previous.ciphertext, &r.previous.user,
		&r.previous.setAt, &r.previous.setBy, &r.previous.until, &r.ca)...)
}

// clone returns a row that shares nothing: nobody can change what is kept, or what another was given.
func (r providerRow) clone() providerRow {
	r.ciphertext = slices.Clone(r.ciphertext)
	r.previous.ciphertext = slices.Clone(r.previous.ciphertext)
	return r
}

func (r *providerRow) provider(instance string) (emailprovider.Provider, error) {
	p := emailprovider.Provider{
		Instance:    instance,
		ID:          r.id,
		Description: r.description,
		Credential: emailprovider.Credential{
			Version: r.credentialVersion,
			Sealed:  emailprovider.Sealed{KeyID: r.keyID, Ciphertext: r.ciphertext},
			SetAt:   fromMicros(r.setAt),
			SetBy:   r.setBy,
		},
		Previous: r.previous.previous(),
		CA:       r.ca,
		Created:  fromMicros(r.created),
		Changed:  fromMicros(r.changed),
		Sequence: r.sequence,
	}
	if r.active {
		p.State = emailprovider.Active
	}
	if r.kind == kindHTTP {
		p.HTTP = &emailprovider.HTTP{Endpoint: r.endpoint}
		return p, nil
	}
	smtp, err := r.smtp()
	p.SMTP = smtp
	return p, err
}

func (r *providerRow) smtp() (*emailprovider.SMTP, error) {
	auth, err := parseAuth(r.auth)
	if err != nil {
		return nil, err
	}
	s := &emailprovider.SMTP{
		SenderAddress: r.senderAddress,
		SenderName:    r.senderName,
		ReplyTo:       r.replyTo,
		Host:          r.host,
		TLS:           r.tls,
		User:          r.user,
		Auth:          auth,
		XOAuth2:       emailprovider.XOAuth2{TokenEndpoint: r.tokenEndpoint, ClientID: r.clientID},
	}
	if r.scopes != "" {
		if err := json.Unmarshal([]byte(r.scopes), &s.XOAuth2.Scopes); err != nil {
			return nil, fmt.Errorf("sqlstore: scopes of provider %s: %w", r.id, err)
		}
	}
	return s, nil
}

// newProviderRow is the inverse of provider.
func newProviderRow(p *emailprovider.Provider) (providerRow, error) {
	r := providerRow{
		id:                p.ID,
		active:            p.State == emailprovider.Active,
		description:       p.Description,
		auth:              authNone,
		credentialVersion: p.Credential.Version,
		keyID:             p.Credential.Sealed.KeyID,
		ciphertext:        p.Credential.Sealed.Ciphertext,
		setAt:             micros(p.Credential.SetAt),
		setBy:             p.Credential.SetBy,
		previous:          newPreviousRow(p.Previous),
		ca:                p.CA,
		created:           micros(p.Created),
		changed:           micros(p.Changed),
	}
	switch {
	case p.HTTP != nil && p.SMTP == nil:
		r.kind, r.endpoint = kindHTTP, p.HTTP.Endpoint
		return r, nil
	case p.SMTP != nil && p.HTTP == nil:
		r.kind = kindSMTP
		return r, r.setSMTP(p.SMTP)
	}
	return r, fmt.Errorf("sqlstore: provider %s must have exactly one of SMTP and HTTP", p.ID)
}

func (r *providerRow) setSMTP(s *emailprovider.SMTP) (err error) {
	r.senderAddress, r.senderName, r.replyTo = s.SenderAddress, s.SenderName, s.ReplyTo
	r.host, r.tls, r.user = s.Host, s.TLS, s.User
	r.tokenEndpoint, r.clientID = s.XOAuth2.TokenEndpoint, s.XOAuth2.ClientID
	if s.XOAuth2.Scopes != nil {
		scopes, err := json.Marshal(s.XOAuth2.Scopes)
		if err != nil {
			return err
		}
		r.scopes = string(scopes)
	}
	r.auth, err = authName(s.Auth)
	return err
}

// secret returns the columns key_id and ciphertext: NULL when no secret is stored, which keeps the
// row out of the index of sealed ones.
func (r *providerRow) secret() (keyID sql.NullInt64, ciphertext []byte) {
	if len(r.ciphertext) == 0 {
		return keyID, nil
	}
	return sql.NullInt64{Int64: int64(r.keyID), Valid: true}, r.ciphertext
}

// What the column auth holds.
const (
	authNone    = "none"
	authPlain   = "plain"
	authXOAuth2 = "xoauth2"
)

func authName(a emailprovider.Auth) (string, error) {
	switch a {
	case emailprovider.AuthNone:
		return authNone, nil
	case emailprovider.AuthPlain:
		return authPlain, nil
	case emailprovider.AuthXOAuth2:
		return authXOAuth2, nil
	}
	return "", fmt.Errorf("sqlstore: unknown way to authenticate %d", a)
}

func parseAuth(name string) (emailprovider.Auth, error) {
	switch name {
	case authNone:
		return emailprovider.AuthNone, nil
	case authPlain:
		return emailprovider.AuthPlain, nil
	case authXOAuth2:
		return emailprovider.AuthXOAuth2, nil
	}
	return 0, fmt.Errorf("sqlstore: unknown way to authenticate %q", name)
}
