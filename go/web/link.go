package web

import (
	"bytes"
	"html/template"
	"net/http"
)

// insertionPoint is in the heads of Atlantis's own pages; what is added stands behind it. A release whose pages lack it has nothing added.
const insertionPoint = `<p class="title-heading">atlantis</p>`

// searched is about how many bytes of Atlantis's page are held back until the insertion point is found: it comes after 1.6 KB.
const searched = 16 << 10

var linkTemplate = template.Must(template.New("link").Parse(
	`<link rel="stylesheet" href="{{.BasePath}}` + PagePath + `/link.css"><p class="title-heading small locking-{{.Level}}"><a href="{{.BasePath}}` +
		PagePath + `">{{.Text}}</a></p>`))

// refusalTemplate shows, on Atlantis's page of a lock, why a lock was not discarded.
var refusalTemplate = template.Must(template.New("refusal").Parse(`<script src="{{.BasePath}}` + PagePath + `/lock.js" defer></script>`))

// linked puts a link to the page into Atlantis's own, and into Atlantis's page of a lock what shows refusals. Both pass through otherwise
// unchanged.
func linked(database Database, history *history, options Options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var link bytes.Buffer
			var err error
			switch {
			case r.Method == http.MethodGet && r.URL.Path == "/":
				text, level := linkText(database, history)
				err = linkTemplate.Execute(&link, struct{ BasePath, Text, Level string }{options.BasePath, "Locking: " + text, level})
			case r.Method == http.MethodGet && r.URL.Path == "/lock":
				err = refusalTemplate.Execute(&link, options)
			}
			if link.Len() == 0 || err != nil {
				next.ServeHTTP(w, r)
				return
			}
			inserting := &insertingWriter{ResponseWriter: w, link: link.Bytes()}
			defer inserting.finish()
			next.ServeHTTP(inserting, r)
		})
	}
}

// linkText tells who decides, and how well that is, without waiting for a store.
func linkText(database Database, history *history) (text, level string) {
	status, err := database.Status()
	if err != nil {
		return "status", bad
	}
	health := newestHealth(database, history, status.Mode)
	return health.Headline, levelOf(health)
}

// insertingWriter passes a page on, with the link behind the insertion point.
type insertingWriter struct {
	http.ResponseWriter
	link []byte
	held []byte
	// passing: everything is passed on as it comes.
	passing bool
}

// Unwrap is for http.ResponseController.
func (w *insertingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader leaves alone what is no page, or cannot be changed any more.
func (w *insertingWriter) WriteHeader(code int) {
	header := w.Header()
	if code != http.StatusOK || header.Get("Content-Length") != "" || header.Get("Content-Encoding") != "" {
		w.passing = true
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *insertingWriter) Write(part []byte) (int, error) {
	if !w.passing && (w.Header().Get("Content-Length") != "" || w.Header().Get("Content-Encoding") != "") {
		w.passing = true
	}
	if w.passing {
		return w.ResponseWriter.Write(part)
	}
	w.held = append(w.held, part...)
	if at := bytes.Index(w.held, []byte(insertionPoint)); at >= 0 {
		at += len(insertionPoint)
		w.held = bytes.Join([][]byte{w.held[:at], w.link, w.held[at:]}, nil)
	} else if len(w.held) < searched {
		return len(part), nil
	}
	return len(part), w.finish()
}

// finish passes on what is held back.
func (w *insertingWriter) finish() error {
	w.passing = true
	if len(w.held) == 0 {
		return nil
	}
	held := w.held
	w.held = nil
	_, err := w.ResponseWriter.Write(held)
	return err
}
