package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Paths to which the page's forms go.
const (
	ReleasePath       = PagePath + "/release"
	FreezePath        = PagePath + "/freeze"
	ThawPath          = PagePath + "/thaw"
	UnlockAppliesPath = PagePath + "/applies/unlock"
)

// longestForm is more than [mostReleased] locks with long names have, escaped.
const longestForm = 512 << 10

// Actions is what the page changes in Atlantis, by Atlantis's own handlers. Its methods say who asked.
type Actions interface {
	// Look looks at a lock before it is released. It is an error if the pull request does not hold the lock any more.
	Look(lock models.ProjectLock) (Look, error)
	// Release discards locks with their plans, each only if its grant is the one that was shown; one answer for each.
	Release(by atlock.Actor, asked []Asked) []Released
	// CleanUp releases all locks of a closed pull request, as its close would have done, if they are those that were shown.
	CleanUp(by atlock.Actor, repo string, pull int, asked []Asked) error
	// Stale are the locks that nobody will release; nil where nobody looks.
	Stale() []StaleLock
	// UnlockApplies ends Atlantis's global apply lock.
	UnlockApplies(by atlock.Actor) error
}

// Grant is a lock as a person saw it.
type Grant struct {
	Pull  int
	Token atlock.FencingToken
	Taken time.Time
}

// Look is what a person has to know of a lock before it is released.
type Look struct {
	Grant Grant
	Notes []string // what is applied, and what runs
}

// Asked is a lock that a person wants released.
type Asked struct {
	Key   string
	Grant Grant
}

// Released is what came of that.
type Released struct {
	Key    string
	Result string // "released", "not held", "refused"
	Text   string // what is to be known of it; empty if there is nothing
}

// acting serves a form of the page. Who may send it is decided by Atlantis's web auth, as for its own pages; and no other site's page can
// send it in the name of somebody who may.
func acting(options Options, act func(w http.ResponseWriter, r *http.Request, form url.Values) error) (http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	if options.Origin != "" {
		if err := protection.AddTrustedOrigin(options.Origin); err != nil {
			return nil, err
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		showMessage(w, options, http.StatusForbidden, "Nothing was changed", "The form was sent from a page of another site. If this server is "+
			"reached by another address than --atlantis-url says, correct that.")
	}))
	return guarded(protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, longestForm)
		err := r.ParseForm()
		if _, isLong := errors.AsType[*http.MaxBytesError](err); isLong {
			err = fault{http.StatusRequestEntityTooLarge, fmt.Sprintf("the form is too long: %d KiB are the limit", longestForm>>10)}
		} else if err != nil {
			err = badRequest("the form cannot be read: %v", err)
		} else {
			err = act(w, r, r.PostForm)
		}
		if err != nil {
			showMessage(w, options, codeOf(err), "Nothing was changed", "Because: "+options.why(err))
		}
	}))), nil
}

// user is who sends a form. Atlantis has looked at the password before.
func (o Options) user(r *http.Request) string {
	if name, _, has := r.BasicAuth(); has && o.WebAuth {
		return name
	}
	return "page"
}

// back leads to the page after a change, so that a reload does not repeat that.
func (o Options) back(w http.ResponseWriter, part string) {
	w.Header().Set("Location", o.BasePath+PagePath+part)
	w.WriteHeader(http.StatusSeeOther)
}

// freezeSpans are the times for which the page freezes, with their names.
var freezeSpans = []struct {
	Value, Text string
	length      time.Duration // 0: open-ended
}{
	{"1h", "1 hour", time.Hour},
	{"4h", "4 hours", 4 * time.Hour},
	{"1d", "1 day", 24 * time.Hour},
	{"3d", "3 days", 3 * 24 * time.Hour},
	{"7d", "1 week", 7 * 24 * time.Hour},
	{"open", "until somebody thaws it", 0},
}

// freezeByForm freezes locks.
func freezeByForm(database Database, options Options) func(http.ResponseWriter, *http.Request, url.Values) error {
	return func(w http.ResponseWriter, r *http.Request, form url.Values) error {
		text := func(name string) string { return strings.TrimSpace(form.Get(name)) }
		asked := atlock.FreezeRequest{
			Pattern: atlock.FreezePattern{Repo: text("repo"), Path: text("path"), Workspace: text("workspace")},
			Reason:  text("reason"),
			Owner:   options.user(r),
		}
		if project := text("project"); project != "" {
			asked.Pattern.Project = &project
		}
		if text("plans") == atlock.FreezePlansAllow {
			asked.Plans = atlock.FreezePlansAllow
		}
		known := false
		for _, span := range freezeSpans {
			if span.Value != text("for") {
				continue
			}
			known = true
			if asked.OpenEnded = span.length == 0; !asked.OpenEnded {
				until := atlock.UnixMicro(time.Now().Add(span.length).UnixMicro())
				asked.Until = &until
			}
		}
		if !known {
			return badRequest("a freeze has an end, or says that it has none: choose one")
		}
		if _, err := database.As(options.PageActor(r)).Freeze(asked); err != nil {
			return err
		}
		options.back(w, "#freezes")
		return nil
	}
}

// thawByForm ends a freeze. One that is over already is fine.
func thawByForm(database Database, options Options) func(http.ResponseWriter, *http.Request, url.Values) error {
	return func(w http.ResponseWriter, r *http.Request, form url.Values) error {
		if form.Get("id") == "" {
			return badRequest("no freeze was named")
		}
		if _, err := database.As(options.PageActor(r)).Thaw(form.Get("id")); err != nil {
			return err
		}
		options.back(w, "")
		return nil
	}
}

// unlockApplies ends Atlantis's global apply lock.
func unlockApplies(options Options) func(http.ResponseWriter, *http.Request, url.Values) error {
	return func(w http.ResponseWriter, r *http.Request, _ url.Values) error {
		if err := options.Actions.UnlockApplies(options.PageActor(r)); err != nil {
			return err
		}
		options.back(w, "")
		return nil
	}
}
