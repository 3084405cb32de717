package linearizability

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
	"golang.org/x/sys/unix"

	"github.com/atlock/atlock/go/atlock"
)

// roleVariable is set in a server's process, and says what it has to do.
const roleVariable = "ATLOCK_LINEARIZABILITY_ROLE"

// role is what one process does: it opens its store and works on it, from several goroutines, until the end.
type role struct {
	Settings settings
	// Server is the number of its store among those of the run.
	Server int
	// Process is a number that no other process of the run has, not even one with the same store.
	Process int
	// Queue: its clients wait in order.
	Queue bool
	// Clients are its goroutines.
	Clients int
	Seed    uint64
	// Begin and End are those of the run.
	Begin, End int64
}

func (r role) epoch() time.Duration {
	if r.Queue {
		return queueEpoch
	}
	return epoch
}

// settings open a store; BoltDB is the folder of Atlantis's own file, empty where there is none.
type settings struct {
	atlock.Config
	BoltDB string
}

func (s settings) open() (*atlock.Database, error) {
	if s.BoltDB == "" {
		return atlock.Open(s.Config)
	}
	return atlock.Open(s.Config, atlock.WithBoltDB(s.BoltDB))
}

const (
	keys = 3
	// epoch is how long the same keys are used: long enough for Redis to go and come back, short enough to be checked.
	epoch = 3 * time.Second
	// queueEpoch is the same where pulls wait: an order of those is sought among more states.
	queueEpoch = 500 * time.Millisecond
	// longestPause is the time between two operations of one client.
	longestPause = 6 * time.Millisecond
	// settleLimit is how long hybrid mode may take until Redis decides again, once all is calm.
	settleLimit = 30 * time.Second
	retryPause  = 20 * time.Millisecond
)

// note is what a process tells of an operation: its request before it begins, its answer after it ended. One that failed without
// effect has an Error.
type note struct {
	Client, Number int
	At             int64
	Request        *request `json:",omitempty"`
	Answer         *answer  `json:",omitempty"`
	Error          string   `json:",omitempty"`
	// Fallback: the local store answered in Redis's place, or it answered another operation meanwhile.
	Fallback bool `json:",omitempty"`
	// Unarmed: it did so without being allowed to decide, so that what it showed is what was.
	Unarmed bool `json:",omitempty"`
}

// now is the time of a clock that all processes share and nobody sets.
func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err) // Linux has it
	}
	return at.Nano()
}

// serve is a server's process. It tells its notes on out, and ends at once when in does: its parent is gone.
func serve(text string, in io.Reader, out io.Writer) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("read role: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(1)
	}()
	database, err := r.open()
	if err != nil || database == nil {
		return err
	}
	notes := &notes{to: json.NewEncoder(out)}
	var working sync.WaitGroup
	errs := make([]error, r.Clients)
	for i := range r.Clients {
		c := client{role: r, number: i, database: database, notes: notes, random: rand.New(rand.NewPCG(r.Seed, uint64(r.Process*1000+i))), held: map[string]int{}}
		working.Go(func() { errs[i] = c.work() })
	}
	working.Wait()
	return errors.Join(append(errs, settle(database), database.Close())...)
}

// open tries again while only Redis is away; nil: until the end.
func (r role) open() (*atlock.Database, error) {
	for now() < r.End {
		database, err := r.Settings.open()
		if err == nil || !isAway(err) {
			return database, err
		}
		time.Sleep(retryPause)
	}
	return nil, nil
}

// settle waits until Redis decides.
func settle(database *atlock.Database) error {
	for deadline := time.Now().Add(settleLimit); ; time.Sleep(retryPause) {
		status, err := database.Status()
		if err != nil || !status.FallbackActive {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("Redis is back, but does not decide again: %s", status.Cause)
		}
	}
}

// notes writes each note at once, whole.
type notes struct {
	mu sync.Mutex
	to *json.Encoder
}

func (n *notes) tell(note note) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.to.Encode(note)
}

// client is one goroutine that makes one operation after the other.
type client struct {
	role     role
	number   int
	database *atlock.Database
	notes    *notes
	random   *rand.Rand
	made     int
	// held is the last pull that took a key here, or may have, or was told of.
	held map[string]int
	// failed: the last operation did.
	failed bool
}

