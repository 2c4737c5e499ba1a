package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/health"
	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/limit"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// flushInterval is how often counted uses of deprecated methods are stored.
const flushInterval = 10 * time.Second

// destroyInterval is how often replaced passwords are looked for whose time is up.
const destroyInterval = time.Minute

// App is the service, open and listening. Run serves.
type App struct {
	config   Config
	dir      *datadir.Dir
	db       *sqlstore.DB
	store    Store // db, wrapped if the Config says so
	uses     *deprecation.Recorder
	tenants  *instance.Service
	worker   *outbox.Worker
	carrier  *delivery.Transport
	trust    *oidc.Trust // of the default instance; nil for none
	health   *health.Service
	server   *http.Server
	listener net.Listener
	admin    admin
	cert     *tls.Certificate
	draining context.Context // ends when the service is going down
	drain    context.CancelFunc

	// Providers is the domain, for what runs in the same process, such as the demo.
	Providers *emailprovider.Service
	// Messages is the domain of mails on their way.
	Messages *outbox.Service
	// NewAdminToken is the token that this start has made; empty on later starts.
	NewAdminToken secret.Text
}

// Open opens the data folder and everything in it, and listens. On an error nothing stays open.
func Open(ctx context.Context, c Config) (a *App, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	a = &App{config: c}
	a.draining, a.drain = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
			a = nil
		}
	}()
	if a.dir, err = datadir.Open(c.DataDir); err != nil {
		return a, err
	}
	if err := a.listenAdmin(); err != nil {
		return a, err
	}
	if err := a.openStore(ctx); err != nil {
		return a, err
	}
	a.store = a.db
	if c.WrapStore != nil {
		a.store = c.WrapStore(a.db)
	}
	// Before anything is made that is shown once, such as the admin token.
	if err := a.listen(); err != nil {
		return a, err
	}
	// One process at a time makes what must be made once, such as the first token.
	if err := a.db.SetUp(ctx, func() error { return a.assemble(ctx) }); err != nil {
		return a, err
	}
	return a, a.dir.WriteFile(AddressFile, []byte(a.URL()+"\n"))
}

// openStore opens the database.
func (a *App) openStore(ctx context.Context) (err error) {
	c := a.config
	if c.UnsafeDurability {
		c.Log.Warn("unsafe settings of the store are allowed: changes and mails that were acknowledged may be lost " +
			"in a power cut, a crash or a failover; without --unsafe-durability they are refused")
	}
	options := sqlstore.Options{Settings: c.StoreSettings, UnsafeDurability: c.UnsafeDurability, Now: c.Now, Log: c.Log, Committed: a.committed()}
	embedded := c.DatabaseURL.Empty()
	if embedded {
		a.db, err = openDatabase(ctx, a.dir, options)
	} else {
		a.db, err = sqlstore.OpenPostgres(ctx, c.DatabaseURL.Reveal(), options)
		err = aboutURL(err)
	}
	if err != nil {
		return err
	}
	if err := a.db.MayServe(ctx); err != nil || !embedded {
		return err
	}
	// The data folder is this process's alone: nobody else is sending.
	return a.db.ReleaseClaims(ctx)
}

// aboutURL names the setting that an error is about. The error has nothing of the URL that is secret.
func aboutURL(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--database-url: %w", err)
}

// assemble makes the domains on the open store, and the server on them.
func (a *App) assemble(ctx context.Context) error {
	c := a.config
	path := c.KeysetFile
	if path == "" {
		path = a.dir.Path(keysetFile)
	}
	keyset, ring, err := openKeyset(ctx, path, a.store, c.Now)
	if err != nil {
		return err
	}
	chain := audit.New(keyset)
	if err := a.db.BeginChain(ctx, chain); err != nil {
		return err
	}
	var roots *x509.CertPool // the system's
	if c.CAFile != "" {
		if roots, err = delivery.Roots(c.CAFile); err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
	}
	others, err := a.openTrust(roots)
	if err != nil {
		return err
	}
	tokens := auth.NewService(a.store, others, c.Now)
	if a.NewAdminToken, err = setUpAdmin(ctx, a.dir, tokens, c.AdminToken); err != nil {
		return err
	}
	for _, origin := range c.CORSOrigins {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
			return fmt.Errorf("--cors-origin: %q is not an origin such as https://console.example.com", origin)
		}
	}
	if c.EHLOName != "" && !delivery.ValidEHLOName(c.EHLOName) {
		return fmt.Errorf("--ehlo-name: %q is not a fully qualified domain name", c.EHLOName)
	}
	a.tenants, err = instance.NewService(ctx, instance.Config{
		Store: a.store, Keys: ring, SenderDomains: c.SenderDomains, Gone: a.forget, Now: c.Now, Log: c.Log,
	})
	if err != nil {
		return err
	}
	guard := egress.NewGuard(egress.Options{Allow: c.EgressAllow, Many: a.tenants.Many})
	policies := limit.Overrides{Everybody: limit.Everybody(c.Limits), Of: a.limitsOf}
	room := a.newRoom(policies)
	tokens.Room = room.token
	a.carrier = delivery.New(delivery.Options{
		Dialer: guard, EHLOName: c.EHLOName, Roots: roots, PlaintextAuthHosts: c.PlaintextAuthHosts,
		Timeout: c.DeliveryTimeout, StepTimeout: c.StepTimeout, Sessions: c.Sessions,
		CarryStepTimeout: c.CarryStepTimeout, FinalDotTimeout: c.FinalDotTimeout,
	})
	a.Providers = emailprovider.NewService(emailprovider.Config{
		Store:  announcing{a.store, func(instance string, sequence uint64) { a.worker.Changed(instance, sequence) }},
		Sealer: ring, Policies: a.tenants, Binding: c.Binding, Mailer: a.carrier, Egress: guard,
		VerifyCompatible: c.VerifyCompatible, KeepPrevious: c.KeepPrevious, Room: room.provider, Now: c.Now, Log: c.Log,
	})
	a.Messages, a.worker = outbox.NewService(outbox.Config{
		Store: a.store, Queue: a.queue(), Sealer: ring, Providers: a.Providers, Carrier: a.carrier, Others: a.db.Others(),
		Lifetime: c.MessageLifetime, KeepBodies: c.KeepBodies, Sessions: c.Sessions, Lease: c.Lease, Room: room.mail, Now: c.Now, Log: c.Log,
	})
	a.uses = deprecation.NewRecorder(a.store, c.Now)
	a.health = health.NewService(a.check, adminv1connect.AdminServiceName)
	handler, err := newHandler(c, domains{
		instances: a.tenants, providers: a.Providers, messages: a.Messages, tokens: tokens,
		audit: audit.Verifier{Store: a.store, Chain: chain}, uses: a.uses, health: a.health,
		rotate: rotation(keyset, ring, a.store, a.db.SetUp), draining: a.draining, calls: countCall(a.admin.metrics),
		limits: limit.NewCalls(limit.Config{
			Policies: policies, InFlight: c.MaxInFlight, Streams: c.MaxStreams, FailuresByRemote: c.MaxFailures, Now: c.Now,
		}),
	})
	if err != nil {
		return err
	}
	a.server = httpserver.New(handler, c.Log)
	a.assembleAdmin()
	return nil
}

