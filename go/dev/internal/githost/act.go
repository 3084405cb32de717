package githost

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Here is what people do on a Git host.

var (
	validRepository = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	reservedOwners  = []string{"api", "static"}
)

// CreateRepository makes a repository such as acme/infra with these files on its main branch.
func (h *Host) CreateRepository(ctx context.Context, fullName string, files map[string]string) error {
	owner, _, _ := strings.Cut(fullName, "/")
	if !validRepository.MatchString(fullName) || strings.HasSuffix(fullName, ".git") || slices.Contains(reservedOwners, owner) {
		return fmt.Errorf("%w: %q is no name for a repository; owner/name is, of letters, digits, and - _ .", ErrBadRequest, fullName)
	}
	h.creating.Lock()
	defer h.creating.Unlock()
	if _, err := h.find(fullName); err == nil {
		return fmt.Errorf("repository %s: %w", fullName, ErrExists)
	}
	made, err := createRepository(ctx, filepath.Join(h.folder, fullName+".git"), files)
	if err != nil {
		return err
	}
	h.change(func() {
		h.repos[fullName] = &repo{name: fullName, repository: made, statuses: map[string]map[string]Status{}}
	})
	return nil
}

// OpenPull opens a pull request with one commit of these files.
func (h *Host) OpenPull(ctx context.Context, fullName, author, title string, files map[string]string) (Pull, error) {
	if author == "" || title == "" || len(files) == 0 {
		return Pull{}, fmt.Errorf("%w: a pull request needs an author, a title and a file that it changes", ErrBadRequest)
	}
	r, err := h.find(fullName)
	if err != nil {
		return Pull{}, err
	}
	opened, err := h.branchOff(ctx, r, author, title, files)
	if err != nil {
		return Pull{}, err
	}
	return opened, h.tellOfPull(ctx, pullEvent, "opened", opened)
}

func (h *Host) branchOff(ctx context.Context, r *repo, author, title string, files map[string]string) (Pull, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	h.mu.Lock()
	number := len(r.pulls) + 1
	h.mu.Unlock()

	base, err := r.repository.resolve(ctx, mainBranch)
	if err != nil {
		return Pull{}, err
	}
	branch := fmt.Sprintf("pull-%d", number)
	head, err := r.repository.commit(ctx, branch, base, title, files)
	if err != nil {
		return Pull{}, err
	}
	changed, err := r.repository.changedFiles(ctx, head)
	if err != nil {
		return Pull{}, err
	}
	h.change(func() {
		r.pulls = append(r.pulls, &Pull{
			Repo: r.name, Number: number, Title: title, Author: author, Branch: branch, Head: head, State: Open, Files: changed,
			URL: fmt.Sprintf("%s/%s/pulls/%d", h.url, r.name, number),
		})
	})
	return h.Pull(r.name, number)
}

// Push puts a further commit of these files onto the pull request's branch.
func (h *Host) Push(ctx context.Context, fullName string, number int, files map[string]string) (Pull, error) {
	pushed, err := h.pushTo(ctx, fullName, number, files)
	if err != nil {
		return Pull{}, err
	}
	return pushed, h.tellOfPull(ctx, pushEvent, "synchronized", pushed)
}

func (h *Host) pushTo(ctx context.Context, fullName string, number int, files map[string]string) (Pull, error) {
	return h.whileOpen(fullName, number, func(git repository, before Pull) (Pull, error) {
		head, err := git.commit(ctx, before.Branch, before.Head, "a further commit", files)
		if err != nil {
			return Pull{}, err
		}
		changed, err := git.changedFiles(ctx, head)
		if err != nil {
			return Pull{}, err
		}
		return h.update(fullName, number, func(p *Pull) { p.Head, p.Files = head, changed })
	})
}

// Comment writes a comment as that user; on an Atlantis command such as "atlantis plan", Atlantis acts.
func (h *Host) Comment(ctx context.Context, fullName string, number int, author, body string) (Comment, error) {
	commented, made, err := h.addComment(fullName, number, author, body)
	if err != nil {
		return Comment{}, err
	}
	return made, h.tellOfComment(ctx, commented, made)
}

