package githost

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"code.gitea.io/sdk/gitea"
)

// webhookLimit bounds one delivery. Atlantis answers at once and works afterwards.
const webhookLimit = 20 * time.Second

// event names a webhook as Gitea's headers X-Gitea-Event and X-Gitea-Event-Type do.
type event struct{ name, kind string }

var (
	pullEvent    = event{"pull_request", "pull_request"}
	pushEvent    = event{"pull_request", "pull_request_sync"}
	commentEvent = event{"issue_comment", "pull_request_comment"}
)

// pullPayload is the body of a pull request's webhook.
type pullPayload struct {
	Action      string             `json:"action"`
	Number      int                `json:"number"`
	PullRequest *gitea.PullRequest `json:"pull_request"`
	Repository  *gitea.Repository  `json:"repository"`
}

// commentPayload is the body of a comment's webhook.
type commentPayload struct {
	Action     string            `json:"action"`
	Comment    *gitea.Comment    `json:"comment"`
	Repository *gitea.Repository `json:"repository"`
	Issue      *gitea.Issue      `json:"issue"`
	IsPull     bool              `json:"is_pull"`
}

// tellOfPull sends a pull request's webhook.
func (h *Host) tellOfPull(ctx context.Context, event event, action string, pull Pull) error {
	if h.gitlab {
		return h.send(ctx, event, "Merge Request Hook", h.gitlabEvent(event, pull))
	}
	return h.send(ctx, event, "", pullPayload{
		Action: action, Number: pull.Number, PullRequest: h.giteaPull(pull), Repository: h.giteaRepository(pull.Repo),
	})
}

// tellOfComment sends a comment's webhook.
func (h *Host) tellOfComment(ctx context.Context, pull Pull, comment Comment) error {
	if h.gitlab {
		return h.send(ctx, commentEvent, "Note Hook", h.gitlabNoteEvent(pull, comment))
	}
	return h.send(ctx, commentEvent, "", commentPayload{
		Action:     "created",
		Comment:    h.giteaComment(pull, comment),
		Repository: h.giteaRepository(pull.Repo),
		Issue: &gitea.Issue{
			Index: int64(pull.Number), Title: pull.Title, State: giteaState(pull.State), HTMLURL: pull.URL, Poster: giteaUser(pull.Author),
		},
		IsPull: true,
	})
}

// send posts a webhook, signed if there is a secret. Without an address of Atlantis's nothing is sent.
// As GitLab's it has GitLab's name for the event.
func (h *Host) send(ctx context.Context, event event, gitlab string, payload any) error {
	h.mu.Lock()
	address := h.events
	h.deliveries++
	id := strconv.Itoa(h.deliveries)
	h.mu.Unlock()
	if address == "" {
		return nil
	}

	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, webhookLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	h.head(request.Header, event, gitlab, id, body)

	response, err := h.client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWebhook, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: it answered %s: %s", ErrWebhook, response.Status, strings.TrimSpace(string(answer)))
	}
	return nil
}

// head says what a webhook is, and that it is ours.
func (h *Host) head(header http.Header, event event, gitlab, id string, body []byte) {
	if gitlab != "" {
		header.Set("X-Gitlab-Event", gitlab)
		header.Set("X-Gitlab-Token", h.secret)
		return
	}
	header.Set("X-Gitea-Event", event.name)
	header.Set("X-Gitea-Event-Type", event.kind)
	header.Set("X-Gitea-Delivery", id)
	if h.secret != "" {
		header.Set("X-Gitea-Signature", signature(h.secret, body))
	}
}

// signature is Gitea's: the body's HMAC-SHA256, in hexadecimal.
func signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
