package conformance

// Defect names one way in which a database is known to break a promise. The
// names are those of defects of stock Atlantis v0.47.1.
type Defect string

// Defects of mutual exclusion.
const (
	// TryLockRace: a free lock is granted to several takers at once, because
	// looking and taking are two steps.
	TryLockRace Defect = "TryLockRace"
	// UnlockRace: several callers are told that they released one lock. The
	// slower one may by then have deleted the lock of the next holder.
	UnlockRace Defect = "UnlockRace"
	// CommandLockRace is TryLockRace for the global command locks.
	CommandLockRace Defect = "CommandLockRace"
	// CommandUnlockRace is UnlockRace for the global command locks.
	CommandUnlockRace Defect = "CommandUnlockRace"
	// PullStatusLostUpdate: of several concurrent updates of one pull status,
	// some vanish.
	PullStatusLostUpdate Defect = "PullStatusLostUpdate"
)

// Defects of isolation: an operation touches what it does not name.
const (
	// UnlockByPullPrefix: releasing acme/infra #5 also releases acme/infra-prod #5.
	UnlockByPullPrefix Defect = "UnlockByPullPrefix"
	// UnlockByPullGlob: a repository name is taken as a pattern, so that it
	// matches other repositories or does not match itself.
	UnlockByPullGlob Defect = "UnlockByPullGlob"
	// OwnedByPullOtherRepo: UnlockIfOwnedByPull compares the pull number alone.
	// Where two repositories' lock keys collide it releases the lock of the
	// other one's pull.
	OwnedByPullOtherRepo Defect = "OwnedByPullOtherRepo"
	// NumberIsIdentity: TryLock tells a pull the holder of the lock although that
	// is another pull with the same number, of another Git host or, where lock
	// keys collide, of another repository. Atlantis compares the numbers
	// (project_locker.go) and takes the lock for its own: both pulls hold it.
	NumberIsIdentity Defect = "NumberIsIdentity"
	// KeyCollision: a lock is returned or released for a project that neither
	// is its own nor is what Atlantis reads out of its key.
	KeyCollision Defect = "KeyCollision"
	// ListForeignKey: a key of another program that begins with "pr" makes
	// List fail.
	ListForeignKey Defect = "ListForeignKey"
	// ListForeignPullStatus: the pull status of a host whose name begins with
	// "pr" is listed as an empty lock.
	ListForeignPullStatus Defect = "ListForeignPullStatus"
	// ScanSeesOneNode: in a Redis Cluster, List and UnlockByPull see the locks
	// of one node, chosen at random, and miss all others. So does the move of old
	// keys. Whatever is checked by listing cannot be tried on such a subject.
	ScanSeesOneNode Defect = "ScanSeesOneNode"
	// CorruptValueHidesOthers: one undecodable lock makes List and UnlockByPull
	// fail for all locks.
	CorruptValueHidesOthers Defect = "CorruptValueHidesOthers"
	// UnreadableStatusStays: a pull status that cannot be read makes every update
	// of it fail, until the pull is closed. Only before v0.46.
	UnreadableStatusStays Defect = "UnreadableStatusStays"
	// CorruptValueIsReleased: UnlockIfOwnedByPull deletes a lock that Redis's
	// Lua can read and Atlantis cannot, and reports an error.
	CorruptValueIsReleased Defect = "CorruptValueIsReleased"
)

// Defects of the move from the lock keys of releases before v0.40, which had no
// project name, to today's keys, when a database is opened.
const (
	// MigrationMissesNestedPath: an old key with a slash in its path looks like
	// a new key and is left alone, so that its project is granted again.
	MigrationMissesNestedPath Defect = "MigrationMissesNestedPath"
	// MigrationDropsNewlineKey: a new key with a line break in it is taken for
	// an old one, "moved" onto itself and deleted.
	MigrationDropsNewlineKey Defect = "MigrationDropsNewlineKey"
	// CorruptValueStopsMigration: one undecodable old lock keeps other old locks
	// from being moved, so that their projects are granted again; before v0.46
	// Redis is then not opened at all.
	CorruptValueStopsMigration Defect = "CorruptValueStopsMigration"
)
