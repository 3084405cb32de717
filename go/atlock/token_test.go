package atlock_test

import (
	"testing"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// Each store of the library gives a token with the grant, the same that LockInfo tells, and the next holder's is larger.
func TestTheTokenComesWithTheGrant(t *testing.T) {
	stores := map[string]func() (*atlock.Database, error){
		"sled": func() (*atlock.Database, error) {
			return atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}})
		},
		"boltdb": func() (*atlock.Database, error) { return atlock.OpenOverBoltDB(t.TempDir()) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			database, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer closed(t, database)
			last := atlock.NoToken
			for pull := 1; pull <= 3; pull++ {
				lock := lockOf("a", pull)
				acquired, current, token, err := database.TryLockWithToken(lock)
				if err != nil || !acquired || current.Pull.Num != pull || token <= last {
					t.Fatalf("pull %d: %t, %+v, %d after %d, %v", pull, acquired, current, token, last, err)
				}
				last = token
				infos, err := database.LockInfo([]string{models.GenerateLockKey(lock.Project, lock.Workspace)})
				if err != nil || len(infos) != 1 || (infos[0].Token != token && name == "sled") {
					t.Errorf("infos %+v, %v; want the token %d", infos, err, token)
				}
				acquired, current, token, err = database.TryLockWithToken(lockOf("a", 9))
				if err != nil || acquired || current.Pull.Num != pull || token != atlock.NoToken {
					t.Errorf("refused: %t, %+v, %d, %v", acquired, current, token, err)
				}
				release(t, database, "a")
			}
		})
	}
}

// Atlantis's own store, called directly, has no tokens.
func TestNoTokenOfAtlantisOwnStore(t *testing.T) {
	database, err := atlock.Open(atlock.Config{}, atlock.WithBoltDB(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, database)
	acquired, current, token, err := database.TryLockWithToken(lockOf("a", 1))
	if err != nil || !acquired || current.Pull.Num != 1 || token != atlock.NoToken {
		t.Errorf("%t, %+v, %d, %v", acquired, current, token, err)
	}
}