func (c *client) work() error {
	for {
		time.Sleep(time.Duration(c.random.Int64N(int64(longestPause))))
		at := now()
		if at > c.role.End {
			return nil
		}
		if err := c.operate(c.next(at)); err != nil {
			return err
		}
	}
}

// next chooses an operation.
func (c *client) next(at int64) request {
	number := c.random.IntN(keys)
	key := fmt.Sprintf("%03d/%d", (at-c.role.Begin)/int64(c.role.epoch()), number)
	c.made++
	if c.role.Queue {
		return c.nextQueued(key, 1+number+keys*(c.role.Server*c.role.Clients+c.number))
	}
	switch choice := c.random.IntN(10); {
	case choice < 4:
		return request{Kind: take, Key: key, Pull: (c.role.Process*100+c.number)*1_000_000 + c.made}
	case choice < 5:
		return request{Kind: release, Key: key}
	case choice < 8:
		return request{Kind: releaseOwned, Key: key, Pull: c.held[key]}
	default:
		return request{Kind: look, Key: key}
	}
}

// operate makes an operation and writes it down.
func (c *client) operate(request request) error {
	before, err := c.database.Status()
	begun := note{Client: c.number, Number: c.made, At: now(), Request: &request}
	if err := errors.Join(err, c.notes.tell(begun)); err != nil {
		return err
	}
	answer, failure := c.perform(request)
	ended := note{Client: c.number, Number: c.made, At: now(), Answer: &answer}
	after, err := c.database.Status()
	if err != nil {
		return err
	}
	ended.Fallback = after.FallbackOps > before.FallbackOps
	ended.Unarmed = ended.Fallback && !(before.Armed && after.Armed)
	switch {
	case errors.Is(failure, atlock.ErrOutcomeUnknown), isAway(failure) && request.mayBeHalfMade():
		ended.Answer = &never
	case failure != nil && !isAway(failure) && !errors.Is(failure, atlock.ErrDegraded):
		return fmt.Errorf("%v: %w", request, failure)
	case failure != nil:
		ended.Answer, ended.Error = nil, nameOf(failure)
	}
	c.failed = failure != nil
	if ended.Answer != nil && request.Kind == take {
		c.held[request.Key] = request.Pull
		if answer.Pull != 0 {
			c.held[request.Key] = answer.Pull
		}
	}
	return c.notes.tell(ended)
}

func (c *client) perform(request request) (answer, error) {
	if c.role.Queue {
		return performQueued(c.database, request)
	}
	return perform(c.database, request)
}

// isAway: Redis could not be asked, and nothing was changed. One that starts anew reads its data first. One that is killed may break a new
// connection off, as a port does that wants TLS.
func isAway(err error) bool {
	return errors.Is(err, atlock.ErrUnreachable) || errors.Is(err, atlock.ErrLoading) || errors.Is(err, atlock.ErrTimeout) || errors.Is(err, atlock.ErrTLS)
}

// nameOf groups errors.
func nameOf(err error) string {
	switch {
	case errors.Is(err, atlock.ErrDegraded):
		return degraded
	case errors.Is(err, atlock.ErrTimeout):
		return "timeout"
	default:
		return "unreachable"
	}
}

const degraded = "degraded"

// perform makes one operation.
func perform(database *atlock.Database, request request) (answer, error) {
	return performOn(database, models.NewProject("acme/infra", request.Key, ""), "default", request)
}

func performOn(database *atlock.Database, project models.Project, workspace string, request request) (answer, error) {
	var lock *models.ProjectLock
	var err error
	switch request.Kind {
	case take:
		wanted := models.ProjectLock{Project: project, Workspace: workspace, Pull: models.PullRequest{Num: request.Pull}, Time: time.Now()}
		granted, current, err := database.TryLock(wanted)
		if granted || err != nil {
			return answer{Granted: granted}, err
		}
		return answer{Pull: current.Pull.Num}, nil
	case release:
		lock, err = database.Unlock(project, workspace)
	case releaseOwned:
		lock, err = database.UnlockIfOwnedByPull(project, workspace, request.Pull)
	case look:
		lock, err = database.GetLock(project, workspace)
	}
	if lock == nil || err != nil {
		return answer{}, err
	}
	return answer{Pull: lock.Pull.Num}, nil
}
