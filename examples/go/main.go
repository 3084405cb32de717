// Take-lock takes the lock of one project for pull request 1, and says what happened: go run . ./locks
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/atlock/atlock/go/client"
)

const lock = `{"Project":{"RepoFullName":"acme/infra","Path":"network"},"Workspace":"default","Pull":{"Num":1}}`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: take-lock <folder for the locks>")
		os.Exit(1)
	}
	if err := take(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func take(folder string) (err error) {
	locks, err := client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: folder}})
	if err != nil {
		return err
	}
	defer func() {
		if closed := locks.Close(); err == nil {
			err = closed
		}
	}()
	grant, err := locks.TryLock([]byte(lock))
	if err != nil {
		return err
	}
	if grant.Acquired {
		fmt.Println("took the lock of acme/infra, folder network, for pull request 1")
	} else {
		fmt.Println("the lock is held already")
	}
	list, err := locks.List()
	if err != nil {
		return err
	}
	defer list.Free()
	texts := make([]string, list.Len())
	for i := range texts {
		texts[i] = string(list.Lock(i))
	}
	fmt.Printf("locks in the store: [%s]\n", strings.Join(texts, ","))
	return nil
}
