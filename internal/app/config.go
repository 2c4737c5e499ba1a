// Package app puts the service together: store, keys, tokens, domain, delivery and the one port. The
// command line starts it with flags, tests with a Config of their own.
package app

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/limit"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// Names of the files in the data folder.
const (
	AdminTokenFile = "admin.token"
	AddressFile    = "address" // the URL that the running service answers at
	keysetFile     = "keyset.json"
	databaseFile   = "mailkeep.db"
)

// Config is every setting of the service. With a DatabaseURL any number of services may share the database;
// each has a data folder of its own, and all have the same keyset.
type Config struct {
	Listen         string // host:port
	AdminListen    string // host:port of metrics and health; nowhere if empty
	DataDir        string
	DatabaseURL    secret.Text // postgres://…; a file in the data folder if empty
	KeysetFile     string      // the data folder's if empty
	AdminToken     secret.Text // made at the first start if empty
	TLSCert        string      // PEM file; plain HTTP if empty
	TLSKey         string
	CORSOrigins    []string
	TrustedProxies []netip.Prefix // that say which host a request is for
	DrainTimeout   time.Duration

	OIDC oidc.Config // whose tokens are taken besides our own; nobody's if zero

	Binding       emailprovider.BindingMode
	SenderDomains []string // of the default instance

	EHLOName           string
	CAFile             string // PEM file of more certificate authorities for mail servers
	PlaintextAuthHosts []string
	EgressAllow        []egress.Target // loopback and private targets that any number of instances may have
	DeliveryTimeout    time.Duration   // of a test mail or a verification; 0 for the default
	StepTimeout        time.Duration   // of each of their steps; 0 for the default

	VerifyCompatible emailprovider.VerifyMode // of the admin API's password methods; off if empty
	KeepPrevious     time.Duration            // how long a replaced password can be brought back; 0 for not at all

	MessageLifetime time.Duration // of mails that don't say; 0 for the default
	KeepBodies      bool          // of settled mails
	Sessions        int           // of each instance with its provider at a time; 0 for the default
	Lease           time.Duration // that a worker has on a mail it sends; 0 for the default

	CarryStepTimeout time.Duration // of each step of sending a mail; 0 for the default
	FinalDotTimeout  time.Duration // of the reply to the final dot of a mail; 0 for the default

	Limits         limit.Limits // of each instance; the zero value has no bounds
	MaxInFlight    int          // calls of everybody; 0 for no bound
	MaxStreams     int          // of everybody; 0 for no bound
	MaxFailures    int          // calls in a second of one address without a valid token; 0 for no bound
	MaxConnections int          // of everybody; 0 for no bound
	MaxByAddress   int          // connections of one address; 0 for no bound

	UnsafeDurability bool // allow settings of the store that may lose acknowledged changes

	Sunset           time.Time
	RefuseDeprecated bool

	Log *slog.Logger
	Now func() time.Time // time.Now if nil

	// WrapStore puts something between the service and its store, to measure or to break it; nil
	// puts nothing there.
	WrapStore func(Store) Store

	// StoreSettings replaces settings of the embedded store by their names, to measure what they are
	// good for. Unsafe ones take UnsafeDurability.
	StoreSettings map[string]string
}

// Store is everything that the service keeps. *sqlstore.DB is one.
type Store interface {
	emailprovider.Store
	emailprovider.Vault
	seal.Checks
	audit.Store
	auth.Store
	deprecation.Store
	outbox.Store
	outbox.Queue
	instance.Store
	seal.InstanceKeys
}
