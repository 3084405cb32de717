package conformance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func pullBehaviours() []behaviour {
	return []behaviour{
		{name: "Pulls/UpdatePullWithResults", check: updatesMerge},
		{name: "Pulls/UpdateProjectStatus", check: updateProjectStatus},
		{name: "Pulls/UpdateProjectStatusOfNoneDoesNothing", check: updateProjectStatusNone},
		{name: "Pulls/GetNoneIsNil", check: func(s *scene) error { return statusIs(s.db, samplePull(), nil) }},
		{name: "Pulls/Delete", check: deletePullStatus},
		{name: "Pulls/EachPullHasItsStatus", check: eachPullHasItsStatus},
		{name: "Pulls/SeparatorInNameIsRefused", check: separatorIsRefused},
		{name: "Pulls/UnreadableEntryIsReplaced", guards: UnreadableStatusStays, needs: RawBytes, check: unreadableStatus},
		{name: "Pulls/StoredAsMarshalled", needs: RawBytes, check: statusStoredAsMarshalled},
	}
}

func samplePull() models.PullRequest { return simpleLock("acme/infra", ".", 5).Pull }

// projectStatus is the status that a project gets from its first result.
func projectStatus(result command.ProjectResult) models.ProjectStatus {
	return models.ProjectStatus{
		Workspace: result.Workspace, RepoRelDir: result.RepoRelDir, ProjectName: result.ProjectName,
		PolicyStatus: result.PolicyStatus(), Status: result.PlanStatus(),
	}
}

// withPolicies is the status of a result with the policy sets of an earlier one.
func withPolicies(result, earlier command.ProjectResult) models.ProjectStatus {
	status := projectStatus(result)
	status.PolicyStatus = earlier.PolicyStatus()
	return status
}

func updated(database release.Database, pull models.PullRequest, results ...command.ProjectResult) error {
	if _, err := database.UpdatePullWithResults(pull, results); err != nil {
		return fmt.Errorf("UpdatePullWithResults: %w", err)
	}
	return nil
}

// updatedTo updates a pull and checks what is returned and what is then stored.
func updatedTo(database release.Database, pull models.PullRequest, results []command.ProjectResult, want models.PullStatus) error {
	got, err := database.UpdatePullWithResults(pull, results)
	if err != nil {
		return fmt.Errorf("UpdatePullWithResults: %w", err)
	}
	return first(
		func() error { return isStatus("UpdatePullWithResults", &got, &want) },
		func() error { return statusIs(database, pull, &want) },
	)
}

// statusIs looks up the status of a pull; nil means that it has none.
func statusIs(database release.Database, pull models.PullRequest, want *models.PullStatus) error {
	got, err := database.GetPullStatus(pull)
	if err != nil {
		return fmt.Errorf("GetPullStatus: %w", err)
	}
	return isStatus("GetPullStatus", got, want)
}

func isStatus(call string, got, want *models.PullStatus) error {
	if !reflect.DeepEqual(got, want) {
		return violated("%s:\n got %s\nwant %s", call, describeStatus(got), describeStatus(want))
	}
	return nil
}

func describeStatus(status *models.PullStatus) string {
	text, err := json.Marshal(status)
	if err != nil {
		return fmt.Sprintf("%+v", status)
	}
	return string(text)
}

func deletedStatus(database release.Database, pull models.PullRequest) error {
	if err := database.DeletePullStatus(pull); err != nil {
		return fmt.Errorf("DeletePullStatus: %w", err)
	}
	return statusIs(database, pull, nil)
}

// update is one step of a pull's history: results come in, and the status
// becomes that of a pull with projects.
type update struct {
	pull         models.PullRequest
	results      []command.ProjectResult
	wantPull     models.PullRequest
	wantProjects []models.ProjectStatus
}

