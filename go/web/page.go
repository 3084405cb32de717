package web

import (
	"bytes"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// page is the page /locking. It is made on the server; its script only fetches it again.
type page struct {
	database Database
	history  *history
	options  Options
}

// pageData is all that the template sees.
type pageData struct {
	Options
	Now       time.Time
	Status    atlock.Status
	State     state
	Facts     []fact
	Stores    []storeView
	Chart     chart
	Warnings  []string
	Fallbacks []fallbackView // the newest first
	Waiting   waiting
	Stale     []staleRow
	Locks     lockTable
	// Repos are the repositories that have locks or a queue, for a freeze; Spans are the times that a freeze can last.
	Repos []string
	Spans any
}

// fact is one figure with its name.
type fact struct{ Name, Value, Level string }

// storeView is a store as its last probe saw it.
type storeView struct {
	Name, Class, Level, Text string
}

// timeView is a time as people say it; the exact one is told, too.
type timeView struct {
	At   time.Time
	Text string
}

// age is how long ago a time was.
func age(now, at time.Time) timeView { return timeView{at, short(now.Sub(at))} }

// fallbackView is a time in which the local store decided.
type fallbackView struct {
	Since      time.Time
	Length     string
	Cause      string
	Recovery   string
	Level      string
	IsUnderWay bool
}

var pageTemplate = template.Must(template.New("locking.html").Funcs(template.FuncMap{
	"moment": moment,
	"stamp":  func(at time.Time) string { return at.UTC().Format(time.RFC3339) },
	"age":    age,
	"since":  func(now, at time.Time) timeView { return timeView{at, short(now.Sub(at)) + " ago"} },
	"parts":  parts,
	"micro":  atlock.UnixMicro.Time,
	"join":   strings.Join,
	"doubly": func(conflicts []atlock.Conflict) string { return counted(len(conflicts), "lock was", "locks were") },
}).ParseFS(assets, "assets/shared.html", "assets/locking.html", "assets/release.html", "assets/lock.html"))

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Query().Get("filter")) > longestFilter {
		http.Error(w, fmt.Sprintf("The filter is too long: %d bytes are the limit.", longestFilter), http.StatusBadRequest)
		return
	}
	status, err := p.database.Status()
	if err != nil {
		http.Error(w, "The locking layer does not answer: "+withoutCredentials(err.Error()), http.StatusServiceUnavailable)
		return
	}
	status = cleanStatus(status)
	health, now := newestHealth(p.database, p.history, status.Mode), time.Now()
	locks, err := p.database.List()
	var queue waiting
	if err == nil { // a store that hangs is not waited for again and again
		queue = newWaiting(p.database, locks, now)
		queue.Only = only(status.QueueRepos)
	}
	data := pageData{
		Options:   p.options,
		Now:       now,
		Status:    status,
		State:     newState(status, health),
		Facts:     append(facts(status, health), queue.facts()...),
		Stores:    stores(status.Mode, health),
		Chart:     newChart(now, status.Mode, p.history.samples(), status.Fallbacks),
		Warnings:  warnings(status),
		Fallbacks: fallbacks(now, status.Fallbacks),
		Waiting:   queue,
		Locks:     newLockTable(p.database, status.Mode, r.URL.Query(), locks, queue, err),
	}
	if p.options.Actions != nil {
		if stale := p.options.Actions.Stale(); stale != nil { // somebody looks
			data.Stale = newStaleRows(stale)
			data.Facts = append(data.Facts, fact{"stale locks", fmt.Sprint(len(stale)), pick(len(stale) == 0, "", warn)})
		}
	}
	data.Repos, data.Spans = repositories(locks, queue), freezeSpans
	showPage(w, "locking.html", data)
}

// showPage sends a page, or says why it cannot be made.
func showPage(w http.ResponseWriter, name string, data any) {
	if err := writePage(w, http.StatusOK, name, data); err != nil {
		http.Error(w, "The page cannot be made: "+err.Error(), http.StatusInternalServerError)
	}
}

// writePage sends a page once all of it is made.
func writePage(w http.ResponseWriter, code int, name string, data any) error {
	var html bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&html, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(html.Bytes()) // it fails if the client has left
	return nil
}

