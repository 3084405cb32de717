package client_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/client"
)

// The lock has a member that Atlantis does not know, and spaces that json.Marshal does not write: it is kept byte for byte.
func lockOf(path string, pull int) []byte {
	return fmt.Appendf(nil, `{"Project": {"ProjectName":"","RepoFullName":"acme/infra","Path":%q}, "Pull":{"Num":%d}, "Workspace":"default", "Later":1}`, path, pull)
}

func targetOf(path string) []byte {
	return fmt.Appendf(nil, `{"Project":{"RepoFullName":"acme/infra","Path":%q},"Workspace":"default"}`, path)
}

func open(t *testing.T) *client.Client {
	t.Helper()
	opened, err := client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened
}

func take(t *testing.T, locks *client.Client, path string, pull int) client.FencingToken {
	t.Helper()
	grant, err := locks.TryLock(lockOf(path, pull))
	if err != nil || !grant.Acquired || grant.Holder != nil || grant.Token == client.NoToken {
		t.Fatalf("taking %s: %+v, %v", path, grant, err)
	}
	return grant.Token
}

// want checks an answer that may be nothing.
func want(t *testing.T, what string, got []byte, err error, text []byte) {
	t.Helper()
	if err != nil || (got == nil) != (text == nil) || string(got) != string(text) {
		t.Errorf("%s: %q, %v; want %q", what, got, err, text)
	}
}

func TestALocksLife(t *testing.T) {
	locks := open(t)
	got, err := locks.GetLock(targetOf("a"))
	want(t, "a lock that nobody took", got, err, nil)

	first := take(t, locks, "a", 1)
	refused, err := locks.TryLock(lockOf("a", 2))
	if err != nil || refused.Acquired || refused.Token != client.NoToken || string(refused.Holder) != string(lockOf("a", 1)) {
		t.Errorf("the second: %+v, %v", refused, err)
	}
	got, err = locks.GetLock(targetOf("a"))
	want(t, "GetLock", got, err, lockOf("a", 1))
	infos, err := locks.LockInfo([]string{"acme/infra/a/default/"})
	if err != nil || len(infos) != 1 || infos[0].Token != first {
		t.Errorf("infos %+v, %v; want the token %d", infos, err, first)
	}
	got, err = locks.UnlockIfOwnedByPull(targetOf("a"), 2)
	want(t, "another pull's release", got, err, nil)
	got, err = locks.UnlockIfOwnedByPull(targetOf("a"), 1)
	want(t, "the pull's own release", got, err, lockOf("a", 1))

	if second := take(t, locks, "a", 2); second <= first {
		t.Errorf("the token %d follows %d", second, first)
	}
	got, err = locks.Unlock(targetOf("a"))
	want(t, "Unlock", got, err, lockOf("a", 2))
	got, err = locks.Unlock(targetOf("a"))
	want(t, "Unlock again", got, err, nil)
}

