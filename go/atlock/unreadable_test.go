package atlock

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
	"github.com/atlock/atlock/go/internal/hostop"
)

// What a host store released is not judged by the library: it is gone. Of these, the first is a lock, and the others have members that
// Atlantis does not read, as a later release may write them.
const (
	goodLock = `{"Project":{"ProjectName":"web","RepoFullName":"acme/infra","Path":"a"},"Pull":{"Num":7},"User":{"Username":"ada"},` +
		`"Workspace":"default","Time":"2025-03-09T01:59:58Z"}`
	oddTime = `{"Project":{"ProjectName":"web","RepoFullName":"acme/infra","Path":"b"},"Pull":{"Num":7,"State":"open","BaseRepo":` +
		`{"FullName":"acme/infra","Owner":"acme","Name":"infra","VCSHost":{"Hostname":"example.com","Type":"Gitea"}}},` +
		`"User":"ada","Workspace":"default","Time":"secret yesterday"}`
	oddNames = `{"Project":"acme/infra","Pull":7}`
)

// hostAnswers answers each operation with one text.
type hostAnswers map[uint32]string

func (h hostAnswers) Call(op uint32, _ []byte) ([]byte, error) {
	answer, ok := h[op]
	if !ok {
		return nil, errors.New("not known")
	}
	return []byte(answer), nil
}

func (hostAnswers) Close() error { return nil }

// over is a core over a host store that answers so, and what is logged.
func over(t *testing.T, answers hostAnswers) (*core, *bytes.Buffer) {
	t.Helper()
	handle, err := capi.OpenWithHost([]byte(`{"locking":{"backend":"boltdb"}}`), answers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := handle.Close(); err != nil {
			t.Error(err)
		}
	})
	var log bytes.Buffer
	return newCore(handle, slog.New(slog.NewTextHandler(&log, nil))), &log
}

func logs(t *testing.T, log *bytes.Buffer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log lacks %q: %s", text, log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log repeats a value: %s", log)
	}
}

func TestReleasesThatWereMadeAreReportedAsMade(t *testing.T) {
	core, log := over(t, hostAnswers{
		hostop.ReleaseByPull: "[" + goodLock + "," + oddTime + "," + oddNames + "]",
		hostop.Release:       oddTime,
	})
	released, err := core.UnlockByPull("acme/infra", 7)
	if err != nil || len(released) != 3 {
		t.Fatalf("%v %v", released, err)
	}
	if released[0].User.Username != "ada" || released[0].Project.Path != "a" {
		t.Errorf("the good one: %+v", released[0])
	}
	isOdd := func(lock models.ProjectLock) bool {
		repo := lock.Pull.BaseRepo
		// Atlantis finds the plan by these.
		return models.GenerateLockKey(lock.Project, lock.Workspace) == "acme/infra/b/default/web" && lock.Pull.Num == 7 &&
			repo.FullName == "acme/infra" && repo.VCSHost.Hostname == "example.com"
	}
	if !isOdd(released[1]) {
		t.Errorf("the odd one: %+v", released[1])
	}
	if released[2].Project.RepoFullName != "acme/infra" || released[2].Pull.Num != 7 {
		t.Errorf("the one without names: %+v", released[2])
	}
	logs(t, log, "a lock was released", "acme/infra/b/default/web", "/Pull/State")

	project := models.NewProject("acme/infra", "b", "web")
	lock, err := core.Unlock(project, "default")
	if err != nil || lock == nil || !isOdd(*lock) {
		t.Errorf("Unlock: %+v %v", lock, err)
	}
	lock, err = core.UnlockIfOwnedByPull(project, "default", 7)
	if err != nil || lock == nil || !isOdd(*lock) {
		t.Errorf("UnlockIfOwnedByPull: %+v %v", lock, err)
	}
}

// One lock that only Go cannot read never hides the others.
func TestListLeavesOutWhatGoCannotRead(t *testing.T) {
	core, log := over(t, hostAnswers{hostop.ReleaseByPull: "[" + oddTime + "," + goodLock + "," + oddNames + "]"})
	answer := func() (capi.Listing, error) { return core.handle.UnlockByPull("acme/infra", 7) }
	for range 2 {
		locks, err := core.listing(answer, core.listed)
		if err != nil || len(locks) != 1 || locks[0].Project.Path != "a" {
			t.Fatalf("%v %v", locks, err)
		}
	}
	logs(t, log, "entries in the lock store cannot be read", "acme/infra/b/default/web")
	if count := strings.Count(log.String(), "cannot be read"); count != 1 {
		t.Errorf("logged %d times: %s", count, log)
	}
}

// What the library's definition refuses is named by its key, also by a host store, whose list has no keys.
func TestUnreadableEntriesAreNamed(t *testing.T) {
	answers := hostAnswers{hostop.List: "[" + oddTime + "," + goodLock + "]"}
	core, log := over(t, answers)
	locks, err := core.List()
	if err != nil || len(locks) != 1 {
		t.Fatalf("%v %v", locks, err)
	}
	logs(t, log, "(of the host store)")
	answers[hostop.Dump] = `[{"key":{"project":"acme/infra/b/default/web"},"value":"not JSON"},{"key":{"command":"apply"},"value":"x"},` +
		`{"key":{"project":"acme/infra/c/default/"},"unreadable":true}]`
	if _, err := core.List(); err != nil {
		t.Fatal(err)
	}
	logs(t, log, "acme/infra/b/default/web", "acme/infra/c/default/")
	if strings.Contains(log.String(), "apply") {
		t.Errorf("a command's lock is no project's: %s", log)
	}
	answers[hostop.Get], answers[hostop.Grant] = oddTime, `{"granted":false,"value":`+oddTime+`}`
	if _, err := core.GetLock(models.NewProject("acme/infra", "b", "web"), "default"); !errors.Is(err, ErrEntryUnreadable) {
		t.Errorf("GetLock: %v", err)
	}
	asking := models.ProjectLock{Project: models.NewProject("acme/infra", "b", "web"), Workspace: "default"}
	if _, _, err := core.TryLock(asking); !errors.Is(err, ErrEntryUnreadable) {
		t.Errorf("TryLock: %v", err)
	}
}

func TestWhatStandsBesideLocksIsRead(t *testing.T) {
	core, log := over(t, hostAnswers{hostop.List: "[]"})
	for _, rest := range []string{
		`{"locks":[],"unreadable":[{"key":"k","reason":"r"}],"incomplete":"timed out"}`,
		`],"unreadable":[{"key":"k","reason":"r"}],"incomplete":"timed out"}`,
	} {
		beside := core.beside("UnlockByPull", []byte(rest))
		if beside.Incomplete != "timed out" || len(beside.Unreadable) != 1 || beside.Unreadable[0] != (entry{"k", "r"}) {
			t.Errorf("%s: %+v", rest, beside)
		}
	}
	logs(t, log, "there may be more", "timed out")
	for _, rest := range []string{`{"locks":[],"unreadable":[]}`, `],"unreadable":[]}`} {
		if beside := core.beside("List", []byte(rest)); beside.Incomplete != "" || len(beside.Unreadable) != 0 {
			t.Errorf("%s: %+v", rest, beside)
		}
	}
}
