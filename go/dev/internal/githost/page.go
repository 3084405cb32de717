package githost

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
)

//go:embed page/*.html
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"markdown": renderMarkdown}).ParseFS(pageFiles, "page/*.html"))

// markdown leaves HTML in a comment out: what is shown is safe whatever a comment says.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM))

func renderMarkdown(text string) (template.HTML, error) {
	var out bytes.Buffer
	err := markdown.Convert([]byte(text), &out)
	return template.HTML(out.String()), err // #nosec G203 -- goldmark escapes, and renders no HTML of its input
}

// handler puts API, git and page together.
func (h *Host) handler(git http.Handler) http.Handler {
	api, gitlab := h.apiHandler(), h.gitlabHandler()
	// A page of another site must not act here through a visitor's browser.
	page := http.NewCrossOriginProtection().Handler(h.pageHandler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, apiPrefix+"/"):
			api.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, gitlabPrefix+"/"):
			gitlab.ServeHTTP(w, r)
		case strings.Contains(r.URL.Path, ".git/"):
			git.ServeHTTP(w, r)
		default:
			page.ServeHTTP(w, r)
		}
	})
}

// pageHandler shows pull requests, and has a form for each thing that a person may do with one. curl may send the forms, too.
func (h *Host) pageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.showAll)
	const pulls = "/{owner}/{repo}/pulls"
	mux.HandleFunc("GET "+pulls+"/{number}", h.showPull)
	form := func(path string, act func(r *http.Request) (Pull, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
			pull, err := act(r)
			if err != nil {
				h.complain(w, err, pull)
				return
			}
			http.Redirect(w, r, pull.URL, http.StatusSeeOther)
		})
	}
	form(pulls, func(r *http.Request) (Pull, error) {
		files, err := h.newFiles(r, len(h.Pulls(repoOf(r)))+1)
		if err != nil {
			return Pull{}, err
		}
		return h.OpenPull(r.Context(), repoOf(r), userOf(r), cmp.Or(r.FormValue("title"), "a change"), files)
	})
	form(pulls+"/{number}/push", func(r *http.Request) (Pull, error) {
		files, err := h.newFiles(r, numberOf(r, "number"))
		if err != nil {
			return Pull{}, err
		}
		return h.Push(r.Context(), repoOf(r), numberOf(r, "number"), files)
	})
	form(pulls+"/{number}/comments", func(r *http.Request) (Pull, error) {
		pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
		if err != nil {
			return Pull{}, err
		}
		_, err = h.Comment(r.Context(), repoOf(r), numberOf(r, "number"), userOf(r), r.FormValue("body"))
		return pull, err
	})
	form(pulls+"/{number}/approve", func(r *http.Request) (Pull, error) {
		return h.Approve(repoOf(r), numberOf(r, "number"), userOf(r))
	})
	form(pulls+"/{number}/merge", func(r *http.Request) (Pull, error) {
		return h.Merge(r.Context(), repoOf(r), numberOf(r, "number"))
	})
	form(pulls+"/{number}/close", func(r *http.Request) (Pull, error) {
		return h.ClosePull(r.Context(), repoOf(r), numberOf(r, "number"))
	})
	return mux
}

// userOf is who sent a form.
func userOf(r *http.Request) string { return cmp.Or(strings.TrimSpace(r.FormValue("user")), "ann") }

// newFiles makes a change to each folder that a form names: a file that only this pull request has, so that no two conflict.
func (h *Host) newFiles(r *http.Request, number int) (map[string]string, error) {
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	folders := r.Form["project"]
	if len(folders) == 0 {
		return nil, fmt.Errorf("%w: choose a project that the commit changes", ErrBadRequest)
	}
	h.mu.Lock()
	h.deliveries++ // any number that was not there before makes the content differ
	serial := h.deliveries
	h.mu.Unlock()
	files := map[string]string{}
	for _, folder := range folders {
		files[fmt.Sprintf("%s/pull_%d.tf", folder, number)] = fmt.Sprintf("# change %d\nresource \"null_resource\" \"pull_%d\" {}\n", serial, number)
	}
	return files, nil
}

// repoView is a repository on the first page.
type repoView struct {
	Name     string
	Projects []string
	Pulls    []Pull
}

func (h *Host) showAll(w http.ResponseWriter, r *http.Request) {
	var repos []repoView
	for _, name := range h.Repositories() {
		pulls := h.Pulls(name)
		slices.Reverse(pulls)
		projects, err := h.projects(r, name)
		if err != nil {
			h.complain(w, err, Pull{})
			return
		}
		repos = append(repos, repoView{Name: name, Projects: projects, Pulls: pulls})
	}
	h.render(w, http.StatusOK, "host.html", map[string]any{"Repos": repos})
}

func (h *Host) showPull(w http.ResponseWriter, r *http.Request) {
	pull, err := h.Pull(repoOf(r), numberOf(r, "number"))
	if err != nil {
		h.complain(w, err, Pull{})
		return
	}
	projects, err := h.projects(r, pull.Repo)
	if err != nil {
		h.complain(w, err, pull)
		return
	}
	h.render(w, http.StatusOK, "pull.html", map[string]any{"Pull": pull, "Projects": projects, "Bot": h.bot})
}

// projects lists the folders of the main branch that have a file of Terraform's.
func (h *Host) projects(r *http.Request, fullName string) ([]string, error) {
	found, err := h.find(fullName)
	if err != nil {
		return nil, err
	}
	return found.repository.projects(r.Context())
}

// complain tells what went wrong. After a webhook that Atlantis did not take, the pull request is there all the same.
func (h *Host) complain(w http.ResponseWriter, err error, pull Pull) {
	data := map[string]any{"Error": err.Error(), "Webhook": errors.Is(err, ErrWebhook), "Pull": pull}
	h.render(w, statusCode(err), "error.html", data)
}

func (h *Host) render(w http.ResponseWriter, code int, name string, data map[string]any) {
	h.mu.Lock()
	data["Atlantis"] = h.atlantis
	h.mu.Unlock()
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.WriteHeader(code)
	_, _ = w.Write(out.Bytes()) // fails only if the browser has gone
}
