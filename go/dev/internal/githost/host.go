package githost

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options says how a host is started.
type Options struct {
	// Folder is where the repositories go.
	Folder string
	// Address is where it listens, such as 127.0.0.1:3000; port 0 takes a free one.
	Address string
	// Bot is the user that Atlantis's token belongs to.
	Bot string
	// Secret signs the webhooks; empty leaves them unsigned.
	Secret string
	// GitLab: the webhooks are those of GitLab. The API is there in both forms.
	GitLab bool
	// Atlantis is that server's address, for the page's links; the webhooks go to SetAtlantis's.
	Atlantis string
}

// Host is a running stand-in. Its methods may be called from any goroutine.
type Host struct {
	url    string
	folder string
	bot    string
	secret string
	gitlab bool
	client *http.Client
	server *http.Server
	served chan struct{}

	creating sync.Mutex // repositories are made one after the other

	mu         sync.Mutex // guards what follows
	atlantis   string
	events     string
	repos      map[string]*repo
	comments   int64 // how many comments there ever were; the newest one's ID
	deliveries int
	unknown    []string
	changed    chan struct{} // closed, and made anew, with every change
}

// repo is a repository with its pull requests.
type repo struct {
	name       string
	repository repository
	writing    sync.Mutex // held while git writes, and until what it wrote is kept below

	// Guarded by the host's mu.
	pulls    []*Pull                      // the one with number n at n-1
	statuses map[string]map[string]Status // by commit, then by context
	fault    Fault
}

// Start begins to serve. Close ends it.
func Start(options Options) (*Host, error) {
	folder, err := filepath.Abs(options.Folder)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	backend, err := gitBackend(folder)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("the Git host's address: %w", err)
	}
	h := &Host{
		url:     "http://" + listener.Addr().String(),
		folder:  folder,
		bot:     options.Bot,
		secret:  options.Secret,
		gitlab:  options.GitLab,
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, // a server under test comes and goes
		served:  make(chan struct{}),
		repos:   map[string]*repo{},
		changed: make(chan struct{}),
	}
	h.SetAtlantis(options.Atlantis)
	h.server = &http.Server{Handler: h.handler(backend), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(h.served)
		_ = h.server.Serve(listener) // it always ends with an error: that it was closed
	}()
	return h, nil
}

// URL is the host's address, such as http://127.0.0.1:3000: Atlantis's --gitea-base-url.
func (h *Host) URL() string { return h.url }

// SetAtlantis tells where Atlantis is, such as http://127.0.0.1:4141; the webhooks go to /events there. Empty sends none.
func (h *Host) SetAtlantis(address string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.atlantis, h.events = address, ""
	if address != "" {
		h.events = strings.TrimSuffix(address, "/") + "/events"
	}
}

// Close stops serving. The repositories' folder stays.
func (h *Host) Close() error {
	err := h.server.Close()
	<-h.served
	return err
}

// Unknown lists what Atlantis asked the API for and the stand-in does not have: a release of Atlantis may need more of it.
func (h *Host) Unknown() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.unknown)
}

// change runs a change and wakes those who wait for one.
func (h *Host) change(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
	close(h.changed)
	h.changed = make(chan struct{})
}

// update changes one pull request and returns it as it then is.
func (h *Host) update(fullName string, number int, what func(*Pull)) (updated Pull, err error) {
	h.change(func() {
		var r *repo
		var p *Pull
		if r, p, err = h.locate(fullName, number); err == nil {
			what(p)
			updated = r.snapshot(p)
		}
	})
	return updated, err
}

func (h *Host) find(fullName string) (*repo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.repos[fullName]
	if !ok {
		return nil, fmt.Errorf("repository %s: %w", fullName, ErrNotFound)
	}
	return r, nil
}

// whileOpen runs a change to an open pull request, and no other change of its repository meanwhile.
func (h *Host) whileOpen(fullName string, number int, what func(repository, Pull) (Pull, error)) (Pull, error) {
	r, err := h.find(fullName)
	if err != nil {
		return Pull{}, err
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	p, err := h.Pull(fullName, number)
	if err != nil {
		return Pull{}, err
	}
	if p.State != Open {
		return Pull{}, fmt.Errorf("pull request #%d of %s is %s: %w", number, fullName, p.State, ErrNotOpen)
	}
	return what(r.repository, p)
}

// locate returns the host's own record. The caller holds mu.
func (h *Host) locate(fullName string, number int) (*repo, *Pull, error) {
	r, ok := h.repos[fullName]
	if !ok || number < 1 || number > len(r.pulls) {
		return nil, nil, fmt.Errorf("pull request #%d of %s: %w", number, fullName, ErrNotFound)
	}
	return r, r.pulls[number-1], nil
}
