package web

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"github.com/atlock/atlock/go/atlock"
)

// PageActor is who sends a page's request, for the audit trail: the user whose password Atlantis has looked at before, and the address of the
// connection, which behind a proxy is the proxy's.
func (o Options) PageActor(r *http.Request) atlock.Actor {
	actor := atlock.Actor{Via: atlock.ViaPage, By: atlock.Person{Address: r.RemoteAddr}}
	if name, _, has := r.BasicAuth(); has && o.WebAuth {
		actor.By.User = name
	}
	return actor
}

// apiActor is who sends a request with Atlantis's API secret, which names nobody.
func apiActor(r *http.Request) atlock.Actor {
	return atlock.Actor{Via: atlock.ViaAPI, By: atlock.Person{Address: r.RemoteAddr}}
}

// denying records each request to the API, Atlantis's own part of it too, that is refused for what it has as a secret or a password. Who gives none
// has tried nothing.
func denying(database Database) mux.MiddlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/api/") || r.Header.Get(tokenHeader) == "" && r.Header.Get("Authorization") == "" {
				next.ServeHTTP(w, r)
				return
			}
			seen := &seeing{ResponseWriter: w}
			next.ServeHTTP(seen, r)
			if seen.code == http.StatusUnauthorized {
				database.As(apiActor(r)).Denied(r.Method+" "+r.URL.Path, "a wrong API secret or password")
			}
		})
	}
}

// seeing sees the status of an answer.
type seeing struct {
	http.ResponseWriter
	code int
}

func (s *seeing) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *seeing) Unwrap() http.ResponseWriter { return s.ResponseWriter }
