package web

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/atlock/atlock/go/atlock"
)

// tokenHeader has Atlantis's API secret, as in its own /api/plan.
const tokenHeader = "X-Atlantis-Token"

// longestBody is more than a freeze with texts of their largest sizes, escaped, has.
const longestBody = 64 << 10

// withSecret lets through who knows Atlantis's API secret. Without one nothing is changed by HTTP.
func withSecret(secret []byte, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch given := []byte(r.Header.Get(tokenHeader)); {
		case len(secret) == 0:
			writeFault(w, fault{http.StatusNotFound, "nothing is changed by HTTP: Atlantis has no --api-secret"})
		case subtle.ConstantTimeCompare(given, secret) != 1:
			writeFault(w, fault{http.StatusUnauthorized, "the header " + tokenHeader + " does not have Atlantis's --api-secret"})
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

// leaveHandler takes a pull request out of a queue.
func leaveHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		var asked struct {
			Repo string        `json:"repo"`
			Pull atlock.PullID `json:"pull"`
			Key  string        `json:"key"`
		}
		if err := readBody(r, &asked); err != nil {
			return nil, err
		}
		if asked.Repo == "" || asked.Pull.Num <= 0 {
			return nil, badRequest(`give {"repo": "acme/infra", "pull": {"num": 7}}, and a "key" for one lock alone`)
		}
		left, err := database.As(apiActor(r)).Leave(asked.Repo, asked.Pull, asked.Key)
		return map[string]int{"left": left}, err
	})
}

// freezeHandler freezes locks.
func freezeHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		var asked atlock.FreezeRequest
		if err := readBody(r, &asked); err != nil {
			return nil, err
		}
		freeze, err := database.As(apiActor(r)).Freeze(asked)
		return cleanFreeze(freeze), err
	})
}

// thawHandler ends a freeze.
func thawHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		id := r.URL.Query().Get("id")
		if id == "" {
			return nil, badRequest("give ?id= with the freeze's id")
		}
		freeze, err := database.As(apiActor(r)).Thaw(id)
		if err != nil {
			return nil, err
		}
		if freeze == nil {
			return nil, fault{http.StatusNotFound, "there is no freeze of this id; it may be over"}
		}
		return cleanFreeze(*freeze), nil
	})
}

// readBody reads one JSON value of a known shape, and no more.
func readBody(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, longestBody+1))
	if err != nil {
		return badRequest("the body cannot be read: %v", err)
	}
	if len(body) > longestBody {
		return fault{http.StatusRequestEntityTooLarge, "the body is too long: 64 KiB are the limit"}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return badRequest("the body is not the JSON that is wanted: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body has more than one JSON value")
	}
	return nil
}
