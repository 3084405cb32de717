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
  %[1]s/locking   atlock: the stores, the locks, what happened
  %[2]s/          the Git host: open a pull request, comment, push, merge
  %[3]s   pull request #1, and what Atlantis says there

Try:
  curl %[1]s/api/locks/compatibility/status -H 'X-Atlantis-Token: %[5]s'
  curl %[1]s/api/locks/health -H 'X-Atlantis-Token: %[5]s'
  curl %[1]s/metrics
  curl %[3]s/comments -d body='atlantis unlock' -d user=ann    # then #2 gets the lock:
  curl %[4]s/comments -d body='atlantis plan' -d user=bob
`, s.server.URL(), s.host.URL(), s.pullURL(1), s.pullURL(2), atlantis.APIToken)
	if s.redis != nil {
		fmt.Printf(`
Without Redis:
  type k and Enter to kill Redis, r and Enter to bring it back; or, from another terminal:
  kill -9 %d
  %s
`, s.redis.PID(), shell(s.redis.Command()))
	}
	fmt.Println("\nCtrl-C stops everything.")
}

// serve runs until ctx ends.
func (s *stage) serve(ctx context.Context) error {
	ended := s.server.Done()
	lines := make(chan string)
	var watch <-chan time.Time
	if s.redis != nil {
		go readLines(lines)
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		watch = ticker.C
	}
	var before health
	for {
		select {
		case <-ctx.Done():
			fmt.Println("\nStopping.")
			return nil
		case <-ended:
			return fmt.Errorf("Atlantis has ended by itself; its log is %s", s.server.LogFile())
		case line := <-lines:
			s.obey(ctx, line)
		case <-watch:
			if seen, err := s.health(ctx); err == nil && seen != before {
				fmt.Printf("%s  Atlantis is %s\n", time.Now().Format("15:04:05"), seen)
				before = seen
			}
		}
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
		s.redis.Kill()
		fmt.Println("Redis is killed. Comment `atlantis plan` on a pull request: the embedded store decides.")
	case "r":
		if err := s.redis.Restart(ctx); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("Redis is back, process %d.\n", s.redis.PID())
	case "":
	default:
		fmt.Println("k kills Redis, r brings it back, Ctrl-C stops everything.")
	}
}
