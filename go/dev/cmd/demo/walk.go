package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// answerLimit bounds the wait for what Atlantis does.
const answerLimit = 2 * time.Minute

// What Atlantis's comments say.
const (
	planned = "Plan: 1 to add"
	applied = "Apply complete!"
	next    = "This pull request is next in queue."
	busy    = "Wait until the previous command is complete and try again"
)

// secondInQueue is what a pull request is told that waits behind another one.
func secondInQueue(ahead int) string {
	return fmt.Sprintf("This pull request is 2nd in queue, behind #%d.", ahead)
}

// walk tells the story of the queue: one pull request holds a lock, two wait and see their place, the first is merged, and the next one's
// plan comes by itself. Each step fails if Atlantis does not do what is said of it.
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
	if err := s.answer(ctx, 2, 0, "currently locked by an unapplied plan from pull #1", next); err != nil {
		return err
	}
	if err := s.open(ctx, 3, "eve", "network"); err != nil {
		return err
	}
	if err := s.answer(ctx, 3, 0, secondInQueue(2)); err != nil {
		return err
	}
	if err := s.comment(ctx, 1, "ann", "atlantis apply", applied); err != nil {
		return err
	}
	return s.handOver(ctx, 1, 2)
}

// walkOn goes through the rest: in hybrid mode the next lock changes hands while Redis is away, and Redis gets to know afterwards.
func (s *stage) walkOn(ctx context.Context) error {
	if s.redis != nil {
		s.redis.Kill()
		step("Redis is killed.")
	}
	if err := s.handOver(ctx, 2, 3); err != nil {
		return err
	}
	if s.redis != nil {
		if err := s.restartRedis(ctx); err != nil {
			return err
		}
		if err := s.waitHealthy(ctx); err != nil {
			return err
		}
		if err := s.wantHolders(ctx, map[string]int{"network": 3}); err != nil {
			return err
		}
	}
	fmt.Println("\nThat was everything. `make run` leaves the servers running, to try things out.")
	return nil
}

// handOver merges a pull request, and waits for the plan of the one that waited for its lock. Nobody comments.
func (s *stage) handOver(ctx context.Context, from, to int) error {
	waiting, err := s.host.Pull(repo, to)
	if err != nil {
		return err
	}
	last := waiting.Comments[len(waiting.Comments)-1].ID
	step("Pull request #%d is merged. Nobody comments on #%d.", from, to)
	if _, err := s.host.Merge(ctx, repo, from); err != nil {
		return err
	}
	if err := s.answer(ctx, to, last, planned); err != nil {
		return err
	}
	return s.wantHolders(ctx, map[string]int{"network": to})
}

// restartRedis brings Redis back, and says when the server will find that.
func (s *stage) restartRedis(ctx context.Context) error {
	if err := s.redis.Restart(ctx); err != nil {
		return err
	}
	text := fmt.Sprintf("Redis is back, process %d.", s.redis.PID())
	// Without a time for the next probe, Redis is being probed, or was found already and is asked all the time.
	if seen, err := s.status(ctx); err == nil && seen.Mode == modeHybrid {
		text += fmt.Sprintf(" Atlantis tries it again %s.", inAbout(time.Until(time.UnixMicro(seen.NextProbe))))
	}
	step("%s", text)
	return nil
}

// inAbout says how far off something is.
func inAbout(wait time.Duration) string {
	if wait < time.Second {
		return "within a second"
	}
	return fmt.Sprintf("in about %d s", int(wait.Round(time.Second).Seconds()))
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

// answer waits for Atlantis's next comment after that one, and shows each of its lines that has one of the texts. All must be there.
func (s *stage) answer(ctx context.Context, number int, after int64, wanted ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("Atlantis made no comment; its log is "+s.server.LogFile()))
	defer cancel()
	done := patiently(fmt.Sprintf("waiting for Atlantis's comment on #%d", number))
	answer, err := s.host.CommentAfter(ctx, repo, number, after)
	done()
	switch {
	case err != nil:
		return err
	case strings.Contains(answer.Body, busy):
		return errBusy
	}
	for _, text := range wanted {
		if !strings.Contains(answer.Body, text) {
			return fmt.Errorf("Atlantis's comment on pull request #%d should say %q, but is:\n%s\nits log is %s", number, text, answer.Body, s.server.LogFile())
		}
	}
	shown := ""
	for line := range strings.Lines(answer.Body) {
		isWanted := slices.ContainsFunc(wanted, func(text string) bool { return strings.Contains(line, text) })
		if line = shortened(line); isWanted && line != shown { // two projects of a pull request may have the same
			fmt.Printf("  Atlantis comments on #%d: %s\n", number, line)
			shown = line
		}
	}
	return nil
}

// shortened is a line of a comment without its marks: a place in the queue whole, of anything else the first sentence.
func shortened(line string) string {
	line = strings.ReplaceAll(strings.TrimSpace(line), "**", "")
	if first, _, more := strings.Cut(line, ". "); more && !strings.Contains(line, "in queue") {
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

// status is what the server tells of its stores.
type status struct {
	Mode           string `json:"mode"`
	CircuitState   string `json:"circuit_state"`
	FallbackActive bool   `json:"fallback_active"`
	NextProbe      int64  `json:"next_probe"` // microseconds since 1970; 0 unless the breaker is open
}

func (seen status) String() string {
	switch {
	case seen.FallbackActive:
		return fmt.Sprintf("Redis is not asked (breaker %s): the local store decides", seen.CircuitState)
	case seen.Mode == "native":
		return "Redis alone decides (native mode)"
	case seen.Mode == "strict":
		return "The embedded store alone decides (strict mode)"
	default:
		return fmt.Sprintf("Redis decides (breaker %s)", seen.CircuitState)
	}
}

func (s *stage) status(ctx context.Context) (seen status, err error) {
	const path = "/api/locks/compatibility/status"
	_, body, err := s.server.Call(ctx, http.MethodGet, path, "")
	if err != nil {
		return seen, err
	}
	if err := json.Unmarshal([]byte(body), &seen); err != nil {
		return seen, fmt.Errorf("GET %s answered %q: %w", path, body, err)
	}
	return seen, nil
}

// waitHealthy waits until Redis decides again.
func (s *stage) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("the server did not go back to Redis"))
	defer cancel()
	defer patiently("waiting until Atlantis has found Redis and told it what was decided")()
	for {
		seen, err := s.status(ctx)
		if err != nil {
			return err
		}
		if !seen.FallbackActive && seen.CircuitState == "closed" {
			fmt.Printf("  %s, and has been told what was decided without it.\n", seen)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), seen)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// patiently says every two seconds what is waited for, until the caller says that the wait is over.
func patiently(what string) (over func()) {
	begun, ended := time.Now(), make(chan struct{})
	go func() {
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				fmt.Printf("  … %s (%d s)\n", what, int(time.Since(begun).Seconds()))
			}
		}
	}()
	return sync.OnceFunc(func() { close(ended) })
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
