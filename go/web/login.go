package web

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// login knows who may see more than everybody: who has the password of Atlantis's basic auth, or its API secret. Where Atlantis has neither,
// nobody has, and what is not for everybody is told by `atlock` on the server's machine alone. Safe from any goroutine.
type login struct {
	username, password []byte // nil: there is no basic auth
	secret             []byte // nil: there is no API secret
}

func newLogin(options Options) login {
	known := login{secret: options.APISecret}
	if options.WebAuth {
		known.username, known.password = []byte(options.WebUsername), []byte(options.WebPassword)
	}
	return known
}

// has tells whether a request comes from somebody who may.
func (l login) has(r *http.Request) bool {
	if given := []byte(r.Header.Get(tokenHeader)); len(l.secret) > 0 && subtle.ConstantTimeCompare(given, l.secret) == 1 {
		return true
	}
	name, password, given := r.BasicAuth()
	if !given || l.username == nil {
		return false
	}
	// Both are compared, so that the time tells nothing of either.
	return subtle.ConstantTimeCompare([]byte(name), l.username)&subtle.ConstantTimeCompare([]byte(password), l.password) == 1
}

// fails tells whether a request has a secret or a password, and a wrong one. A password that nobody here asks for may be meant for a proxy in front.
func (l login) fails(r *http.Request) bool {
	_, _, given := r.BasicAuth()
	tried := len(l.secret) > 0 && r.Header.Get(tokenHeader) != "" || l.username != nil && given
	return tried && !l.has(r)
}

// everybody lets through everybody but who tried to log in and failed: an answer that is short would hide that.
func (l login) everybody(handler http.Handler) http.Handler {
	refused := l.only(nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.fails(r) {
			refused.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// only lets through who may, and tells the others how to.
func (l login) only(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.has(r) {
			handler.ServeHTTP(w, r)
			return
		}
		text := "this is told to who logs in: send Atlantis's --api-secret in the header " + tokenHeader + ", or the user and the password of " +
			"--web-basic-auth, if that is on; or run atlock on the server's machine"
		if l.username != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="restricted", charset="UTF-8"`) // as Atlantis's own
		}
		writeFault(w, fault{http.StatusUnauthorized, text})
	})
}

// withheld stands on the page where a reason does, with addresses and errors as they came, and Atlantis asks nobody for a password.
const withheld = "the reason is told by `atlock status` on the server's machine, or here once --web-basic-auth is on"

// discreet is a database of which everybody may hear: why something is so, where its stores are, and its version are left out.
type discreet struct{ Database }

func (d discreet) Status() (atlock.Status, error) {
	status, err := d.Database.Status()
	return withheldStatus(status), withheldError(err)
}

func (d discreet) Health() (atlock.Health, error) {
	health, err := d.Database.Health()
	for _, store := range []**atlock.StoreHealth{&health.Enhanced, &health.Legacy} {
		if *store != nil {
			copied := **store
			copied.Error = withheldText(copied.Error)
			*store = &copied
		}
	}
	return health, withheldError(err)
}

func (d discreet) List() ([]models.ProjectLock, error) {
	locks, err := d.Database.List()
	return locks, withheldError(err)
}

func (d discreet) CheckCommandLock(name command.Name) (*command.Lock, error) {
	lock, err := d.Database.CheckCommandLock(name)
	return lock, withheldError(err)
}

func (d discreet) Explain(key string) (atlock.Explained, error) {
	explained, err := d.Database.Explain(key)
	explained.BlockedBy = slices.Clone(explained.BlockedBy)
	for i := range explained.BlockedBy {
		if explained.BlockedBy[i].Kind == "unreadable" { // by an error as it came
			explained.BlockedBy[i].What = withheldText(explained.BlockedBy[i].What)
		}
	}
	return explained, withheldError(err)
}

func (d discreet) Queues(repoFullName string) (map[string][]atlock.QueuedPull, error) {
	queues, err := d.Database.Queues(repoFullName)
	return queues, withheldError(err)
}

func (d discreet) Freezes() ([]atlock.Freeze, error) {
	freezes, err := d.Database.Freezes()
	return freezes, withheldError(err)
}

func (d discreet) Deadlocks() ([]atlock.Deadlock, error) {
	circles, err := d.Database.Deadlocks()
	return circles, withheldError(err)
}

// withheldStatus leaves out of a status what is not for everybody. Keys of locks are: Atlantis's own page has them.
func withheldStatus(status atlock.Status) atlock.Status {
	count := len(warnings(status))
	status.Warnings = nil
	if count > 0 {
		status.Warnings = []string{counted(count, "warning", "warnings") + ": `atlock status` on the server's machine tells more, or this page once --web-basic-auth is on"}
	}
	status.Version, status.Instance = "", ""
	status.Cause, status.UnarmedBecause = withheldText(status.Cause), withheldText(status.UnarmedBecause)
	status.Fallbacks = slices.Clone(status.Fallbacks)
	for i := range status.Fallbacks {
		status.Fallbacks[i].Cause = withheldText(status.Fallbacks[i].Cause)
	}
	if status.HostStore != nil {
		copied := *status.HostStore
		copied.Error, copied.NotBelieved = withheldText(copied.Error), withheldText(copied.NotBelieved)
		status.HostStore = &copied
	}
	if status.Shadow != nil {
		copied := *status.Shadow
		copied.Because, copied.Differences = withheldText(copied.Because), nil
		status.Shadow = &copied
	}
	return status
}

func withheldText(text string) string {
	if text == "" {
		return ""
	}
	return withheld
}

// withheldError keeps an error that the caller made, and of another only what kind it is.
func withheldError(err error) error {
	if err == nil || codeOf(err) < http.StatusInternalServerError {
		return err
	}
	return secretive{err}
}

type secretive struct{ error }

func (secretive) Error() string   { return withheld }
func (s secretive) Unwrap() error { return s.error }

// why is the text of an error that Atlantis's own handlers and stores gave to who acts on the page.
func (o Options) why(err error) string {
	if _, isStores := errors.AsType[*atlock.Error](err); isStores && !o.WebAuth {
		err = withheldError(err)
	}
	return withoutCredentials(err.Error())
}
