package atlock

import (
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"
)

func (p *passthrough) explain(key string) (Explained, error) {
	held, err := locking.NewClient(p).GetLock(key)
	if err != nil {
		return Explained{}, err
	}
	if held == nil {
		free := Explained{Key: key, State: StateFree, Store: "legacy", Queue: []InLine{}, BlockedBy: []BlockedBy{}}
		free.FreesIt = []string{"nothing has to be done: the lock is free"}
		return free, nil
	}
	return p.explainHeld(*held), nil
}

func (p *passthrough) explainPull(repo string, pull PullID) ([]Explained, error) {
	locks, err := p.List()
	if err != nil {
		return nil, err
	}
	explained := []Explained{}
	for _, lock := range locks {
		if host := lock.Pull.BaseRepo.VCSHost.Hostname; pull.Host != "" && host != "" && host != pull.Host {
			continue
		}
		if lock.Project.RepoFullName == repo && lock.Pull.Num == pull.Num {
			explained = append(explained, p.explainHeld(lock))
		}
	}
	return explained, nil
}

// explainHeld has the library's sentences (src/service/queueing/explain.rs).
func (p *passthrough) explainHeld(lock models.ProjectLock) Explained {
	key, num, since := models.GenerateLockKey(lock.Project, lock.Workspace), lock.Pull.Num, lock.Time.Format(time.RFC3339Nano)
	isOld := time.Since(lock.Time) > time.Duration(p.waits.limits.Max)
	explained := Explained{
		Key: key, State: StateHeld, Store: "legacy", Queue: []InLine{},
		Holder: &LockHolder{
			Pull: PullID{Host: lock.Pull.BaseRepo.VCSHost.Hostname, Num: num},
			URL:  lock.Pull.URL, User: lock.User.Username, Since: since, IsOld: isOld,
		},
	}
	// As the library tells. Atlantis's API and its drift detection lock under numbers below 0.
	name, who := "a call of Atlantis's API, or its drift detection,", ""
	if num > 0 {
		name, who = fmt.Sprintf("pull #%d", num), fmt.Sprintf("#%d", num)
		explained.FreesIt = []string{
			"merge or close " + name,
			fmt.Sprintf("comment `atlantis unlock` in %s, if nothing of it is applied: its plans are lost", who),
		}
	} else {
		explained.FreesIt = []string{
			"wait: a call of Atlantis's API, or its drift detection, has the lock for no pull request, and gives it up at its end",
		}
	}
	explained.BlockedBy = []BlockedBy{{Kind: "lock", What: fmt.Sprintf("%s has the lock since %s", name, since), Who: who}}
	explained.FreesIt = append(explained.FreesIt, fmt.Sprintf("discard the lock %q alone on Atlantis's page", key))
	if isOld {
		text := fmt.Sprintf("look whether %s is still wanted: the lock is held for longer than %v", name, time.Duration(p.waits.limits.Max))
		explained.FreesIt = append(explained.FreesIt, text)
	}
	return explained
}

func (p *passthrough) freeze(FreezeRequest) (Freeze, error) { return Freeze{}, errNoQueue }

func (p *passthrough) thaw(string) (*Freeze, error) { return nil, errNoQueue }

func (p *passthrough) freezes() ([]Freeze, error) { return nil, errNoQueue }

func (p *passthrough) deadlocks() ([]Deadlock, error) { return nil, errNoQueue }

func (p *passthrough) tellDeadlock(string) ([]PullID, error) { return nil, errNoQueue }

func (p *passthrough) endDeadlock(string, []Standing) (*Yielded, error) { return nil, errNoQueue }
