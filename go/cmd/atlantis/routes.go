package main

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/handover"
	"github.com/atlock/atlock/go/web"
)

// routes adds atlock's page and endpoints to those of Atlantis, until the context is over. It runs before Atlantis registers its own.
func routes(ctx, stopping context.Context, atlantis *server.Server, changer *changer, handed *handover.Handover) error {
	options := web.Options{
		BasePath:        atlantis.AtlantisURL.Path,
		AtlantisVersion: atlantis.AtlantisVersion,
		APISecret:       atlantis.APIController.APISecret,
		Origin:          atlantis.AtlantisURL.Scheme + "://" + atlantis.AtlantisURL.Host,
		WebAuth:         atlantis.WebAuthentication,
		WebUsername:     atlantis.WebUsername,
		WebPassword:     atlantis.WebPassword,
		Stopping:        stopping.Done(),
		AuditFile:       changer.auditFile,
	}
	if handed.CanRelease() {
		options.Actions = actions{handed}
	}
	if err := web.Register(ctx, atlantis.Router, changer.database, options); err != nil {
		return err
	}
	if handed.CanRelease() {
		atlantis.Router.Use(asked(handed, options))
	}
	return nil
}

// asked serves Atlantis's own pages that change locks by Atlantis's own handlers, which are told who asks.
func asked(handed *handover.Handover, options web.Options) mux.MiddlewareFunc {
	type handler = func(http.ResponseWriter, *http.Request, atlock.Actor)
	handlers := map[string]handler{
		"DELETE /locks":        handed.DeleteLock,
		"POST /apply/lock":     handed.LockApply,
		"DELETE /apply/unlock": handed.UnlockApply,
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, err := mux.CurrentRoute(r).GetPathTemplate()
			if handle, known := handlers[r.Method+" "+path]; known && err == nil {
				handle(w, r, options.PageActor(r))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// actions is what the page changes, in the page's terms.
type actions struct{ handover *handover.Handover }

func (a actions) Look(lock models.ProjectLock) (web.Look, error) {
	look, err := a.handover.Look(lock)
	return web.Look{Grant: web.Grant(look.Grant), Notes: look.Notes}, err
}

func (a actions) Release(by atlock.Actor, asked []web.Asked) []web.Released {
	var came []web.Released
	for _, released := range a.handover.Release(by, asShown(asked)) {
		came = append(came, web.Released(released))
	}
	return came
}

func (a actions) CleanUp(by atlock.Actor, repo string, pull int, asked []web.Asked) error {
	return a.handover.CleanUp(by, repo, pull, asShown(asked))
}

func asShown(asked []web.Asked) []handover.Asked {
	shown := make([]handover.Asked, len(asked))
	for i, one := range asked {
		shown[i] = handover.Asked{Key: one.Key, Grant: handover.Grant(one.Grant)}
	}
	return shown
}

func (a actions) Stale() []web.StaleLock {
	found := a.handover.Stale()
	if found == nil {
		return nil
	}
	stale := make([]web.StaleLock, len(found))
	for i, lock := range found {
		stale[i] = web.StaleLock(lock)
	}
	return stale
}

func (a actions) UnlockApplies(by atlock.Actor) error { return a.handover.UnlockApplies(by) }
