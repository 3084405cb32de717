package handover

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/events/vcs"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// mostNamed is how many pull requests a comment names.
const mostNamed = 5

// words are the texts of comments. What Atlantis says stays as it is, and these follow.
type words struct {
	client  vcs.Client
	program string // the name by which comments call Atlantis
	replan  atlock.Replan
	turn    time.Duration
}

// link is how a comment names a pull request of the same repository.
func (w words) link(pull models.PullRequest, num int) (string, error) {
	return w.client.MarkdownPullLink(models.PullRequest{Num: num, BaseRepo: pull.BaseRepo})
}

// name is a link for a text that is made in any case.
func (w words) name(pull models.PullRequest, num int) string {
	if link, err := w.link(pull, num); err == nil {
		return link
	}
	return fmt.Sprintf("#%d", num)
}

// waiting is what follows a refusal: where the pull request stands, and what happens next.
func (w words) waiting(pull models.PullRequest, place *atlock.Waiting) (string, error) {
	switch {
	case place == nil || place.Position < 1 && place.Why != "full":
		return "", nil
	case place.Why == "full":
		return fmt.Sprintf("\n\n**The queue is full: this pull request has no place in it.** Comment `%s plan` again later.", w.program), nil
	}
	ahead := make([]string, 0, len(place.Ahead))
	for _, other := range place.Ahead {
		link, err := w.link(pull, other.Num)
		if err != nil {
			return "", err
		}
		ahead = append(ahead, link)
	}
	why, err := w.why(pull, place, ahead)
	if err != nil {
		return "", err
	}
	stands := "This pull request is next in queue."
	if place.Position > 1 {
		stands = fmt.Sprintf("This pull request is %s in queue, behind %s.", ordinal(place.Position), listed(ahead))
	}
	return fmt.Sprintf("\n\n%s%s To leave the queue, comment `%s unlock`.", why, w.next(stands), w.program), nil
}

// why is what the refusal itself does not say.
func (w words) why(pull models.PullRequest, place *atlock.Waiting, ahead []string) (string, error) {
	switch {
	case place.Why == "reserved" && len(ahead) > 0 && w.replanned():
		return ahead[0] + " is next and is being planned. ", nil
	case place.Why == "reserved" && len(ahead) > 0:
		return "The lock is free, and kept for " + ahead[0] + ", whose turn it is. ", nil
	case place.Why == "set" && place.Blocker != nil:
		by := "is not free"
		if place.Blocker.Pull != nil {
			link, err := w.link(pull, place.Blocker.Pull.Num)
			if err != nil {
				return "", err
			}
			by = "is locked by " + link
		}
		return fmt.Sprintf("This pull request takes all of its locks at once, and %s %s: nothing was planned. ",
			projectName(pull.BaseRepo.FullName, place.Blocker.Key), by), nil
	}
	return "", nil
}

func (w words) replanned() bool { return w.replan == atlock.ReplanAuto }

// next is where the pull request stands, and what happens when its turn comes.
func (w words) next(stands string) string {
	switch w.replan {
	case atlock.ReplanNotify:
		return fmt.Sprintf("**%s** You will be told here when it is your turn; then comment `%s plan` within %s.", stands, w.program, spoken(w.turn))
	case atlock.ReplanOff:
		return fmt.Sprintf("**%s** When its turn comes, the lock is kept for it for %s: comment `%s plan` then.", stands, spoken(w.turn), w.program)
	}
	return fmt.Sprintf("**%s It is planned automatically when its turn comes.**", stands)
}

