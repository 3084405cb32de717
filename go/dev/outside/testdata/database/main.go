// Command database takes a lock of Atlantis's through package atlock.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

func main() {
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: os.Args[1]}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()
	attempt, err := locking.NewClient(database).TryLock(models.NewProject("acme/infra", "network", ""), "default",
		models.PullRequest{Num: 1}, models.User{Username: "gopher"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acquired", attempt.LockAcquired)
}
