//go:build atlantis_before_v0_40

package conformance

// releaseDefects are those of this release in both backends.
var releaseDefects = []Defect{
	OwnedByPullOtherRepo,
	UnreadableStatusStays,
}
