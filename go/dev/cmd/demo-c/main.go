// Command demo-c opens the data folder that a C program used before, with Atlantis's own locking client over atlock, and says in
// plain words what it sees. `make run-c` calls it.
package main

import (
	"fmt"
	"os"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo-c DATA_FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo-c:", err)
		os.Exit(1)
	}
}

func run(folder string) (err error) {
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: folder}})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := database.Close(); err == nil {
			err = closeErr
		}
	}()
	client := locking.NewClient(database)

	locks, err := client.List()
	if err != nil {
		return err
	}
	fmt.Printf("Go:  Atlantis's locking client opens the same folder and sees %d lock(s):\n", len(locks))
	for key, lock := range locks {
		fmt.Printf("       %s, held by pull #%d of %s\n", key, lock.Pull.Num, lock.Project.RepoFullName)
		if err := refusedThenReleased(client, lock); err != nil {
			return err
		}
	}
	return nil
}

// refusedThenReleased asks for a held lock for the next pull, and then releases it as Atlantis does when a pull is closed.
func refusedThenReleased(client *locking.Client, held models.ProjectLock) error {
	pull := models.PullRequest{Num: held.Pull.Num + 1}
	attempt, err := client.TryLock(held.Project, held.Workspace, pull, models.User{Username: "gopher"})
	if err != nil {
		return err
	}
	if attempt.LockAcquired {
		return fmt.Errorf("pull #%d was granted a lock that pull #%d holds", pull.Num, held.Pull.Num)
	}
	fmt.Printf("Go:  pull #%d asks for it and is refused: pull #%d of %s holds it.\n", pull.Num, attempt.CurrLock.Pull.Num, attempt.CurrLock.User.Username)

	released, err := client.UnlockByPull(held.Project.RepoFullName, held.Pull.Num)
	if err != nil {
		return err
	}
	fmt.Printf("Go:  pull #%d is closed, which releases %d lock(s).\n", held.Pull.Num, len(released))

	attempt, err = client.TryLock(held.Project, held.Workspace, pull, models.User{Username: "gopher"})
	if err != nil {
		return err
	}
	if !attempt.LockAcquired {
		return fmt.Errorf("pull #%d was refused a lock that is free", pull.Num)
	}
	fmt.Printf("Go:  pull #%d asks again and gets it.\n", pull.Num)
	return nil
}
