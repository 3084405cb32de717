package githost

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
)

// The same host as GitLab, for releases of Atlantis that know no Gitea. Pull requests are merge requests here.

const (
	gitlabPrefix  = "/api/v4"
	gitlabVersion = "16.0.0"
)

// gitlabObject is an object of GitLab's API, with the members that Atlantis reads.
type gitlabObject map[string]any

// gitlabHandler is the part of GitLab's API that Atlantis uses.
func (h *Host) gitlabHandler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, handler func(*http.Request) (int, any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+gitlabPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
			name, err := h.gitlabProject(r.PathValue("project"))
			if err != nil {
				answer(w, r, func(*http.Request) (int, any, error) { return 0, nil, err })
				return
			}
			owner, repo, _ := strings.Cut(name, "/")
			r.SetPathValue("owner", owner)
			r.SetPathValue("repo", repo)
			answer(w, r, handler)
		})
	}
	const project, request = "/projects/{project}", "/projects/{project}/merge_requests/{number}"
	route("GET /version", func(*http.Request) (int, any, error) { return 200, gitlabObject{"version": gitlabVersion}, nil })
	route("GET /user", func(*http.Request) (int, any, error) { return 200, gitlabObject{"username": h.bot}, nil })
	route("GET "+project, func(r *http.Request) (int, any, error) { return 200, h.gitlabRepository(repoOf(r)), nil })
	route("GET "+project+"/repository/files/{path}/raw", h.gitlabFile)
	route("POST "+project+"/statuses/{commit}", h.gitlabSetStatus)
	route("GET "+project+"/repository/commits/{commit}/statuses", func(*http.Request) (int, any, error) { return 200, []gitlabObject{}, nil })
	route("GET "+project+"/repository/commits/{commit}", func(r *http.Request) (int, any, error) {
		return 200, gitlabObject{"id": r.PathValue("commit"), "last_pipeline": gitlabObject{"id": 1}}, nil
	})
	route("GET "+request, h.failing(h.gitlabPull))
	route("GET "+request+"/changes", h.gitlabPull)
	route("GET "+request+"/approvals", h.gitlabApprovals)
	route("PUT "+request+"/merge", h.gitlabMerge)
	route("GET "+request+"/notes", h.gitlabNotes)
	route("POST "+request+"/notes", h.gitlabNote)
	route("PUT "+request+"/notes/{id}", h.gitlabEditNote)
	route("POST "+request+"/notes/{id}/award_emoji", func(*http.Request) (int, any, error) { return 201, gitlabObject{"id": 1}, nil })
	mux.HandleFunc("/", h.apiUnknown)
	return mux
}