// addComment keeps a comment without a webhook.
func (h *Host) addComment(fullName string, number int, author, body string) (Pull, Comment, error) {
	if author == "" || strings.TrimSpace(body) == "" {
		return Pull{}, Comment{}, fmt.Errorf("%w: a comment needs an author and a text", ErrBadRequest)
	}
	var made Comment
	commented, err := h.update(fullName, number, func(p *Pull) {
		h.comments++
		made = Comment{ID: h.comments, Author: author, Body: body, Created: time.Now()}
		p.Comments = append(p.Comments, made)
	})
	return commented, made, err
}

// editComment replaces a comment's text.
func (h *Host) editComment(fullName string, id int64, body string) (Pull, Comment, error) {
	h.mu.Lock()
	number, at := h.locateComment(fullName, id)
	h.mu.Unlock()
	if number == 0 {
		return Pull{}, Comment{}, fmt.Errorf("comment %d of %s: %w", id, fullName, ErrNotFound)
	}
	edited, err := h.update(fullName, number, func(p *Pull) { p.Comments[at].Body = body })
	if err != nil {
		return Pull{}, Comment{}, err
	}
	return edited, edited.Comments[at], nil
}

// locateComment returns the pull request's number, 0 if there is none, and the comment's place. The caller holds mu.
func (h *Host) locateComment(fullName string, id int64) (number, at int) {
	r, ok := h.repos[fullName]
	if !ok {
		return 0, 0
	}
	for _, p := range r.pulls {
		if at := slices.IndexFunc(p.Comments, func(c Comment) bool { return c.ID == id }); at >= 0 {
			return p.Number, at
		}
	}
	return 0, 0
}

// Approve reviews the pull request as that user. Gitea's webhook of it means nothing to Atlantis, and none is sent.
func (h *Host) Approve(fullName string, number int, reviewer string) (Pull, error) {
	return h.update(fullName, number, func(p *Pull) { p.ApprovedBy = reviewer })
}

// Label gives the pull request these labels, and no others.
func (h *Host) Label(fullName string, number int, labels ...string) (Pull, error) {
	return h.update(fullName, number, func(p *Pull) { p.Labels = slices.Clone(labels) })
}

// Merge merges the pull request into the main branch.
func (h *Host) Merge(ctx context.Context, fullName string, number int) (Pull, error) {
	merged, err := h.mergePull(ctx, fullName, number)
	if err != nil {
		return Pull{}, err
	}
	return merged, h.tellOfPull(ctx, pullEvent, "closed", merged)
}

func (h *Host) mergePull(ctx context.Context, fullName string, number int) (Pull, error) {
	return h.whileOpen(fullName, number, func(git repository, before Pull) (Pull, error) {
		if err := git.merge(ctx, before.Head, fmt.Sprintf("Merge pull request #%d", number)); err != nil {
			return Pull{}, err
		}
		return h.update(fullName, number, func(p *Pull) { p.State = Merged })
	})
}

// ClosePull closes the pull request without merging it. Atlantis takes no notice of that with Gitea: its locks stay.
func (h *Host) ClosePull(ctx context.Context, fullName string, number int) (Pull, error) {
	closed, err := h.whileOpen(fullName, number, func(repository, Pull) (Pull, error) {
		return h.update(fullName, number, func(p *Pull) { p.State = Closed })
	})
	if err != nil {
		return Pull{}, err
	}
	return closed, h.tellOfPull(ctx, pullEvent, "closed", closed)
}

// setStatus keeps what is said of a commit.
func (h *Host) setStatus(fullName, commit string, status Status) error {
	r, err := h.find(fullName)
	if err != nil {
		return err
	}
	h.change(func() {
		if r.statuses[commit] == nil {
			r.statuses[commit] = map[string]Status{}
		}
		r.statuses[commit][status.Context] = status
	})
	return nil
}
