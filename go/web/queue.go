package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/client"
)

// queuedPull is a pull request that waits; its priority is told by name, as the library does.
type queuedPull struct {
	atlock.QueuedPull
	Priority string `json:"priority"`
}

// queueHandler answers who waits in a repository, or in each.
func queueHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		queues, err := database.Queues(r.URL.Query().Get("repo"))
		if err != nil {
			return nil, err
		}
		shown := make(map[string][]queuedPull, len(queues))
		for repo, pulls := range queues {
			for _, pull := range pulls {
				pull.URL = webAddress(pull.URL)
				shown[repo] = append(shown[repo], queuedPull{pull, pull.Priority.String()})
			}
		}
		return shown, nil
	})
}

// explainHandler answers why a lock, or each lock of a pull request, is as it is.
func explainHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		query := r.URL.Query()
		explained := make([]atlock.Explained, 1)
		var err error
		switch {
		case query.Get("id") != "":
			explained[0], err = database.Explain(query.Get("id"))
		case query.Get("repo") != "":
			var pull atlock.PullID
			if pull, err = pullOf(query); err == nil {
				explained, err = database.ExplainPull(query.Get("repo"), pull)
			}
		default:
			err = badRequest("give ?id= with a lock's key, or ?repo= and &pull=")
		}
		if err != nil {
			return nil, err
		}
		for i := range explained {
			explained[i] = cleanExplained(explained[i])
		}
		return explained, nil
	})
}

// statsHandler answers with the counters of waiting and holding.
func statsHandler(database Database) http.Handler {
	return answering(func(r *http.Request) (any, error) {
		stats, err := database.Enhanced().GetEnhancedStats(r.Context())
		if err != nil {
			return nil, err
		}
		return client.Stats{
			ActiveLocks:        stats.ActiveLocks,
			TotalRequests:      stats.TotalRequests,
			SuccessfulAcquires: stats.SuccessfulAcquires,
			FailedAcquires:     stats.FailedAcquires,
			AverageWaitMS:      stats.AverageWaitTime.Milliseconds(),
			AverageHoldMS:      stats.AverageHoldTime.Milliseconds(),
			QueueDepth:         stats.QueueDepth,
			HealthScore:        stats.HealthScore,
			LastUpdated:        atlock.UnixMicro(stats.LastUpdated.UnixMicro()),
		}, nil
	})
}

// checkHandler answers 200 if a pull request holds a lock, and 409 if not. Who does hold it, only those hear who logged in; the others get an
// answer without a body, but for what is wrong with their own question.
func checkHandler(database Database, known login) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checked, err := check(database, r.URL.Query())
		_, isTheirs := errors.AsType[fault](err)
		switch {
		case !known.has(r) && !isTheirs:
			w.WriteHeader(checkedCode(checked, err))
		case err != nil:
			writeFault(w, err)
		default:
			writeJSON(w, checkedCode(checked, nil), checked)
		}
	})
}

func checkedCode(checked atlock.Checked, err error) int {
	switch {
	case err != nil:
		return codeOf(err)
	case checked.Holds:
		return http.StatusOK
	default:
		return http.StatusConflict
	}
}

func check(database Database, query url.Values) (atlock.Checked, error) {
	if query.Get("id") == "" {
		return atlock.Checked{}, badRequest("give ?id= with a lock's key, and &pull=")
	}
	pull, err := pullOf(query)
	if err != nil {
		return atlock.Checked{}, err
	}
	token := atlock.NoToken
	// Given and empty is a mistake: a workflow whose token is gone would be told that it holds the lock.
	if query.Has("token") {
		number, err := strconv.ParseUint(query.Get("token"), 10, 64)
		if err != nil || number == 0 {
			return atlock.Checked{}, badRequest("the token %.40q is none: give that of the grant, or leave &token= out to ask for any grant", query.Get("token"))
		}
		token = atlock.FencingToken(number)
	}
	return database.CheckKey(query.Get("id"), pull, token)
}

// freezesHandler answers with the freezes that are not over.
func freezesHandler(database Database) http.Handler {
	return answering(func(*http.Request) (any, error) {
		freezes, err := database.Freezes()
		for i := range freezes {
			freezes[i] = cleanFreeze(freezes[i])
		}
		return freezes, err
	})
}

// deadlocksHandler answers with the circles of pull requests that wait for each other.
func deadlocksHandler(database Database) http.Handler {
	return answering(func(*http.Request) (any, error) { return database.Deadlocks() })
}

// pullOf reads `pull`, a number above 0, and `host`, which may be absent.
func pullOf(query url.Values) (atlock.PullID, error) {
	num, err := strconv.Atoi(query.Get("pull"))
	if err != nil || num <= 0 {
		return atlock.PullID{}, badRequest("the pull request %.40q is none: give its number, above 0, as &pull=", query.Get("pull"))
	}
	return atlock.PullID{Host: query.Get("host"), Num: num}, nil
}

// cleanExplained leaves credentials out.
func cleanExplained(explained atlock.Explained) atlock.Explained {
	if explained.Holder != nil {
		holder := *explained.Holder
		holder.URL = webAddress(holder.URL)
		explained.Holder = &holder
	}
	for i := range explained.Queue {
		explained.Queue[i].URL = webAddress(explained.Queue[i].URL)
	}
	for i := range explained.BlockedBy {
		explained.BlockedBy[i].What = withoutCredentials(explained.BlockedBy[i].What)
	}
	return explained
}

func cleanFreeze(freeze atlock.Freeze) atlock.Freeze {
	freeze.Reason = withoutCredentials(freeze.Reason)
	return freeze
}

// answering answers with what a function gives, or its error, as JSON.
func answering(answer func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, err := answer(r)
		if err != nil {
			writeFault(w, err)
			return
		}
		writeJSON(w, http.StatusOK, found)
	})
}

// fault is what a caller did wrong, and the answer's code.
type fault struct {
	code int
	text string
}

func (f fault) Error() string { return f.text }

func badRequest(format string, args ...any) error {
	return fault{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// writeFault answers with an error: 404 for what the settings do not switch on, 400 for what makes no sense, and 503 if the locking layer
// does not answer.
func writeFault(w http.ResponseWriter, err error) {
	writeJSON(w, codeOf(err), map[string]string{"error": withoutCredentials(err.Error())})
}

// codeOf is the code of an answer that tells of an error.
func codeOf(err error) int {
	code := http.StatusServiceUnavailable
	if told, ok := errors.AsType[fault](err); ok {
		code = told.code
	}
	for sentinel, of := range map[error]int{
		atlock.ErrQueueDisabled:   http.StatusNotFound,
		atlock.ErrUnsupported:     http.StatusNotFound,
		atlock.ErrInvalidArgument: http.StatusBadRequest,
		atlock.ErrInvalidJSON:     http.StatusBadRequest,
		atlock.ErrTooLarge:        http.StatusBadRequest,
	} {
		if errors.Is(err, sentinel) {
			code = of
		}
	}
	return code
}
