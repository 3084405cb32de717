package handover

import (
	"net/http"
	"time"

	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Atlantis's database has no argument for who uses it, and the audit trail says so. Who does is known to the seams:
//
//   - the project locker (S1) is called by a command in its bracket, by `import` and `state`, which are marked while they run, or by the API;
//   - a page's request comes with its actor ([Handover.DeleteLock], [Handover.Release], …);
//   - a close marks its pull request while it cleans up (S5), the API's locker is the API's own;
//   - what is left, in [Store], is looked up among the marks of the pull request: where they do not agree, nobody is named.

// mark is somebody who works for a pull request.
type mark struct {
	repo  string
	num   int
	whole bool // may give up all locks of the pull request: unlock, a close
	actor atlock.Actor
}

// marked adds a mark until the answer is called.
func (b *brackets) marked(added mark) (remove func()) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.marks == nil {
		b.marks = map[*mark]struct{}{}
	}
	b.marks[&added] = struct{}{}
	return func() {
		b.mutex.Lock()
		defer b.mutex.Unlock()
		delete(b.marks, &added)
	}
}

// actor is who works for a pull request with this number, as far as all marks agree; whole: who may give up all of its locks.
func (b *brackets) actor(repo string, num int, whole bool) (found atlock.Actor) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	first := true
	for mark := range b.marks {
		if mark.repo != repo || mark.num != num || mark.whole != whole {
			continue
		}
		if first {
			found, first = mark.actor, false
		}
		if found.By != mark.actor.By {
			found.By = atlock.Person{}
		}
		if found.Via != mark.actor.Via {
			return atlock.Actor{}
		}
	}
	return found
}

// person is a user of the Git host; nobody without a name.
func person(user models.User) atlock.Person { return atlock.Person{User: user.Username} }

// vias are the ways of commands. Others are comments that take locks on their way.
var vias = map[string]atlock.Via{atlock.RunPlan: atlock.ViaPlan, atlock.RunApply: atlock.ViaApply}

// actorOf is who runs a command.
func actorOf(ctx *command.Context, run string) atlock.Actor {
	via, known := vias[run]
	if !known {
		via = atlock.ViaComment
	}
	return atlock.Actor{Via: via, By: person(ctx.User)}
}

// asker is who asks for a lock by the project locker: a command, or else the API, which names no user.
func (h *Handover) asker(in *bracket, pull models.PullRequest, user models.User) atlock.Actor {
	if in != nil {
		return atlock.Actor{Via: vias[in.command], By: person(user)}
	}
	if found := h.open.actor(pull.BaseRepo.FullName, pull.Num, false); !found.IsZero() {
		return found
	}
	return atlock.Actor{Via: atlock.ViaAPI}
}

// commented is a runner of a command without a bracket that takes locks, marked while it runs.
type commented struct {
	events.CommentCommandRunner
	handover *Handover
}

// Run runs the command.
func (c commented) Run(ctx *command.Context, comment *events.CommentCommand) {
	defer c.handover.open.marked(mark{ctx.Pull.BaseRepo.FullName, ctx.Pull.Num, false, actorOf(ctx, "")})()
	c.CommentCommandRunner.Run(ctx, comment)
}

// skippingCommented is one that also tells when Atlantis need not run its hooks.
type skippingCommented struct {
	commented
	hooksSkipper
}

func (h *Handover) comment(runner events.CommentCommandRunner) events.CommentCommandRunner {
	wrapped := commented{runner, h}
	if skipper, ok := runner.(hooksSkipper); ok {
		return skippingCommented{wrapped, skipper}
	}
	return wrapped
}

// acting is the store in the hands of somebody who is known.
func (s *Store) acting(actor atlock.Actor) *Store {
	acting := &Store{Database: s.Database.As(actor), known: true}
	acting.handover.Store(s.handover.Load())
	return acting
}

// by is the database in the hands of who works for a pull request.
func (s *Store) by(h *Handover, repo string, num int, whole bool) *atlock.Database {
	if s.known || h == nil {
		return s.Database
	}
	return s.Database.As(h.open.actor(repo, num, whole))
}

// lockerOf is Atlantis's client of the lock store, in the hands of somebody who is known.
func (h *Handover) lockerOf(actor atlock.Actor) locking.Locker {
	return locking.NewClient(h.store.acting(actor))
}

// page is Atlantis's controller of the pages of locks, used by this actor.
func (h *Handover) page(actor atlock.Actor) *controllers.LocksController {
	controller := *h.locks
	discards := newDiscarder(&h.stockDiscard, h)
	discards.actor = actor
	controller.DeleteLockCommand = discards
	controller.ApplyLocker = applyLocker{h.locks.ApplyLocker, h.store.acting(actor)}
	return &controller
}

// DeleteLock serves Atlantis's page of a lock for somebody who is known.
func (h *Handover) DeleteLock(w http.ResponseWriter, r *http.Request, actor atlock.Actor) {
	h.page(actor).DeleteLock(w, r)
}

// LockApply serves Atlantis's button for the global apply lock for somebody who is known.
func (h *Handover) LockApply(w http.ResponseWriter, r *http.Request, actor atlock.Actor) {
	h.page(actor).LockApply(w, r)
}

// UnlockApply serves the button that ends it.
func (h *Handover) UnlockApply(w http.ResponseWriter, r *http.Request, actor atlock.Actor) {
	h.page(actor).UnlockApply(w, r)
}

// applyLocker is Atlantis's locker of applies, whose database is one of somebody who is known. Where applies are disabled by a flag, Atlantis
// answers; it then says that they are locked since no time at all.
type applyLocker struct {
	locking.ApplyLocker
	store *Store
}

func (l applyLocker) isDisabled() bool {
	check, err := l.CheckApplyLock()
	return err == nil && check.Locked && check.Time.IsZero()
}

func (l applyLocker) LockApply() (locking.ApplyCommandLock, error) {
	if l.isDisabled() {
		return l.ApplyLocker.LockApply()
	}
	lock, err := l.store.LockCommand(command.Apply, time.Now())
	if lock == nil || err != nil {
		return locking.ApplyCommandLock{}, err
	}
	return locking.ApplyCommandLock{Locked: true, Time: lock.LockTime()}, nil
}

func (l applyLocker) UnlockApply() error {
	if l.isDisabled() {
		return l.ApplyLocker.UnlockApply()
	}
	return l.store.UnlockCommand(command.Apply)
}
