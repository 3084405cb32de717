package githost

import (
	"encoding/base64"
	"hash/fnv"
	"path"
	"strings"

	"code.gitea.io/sdk/gitea"
)

// Here the host's own records become those of Gitea's API, in the types of Gitea's own client.

func (h *Host) giteaRepository(fullName string) *gitea.Repository {
	owner, name, _ := strings.Cut(fullName, "/")
	return &gitea.Repository{
		ID:            repositoryID(fullName),
		Owner:         giteaUser(owner),
		Name:          name,
		FullName:      fullName,
		HTMLURL:       h.url + "/" + fullName,
		CloneURL:      h.url + "/" + fullName + ".git",
		DefaultBranch: mainBranch,
	}
}

// repositoryID is a number that stays the same for a name.
func repositoryID(fullName string) int64 {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(fullName))
	return int64(hash.Sum32())
}

func (h *Host) giteaPull(pull Pull) *gitea.PullRequest {
	repository := h.giteaRepository(pull.Repo)
	head := repository
	if pull.ForkGone {
		head = nil
	}
	return &gitea.PullRequest{
		ID:        int64(pull.Number),
		Index:     int64(pull.Number),
		Poster:    giteaUser(pull.Author),
		Title:     pull.Title,
		State:     giteaState(pull.State),
		HTMLURL:   pull.URL,
		Mergeable: pull.State == Open,
		HasMerged: pull.State == Merged,
		Base:      &gitea.PRBranchInfo{Name: mainBranch, Ref: mainBranch, RepoID: repository.ID, Repository: repository},
		Head:      &gitea.PRBranchInfo{Name: pull.Branch, Ref: pull.Branch, Sha: pull.Head, RepoID: repository.ID, Repository: head},
	}
}

func giteaState(state State) gitea.StateType {
	if state == Open {
		return gitea.StateOpen
	}
	return gitea.StateClosed
}

func giteaUser(name string) *gitea.User {
	return &gitea.User{UserName: name, FullName: name}
}

func (h *Host) giteaComment(pull Pull, comment Comment) *gitea.Comment {
	return &gitea.Comment{
		ID:      comment.ID,
		HTMLURL: pull.URL,
		PRURL:   pull.URL,
		Poster:  giteaUser(comment.Author),
		Body:    comment.Body,
		Created: comment.Created,
		Updated: comment.Created,
	}
}

// giteaReviews is the one approval that a pull request may have.
func giteaReviews(pull Pull) []*gitea.PullReview {
	if pull.ApprovedBy == "" {
		return []*gitea.PullReview{}
	}
	return []*gitea.PullReview{{ID: 1, Reviewer: giteaUser(pull.ApprovedBy), State: gitea.ReviewStateApproved}}
}

func giteaContents(file, content string) *gitea.ContentsResponse {
	encoding, encoded := "base64", base64.StdEncoding.EncodeToString([]byte(content))
	return &gitea.ContentsResponse{
		Name: path.Base(file), Path: file, Type: "file", Size: int64(len(content)), Encoding: &encoding, Content: &encoded,
	}
}
