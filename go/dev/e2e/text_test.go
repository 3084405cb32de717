//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// What Atlantis's comments say, in its own words.
const (
	planned  = "Plan: 1 to add, 0 to change, 0 to destroy."
	applied  = "Apply complete!"
	unlocked = "All Atlantis locks for this PR have been unlocked and plans discarded"
	disabled = "Running `atlantis apply` is disabled."
	// busy ends the answer to a command that came before the one before it was quite done, though its comment was there.
	busy = "Wait until the previous command is complete and try again"
)

// refusedBy is the text of a refusal, which names the holder.
func refusedBy(number int) string {
	return fmt.Sprintf("This project is currently locked by an unapplied plan from pull #%d.", number)
}

var gitlabPull = regexp.MustCompile(`!(\d)`)

// withGiteasSigns is a comment with #1 where GitLab has !1.
func withGiteasSigns(comment string) string {
	if onGitLab() {
		return gitlabPull.ReplaceAllString(comment, "#$1")
	}
	return comment
}

// wantText fails unless the comment has each of the texts.
func wantText(t *testing.T, comment string, texts ...string) {
	t.Helper()
	comment = withGiteasSigns(comment)
	for _, text := range texts {
		if !strings.Contains(comment, text) {
			t.Fatalf("Atlantis's comment lacks %q:\n%s", text, comment)
		}
	}
}

// wantUnlocked fails unless the answer to `atlantis unlock` is that the locks are released. Before v0.28 Atlantis, stock Atlantis too, answers
// that it failed when a plan's file is gone, as after an apply: it has released the locks by then, which the tests look at next.
func wantUnlocked(t *testing.T, comment string) {
	t.Helper()
	if isBefore("v0.28.0") && strings.Contains(comment, "Failed to delete PR locks") {
		return
	}
	wantText(t, comment, unlocked)
}

// wantNoText fails if the comment has the text.
func wantNoText(t *testing.T, comment, text string) {
	t.Helper()
	comment = withGiteasSigns(comment)
	if strings.Contains(comment, text) {
		t.Fatalf("Atlantis's comment has %q:\n%s", text, comment)
	}
}

var serial atomic.Int64

// unique is a file's name that was not there before.
func unique(name, extension string) string {
	return fmt.Sprintf("%s_%d.%s", name, serial.Add(1), extension)
}
