package handover

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// Options is what the settings say.
type Options struct {
	// Store is the database in Atlantis's hands.
	Store *Store
	// Settings are those that the database was opened with.
	Settings atlock.Config
	// Clones is the folder in which Atlantis has its clones.
	Clones string
	// UnlockLabel is Atlantis's --disable-unlock-label.
	UnlockLabel string
}

// guard tells whether an apply needs the lock.
func (o Options) guard() bool {
	switch o.Settings.Locking.Enhanced.ApplyGuard {
	case atlock.GuardOn:
		return true
	case atlock.GuardOff:
		return false
	}
	return o.Settings.Mode() != atlock.ModeStrict || o.Settings.Locking.Backend == atlock.BackendSled
}

// replan is what happens when the turn of a pull request comes.
func (o Options) replan() atlock.Replan {
	return cmp.Or(o.Settings.Locking.Enhanced.PriorityQueue.Replan, atlock.ReplanAuto)
}

// turn is for how long a free lock is kept for whoever is next.
func (o Options) turn() time.Duration {
	if set := o.Settings.Locking.Enhanced.Timeouts.Default; set != 0 {
		return time.Duration(set)
	}
	return 30 * time.Minute // the library's default
}

// Handover joins a server with its locks. Its methods may be called from any goroutine.
type Handover struct {
	database *atlock.Database
	store    *Store
	stock    *events.DefaultProjectLocker
	words    words
	logger   logging.SimpleLogging
	options  Options
	guarded  atomic.Bool // whether an apply needs the lock
	expected expected
	open     brackets
	records  records
	// discarding is held while a plan is discarded; no command of a pull request begins meanwhile.
	discarding sync.Mutex
	// deadlocks is nil where nobody looks for them.
	deadlocks *deadlocks
	// lost is nil where there is never a guard.
	lost *lostPlans
	// labels is nil where no rule about priority has a label.
	labels *labeller
	// locks has Atlantis's page of a lock; nil where nothing is wired.
	locks        *controllers.LocksController
	stockDiscard events.DefaultDeleteLockCommand
	unlockLabel  string
	// replanner is nil where nobody is planned or told.
	replanner *replanner
	// sweeper is nil where nobody looks for stale locks.
	sweeper *sweeper
}

