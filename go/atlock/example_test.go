package atlock_test

import (
	"fmt"
	"log"
	"os"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

func Example() {
	folder, err := os.MkdirTemp("", "atlock-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)

	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: folder}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	locker := locking.NewClient(database) // Atlantis's own client
	project := models.NewProject("acme/infra", "network", "")
	for pull := 1; pull <= 2; pull++ {
		attempt, err := locker.TryLock(project, "default", models.PullRequest{Num: pull}, models.User{Username: "gopher"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("pull %d: acquired %t, held by pull %d\n", pull, attempt.LockAcquired, attempt.CurrLock.Pull.Num)
	}
	// Output:
	// pull 1: acquired true, held by pull 1
	// pull 2: acquired false, held by pull 1
}
