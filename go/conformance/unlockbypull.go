package conformance

func unlockByPullBehaviours() []behaviour {
	return []behaviour{
		{name: "UnlockByPull/AllOfThePull", check: unlockAllOfThePull},
		{name: "UnlockByPull/NoneIsEmpty", check: unlockByPullNone},
		{name: "UnlockByPull/OtherPullsStay", check: otherPullsStay},
		{name: "UnlockByPull/SameNumberInOtherRepoStays", check: sameNumberInOtherRepoStays},
		{name: "UnlockByPull/ReposWithCommonPrefixStay", guards: UnlockByPullPrefix, check: commonPrefixStays},
		{name: "UnlockByPull/SubgroupReposStay", guards: UnlockByPullPrefix, check: subgroupReposStay},
		{name: "UnlockByPull/RepoNameIsNoPattern", guards: UnlockByPullGlob, check: repoNameIsNoPattern},
		{name: "UnlockByPull/RepoNameMatchesItself", guards: UnlockByPullGlob, check: repoNameMatchesItself},
	}
}

func unlockAllOfThePull(s *scene) error {
	root := simpleLock("acme/infra", ".", 5)
	nested := simpleLock("acme/infra", "modules/vpc", 5)
	workspace := newLock("acme/infra", ".", "staging", "", 5)
	project := newLock("acme/infra", ".", "default", "named", 5)
	locks := apart(root, nested, workspace, project)
	return first(
		func() error { return allGranted(s.db, locks...) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, locks...) },
		func() error { return listed(s.db) },
		func() error { return releasedByPull(s.db, "acme/infra", 5) },
		func() error { return allGranted(s.db, locks...) },
	)
}

func unlockByPullNone(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	return first(
		func() error { return releasedByPull(s.db, "acme/infra", 5) },
		func() error { return granted(s.db, lock) },
		func() error { return releasedByPull(s.db, "acme/unknown", 5) },
		func() error { return listed(s.db, lock) },
	)
}

func otherPullsStay(s *scene) error {
	mine, other := simpleLock("acme/infra", "a", 5), simpleLock("acme/infra", "b", 55)
	return first(
		func() error { return allGranted(s.db, mine, other) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, mine) },
		func() error { return listed(s.db, other) },
	)
}

func sameNumberInOtherRepoStays(s *scene) error {
	mine, other := simpleLock("acme/infra", ".", 5), simpleLock("globex/infra", ".", 5)
	return first(
		func() error { return allGranted(s.db, mine, other) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, mine) },
		func() error { return listed(s.db, other) },
	)
}

func commonPrefixStays(s *scene) error {
	mine, longer := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra-prod", ".", 5)
	return first(
		func() error { return allGranted(s.db, mine, longer) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, mine) },
		func() error { return listed(s.db, longer) },
	)
}

// In GitLab acme/infra can be a repository's group, as in acme/infra/sub, so
// even "acme/infra/" is a prefix of another repository's keys.
func subgroupReposStay(s *scene) error {
	group, subgroup := simpleLock("acme/infra", ".", 5), simpleLock("acme/infra/sub", ".", 5)
	return first(
		func() error { return allGranted(s.db, group, subgroup) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, group) },
		func() error { return listed(s.db, subgroup) },
		func() error { return releasedByPull(s.db, "acme/infra/sub", 5, subgroup) },
	)
}

func repoNameIsNoPattern(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	if err := granted(s.db, lock); err != nil {
		return err
	}
	for _, pattern := range []string{"*", "acme/*", "acme/infr?", "acme/[a-z]nfra"} {
		err := first(
			func() error { return releasedByPull(s.db, pattern, 5) },
			func() error { return listed(s.db, lock) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func repoNameMatchesItself(s *scene) error {
	for _, repo := range []string{"acme/[a]", "acme/a\\b", "acme/[^x]?*"} {
		lock := simpleLock(repo, ".", 5)
		err := first(
			func() error { return granted(s.db, lock) },
			func() error { return releasedByPull(s.db, repo, 5, lock) },
			func() error { return listed(s.db) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}
