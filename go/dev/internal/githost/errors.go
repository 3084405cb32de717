package githost

import (
	"errors"
	"net/http"
)

var (
	// ErrNotFound says that there is no such repository, pull request or comment.
	ErrNotFound = errors.New("not found")
	// ErrNotOpen says that the pull request is closed or merged already.
	ErrNotOpen = errors.New("the pull request is not open")
	// ErrExists says that there is such a repository already.
	ErrExists = errors.New("exists already")
	// ErrBadRequest says that what was asked for makes no sense.
	ErrBadRequest = errors.New("bad request")
	// ErrWebhook says that Atlantis did not take the webhook. What it would have told of was done here all the same.
	ErrWebhook = errors.New("Atlantis did not take the webhook")
)

// statusCode is the HTTP status that tells of an error.
func statusCode(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrNotOpen), errors.Is(err, ErrExists):
		return http.StatusConflict
	case errors.Is(err, ErrBadRequest):
		return http.StatusBadRequest
	case errors.Is(err, ErrWebhook):
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}
