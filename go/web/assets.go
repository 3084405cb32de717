package web

import (
	"bytes"
	"embed"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/mux"
)

//go:embed assets
var assets embed.FS

// served are the names of those that a browser asks for.
var served = []string{"style.css", "script.js", "lock.js", "link.css"}

// assetHandler serves the page's style, and the scripts.
func assetHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := mux.Vars(r)["asset"]
		content, err := assets.ReadFile("assets/" + name)
		if err != nil || !slices.Contains(served, name) {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}
