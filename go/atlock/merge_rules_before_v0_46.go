//go:build atlantis_before_v0_46

package atlock

const (
	// keepsPolicies: an approval is a number here, and says nothing of what was approved. So a new commit has none.
	keepsPolicies = false
	// knowsBaseBranch: a status is outdated by another commit alone.
	knowsBaseBranch = false
)