// Wire puts the parts of this package into a server that does not serve yet. It is an error if the server is not built as the releases
// are that this package was written for. With --disable-repo-locking Atlantis asks no locker, and nothing is wired.
func Wire(atlantis *server.Server, database *atlock.Database, options Options) (*Handover, error) {
	if _, off := atlantis.Locker.(*locking.NoOpLocker); off {
		return &Handover{database: database}, nil
	}
	runner, err := projectRunner(atlantis)
	if err != nil {
		return nil, err
	}
	stock, err := as[*events.DefaultProjectLocker]("the project command runner's Locker", runner.Locker)
	if err != nil {
		return nil, err
	}
	projects, err := as[*events.InstrumentedProjectCommandBuilder](
		"the API controller's ProjectCommandBuilder", atlantis.APIController.ProjectCommandBuilder)
	if err != nil {
		return nil, err
	}
	discards, err := as[*events.DefaultDeleteLockCommand]("the locks controller's DeleteLockCommand", atlantis.LocksController.DeleteLockCommand)
	if err != nil {
		return nil, err
	}
	commands := atlantis.CommandRunner.CommentCommandRunnerByCmd
	for name := range bracketedCommands {
		if commands[name] == nil {
			return nil, fmt.Errorf("Atlantis has no runner of the command %s: this release is built otherwise than those that atlock knows", name)
		}
	}

	h := &Handover{
		database: database, store: options.Store, stock: stock, logger: atlantis.Logger, options: options,
		words:   words{client: stock.VCSClient, program: executableName(stock), replan: options.replan(), turn: options.turn()},
		records: records{clones: options.Clones},
		labels:  newLabeller(stock.VCSClient, options.Settings.Locking.Enhanced.PriorityQueue),
		locks:   atlantis.LocksController, stockDiscard: *discards, unlockLabel: options.UnlockLabel,
	}
	if options.Settings.Locking.Enhanced.PriorityQueue.Enabled && options.Settings.Locking.Enhanced.DeadlockDetection.Enabled {
		h.deadlocks = &deadlocks{h, options.Settings.Locking.Enhanced.DeadlockDetection.Resolve == atlock.ResolveYield}
	}
	h.guarded.Store(options.guard())
	if options.Settings.Locking.Enhanced.ApplyGuard != atlock.GuardOff {
		list, err := as[*events.DefaultProjectCommandBuilder]("the builder in the API controller's ProjectCommandBuilder", projects.ProjectCommandBuilder)
		if err != nil {
			return nil, err
		}
		h.lost = &lostPlans{handover: h, finder: list.PendingPlanFinder, clones: options.Clones}
	}
	h.locks.DeleteLockCommand = newDiscarder(discards, h)
	markNoPlans(h.locks)
	runner.Locker = locker{h}
	guardApplies(runner, h)
	projects.ProjectCommandBuilder = builder{projects.ProjectCommandBuilder, h}
	for name, run := range bracketedCommands {
		commands[name] = h.bracket(commands[name], run)
	}
	for _, name := range commentedCommands {
		if commands[name] != nil {
			commands[name] = h.comment(commands[name])
		}
	}
	atlantis.VCSEventsController.PullCleaner = cleaner{atlantis.VCSEventsController.PullCleaner, h, atlock.Actor{Via: atlock.ViaPullClosed}}
	atlantis.APIController.Locker = apiLocker{atlantis.APIController.Locker, h, options.Settings.Locking.Enhanced.PriorityQueue.Enabled}
	live := newLive(pullFetcherOf(atlantis), liveLimit)
	if options.Settings.Locking.Enhanced.PriorityQueue.Enabled && h.words.replan != atlock.ReplanOff {
		h.replanner = replannerOf(atlantis, database, live, h.words)
	}
	if mode := options.staleMode(); mode != atlock.StaleOff {
		h.sweeper = &sweeper{
			handover: h, live: live, cleaner: atlantis.VCSEventsController.PullCleaner, mode: mode,
			logger: atlantis.Logger, now: time.Now, between: staleQuestions, seen: map[string]sighting{}, asked: map[pullKey]time.Time{},
		}
	}
	for _, off := range partsOff {
		h.logger.Warn("locking: this release of Atlantis is older than v0.46: %s", off)
	}
	h.store.handover.Store(h)
	return h, nil
}

// Follow is called when the settings of the database change while it serves: with `apply_guard: auto`, the mode decides about the guard.
func (h *Handover) Follow(settings atlock.Config) {
	options := h.options
	options.Settings = settings
	h.guarded.Store(options.guard())
}

// Run plans pull requests whose turn it is, and looks for stale locks, as long as the context is not done and the database not closed. A plan
// that runs is waited for.
func (h *Handover) Run(ctx context.Context) {
	var running sync.WaitGroup
	if h.replanner != nil {
		running.Go(func() { h.replanner.run(ctx) })
	}
	if h.deadlocks != nil {
		running.Go(func() { h.deadlocks.run(ctx) })
	}
	if h.lost != nil {
		running.Go(func() { h.lost.run(ctx) })
	}
	if h.sweeper != nil {
		running.Go(func() { h.sweeper.run(ctx) })
	}
	running.Wait()
}

// bracketedCommands are the commands in brackets, with the library's names for them.
var bracketedCommands = map[command.Name]string{
	command.Plan:   atlock.RunPlan,
	command.Apply:  atlock.RunApply,
	command.Unlock: atlock.RunUnlock,
}

// commentedCommands are those without a bracket that take locks.
var commentedCommands = []command.Name{command.ApprovePolicies, command.Import, command.State}

// as is a value of Atlantis's as the type that it has in the releases that this package was written for.
func as[T any](what string, found any) (T, error) {
	value, ok := found.(T)
	if !ok {
		return value, fmt.Errorf("%s in this Atlantis is a %T, and a %T was expected: this release is built otherwise than those that atlock knows",
			what, found, value)
	}
	return value, nil
}