func TestListings(t *testing.T) {
	locks := open(t)
	listed := func(listing *client.Listing, err error) string {
		t.Helper()
		if err != nil || listing.Unreadable != nil || listing.Incomplete != "" {
			t.Fatalf("%+v, %v", listing, err)
		}
		defer listing.Free()
		var texts []string
		for i := range listing.Len() {
			texts = append(texts, string(listing.Lock(i)))
		}
		return strings.Join(texts, "|")
	}
	if got := listed(locks.List()); got != "" {
		t.Errorf("an empty store: %s", got)
	}
	take(t, locks, "a", 1)
	take(t, locks, "b", 2)
	take(t, locks, "c", 1)
	if got, want := listed(locks.List()), fmt.Sprintf("%s|%s|%s", lockOf("a", 1), lockOf("b", 2), lockOf("c", 1)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := listed(locks.UnlockByPull("acme/infra", 1)), fmt.Sprintf("%s|%s", lockOf("a", 1), lockOf("c", 1)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	listing, err := locks.List()
	if err != nil || listing.Len() != 1 {
		t.Fatalf("%v, %v", listing, err)
	}
	listing.Free()
	listing.Free()
	if listing.Len() != 0 {
		t.Error("locks after Free")
	}
}

func TestCommandLocks(t *testing.T) {
	locks := open(t)
	value := []byte(`{"LockMetadata":{"UnixTime":7},"CommandName":0}`)
	grant, err := locks.LockCommand("apply", value)
	if err != nil || !grant.Acquired || grant.Token == client.NoToken {
		t.Fatalf("%+v, %v", grant, err)
	}
	grant, err = locks.LockCommand("apply", []byte(`{"LockMetadata":{"UnixTime":8},"CommandName":0}`))
	if err != nil || grant.Acquired || string(grant.Holder) != string(value) {
		t.Errorf("%+v, %v", grant, err)
	}
	got, err := locks.CheckCommandLock("apply")
	want(t, "CheckCommandLock", got, err, value)
	got, err = locks.UnlockCommand("apply")
	want(t, "UnlockCommand", got, err, value)
	got, err = locks.UnlockCommand("apply")
	want(t, "UnlockCommand again", got, err, nil)
	got, err = locks.CheckCommandLock("apply")
	want(t, "CheckCommandLock afterwards", got, err, nil)
}

func TestPullStatuses(t *testing.T) {
	locks := open(t)
	swap := func(expected, value []byte, swapped bool, current []byte) {
		t.Helper()
		done, got, err := locks.SwapPullStatus("h::acme/infra::1", expected, value)
		if done != swapped {
			t.Errorf("swapped %t, want %t", done, swapped)
		}
		want(t, "the current status", got, err, current)
	}
	one, two := []byte(`{"one": 1}`), []byte(`{"two": 2}`)
	got, err := locks.PullStatus("h::acme/infra::1")
	want(t, "before", got, err, nil)
	swap(one, two, false, nil)
	swap(nil, one, true, nil)
	swap(nil, two, false, one)
	swap(one, two, true, nil)
	got, err = locks.PullStatus("h::acme/infra::1")
	want(t, "after", got, err, two)
	if err := locks.DeletePullStatus("h::acme/infra::1"); err != nil {
		t.Error(err)
	}
	got, err = locks.PullStatus("h::acme/infra::1")
	want(t, "deleted", got, err, nil)
}

func TestStateOfAStore(t *testing.T) {
	locks := open(t)
	take(t, locks, "a", 1)
	status, err := locks.Status()
	if err != nil || status.Mode != client.ModeStrict || status.LegacyOps != 1 || status.Version != client.Version() {
		t.Errorf("status %+v, %v", status, err)
	}
	health, err := locks.Health()
	if err != nil || health.State != "healthy" || locks.Ping() != nil {
		t.Errorf("health %+v, %v", health, err)
	}
	metrics, err := locks.Metrics()
	if err != nil || !strings.Contains(metrics, "atlock_operations_total") {
		t.Errorf("metrics %q, %v", metrics, err)
	}
}

func TestAfterClose(t *testing.T) {
	locks := open(t)
	for range 2 {
		if err := locks.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, lockErr := locks.TryLock(lockOf("a", 1))
	_, listErr := locks.List()
	for name, err := range map[string]error{"TryLock": lockErr, "List": listErr, "Ping": locks.Ping()} {
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// host is a store that answers nothing, and counts how often it is closed.
type host struct{ closed int }

func (h *host) Call(uint32, []byte) ([]byte, error) { return nil, errors.New("the host is away") }

func (h *host) Close() error { h.closed++; return nil }

func TestAHostIsClosedOnce(t *testing.T) {
	refused := new(host)
	_, err := client.Open(client.Config{Locking: client.Locking{Backend: "clay tablets"}}, client.WithHost(refused))
	if !errors.Is(err, client.ErrInvalidConfig) || refused.closed != 1 {
		t.Errorf("Open failed: %v, closed %d times", err, refused.closed)
	}
	used := new(host)
	locks, err := client.Open(client.Config{}, client.WithHost(used))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locks.List(); !errors.Is(err, client.ErrHostStore) || !strings.Contains(err.Error(), "the host is away") {
		t.Errorf("List: %v", err)
	}
	for range 2 {
		if err := locks.Close(); err != nil {
			t.Error(err)
		}
	}
	if used.closed != 1 {
		t.Errorf("closed %d times", used.closed)
	}
}

// What fits each Atlantis release must not need one.
func TestNothingOfAtlantisIsNeeded(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	packages := strings.Fields(string(output))
	own := 0
	for _, path := range packages {
		if strings.HasPrefix(path, "github.com/atlock/atlock/go/") {
			own++
		} else if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			t.Errorf("package client needs %s, which is neither this module's nor Go's own", path)
		}
	}
	if own < 2 {
		t.Errorf("of this module there are only %d packages in %q", own, packages)
	}
}