// unavailable is the refusal for an error that is none of this pull request; empty for others.
func (w words) unavailable(err error) string {
	var cause *atlock.Error
	if !errors.As(err, &cause) {
		return ""
	}
	switch {
	case errors.Is(err, atlock.ErrFrozen):
		return fmt.Sprintf("This project is frozen, and nobody can lock it now: %s.\n\nOnce the freeze is over, comment `%s plan` here to plan.",
			cause.Message, w.program)
	case errors.Is(err, atlock.ErrDegraded):
		return fmt.Sprintf("This project cannot be locked now: %s.\n\nA place in the queue is kept. Once Redis is back, comment `%s plan` here to plan.",
			cause.Message, w.program)
	case errors.Is(err, atlock.ErrSetIncomplete):
		return fmt.Sprintf("This pull request takes all of its locks at once, and nothing was planned: %s.\n\nComment `%s plan` here to try again.",
			cause.Message, w.program)
	}
	return ""
}

func (w words) closed(pull models.PullRequest) string {
	return w.name(pull, pull.Num) + " is closed: a closed pull request takes no new lock, and nothing was planned."
}

// lost is the guard's refusal where the pull request has no lock.
func (w words) lost(pull models.PullRequest, holder *atlock.PullID) string {
	if holder == nil {
		return fmt.Sprintf("This plan's lock was given up since it was made, and nobody holds the lock now: nothing was applied.\n\n"+
			"Comment `%s plan` here to re-plan.", w.program)
	}
	link := w.name(pull, holder.Num)
	return fmt.Sprintf("This plan's lock was given up since it was made, and pull %s holds the lock now: nothing was applied. To continue, delete "+
		"the lock from %s or apply that plan and merge the pull request.\n\nOnce the lock is released, comment `%s plan` here to re-plan.",
		link, link, w.program)
}

// otherGrant is the guard's refusal of a plan that was made under an earlier grant of the same lock.
func (w words) otherGrant() string {
	return fmt.Sprintf("This plan's lock was given up since it was made, and taken again: another pull request may have changed the project in "+
		"between, and nothing was applied.\n\nComment `%s plan` here to re-plan.", w.program)
}

// unchecked is the guard's refusal where the store does not answer.
func (w words) unchecked(err error) string {
	return fmt.Sprintf("Nothing was applied, because the lock store did not say whether this pull request still holds its lock: %v.\n\n"+
		"Once the lock store answers, comment `%s apply` here again.", err, w.program)
}

// frozen is the guard's refusal while nobody is to apply.
func (w words) frozen(what string) string {
	return fmt.Sprintf("This project is frozen, and nothing was applied: %s.\n\nOnce the freeze is over, comment `%s apply` here again.",
		what, w.program)
}

// unreadable is the guard's refusal where it is not known under which grant the plan was made.
func (w words) unreadable(err error) string {
	return fmt.Sprintf("Nothing was applied, because the record of the lock under which this plan was made cannot be read: %v.\n\n"+
		"Comment `%s plan` here to re-plan.", err, w.program)
}

// turnOf tells that it is a pull request's turn, where a person has to plan.
func (w words) turnOf(names string, until time.Time) string {
	return fmt.Sprintf("**It is this pull request's turn:** %s is kept for it until %s. To plan, comment `%s plan`.",
		names, until.UTC().Format("2006-01-02 15:04 UTC"), w.program)
}

// left tells that a pull request waits no more.
func (w words) left(names string) string {
	return fmt.Sprintf("**This pull request no longer waits for %s:** three times it was its turn, and nothing was planned. To join the queue again, "+
		"comment `%s plan`.", names, w.program)
}

// dropped tells that a pull request cannot be planned.
func (w words) dropped(why string) string {
	return fmt.Sprintf("**It was this pull request's turn, but it cannot be planned:** %s. This pull request waits no more.", why)
}

