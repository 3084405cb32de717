//go:build e2e

package e2e

import (
	"fmt"
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

// wantText fails unless the comment has each of the texts.
func wantText(t *testing.T, comment string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(comment, text) {
			t.Fatalf("Atlantis's comment lacks %q:\n%s", text, comment)
		}
	}
}

// wantNoText fails if the comment has the text.
func wantNoText(t *testing.T, comment, text string) {
	t.Helper()
	if strings.Contains(comment, text) {
		t.Fatalf("Atlantis's comment has %q:\n%s", text, comment)
	}
}

var serial atomic.Int64

// unique is a file's name that was not there before.
func unique(name, extension string) string {
	return fmt.Sprintf("%s_%d.%s", name, serial.Add(1), extension)
}
