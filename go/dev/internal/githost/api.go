package githost

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"code.gitea.io/sdk/gitea"
)

const (
	apiPrefix = "/api/v1"
	// version is that of a Gitea whose API this is a part of.
	version = "1.22.0"
	// bodyLimit bounds a request's body: Atlantis's comments are long, but not endless.
	bodyLimit = 16 << 20
)

// apiHandler is the part of Gitea's API that Atlantis uses. Everything is on one page: no answer has a Link header.
func (h *Host) apiHandler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, handler func(*http.Request) (int, any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+apiPrefix+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
			answer(w, r, handler)
		})
	}
	const repo = "/repos/{owner}/{repo}"
	route("GET /version", func(*http.Request) (int, any, error) { return 200, map[string]string{"version": version}, nil })
	route("GET /user", func(*http.Request) (int, any, error) { return 200, giteaUser(h.bot), nil })
	route("GET "+repo, h.apiRepository)
	route("GET "+repo+"/contents/{path...}", h.apiContents)
	route("POST "+repo+"/statuses/{commit}", h.apiSetStatus)
	route("GET "+repo+"/pulls/{number}", h.failing(h.apiPull))
	route("GET "+repo+"/pulls/{number}/files", h.apiFiles)
	route("GET "+repo+"/pulls/{number}/reviews", h.apiReviews)
	route("POST "+repo+"/pulls/{number}/reviews/{id}/dismissals", h.apiDismiss)
	route("POST "+repo+"/pulls/{number}/merge", h.apiMerge)
	route("GET "+repo+"/issues/{number}/labels", h.apiLabels)
	route("GET "+repo+"/issues/{number}/comments", h.apiComments)
	route("POST "+repo+"/issues/{number}/comments", h.apiComment)
	route("PATCH "+repo+"/issues/comments/{id}", h.apiEditComment)
	route("POST "+repo+"/issues/comments/{id}/reactions", h.apiReact)
	mux.HandleFunc("/", h.apiUnknown)
	return mux
}

// answer writes what a handler returns as JSON, and its error in Gitea's form.
func answer(w http.ResponseWriter, r *http.Request, handler func(*http.Request) (int, any, error)) {
	code, body, err := handler(r)
	if err != nil {
		code, body = statusCode(err), map[string]string{"message": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // fails only if the client has gone
	}
}

// apiUnknown remembers what the stand-in lacks, so that a test can tell of it.
func (h *Host) apiUnknown(w http.ResponseWriter, r *http.Request) {
	h.change(func() { h.unknown = append(h.unknown, r.Method+" "+r.URL.Path) })
	answer(w, r, func(*http.Request) (int, any, error) {
		return http.StatusNotFound, map[string]string{"message": "the stand-in for Gitea does not have this"}, nil
	})
}

func (h *Host) apiRepository(r *http.Request) (int, any, error) {
	if _, err := h.find(repoOf(r)); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, h.giteaRepository(repoOf(r)), nil
}

func (h *Host) apiContents(r *http.Request) (int, any, error) {
	found, err := h.find(repoOf(r))
	if err != nil {
		return 0, nil, err
	}
	path, ref := r.PathValue("path"), r.URL.Query().Get("ref")
	if ref == "" {
		ref = mainBranch
	}
	content, ok := found.repository.read(r.Context(), ref, path)
	if !ok {
		return http.StatusNotFound, map[string]string{"message": "there is no file " + path + " in " + ref}, nil
	}
	return http.StatusOK, giteaContents(path, content), nil
}

func (h *Host) apiSetStatus(r *http.Request) (int, any, error) {
	var option gitea.CreateStatusOption
	if err := decode(r, &option); err != nil {
		return 0, nil, err
	}
	err := h.setStatus(repoOf(r), r.PathValue("commit"), Status{
		Context: option.Context, State: string(option.State), Description: option.Description, URL: option.TargetURL,
	})
	return http.StatusCreated, gitea.Status{State: option.State, Context: option.Context, Description: option.Description}, err
}

func (h *Host) apiPull(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	return http.StatusOK, h.giteaPull(pull), err
}

func (h *Host) apiFiles(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	files := make([]gitea.ChangedFile, 0, len(pull.Files))
	for _, name := range pull.Files {
		files = append(files, gitea.ChangedFile{Filename: name, Status: "changed"})
	}
	return http.StatusOK, files, err
}

func (h *Host) apiReviews(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	return http.StatusOK, giteaReviews(pull), err
}

func (h *Host) apiDismiss(r *http.Request) (int, any, error) {
	pull, err := h.Approve(repoOf(r), numberOf(r, "number"), "")
	return http.StatusOK, giteaReviews(pull), err
}

func (h *Host) apiMerge(r *http.Request) (int, any, error) {
	// Gitea tells of the merge by a webhook, which Atlantis takes after it has read this answer, as from Gitea.
	merged, err := h.mergePull(r.Context(), repoOf(r), numberOf(r, "number"))
	if err != nil {
		return 0, nil, err
	}
	go func() { _ = h.tellOfPull(context.WithoutCancel(r.Context()), pullEvent, "closed", merged) }()
	return http.StatusOK, nil, nil
}

func (h *Host) apiLabels(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	labels := make([]gitea.Label, 0, len(pull.Labels))
	for _, name := range pull.Labels {
		labels = append(labels, gitea.Label{Name: name})
	}
	return http.StatusOK, labels, err
}

func (h *Host) apiComments(r *http.Request) (int, any, error) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	comments := make([]*gitea.Comment, 0, len(pull.Comments))
	for _, comment := range pull.Comments {
		comments = append(comments, h.giteaComment(pull, comment))
	}
	return http.StatusOK, comments, err
}

func (h *Host) apiComment(r *http.Request) (int, any, error) {
	var option gitea.CreateIssueCommentOption
	if err := decode(r, &option); err != nil {
		return 0, nil, err
	}
	pull, made, err := h.addComment(repoOf(r), numberOf(r, "number"), h.bot, option.Body)
	return http.StatusCreated, h.giteaComment(pull, made), err
}

func (h *Host) apiEditComment(r *http.Request) (int, any, error) {
	var option gitea.EditIssueCommentOption
	if err := decode(r, &option); err != nil {
		return 0, nil, err
	}
	pull, edited, err := h.editComment(repoOf(r), int64(numberOf(r, "id")), option.Body)
	return http.StatusOK, h.giteaComment(pull, edited), err
}

func (h *Host) apiReact(*http.Request) (int, any, error) {
	return http.StatusCreated, gitea.Reaction{}, nil // reactions are not shown
}

func repoOf(r *http.Request) string { return r.PathValue("owner") + "/" + r.PathValue("repo") }

// numberOf reads a number of the path; 0, which nothing has, if it is none.
func numberOf(r *http.Request, name string) int {
	number, _ := strconv.Atoi(r.PathValue(name))
	return number
}

func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return nil
}
