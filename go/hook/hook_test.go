package hook

import (
	"errors"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/db"
)

func TestOpen(t *testing.T) {
	if _, err := Open(); err == nil || !strings.Contains(err.Error(), "--locking-config") {
		t.Errorf("without settings: got %v", err)
	}
	refusal := errors.New("wrong settings")
	OpenWith(func() (db.Database, error) { return nil, refusal })
	if _, err := Open(); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
}

func TestLinked(t *testing.T) {
	if Linked() {
		t.Error("linked before Link")
	}
	if Link(); !Linked() {
		t.Error("not linked after Link")
	}
}
