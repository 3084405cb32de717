//go:build atlantis_before_v0_46

package conformance

import (
	"github.com/runatlantis/atlantis/server/events/models"
)

// setBody sets the longest text that this release has of a pull request.
func setBody(lock *models.ProjectLock, text string) { lock.Pull.HeadBranch = text }

// leaveOutOlder leaves out what this release does otherwise: its pull statuses know of no base branch, and keep no policy approvals for a
// new commit.
func leaveOutOlder(histories map[string][]update) {
	for _, name := range []string{
		"a new base branch starts afresh", "a base branch that becomes known starts afresh", "policy approvals outlive a new head commit",
	} {
		delete(histories, name)
	}
}

// policySet has one approval more for each letter of who approved.
func policySet(name string, passed bool, approver string) models.PolicySetResult {
	return models.PolicySetResult{PolicySetName: name, Passed: passed, ReqApprovals: 9, CurApprovals: len(approver)}
}