// openTrust returns whose tokens are taken besides our own, or nil.
func (a *App) openTrust(roots *x509.CertPool) (others auth.Others, err error) {
	c := a.config.OIDC
	c.Roots, c.Now, c.Log = roots, a.config.Now, a.config.Log
	if a.trust, err = oidc.New(instance.Default, c); err != nil || a.trust == nil {
		return nil, err
	}
	return oidc.Set{instance.Default: a.trust}, nil
}

// forget drops what is in memory of a removed instance.
func (a *App) forget(instance string) {
	a.worker.Drop(instance)
	a.carrier.Drop(instance)
}

// check returns why calls can't be served: the store does not answer.
func (a *App) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// A list is read anew each time.
	_, err := a.store.List(ctx, instance.Default, emailprovider.Query{Limit: 1})
	return err
}

func (a *App) listen() error {
	c := a.config
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key must be given together")
	}
	if c.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		a.cert = &cert
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	a.listener = httpserver.Connections{Most: c.MaxConnections, MostByRemote: c.MaxByAddress}.Listen(l)
	if host, _, _ := net.SplitHostPort(a.listener.Addr().String()); a.cert == nil && !net.ParseIP(host).IsLoopback() {
		c.Log.Warn("listening beyond this machine without TLS: tokens and passwords can be read on the way; "+
			"give --tls-cert and --tls-key, or put a proxy with TLS in front", "listen", c.Listen)
	}
	return nil
}

// URL returns where the service answers, without a slash at the end.
func (a *App) URL() string {
	scheme := "http"
	if a.cert != nil {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(a.listener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// DataDir returns the path of the data folder.
func (a *App) DataDir() string { return a.dir.Path("") }

// AdminTokenFile returns the path of the file that the admin token is kept in.
func (a *App) AdminTokenFile() string { return a.dir.Path(AdminTokenFile) }

// Close closes an App that will not Run.
func (a *App) Close() error { return a.close() }

// Run serves and sends until ctx ends, finishes what is under way, and closes everything.
func (a *App) Run(ctx context.Context) error {
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	var recorder, background sync.WaitGroup
	recorder.Go(func() {
		a.uses.Run(recording, flushInterval, func(err error) {
			a.config.Log.Error("uses of deprecated methods were not stored; they stay counted", "err", err)
		})
	})
	background.Go(func() { a.worker.Run(ctx, a.config.DrainTimeout) })
	background.Go(func() { a.destroyPrevious(ctx) })
	background.Go(func() { a.serveAdmin(ctx) })
	if a.trust != nil {
		background.Go(func() { a.trust.Run(ctx) })
	}
	background.Go(func() { a.tenants.Run(ctx, a.db.Others() != nil) })
	stopDraining := context.AfterFunc(ctx, func() {
		a.health.Drain()
		a.drain()
	})
	defer stopDraining()
	err := httpserver.Serve(ctx, a.server, a.listener, a.cert, a.config.DrainTimeout)
	stopRecording()
	recorder.Wait()
	background.Wait()
	return errors.Join(err, a.close())
}

// destroyPrevious destroys replaced passwords when their time is up.
func (a *App) destroyPrevious(ctx context.Context) {
	ticker := time.NewTicker(destroyInterval)
	defer ticker.Stop()
	for {
		n, err := a.Providers.DestroyPrevious(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.config.Log.Error("replaced passwords were not destroyed; trying again", "err", err)
		case n > 0:
			a.config.Log.Info("replaced passwords destroyed: their time was up", "providers", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (a *App) close() error {
	a.drain()
	var errs []error
	if a.listener != nil {
		// Whoever takes the port next must not be taken for this service.
		if err := os.Remove(a.dir.Path(AddressFile)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.admin.listener != nil {
		if err := a.admin.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.carrier != nil {
		a.carrier.Close()
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	if a.dir != nil {
		errs = append(errs, a.dir.Close())
	}
	return errors.Join(errs...)
}