// repositories are those that have locks, or in which somebody waits.
func repositories(locks []models.ProjectLock, queue waiting) []string {
	names := map[string]bool{}
	for _, lock := range locks {
		names[lock.Project.RepoFullName] = true
	}
	for _, repo := range queue.Repos {
		names[repo.Repo] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// newestHealth is the newest that is known: in hybrid mode asking is free, in the others it would ask the store.
func newestHealth(database Database, history *history, mode atlock.Mode) atlock.Health {
	if mode == atlock.ModeHybrid {
		if health, err := database.Health(); err == nil {
			return cleanHealth(health)
		}
	}
	return history.health()
}

// warnings are those that the page's head does not tell already.
func warnings(status atlock.Status) []string {
	return slices.DeleteFunc(slices.Clone(status.Warnings), func(warning string) bool {
		for _, told := range []string{status.Cause, status.UnarmedBecause} {
			if told != "" && strings.HasSuffix(warning, told) {
				return true
			}
		}
		return slices.ContainsFunc(status.Conflicts, func(c atlock.Conflict) bool {
			return strings.Contains(warning, fmt.Sprintf("%q was granted twice", c.Key))
		})
	})
}

// facts are the figures in the order in which they matter.
func facts(status atlock.Status, health atlock.Health) []fact {
	figures := []fact{{"mode", string(status.Mode), ""}}
	add := func(name, value, level string) { figures = append(figures, fact{name, value, level}) }
	if status.Mode == "hybrid" {
		add("breaker", string(status.CircuitState), pick(status.CircuitState == "closed", "", warn))
		add("local store armed", pick(status.Armed, "yes", "no"), pick(status.Armed, "", warn))
		add("unsynced keys", counted(status.JournalLength, "key", "keys"), pick(status.JournalLength == 0, "", warn))
		add("conflicts", fmt.Sprint(len(status.Conflicts)), pick(len(status.Conflicts) == 0, "", bad))
		add("Redis answered", fmt.Sprint(status.EnhancedOps), "")
		add("local answered", fmt.Sprint(status.FallbackOps), "")
	} else {
		add("breaker", "none", "")
		add("operations", fmt.Sprint(status.LegacyOps+status.EnhancedOps), "")
	}
	add("errors", fmt.Sprint(status.Errors), "")
	if shadow := status.Shadow; shadow != nil {
		add("shadow", shadowText(*shadow), pick(shadow.State == atlock.ShadowRefused || shadow.State == atlock.ShadowFailing, warn, ""))
		add("shadow differed", fmt.Sprint(shadow.Different), pick(shadow.Different == 0, "", warn))
		add("shadow compared", fmt.Sprintf("%d of %d", shadow.Same+shadow.Different, shadow.Operations), "")
		add("decided, shadow", fmt.Sprintf("%s, %s", millisText(shadow.DecidedMS), millisText(shadow.ShadowMS)), "")
	}
	return figures
}

// shadowText tells how a shadow stands.
func shadowText(shadow atlock.ShadowStatus) string {
	switch {
	case shadow.State != atlock.ShadowFollowing:
		return string(shadow.State)
	case shadow.InStep:
		return "in step"
	default:
		return "not yet in step"
	}
}

func pick(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// stores tells each store's health.
func stores(mode atlock.Mode, health atlock.Health) (views []storeView) {
	add := func(name, class string, store *atlock.StoreHealth) {
		if store == nil {
			return
		}
		view := storeView{Name: name, Class: class, Level: good, Text: "answers in " + millisText(store.ResponseTimeMS)}
		if !store.Healthy {
			view.Level, view.Text = bad, "does not answer" // the state has the reason
		}
		views = append(views, view)
	}
	add("Redis", "enhanced", health.Enhanced)
	add(localName(mode), "legacy", health.Legacy)
	return views
}

// localName is what the store is called that is not Redis; in strict mode it may be any of Atlantis's.
func localName(mode atlock.Mode) string { return pick(mode == "strict", "Lock store", "Local store") }

func fallbacks(now time.Time, all []atlock.Fallback) []fallbackView {
	views := make([]fallbackView, 0, len(all))
	for _, fallback := range slices.Backward(all) {
		view := fallbackView{Since: fallback.Since.Time(), Cause: fallback.Cause}
		if view.IsUnderWay = fallback.Until == 0; view.IsUnderWay {
			view.Length, view.Level = short(now.Sub(view.Since)), warn
		} else {
			view.Length = short(fallback.Until.Time().Sub(view.Since))
		}
		if done := fallback.Recovery; done != nil {
			view.Recovery = recoveryText(*done)
			if done.Conflicts > 0 {
				view.Level = bad
			}
		}
		views = append(views, view)
	}
	return views
}

// recoveryText tells what bringing the stores together did.
func recoveryText(done atlock.Recovery) string {
	var parts []string
	for _, part := range []struct {
		count uint64
		text  string
	}{
		{done.Conflicts, "in conflict"},
		{done.Pushed, "pushed to Redis"},
		{done.Restored, "restored in Redis"},
		{done.Adopted, "adopted from Redis"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.text))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing had changed"}
	}
	return fmt.Sprintf("%s, in %d ms", strings.Join(parts, ", "), done.DurationMS)
}

func moment(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

// short is a duration in its largest one or two units.
func short(length time.Duration) string {
	switch {
	case length < time.Second:
		return fmt.Sprintf("%d ms", max(length, 0).Milliseconds())
	case length < 10*time.Second:
		return fmt.Sprintf("%.1f s", length.Seconds())
	case length < time.Minute:
		return fmt.Sprintf("%d s", int(length.Seconds()))
	case length < time.Hour:
		return fmt.Sprintf("%d min", int(length.Minutes()))
	case length < 24*time.Hour:
		return twoUnits(int(length.Hours()), "h", int(length.Minutes())%60, "min")
	default:
		return twoUnits(int(length.Hours())/24, "d", int(length.Hours())%24, "h")
	}
}

func twoUnits(large int, largeUnit string, small int, smallUnit string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", large, largeUnit)
	}
	return fmt.Sprintf("%d %s %d %s", large, largeUnit, small, smallUnit)
}

// longestPart is how many characters of a name stand together: a table is not made wider for more.
const longestPart = 40

// parts are those of a path between which a line may break: behind each slash, and in a part that is too long for a line.
func parts(path string) (found []string) {
	for part := range strings.SplitAfterSeq(path, "/") {
		for runes := []rune(part); len(runes) > 0; {
			cut := min(len(runes), longestPart)
			found, runes = append(found, string(runes[:cut])), runes[cut:]
		}
	}
	return found
}
