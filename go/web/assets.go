package web

import (
	"bytes"
	"embed"
	"net/http"
	"time"

	"github.com/gorilla/mux"
)

//go:embed assets
var assets embed.FS

// assetHandler serves the page's style and script.
func assetHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := mux.Vars(r)["asset"]
		content, err := assets.ReadFile("assets/" + name)
		if err != nil || name != "style.css" && name != "script.js" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}
