package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// answerLimit bounds the wait for what Atlantis does.
const answerLimit = 2 * time.Minute

// What Atlantis's comments say.
const (
	planned  = "Plan: 1 to add"
	unlocked = "have been unlocked"
	busy     = "Wait until the previous command is complete and try again"
)

// walk shows a lock that is taken, and one that is refused. Each step fails if Atlantis does not do what is said of it.
func (s *stage) walk(ctx context.Context) error {
	fmt.Println()
	if err := s.open(ctx, 1, "ann", "network", "database"); err != nil {
		return err
	}
	if err := s.answer(ctx, 1, 0, planned); err != nil {
		return err
	}
	if err := s.wantHolders(ctx, map[string]int{"network": 1, "database": 1}); err != nil {
		return err
	}
	if err := s.open(ctx, 2, "bob", "network"); err != nil {
		return err
	}
	return s.answer(ctx, 2, 0, "currently locked by an unapplied plan from pull #1")
}

// walkOn goes through the rest.
func (s *stage) walkOn(ctx context.Context) error {
	if err := s.comment(ctx, 1, "ann", "atlantis unlock", unlocked); err != nil {
		return err
	}
	if err := s.comment(ctx, 2, "bob", "atlantis plan", planned); err != nil {
		return err
	}
	if err := s.wantHolders(ctx, map[string]int{"network": 2}); err != nil {
		return err
	}
	if s.redis != nil {
		if err := s.walkWithoutRedis(ctx); err != nil {
			return err
		}
	}
	fmt.Println("\nThat was everything. `make run` leaves the servers running, to try things out.")
	return nil
}

// walkWithoutRedis shows that locking goes on without Redis, and that Redis gets to know afterwards.
func (s *stage) walkWithoutRedis(ctx context.Context) error {
	s.redis.Kill()
	step("Redis is killed.")
	if err := s.comment(ctx, 1, "ann", "atlantis plan -d app", planned); err != nil {
		return err
	}
	if err := s.comment(ctx, 2, "bob", "atlantis plan -d app", "currently locked by an unapplied plan from pull #1"); err != nil {
		return err
	}
	if err := s.redis.Restart(ctx); err != nil {
		return err
	}
	step("Redis is back.")
	if err := s.waitHealthy(ctx); err != nil {
		return err
	}
	return s.wantHolders(ctx, map[string]int{"network": 2, "app": 1})
}

// open opens the pull request of that number, which changes the projects.
func (s *stage) open(ctx context.Context, number int, author string, projects ...string) error {
	files := map[string]string{}
	for _, project := range projects {
		files[fmt.Sprintf("%s/pull_%d.tf", project, number)] = fmt.Sprintf("resource \"null_resource\" \"pull_%d\" {}\n", number)
	}
	step("%s opens pull request #%d, which changes %s. The Git host sends the webhook.", author, number, strings.Join(projects, " and "))
	_, err := s.host.OpenPull(ctx, repo, author, "Change "+strings.Join(projects, " and "), files)
	return err
}

// comment writes a comment, and waits for an answer with that text. Told to wait and try again, it does.
func (s *stage) comment(ctx context.Context, number int, author, command, wanted string) error {
	step("%s comments on #%d: %s", author, number, command)
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(100 * time.Millisecond) {
		asked, err := s.host.Comment(ctx, repo, number, author, command)
		if err != nil {
			return err
		}
		err = s.answer(ctx, number, asked.ID, wanted)
		if !errors.Is(err, errBusy) || time.Now().After(deadline) {
			return err
		}
	}
}

var errBusy = errors.New(busy)

// answer waits for Atlantis's next comment after that one, and shows the line of it that has the text.
func (s *stage) answer(ctx context.Context, number int, after int64, wanted string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("Atlantis made no comment; its log is "+s.server.LogFile()))
	defer cancel()
	answer, err := s.host.CommentAfter(ctx, repo, number, after)
	switch {
	case err != nil:
		return err
	case strings.Contains(answer.Body, busy):
		return errBusy
	}
	for line := range strings.Lines(answer.Body) {
		if strings.Contains(line, wanted) {
			fmt.Printf("  Atlantis comments on #%d: %s\n", number, firstSentence(line))
			return nil
		}
	}
	return fmt.Errorf("Atlantis's comment on pull request #%d should say %q, but is:\n%s\nits log is %s", number, wanted, answer.Body, s.server.LogFile())
}

// firstSentence shortens a line of a comment.
func firstSentence(line string) string {
	line = strings.TrimSpace(line)
	if first, _, more := strings.Cut(line, ". "); more {
		return first + "."
	}
	return line
}

// wantHolders shows the locks, and fails unless exactly these are held: project to pull request.
func (s *stage) wantHolders(ctx context.Context, want map[string]int) error {
	locks, err := s.server.Locks(ctx)
	if err != nil {
		return err
	}
	held := map[string]int{}
	for _, lock := range locks {
		fmt.Printf("  Locked: %s, by pull request #%d\n", lock.Name, lock.PullID)
		held[strings.Split(strings.TrimPrefix(lock.Name, repo+"/"), "/")[0]] = lock.PullID
	}
	if !maps.Equal(held, want) {
		return fmt.Errorf("the locks should be %v, project to pull request, but are %v", want, held)
	}
	return nil
}

// health is what the server tells of its stores.
type health struct {
	State        string `json:"state"`
	CircuitState string `json:"circuit_state"`
}

func (h health) String() string { return fmt.Sprintf("%s, breaker %s", h.State, h.CircuitState) }

func (s *stage) health(ctx context.Context) (seen health, err error) {
	_, body, err := s.server.Get(ctx, "/api/locks/health")
	if err != nil {
		return seen, err
	}
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		return seen, fmt.Errorf("GET /api/locks/health answered %q: %w", body, err)
	}
	return seen, nil
}

// waitHealthy waits until Redis decides again.
func (s *stage) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("the server did not go back to Redis"))
	defer cancel()
	for {
		seen, err := s.health(ctx)
		if err != nil {
			return err
		}
		if seen.State == "healthy" && seen.CircuitState == "closed" {
			fmt.Printf("  Atlantis is %s: Redis has been told, and decides again.\n", seen)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; it is %s", context.Cause(ctx), seen)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func step(format string, arguments ...any) { fmt.Printf(format+"\n", arguments...) }

func indent(text string) string {
	lines := slices.Collect(strings.Lines(text))
	return "  " + strings.Join(lines, "  ")
}

// pullURL is a pull request's page.
func (s *stage) pullURL(number int) string {
	pull, err := s.host.Pull(repo, number)
	if err != nil {
		return s.host.URL()
	}
	return pull.URL
}
