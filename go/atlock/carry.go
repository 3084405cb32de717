package atlock

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// carrying is what a store leaves to the one that is opened after it in the same process.
type carrying interface {
	closeToReopen() (carried []byte, err error)
	carryOn(carried []byte) error
	noteChange(change Change) error
	checkKeys(config Config) error
}

func (l *library) closeToReopen() ([]byte, error) { return l.CloseToReopen() }

func (l *library) carryOn(carried []byte) error {
	if carried == nil {
		return nil
	}
	return l.CarryOn(carried)
}

func (l *library) noteChange(change Change) error { return l.NoteChange(change) }

func (l *library) checkKeys(config Config) error { return l.CheckKeys(config) }

// carried are the library's runs on their way through Atlantis's own store, which has none (src/service/queueing/carry.rs).
type carried struct {
	LastRun uint64                 `json:"last_run"`
	Runs    map[uint64]*carriedRun `json:"runs"`
}

// carriedRun is a run of a pull request. Locks are JSON texts, by key.
type carriedRun struct {
	Repo     string            `json:"repo"`
	Pull     PullID            `json:"pull"`
	Command  string            `json:"command"`
	Priority string            `json:"priority"`
	Applied  []string          `json:"applied"`
	Recipe   string            `json:"recipe"`
	Declared map[string]string `json:"declared"` // what it is going to take
	Deferred map[string]string `json:"deferred"` // what it gives up at its end
}

// carryOn takes the runs of a library's store over. What they gave up is given up now, as without a queue: Atlantis takes it again, if it can.
// What was applied is kept.
func (p *passthrough) carryOn(text []byte) error {
	if text == nil {
		return nil
	}
	p.runsMutex.Lock()
	defer p.runsMutex.Unlock()
	if err := json.Unmarshal(text, &p.runs); err != nil {
		return fmt.Errorf("reading the runs that go on: %w", err)
	}
	for number, run := range p.runs.Runs {
		if run == nil {
			return fmt.Errorf("reading the runs that go on: run %d is none", number)
		}
		for _, key := range slices.Sorted(maps.Keys(run.Deferred)) {
			if slices.Contains(run.Applied, key) {
				continue
			}
			var lock models.ProjectLock
			if err := decodeLock(string(run.Deferred[key]), &lock); err != nil {
				return undecoded(err)
			}
			if _, err := p.UnlockIfOwnedByPull(lock.Project, lock.Workspace, run.Pull.Num); err != nil {
				return err
			}
		}
		run.Deferred = map[string]string{}
	}
	return nil
}

// closeToReopen closes the store. The runs go on in the next one.
func (p *passthrough) closeToReopen() ([]byte, error) {
	if err := p.Close(); err != nil {
		return nil, err
	}
	p.runsMutex.Lock()
	defer p.runsMutex.Unlock()
	if p.runs.Runs == nil {
		return nil, nil
	}
	return json.Marshal(p.runs)
}

// noteChange records a change as the library does (src/service/change.rs).
func (p *passthrough) noteChange(change Change) error {
	detail := fmt.Sprintf("%s to %s: %s", change.From, change.To, change.Result)
	if change.Error != "" {
		detail += ": " + change.Error
	}
	return p.audit.Record(AuditEntry{Kind: "change", Detail: detail, Settings: change.Settings, Actor: actorOf(change.By)})
}

// actorOf is who asked for a change.
func actorOf(by json.RawMessage) Actor {
	var asked struct {
		Socket *struct {
			PID int32  `json:"pid"`
			UID uint32 `json:"uid"`
		} `json:"socket"`
	}
	switch err := json.Unmarshal(by, &asked); {
	case string(by) == `"signal"`:
		return Actor{Via: ViaSignal}
	case err != nil || asked.Socket == nil:
		return Actor{}
	default:
		return Actor{Via: ViaCommandLine, By: Person{UID: &asked.Socket.UID, PID: &asked.Socket.PID}}
	}
}

// checkKeys does nothing: this store is not sealed.
func (p *passthrough) checkKeys(Config) error { return nil }

// run is one that began in another store.
func (p *passthrough) run(number uint64) (*carriedRun, error) {
	p.runsMutex.Lock()
	defer p.runsMutex.Unlock()
	if run := p.runs.Runs[number]; run != nil {
		return run, nil
	}
	return nil, errNoQueue
}

func (p *passthrough) runBegin(client.RunRequest) (uint64, error) { return 0, errNoQueue }

func (p *passthrough) runDeclare(number uint64, _ []json.RawMessage) error {
	_, err := p.run(number)
	return err
}

// runTryLock takes a lock as without a run. One that the pull request has already is acquired.
func (p *passthrough) runTryLock(number uint64, text []byte) (client.InRun, error) {
	run, err := p.run(number)
	if err != nil {
		return client.InRun{}, err
	}
	var asked models.ProjectLock
	if err := decodeLock(string(text), &asked); err != nil {
		return client.InRun{}, undecoded(err)
	}
	acquired, current, err := p.TryLock(asked)
	if err != nil {
		return client.InRun{}, err
	}
	isOwn := current.Pull.Num == run.Pull.Num && current.Project.RepoFullName == run.Repo
	value, err := json.Marshal(current)
	return client.InRun{Acquired: acquired || isOwn, Lock: value}, err
}

func (p *passthrough) runEnd(number uint64) (RunEnded, error) {
	_, err := p.run(number)
	p.runsMutex.Lock()
	defer p.runsMutex.Unlock()
	delete(p.runs.Runs, number)
	return RunEnded{}, err
}