func updatesMerge(s *scene) error {
	pull := samplePull()
	newHead, newBase, noBase := pull, pull, pull
	newHead.HeadCommit = "591785b794601e212b260e25925636fd"
	newBase.BaseBranch = "release"
	noBase.BaseBranch = ""

	planA, planB, failA := planned("default", "a", ""), planned("default", "b", ""), failedPlan("default", "a", "")
	applyA, namedA := applied("default", "a", ""), planned("default", "a", "named")
	stagingA := planned("staging", "a", "")
	checkA := policyChecked("default", "a", "", policySet("tags", true, "alice"), policySet("cost", false, "bob"))
	recheckA := policyChecked("default", "a", "", policySet("cost", true, "carol"), policySet("unknown", true, "dave"))
	mergedA := policyChecked("default", "a", "", policySet("tags", true, "alice"), policySet("cost", true, "carol"))

	results := func(r ...command.ProjectResult) []command.ProjectResult { return r }
	statuses := func(r ...models.ProjectStatus) []models.ProjectStatus { return r }
	status := projectStatus

	histories := map[string][]update{
		"first results": {
			{pull, results(planA, failedPlan("default", "b", "")), pull, statuses(status(planA), status(failedPlan("default", "b", "")))},
		},
		"no results": {
			{pull, nil, pull, nil},
		},
		"a new project is added": {
			{pull, results(planA), pull, statuses(status(planA))},
			{pull, results(planB), pull, statuses(status(planA), status(planB))},
		},
		"a known project is updated": {
			{pull, results(planA, planB), pull, statuses(status(planA), status(planB))},
			{pull, results(applyA), pull, statuses(status(applyA), status(planB))},
			{pull, results(failA), pull, statuses(status(failA), status(planB))},
		},
		"workspace and project name tell projects apart": {
			{pull, results(planA), pull, statuses(status(planA))},
			{pull, results(stagingA, namedA), pull, statuses(status(planA), status(stagingA), status(namedA))},
			{pull, results(applyA), pull, statuses(status(applyA), status(stagingA), status(namedA))},
		},
		"a new head commit starts afresh": {
			{pull, results(planA, planB), pull, statuses(status(planA), status(planB))},
			{newHead, results(failA), newHead, statuses(status(failA))},
		},
		"a new base branch starts afresh": {
			{pull, results(planA, planB), pull, statuses(status(planA), status(planB))},
			{newBase, results(failA), newBase, statuses(status(failA))},
		},
		"an unknown base branch does not start afresh": {
			{pull, results(planA, planB), pull, statuses(status(planA), status(planB))},
			{noBase, results(failA), pull, statuses(status(failA), status(planB))},
		},
		"a base branch that becomes known starts afresh": {
			{noBase, results(planA, planB), noBase, statuses(status(planA), status(planB))},
			{pull, results(failA), pull, statuses(status(failA))},
		},
		"policy approvals outlive a new head commit": {
			{pull, results(checkA, planB), pull, statuses(status(checkA), status(planB))},
			{newHead, results(planA, namedA), newHead, statuses(withPolicies(planA, checkA), status(namedA))},
		},
		"policy approvals outlive a plan of the same commit": {
			{pull, results(checkA), pull, statuses(status(checkA))},
			{pull, results(planA), pull, statuses(withPolicies(planA, checkA))},
		},
		"policy results fill a planned project": {
			{pull, results(planA), pull, statuses(status(planA))},
			{pull, results(checkA), pull, statuses(status(checkA))},
		},
		"only policy sets that are known and in the results change": {
			{pull, results(checkA), pull, statuses(status(checkA))},
			{pull, results(recheckA), pull, statuses(withPolicies(recheckA, mergedA))},
		},
	}
	leaveOutOlder(histories)
	for name, history := range histories {
		for step, u := range history {
			want := models.PullStatus{Pull: u.wantPull, Projects: u.wantProjects}
			if err := updatedTo(s.db, u.pull, u.results, want); err != nil {
				return fmt.Errorf("%s, step %d: %w", name, step+1, err)
			}
		}
		if err := deletedStatus(s.db, pull); err != nil {
			return err
		}
	}
	return nil
}

// Stock changes the first project of the workspace and folder, whatever its name.
func updateProjectStatus(s *scene) error {
	pull := samplePull()
	a, namedA, b := planned("default", "a", ""), planned("default", "a", "named"), planned("default", "b", "")
	want := models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(a), projectStatus(namedA), projectStatus(b)}}
	if err := updated(s.db, pull, a, namedA, b); err != nil {
		return err
	}
	steps := []struct {
		workspace, dir string
		status         models.ProjectPlanStatus
		index          int // of the project that changes, or -1
	}{
		{"default", "a", models.AppliedPlanStatus, 0},
		{"default", "b", models.DiscardedPlanStatus, 2},
		{"default", "unknown", models.AppliedPlanStatus, -1},
		{"staging", "a", models.AppliedPlanStatus, -1},
	}
	for _, step := range steps {
		if step.index >= 0 {
			want.Projects[step.index].Status = step.status
		}
		if err := s.db.UpdateProjectStatus(pull, step.workspace, step.dir, step.status); err != nil {
			return fmt.Errorf("UpdateProjectStatus: %w", err)
		}
		if err := statusIs(s.db, pull, &want); err != nil {
			return err
		}
	}
	return nil
}

