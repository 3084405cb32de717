package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
)

const watchEvery = 250 * time.Millisecond

// printLinks says what to look at and what to try.
func (s *stage) printLinks() {
	fmt.Printf(`
Look:
  %[1]s/          Atlantis: the locks; each one's page has a button that discards it
  %[1]s/locking   atlock: the stores, the locks, who waits, what happened
  %[2]s/          the Git host: open a pull request, comment, push, merge
  %[3]s   pull request #3, which waits for #2

Try:
  curl %[3]s/comments -d body='atlantis plan' -d user=eve    # #3 is told its place
  curl %[4]s/merge -d ''    # #2 is merged, and #3 is planned by itself
  curl %[1]s/api/locks/compatibility/status -H 'X-Atlantis-Token: %[5]s'
  curl %[1]s/api/locks/health -H 'X-Atlantis-Token: %[5]s'
  curl %[1]s/metrics
  %[6]s status    # who decides, and why
`, s.server.URL(), s.host.URL(), s.pullURL(3), s.pullURL(2), atlantis.APIToken, s.command())
	if s.redis != nil {
		fmt.Printf(`
The other modes, without a restart; the locks go along:
  %[3]s mode native    # and back: mode hybrid; or mode strict

Without Redis:
  type k and Enter to kill Redis, r and Enter to bring it back; or, from another terminal:
  kill -9 %[1]d
  %[2]s
`, s.redis.PID(), shell(s.redis.Command()), s.command())
	}
	fmt.Println("\nCtrl-C stops everything.")
}

// command is the command atlock for this server, as it is typed into a shell.
func (s *stage) command() string {
	return shell([]string{s.options.atlock, "--config", s.relative(s.settings)})
}

// watch obeys what is typed and tells who decides, from the beginning on. It ends with ctx.
func (s *stage) watch(ctx context.Context) {
	lines := make(chan string)
	go readLines(lines)
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var before string
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-lines:
			s.obey(ctx, line)
		case <-ticker.C:
			if seen, err := s.status(ctx); err == nil && seen.String() != before {
				before = seen.String()
				fmt.Printf("%s  %s\n", time.Now().Format("15:04:05"), before)
			}
		}
	}
}

// serve runs until ctx ends.
func (s *stage) serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		fmt.Println("\nStopping.")
		return nil
	case <-s.server.Done():
		return fmt.Errorf("Atlantis has ended by itself; its log is %s", s.server.LogFile())
	}
}

// readLines sends what is typed, until there is no more. It ends with the process.
func readLines(lines chan<- string) {
	scanner := bufio.NewScanner(os.Stdin)
	for scanner.Scan() {
		lines <- strings.TrimSpace(scanner.Text())
	}
}

// obey does what was typed.
func (s *stage) obey(ctx context.Context, line string) {
	switch line {
	case "k":
		if !s.redis.Running() {
			fmt.Println("Redis is not running; r and Enter bring it back.")
			return
		}
		s.redis.Kill()
		fmt.Println("Redis is killed. Plan, unlock, merge: in hybrid mode locks still change hands.")
	case "r":
		if err := s.restartRedis(ctx); err != nil {
			fmt.Println(err)
		}
	case "":
	default:
		fmt.Println("k kills Redis, r brings it back, Ctrl-C stops everything.")
	}
}
