package handover

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// recipe is what a server needs to plan a waiting pull request again, beside what stands in the queue. It is stored there as JSON, without
// credentials, and any server of the same Git host can read it; members that it does not know it passes over.
type recipe struct {
	// Clone is the clone URL of the base repository.
	Clone string `json:"clone"`
	// Head is the full name of the head repository, where that is a fork.
	Head string `json:"head,omitempty"`
	// Auto: the plan was Atlantis's own, after a push, and nobody asked for it by a comment.
	Auto bool `json:"auto,omitempty"`
	// Extra: the comment had arguments for terraform. Those were of that moment, and are not repeated by a machine.
	Extra bool `json:"extra,omitempty"`
}

// recipeOf is that of a plan.
func recipeOf(ctx *command.Context, comment *events.CommentCommand) string {
	r := recipe{Clone: withoutUser(ctx.Pull.BaseRepo.CloneURL), Auto: ctx.Trigger == command.AutoTrigger}
	if ctx.HeadRepo.FullName != ctx.Pull.BaseRepo.FullName {
		r.Head = ctx.HeadRepo.FullName
	}
	if comment != nil {
		r.Extra = len(comment.Flags) > 0
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "" // it has nothing but texts
	}
	return string(text)
}

// withoutUser is a clone URL without credentials; "" if it is none.
func withoutUser(clone string) string {
	parsed, err := url.Parse(clone)
	if err != nil {
		return ""
	}
	parsed.User = nil
	return parsed.String()
}

// readRecipe reads a recipe, also one of another version.
func readRecipe(text string) (recipe, error) {
	var r recipe
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return recipe{}, fmt.Errorf("the recipe of its plan cannot be read: %w", err)
	}
	if r.Clone == "" {
		return recipe{}, fmt.Errorf("the recipe of its plan names no clone URL")
	}
	return r, nil
}

// repositories are the base and the head repository, with this server's credentials. Head is nil where the Git host tells it.
func (r recipe) repositories(parser events.EventParsing, waiter atlock.Waiter) (base models.Repo, head *models.Repo, err error) {
	kind := models.VCSHostType(waiter.HostType)
	if base, err = repository(parser, kind, waiter.Repo, r.Clone); err != nil || kind != models.Gitlab {
		return base, nil, err
	}
	made := base
	if r.Head != "" {
		clone := strings.Replace(r.Clone, "/"+waiter.Repo, "/"+r.Head, 1)
		made, err = repository(parser, kind, r.Head, clone)
	}
	return base, &made, err
}

// repository has this server's credentials, as Atlantis makes it.
func repository(parser events.EventParsing, kind models.VCSHostType, name, clone string) (models.Repo, error) {
	own, ok := parser.(*events.EventParser)
	if kind == models.AzureDevops && ok {
		return newRepo(kind, name, clone, own.AzureDevopsUser, own.AzureDevopsToken)
	}
	return parser.ParseAPIPlanRequest(kind, name, clone)
}

// isPlannable tells whether this kind of Git host tells all that a plan needs. Bitbucket's does not.
func isPlannable(kind models.VCSHostType) bool {
	return kind != models.BitbucketCloud && kind != models.BitbucketServer
}
