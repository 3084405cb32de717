package atlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// exampleFolder is a folder for an example, and what removes it.
func exampleFolder() (folder string, remove func()) {
	folder, err := os.MkdirTemp("", "atlock-example")
	if err != nil {
		log.Fatal(err)
	}
	return folder, func() { os.RemoveAll(folder) }
}

// Strict mode, on Atlantis's own BoltDB file.
func ExampleOpen() {
	folder, remove := exampleFolder()
	defer remove()

	database, err := atlock.Open(atlock.Config{}, atlock.WithBoltDB(folder))
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	acquired, _, err := database.TryLock(models.ProjectLock{
		Project: models.NewProject("acme/infra", "network", ""), Workspace: "default", Pull: models.PullRequest{Num: 1},
	})
	fmt.Println(acquired, err)
	// Output: true <nil>
}

// Hybrid mode: Redis decides, and the local store in its place while Redis is away, as here, where nothing listens at the address. This
// data folder has never seen that Redis, and is told that no lock is in there: otherwise nothing would be granted before Redis has answered.
func ExampleOpen_hybrid() {
	folder, remove := exampleFolder()
	defer remove()

	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{
		Backend: atlock.BackendSled,
		DataDir: folder,
		Enhanced: atlock.Enhanced{
			Enabled:           true,
			CompatibilityMode: atlock.ModeHybrid,
			AllowUnseenRedis:  true,
			Redis:             atlock.Redis{Address: "127.0.0.1:1"},
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	status, err := database.Status()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Mode, status.FallbackActive, status.CircuitState == atlock.CircuitOpen, status.Armed)
	// Output: hybrid true true true
}

// Settings come from a file, and from variables such as ATLANTIS_LOCKING_BACKEND, which override it.
func ExampleLoadConfig() {
	folder, remove := exampleFolder()
	defer remove()
	file := filepath.Join(folder, "locking.yaml")
	text := "locking:\n  backend: sled\n  data_dir: " + filepath.Join(folder, "data") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}

	config, err := atlock.LoadConfig(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.Mode(), config.Locking.Backend)
	// Output: strict sled
}

// What is wrong is told by a sentinel; the text is for a person.
func ExampleError() {
	_, err := atlock.Open(atlock.Config{Locking: atlock.Locking{
		Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "hybird"},
	}})
	fmt.Println(errors.Is(err, atlock.ErrInvalidConfig))
	fmt.Println(err)

	var failure *atlock.Error
	fmt.Println(errors.As(err, &failure) && failure.Code == atlock.ErrInvalidConfig)
	// Output:
	// true
	// locking.enhanced.compatibility_mode: unknown variant `hybird`, expected one of strict, hybrid, native
	// true
}

func ExampleDatabase_Status() {
	folder, remove := exampleFolder()
	defer remove()
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: folder}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	if _, err := database.List(); err != nil {
		log.Fatal(err)
	}
	status, err := database.Status()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Mode, status.CircuitState, status.LegacyOps, status.Errors)
	// Output: strict disabled 1 0
}

func ExampleDatabase_Health() {
	folder, remove := exampleFolder()
	defer remove()
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: folder}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	health, err := database.Health()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(health.Overall, health.State == atlock.Healthy)
	// Output: true true
}

// A lock that is held is waited for; with priority_queue.enabled, in order.
func ExampleDatabase_Enhanced() {
	folder, remove := exampleFolder()
	defer remove()
	database, err := atlock.Open(atlock.Config{Locking: atlock.Locking{
		Backend: atlock.BackendSled, DataDir: folder, Enhanced: atlock.Enhanced{PriorityQueue: atlock.PriorityQueue{Enabled: true}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()

	project := models.NewProject("acme/infra", "network", "")
	pull := func(number int) models.PullRequest {
		return models.PullRequest{Num: number, BaseRepo: models.Repo{FullName: "acme/infra"}}
	}
	lock := func(number int, timeout time.Duration) error {
		ctx := atlock.WithPull(context.Background(), pull(number))
		_, err := database.Enhanced().LockWithTimeout(ctx, project, "default", models.User{Username: "gopher"}, timeout)
		return err
	}
	fmt.Println(lock(1, time.Minute))

	err = lock(2, 10*time.Millisecond)
	var waiting *atlock.Waiting
	if errors.Is(err, atlock.ErrTimeout) && errors.As(err, &waiting) {
		fmt.Printf("pull 2 was number %d behind pull %d\n", waiting.Position, waiting.Holder.Pull.Num)
	}
	// Output:
	// <nil>
	// pull 2 was number 1 behind pull 1
}