func updateProjectStatusNone(s *scene) error {
	if err := s.db.UpdateProjectStatus(samplePull(), "default", ".", models.AppliedPlanStatus); err != nil {
		return fmt.Errorf("UpdateProjectStatus: %w", err)
	}
	return statusIs(s.db, samplePull(), nil)
}

func deletePullStatus(s *scene) error {
	pull := samplePull()
	plan := planned("default", ".", "")
	return first(
		func() error { return deletedStatus(s.db, pull) },
		func() error { return updated(s.db, pull, plan) },
		func() error { return deletedStatus(s.db, pull) },
		func() error {
			return updatedTo(s.db, pull, []command.ProjectResult{plan},
				models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(plan)}})
		},
	)
}

// Pulls that differ in the host, the repository or the number have a status each.
func eachPullHasItsStatus(s *scene) error {
	base := samplePull()
	otherHost, otherRepo, otherNum := base, base, base
	otherHost.BaseRepo.VCSHost.Hostname = "other.example.com"
	otherRepo.BaseRepo.FullName = "acme/infra-prod"
	otherNum.Num = 55
	pulls := []models.PullRequest{base, otherHost, otherRepo, otherNum}

	want := make([]models.PullStatus, len(pulls))
	for i, pull := range pulls {
		result := planned("default", fmt.Sprintf("dir%d", i), "")
		want[i] = models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(result)}}
		if err := updated(s.db, pull, result); err != nil {
			return err
		}
	}
	if err := deletedStatus(s.db, base); err != nil {
		return err
	}
	for i := 1; i < len(pulls); i++ {
		if err := statusIs(s.db, pulls[i], &want[i]); err != nil {
			return err
		}
	}
	return nil
}

// The key of a status joins its parts with "::", so no part may contain it. The
// second text names the host where it means the repository, as stock does.
func separatorIsRefused(s *scene) error {
	badHost, badRepo := samplePull(), samplePull()
	badHost.BaseRepo.VCSHost.Hostname = "vcs::example.com"
	badRepo.BaseRepo.FullName = "acme/in::fra"
	cases := []struct {
		pull models.PullRequest
		text string
	}{
		{badHost, `vcs hostname "vcs::example.com" contains illegal string "::"`},
		{badRepo, `repo name "vcs.example.com" contains illegal string "::"`},
	}
	for _, c := range cases {
		for _, call := range pullCalls(s.db, c.pull) {
			err := call.act()
			if err == nil {
				return violated("%s accepts a name with %q", call.name, "::")
			}
			if err.Error() != c.text {
				return violated("%s: error %q, want %q", call.name, err, c.text)
			}
		}
	}
	return nil
}

// Entries of an older release can be unreadable. The next plan replaces them;
// everything else reports them.
func unreadableStatus(s *scene) error {
	plan := planned("default", ".", "")
	for i, value := range []string{"not JSON", `{"Projects":7}`, ""} {
		pull := samplePull()
		pull.Num = i + 1
		err := first(
			func() error { return s.put(Pulls, pullKey(pull), []byte(value)) },
			func() error {
				if _, err := s.db.GetPullStatus(pull); err == nil {
					return violated("GetPullStatus of the unreadable entry %q is no error", value)
				}
				if err := s.db.UpdateProjectStatus(pull, "default", ".", models.AppliedPlanStatus); err == nil {
					return violated("UpdateProjectStatus of the unreadable entry %q is no error", value)
				}
				return nil
			},
			func() error { return s.expectBytes(Pulls, pullKey(pull), []byte(value)) },
			func() error {
				_, err := s.db.UpdatePullWithResults(pull, []command.ProjectResult{plan})
				if err != nil && strings.Contains(err.Error(), "deserializ") {
					return violated("UpdatePullWithResults does not replace the unreadable entry %q: %v", value, err)
				}
				return err
			},
			func() error {
				return statusIs(s.db, pull, &models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(plan)}})
			},
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func statusStoredAsMarshalled(s *scene) error {
	pull := samplePull()
	result := policyChecked("default", ".", "<p>", policySet("tags", true, "alice"))
	want, err := json.Marshal(models.PullStatus{Pull: pull, Projects: []models.ProjectStatus{projectStatus(result)}})
	if err != nil {
		return err
	}
	return first(
		func() error { return updated(s.db, pull, result) },
		func() error { return s.expectBytes(Pulls, pullKey(pull), want) },
	)
}

func pullKey(pull models.PullRequest) string {
	return fmt.Sprintf("%s::%s::%d", pull.BaseRepo.VCSHost.Hostname, pull.BaseRepo.FullName, pull.Num)
}
