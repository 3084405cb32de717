//go:build !atlantis_before_v0_46

package atlock

const (
	// keepsPolicies: policy approvals of a commit count for the next one, until its policy check. Each names what it approved.
	keepsPolicies = true
	// knowsBaseBranch: another base branch makes the plans of before outdated.
	knowsBaseBranch = true
)
