package githost

import (
	"context"
	"fmt"
	"slices"
)

// Here is what tests and the page read, and how they wait for it.

// Repositories lists the repositories' names, sorted.
func (h *Host) Repositories() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.repos))
	for name := range h.repos {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Pulls lists a repository's pull requests, the oldest first.
func (h *Host) Pulls(fullName string) []Pull {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.repos[fullName]
	if !ok {
		return nil
	}
	pulls := make([]Pull, 0, len(r.pulls))
	for _, p := range r.pulls {
		pulls = append(pulls, r.snapshot(p))
	}
	return pulls
}

// Pull returns one pull request.
func (h *Host) Pull(fullName string, number int) (Pull, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, p, err := h.locate(fullName, number)
	if err != nil {
		return Pull{}, err
	}
	return r.snapshot(p), nil
}

// WaitFor returns the pull request as soon as it is as wanted, or, with an error, as it was when ctx ended.
func (h *Host) WaitFor(ctx context.Context, fullName string, number int, wanted func(Pull) bool) (Pull, error) {
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		seen, err := h.Pull(fullName, number)
		if err != nil || wanted(seen) {
			return seen, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return seen, fmt.Errorf("wait for pull request #%d of %s: %w", number, fullName, context.Cause(ctx))
		}
	}
}

// CommentAfter waits for the next comment by Atlantis after the one with that ID.
func (h *Host) CommentAfter(ctx context.Context, fullName string, number int, id int64) (Comment, error) {
	var found Comment
	_, err := h.WaitFor(ctx, fullName, number, func(p Pull) bool {
		at := slices.IndexFunc(p.Comments, func(c Comment) bool { return c.ID > id && c.Author == h.bot })
		if at >= 0 {
			found = p.Comments[at]
		}
		return at >= 0
	})
	return found, err
}