// circle tells that a pull request and others wait for each other, and how people end that: by the pull request of the way out, if there is
// one that has applied nothing.
func (w words) circle(pull models.PullRequest, circle atlock.Deadlock, way *atlock.PullID) string {
	var text strings.Builder
	none := "none of them"
	if len(circle.Pulls) == 2 {
		none = "neither"
	}
	fmt.Fprintf(&text, "**%s wait for each other, and %s goes on by itself:**\n", w.inCircle(pull, circle), none)
	for _, link := range circle.Links {
		fmt.Fprintf(&text, "\n- %s holds %s, for which %s waits.", capital(w.inText(pull, link.Holder.Num)), projectNames(circle.Repo, link.Keys), w.inText(pull, link.Waiter.Num))
	}
	if way == nil {
		return text.String() + "\n\nSomething may have been applied in each of them, and Atlantis does not undo that: merge one of them, or revert what one of " +
			"them applied and close that one."
	}
	for _, link := range circle.Links {
		if link.Holder != *way {
			continue
		}
		whose, where := "this pull request's", "here"
		if way.Num != pull.Num {
			whose, where = w.name(pull, way.Num)+"'s", "in "+w.name(pull, way.Num)
		}
		fmt.Fprintf(&text, "\n\nThe cheapest way out: discard %s lock of %s on Atlantis's page, or comment `%s unlock` %s, which gives up all locks "+
			"of %[5]s and its place in the queue. Nothing was applied in %[5]s.", whose, projectNames(circle.Repo, link.Keys), w.program, where,
			w.inText(pull, way.Num))
		break
	}
	if w.replanned() {
		text.WriteString(" The pull request that gets the lock is planned automatically.")
	}
	return text.String()
}

// inText names a pull request in a comment on this or another one.
func (w words) inText(pull models.PullRequest, num int) string {
	if num == pull.Num {
		return "this pull request"
	}
	return w.name(pull, num)
}

// inCircle names the pull requests of a circle, this one first.
func (w words) inCircle(pull models.PullRequest, circle atlock.Deadlock) string {
	others := []string{"This pull request"}
	for _, other := range circle.Pulls {
		if other.Num != pull.Num {
			others = append(others, w.name(pull, other.Num))
		}
	}
	return listed(others)
}

// yielded tells that a pull request gave a lock back, to end a circle.
func (w words) yielded(pull models.PullRequest, circle atlock.Deadlock, key string) string {
	return fmt.Sprintf("**%s waited for each other, so this one gave %s back.** Nothing was applied in it, and the plan was "+
		"discarded. %s", w.inCircle(pull, circle), projectName(circle.Repo, key), w.next("It keeps its place in the queue."))
}

// discarded tells that the lock of a plan was released by somebody who could not discard it.
func (w words) discarded(pull models.PullRequest, key string, holder *atlock.PullID) string {
	now := "nobody holds it now"
	if holder != nil {
		now = w.inText(pull, holder.Num) + " holds it now"
	}
	return fmt.Sprintf("**The plan of %s was discarded:** its lock was given up since the plan was made, outside of this pull request, and %s. "+
		"To continue, comment `%s plan`.", projectName(pull.BaseRepo.FullName, key), now, w.program)
}

// notTaken tells that a plan by the server did not take what was kept for it.
func (w words) notTaken(names string) string {
	return fmt.Sprintf("**It was this pull request's turn, but its plan did not take %s.** It no longer waits for that. To join the queue again, "+
		"comment `%s plan`.", names, w.program)
}

// projectNames are projectName of each.
func projectNames(repo string, keys []string) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = projectName(repo, key)
	}
	return listed(names)
}

// projectName is how people name the lock of a key.
func projectName(repo, key string) string {
	lock := lockOfKey(repo, key)
	name := lock.Project.Path
	if release.ProjectName(lock.Project) != "" {
		name = release.ProjectName(lock.Project)
	}
	if lock.Workspace != "default" {
		name += " (" + lock.Workspace + ")"
	}
	return "`" + strings.ReplaceAll(name, "`", "'") + "`"
}

// listed joins names, and counts those that are too many.
func listed(names []string) string {
	if len(names) > mostNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// capital begins a sentence.
func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func ordinal(number int) string {
	suffix := "th"
	if tens := number / 10 % 10; tens != 1 {
		switch number % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", number, suffix)
}

// spoken is a time in words.
func spoken(span time.Duration) string {
	if minutes := int(span / time.Minute); span == time.Duration(minutes)*time.Minute && minutes > 1 {
		return fmt.Sprintf("%d minutes", minutes)
	}
	return span.String()
}
