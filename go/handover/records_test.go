package handover

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

func newRecords(t *testing.T, num string) (*records, string) {
	t.Helper()
	root := t.TempDir()
	folder := filepath.Join(root, repo, num)
	must(t, os.MkdirAll(folder, 0o755))
	return &records{clones: root}, folder
}

func TestARecordIsThereAfterARestart(t *testing.T) {
	kept, folder := newRecords(t, "1")
	_, err := kept.change(pull(1), func(r *record) { r.Applied["a"], r.Tokens["b"] = true, 1<<63+1 })
	must(t, err)
	again := &records{clones: kept.clones}
	read, err := again.read(pull(1))
	must(t, err)
	if !read.Applied["a"] || read.Tokens["b"] != 1<<63+1 {
		t.Errorf("got %+v", read)
	}
	entries, err := os.ReadDir(filepath.Dir(folder))
	must(t, err)
	if len(entries) != 2 { // the folder, and the record beside it
		t.Errorf("left behind: %v", entries)
	}
}

// A pull request that was never cloned has no folder, and nothing to keep.
func TestAPullWithoutAFolderHasNoRecord(t *testing.T) {
	kept, _ := newRecords(t, "1")
	read, err := kept.read(pull(2))
	must(t, err)
	if !read.isEmpty() {
		t.Errorf("got %+v", read)
	}
	_, err = kept.change(pull(2), func(r *record) { delete(r.Applied, "a") })
	must(t, err)
	if changed, err := kept.change(pull(2), func(r *record) { r.Applied["a"] = true }); err == nil || !changed.Applied["a"] {
		t.Errorf("got %+v, %v", changed, err)
	}
}

// What cannot be read is an error for whoever reads, and written anew, with a word of it, by whoever writes.
func TestADamagedRecordIsBegunAnew(t *testing.T) {
	for _, text := range []string{"{", `{"version":2,"applied":{"x":true}}`, ""} {
		kept, folder := newRecords(t, "1")
		must(t, os.WriteFile(folder+recordSuffix, []byte(text), 0o600))
		if _, err := kept.read(pull(1)); err == nil {
			t.Errorf("%q was read", text)
		}
		if _, err := kept.change(pull(1), func(r *record) { r.Applied["a"] = true }); err == nil {
			t.Errorf("%q: nobody was told", text)
		}
		read, err := kept.read(pull(1))
		must(t, err)
		if !read.Applied["a"] || read.Applied["x"] {
			t.Errorf("%q: got %+v", text, read)
		}
	}
}

// A folder in place of the file: nothing is kept, nothing is left behind.
func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	kept, folder := newRecords(t, "1")
	must(t, os.MkdirAll(filepath.Join(folder+recordSuffix, "x"), 0o755))
	if _, err := kept.change(pull(1), func(r *record) { r.Applied["a"] = true }); err == nil {
		t.Error("no error")
	}
	entries, err := os.ReadDir(filepath.Dir(folder))
	must(t, err)
	if len(entries) != 2 { // the folder, and the record beside it
		t.Errorf("left behind: %v", entries)
	}
}

// Atlantis removes the folder of a closed pull request; if a file comes into it meanwhile, that fails, and its locks stay.
func TestNothingIsWrittenWhileTheFolderIsRemoved(t *testing.T) {
	w := newWorld(t)
	wantPlanned(t, w.planned(1, nil, project("a")))
	file := filepath.Join(w.folder, repo, "1") + recordSuffix
	written := func() bool {
		_, err := w.store().UpdatePullWithResults(pull(1), []command.ProjectResult{{
			Command: command.Apply, RepoRelDir: "a", Workspace: "default", ProjectCommandOutput: command.ProjectCommandOutput{ApplySuccess: "yes"},
		}})
		must(t, err)
		_, err = os.Stat(file)
		return err == nil
	}
	w.clean = func(models.Repo, models.PullRequest) error {
		must(t, os.Remove(file))
		if written() {
			t.Error("there is a file")
		}
		return nil
	}
	must(t, w.server.VCSEventsController.PullCleaner.CleanUpPull(nil, pull(1).BaseRepo, pull(1)))
	if !written() {
		t.Error("nothing is kept after that")
	}
}

// Commands of one pull request that write at once lose nothing.
func TestRecordsAreWrittenOneByOne(t *testing.T) {
	kept, _ := newRecords(t, "1")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			key := models.GenerateLockKey(models.NewProject(repo, string(rune('a'+i)), ""), "default")
			if _, err := kept.change(pull(1), func(r *record) { r.Applied[key] = true }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	read, err := kept.read(pull(1))
	must(t, err)
	if len(read.Applied) != 20 {
		t.Errorf("%d of 20 are there", len(read.Applied))
	}
}
