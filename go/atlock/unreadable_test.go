package atlock

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
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

// over is a library over a host store that answers so, and what is logged.
func over(t *testing.T, answers hostAnswers) (*library, *bytes.Buffer) {
	t.Helper()
	opened, err := client.Open(Config{}, client.WithHost(answers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	var log bytes.Buffer
	return newLibrary(Config{}, opened, nil, slog.New(slog.NewTextHandler(&log, nil))), &log
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
	library, log := over(t, hostAnswers{
		hostop.ReleaseByPull: "[" + goodLock + "," + oddTime + "," + oddNames + "]",
		hostop.Release:       oddTime,
	})
	released, err := library.UnlockByPull("acme/infra", 7)
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
	lock, err := library.Unlock(project, "default")
	if err != nil || lock == nil || !isOdd(*lock) {
		t.Errorf("Unlock: %+v %v", lock, err)
	}
	lock, err = library.UnlockIfOwnedByPull(project, "default", 7)
	if err != nil || lock == nil || !isOdd(*lock) {
		t.Errorf("UnlockIfOwnedByPull: %+v %v", lock, err)
	}
}

// One lock that only Go cannot read never hides the others.
func TestListLeavesOutWhatGoCannotRead(t *testing.T) {
	library, log := over(t, hostAnswers{hostop.ReleaseByPull: "[" + oddTime + "," + goodLock + "," + oddNames + "]"})
	answer := func() (*client.Listing, error) { return library.Client.UnlockByPull("acme/infra", 7) }
	for range 2 {
		locks, err := library.listing(answer, library.listed)
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
	library, log := over(t, answers)
	locks, err := library.List()
	if err != nil || len(locks) != 1 {
		t.Fatalf("%v %v", locks, err)
	}
	logs(t, log, "(of the host store)")
	answers[hostop.Dump] = `[{"key":{"project":"acme/infra/b/default/web"},"value":"not JSON"},{"key":{"command":"apply"},"value":"x"},` +
		`{"key":{"project":"acme/infra/c/default/"},"unreadable":true}]`
	if _, err := library.List(); err != nil {
		t.Fatal(err)
	}
	logs(t, log, "acme/infra/b/default/web", "acme/infra/c/default/")
	if strings.Contains(log.String(), "apply") {
		t.Errorf("a command's lock is no project's: %s", log)
	}
	answers[hostop.Get], answers[hostop.Grant] = oddTime, `{"granted":false,"value":`+oddTime+`}`
	if _, err := library.GetLock(models.NewProject("acme/infra", "b", "web"), "default"); !errors.Is(err, ErrEntryUnreadable) {
		t.Errorf("GetLock: %v", err)
	}
	asking := models.ProjectLock{Project: models.NewProject("acme/infra", "b", "web"), Workspace: "default"}
	if _, _, err := library.TryLock(asking); !errors.Is(err, ErrEntryUnreadable) {
		t.Errorf("TryLock: %v", err)
	}
}

func TestAListThatIsNotCompleteIsReported(t *testing.T) {
	library, log := over(t, hostAnswers{hostop.List: "[]"})
	listing := client.Listing{Unreadable: []client.Unreadable{{Key: "k", Reason: "r"}}, Incomplete: "timed out"}
	if locks := library.releasedByPull("acme/infra", 7, &listing); len(locks) != 0 {
		t.Errorf("locks %v", locks)
	}
	logs(t, log, "there may be more", "timed out", "cannot be read")
	log.Reset()
	if locks, err := library.List(); err != nil || len(locks) != 0 || log.Len() != 0 {
		t.Errorf("locks %v, %v, log %s", locks, err, log)
	}
}