// gitlabProject is the repository's name; GitLab takes a number for it, too. Requests about no repository have none.
func (h *Host) gitlabProject(asked string) (string, error) {
	number, err := strconv.Atoi(asked)
	if err != nil {
		return asked, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.repos {
		if gitlabID(name) == number {
			return name, nil
		}
	}
	return "", fmt.Errorf("project %d: %w", number, ErrNotFound)
}

// gitlabID is a number that stays the same for a name.
func gitlabID(name string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	return int(hash.Sum32() >> 1)
}

func (h *Host) gitlabRepository(name string) gitlabObject {
	return gitlabObject{
		"id": gitlabID(name), "path_with_namespace": name, "http_url_to_repo": h.url + "/" + name + ".git",
		"git_http_url": h.url + "/" + name + ".git", "default_branch": mainBranch,
	}
}

func gitlabState(state State) string {
	return map[State]string{Open: "opened", Closed: "closed", Merged: "merged"}[state]
}

// gitlabRequest is a merge request. Its pipeline is there at once: Atlantis would wait for one.
func (h *Host) gitlabRequest(pull Pull) gitlabObject {
	changes := make([]gitlabObject, len(pull.Files))
	for i, name := range pull.Files {
		changes[i] = gitlabObject{"old_path": name, "new_path": name}
	}
	return gitlabObject{
		"id": pull.Number, "iid": pull.Number, "project_id": gitlabID(pull.Repo), "title": pull.Title, "state": gitlabState(pull.State),
		"author": gitlabObject{"username": pull.Author}, "sha": pull.Head, "source_branch": pull.Branch, "target_branch": mainBranch,
		"web_url": pull.URL, "labels": pull.Labels, "detailed_merge_status": "mergeable", "blocking_discussions_resolved": true,
		"head_pipeline": gitlabObject{"sha": pull.Head, "ref": pull.Branch, "status": "success"},
		"changes":       changes, "changes_count": strconv.Itoa(len(changes)),
	}
}

func (h *Host) gitlabPull(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	return http.StatusOK, h.gitlabRequest(pull), err
}

func (h *Host) gitlabFile(r *http.Request) (int, any, error) {
	found, err := h.find(repoOf(r))
	if err != nil {
		return 0, nil, err
	}
	content, ok := found.repository.read(r.Context(), r.URL.Query().Get("ref"), r.PathValue("path"))
	if !ok {
		return http.StatusNotFound, gitlabObject{"message": "there is no such file"}, nil
	}
	return http.StatusOK, content, nil
}

func (h *Host) gitlabSetStatus(r *http.Request) (int, any, error) {
	var said struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := decode(r, &said); err != nil {
		return 0, nil, err
	}
	state := said.State
	if state == "running" { // as Gitea calls it
		state = "pending"
	}
	err := h.setStatus(repoOf(r), r.PathValue("commit"), Status{said.Context, state, said.Description, said.TargetURL})
	return http.StatusCreated, gitlabObject{"status": said.State, "name": said.Context}, err
}

func (h *Host) gitlabApprovals(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	left := 1
	if pull.ApprovedBy != "" {
		left = 0
	}
	return http.StatusOK, gitlabObject{"approvals_left": left}, err
}

func (h *Host) gitlabMerge(r *http.Request) (int, any, error) {
	merged, err := h.mergePull(r.Context(), repoOf(r), numberOf(r, "number"))
	if err != nil {
		return 0, nil, err
	}
	go func() { _ = h.tellOfPull(context.WithoutCancel(r.Context()), pullEvent, "closed", merged) }()
	return http.StatusOK, h.gitlabRequest(merged), nil
}

func gitlabComment(comment Comment) gitlabObject {
	return gitlabObject{"id": comment.ID, "body": comment.Body, "author": gitlabObject{"username": comment.Author}}
}

func (h *Host) gitlabNotes(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	notes := make([]gitlabObject, 0, len(pull.Comments))
	for _, comment := range pull.Comments {
		notes = append(notes, gitlabComment(comment))
	}
	return http.StatusOK, notes, err
}

func (h *Host) gitlabNote(r *http.Request) (int, any, error) {
	var note struct {
		Body string `json:"body"`
	}
	if err := decode(r, &note); err != nil {
		return 0, nil, err
	}
	_, made, err := h.addComment(repoOf(r), numberOf(r, "number"), h.bot, note.Body)
	return http.StatusCreated, gitlabComment(made), err
}

func (h *Host) gitlabEditNote(r *http.Request) (int, any, error) {
	var note struct {
		Body string `json:"body"`
	}
	if err := decode(r, &note); err != nil {
		return 0, nil, err
	}
	_, edited, err := h.editComment(repoOf(r), int64(numberOf(r, "id")), note.Body)
	return http.StatusOK, gitlabComment(edited), err
}

// gitlabEvent is a merge request's webhook. GitLab's name for what happened differs.
func (h *Host) gitlabEvent(event event, pull Pull) gitlabObject {
	attributes := gitlabObject{
		"iid": pull.Number, "url": pull.URL, "state": gitlabState(pull.State), "source_branch": pull.Branch, "target_branch": mainBranch,
		"last_commit": gitlabObject{"id": pull.Head}, "source": h.gitlabRepository(pull.Repo), "target": h.gitlabRepository(pull.Repo),
	}
	switch {
	case pull.State == Merged:
		attributes["action"] = "merge"
	case pull.State == Closed:
		attributes["action"] = "close"
	case event == pushEvent:
		attributes["action"], attributes["oldrev"] = "update", "0000000000000000000000000000000000000000"
	default:
		attributes["action"] = "open"
	}
	return gitlabObject{
		"object_kind": "merge_request", "user": gitlabObject{"username": pull.Author}, "project": h.gitlabNamed(pull.Repo),
		"object_attributes": attributes,
	}
}

// gitlabNamed is a repository in a webhook.
func (h *Host) gitlabNamed(name string) gitlabObject {
	repository := h.gitlabRepository(name)
	repository["git_http_url"] = h.url + "/" + name + ".git"
	return repository
}

// gitlabNoteEvent is a comment's webhook.
func (h *Host) gitlabNoteEvent(pull Pull, comment Comment) gitlabObject {
	return gitlabObject{
		"object_kind": "note", "user": gitlabObject{"username": comment.Author}, "project": h.gitlabNamed(pull.Repo),
		"object_attributes": gitlabObject{"id": comment.ID, "note": comment.Body, "noteable_type": "MergeRequest", "action": "create"},
		"merge_request": gitlabObject{
			"iid": pull.Number, "source_branch": pull.Branch, "target_branch": mainBranch,
			"source": h.gitlabRepository(pull.Repo), "target": h.gitlabRepository(pull.Repo), "last_commit": gitlabObject{"id": pull.Head},
		},
	}
}
