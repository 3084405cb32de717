//go:build !atlantis_before_v0_46

package conformance

import (
	"github.com/runatlantis/atlantis/server/events/models"
)

// What differs between the releases of Atlantis. A file with _before_ in its name stands in for its sibling there.

// setBody sets the description of the pull request, and what else this release has of it.
func setBody(lock *models.ProjectLock, text string) {
	lock.Pull.Body, lock.Pull.HardenedNonPRRefCheckout = text, true
}

// leaveOutOlder leaves out what this release does otherwise: nothing.
func leaveOutOlder(map[string][]update) {}

func policySet(name string, passed bool, approver string) models.PolicySetResult {
	return models.PolicySetResult{
		PolicySetName: name, Passed: passed, PolicyItemRegex: "<.*>",
		Hashes:    []string{models.HashPolicyItem(name)},
		Approvals: []models.PolicySetApproval{{Approver: approver, Hashes: []string{models.HashPolicyItem(name)}}},
	}
}
