package main

// budgetSize is the number of locks stored that the budgets are about.
const budgetSize = 10_000

// budgets bound the ratio of a subject to its reference, with budgetSize locks stored. Times must be at most the budget, pairs
// per second at least. Subjects that this version does not have are listed for the day when it does.
//
// strict(boltdb) calls stock's own code, so all that it may cost is the noise of measuring.
var budgets = map[operationName]map[subjectName]float64{
	tryLockFree:  {strictSled: 0.5, native: 0.75, nativeShared: 0.75, hybridSync: 0.5, hybridAsync: 0.25, strictBoltDB: 1.02},
	tryLockHeld:  {strictSled: 0.1, native: 0.9, nativeShared: 0.9, hybridSync: 0.35, hybridAsync: 0.35, strictBoltDB: 1.02},
	getLock:      {strictSled: 0.5, native: 0.9, nativeShared: 0.9, strictBoltDB: 1.02},
	unlock:       {strictSled: 0.5, native: 0.6, nativeShared: 0.6, hybridSync: 0.5, hybridAsync: 0.25, strictBoltDB: 1.02},
	list:         {strictSled: 0.2, native: 0.08, nativeShared: 0.08, hybridSync: 0.25, hybridAsync: 0.25, strictBoltDB: 1.02},
	unlockByPull: {strictSled: 0.03, native: 0.01, nativeShared: 0.01, hybridSync: 0.05, hybridAsync: 0.05, strictBoltDB: 1.02},
	pairs:        {strictSled: 8, native: 2, nativeShared: 2, hybridSync: 8, hybridAsync: 8, strictBoltDB: 1 / 1.02},
}

const (
	// memoryBudgetIdle is 5 % of an idle Atlantis server on stock BoltDB, which takes 38.5 MB.
	memoryBudgetIdle = 0.05 * 38.5
	// memoryBudgetFilled is for memoryBudgetLocks locks stored.
	memoryBudgetFilled = 6
	memoryBudgetLocks  = 1_000
)

// verdict is what a budget says to a figure. It is empty where there is no budget.
type verdict string

const (
	met    verdict = "met"
	notMet verdict = "not met"
	// The same, but the budget lies within the estimate's interval: another run may say the opposite.
	metNarrowly    verdict = "met, within noise"
	notMetNarrowly verdict = "not met, within noise"
)

// judge compares an estimate with a budget.
func judge(of estimate, budget float64, u unit) verdict {
	within := of.Median <= budget
	if u == pairsPerSecond {
		within = of.Median >= budget
	}
	narrow := of.Low <= budget && budget <= of.High
	switch {
	case within && narrow:
		return metNarrowly
	case within:
		return met
	case narrow:
		return notMetNarrowly
	default:
		return notMet
	}
}
