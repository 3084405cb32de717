package main

// budgetSize is the number of locks stored that the budgets are about.
const budgetSize = 10_000

// budgets bound the ratio of a subject to a reference, with budgetSize locks stored. Times must be at most the budget, pairs per
// second at least.
//
// strict(boltdb) calls stock's own code, so all that it may cost is the noise of measuring. Hybrid mode asks Redis for what it
// reads, so GetLock has no budget there: stock BoltDB reads its own memory. In fallback it must be as fast as its local store.
var budgets = map[pair]map[operationName]float64{
	{strictBoltDB, stockBoltDB}: {
		tryLockFree: 1.02, tryLockHeld: 1.02, getLock: 1.02, unlock: 1.02, list: 1.02, unlockByPull: 1.02, pairs: 1 / 1.02,
	},
	{strictSled, stockBoltDB}: {
		tryLockFree: 0.5, tryLockHeld: 0.1, getLock: 0.5, unlock: 0.5, list: 0.2, unlockByPull: 0.03, pairs: 8,
	},
	{native, stockRedis}:       nativeBudgets,
	{nativeShared, stockRedis}: nativeBudgets,
	{hybridSync, stockBoltDB}: {
		tryLockFree: 0.5, tryLockHeld: 0.35, unlock: 0.5, list: 0.25, unlockByPull: 0.05, pairs: 8,
	},
	{hybridAsync, stockBoltDB}: {
		tryLockFree: 0.25, tryLockHeld: 0.35, unlock: 0.25, list: 0.25, unlockByPull: 0.05, pairs: 8,
	},
	{hybridAsync, native}: {tryLockFree: 1.3, tryLockHeld: 1.3, unlock: 1.3},
	{hybridAlone, strictSled}: {
		tryLockFree: 1, tryLockHeld: 1, getLock: 1, unlock: 1, list: 1, unlockByPull: 1, pairs: 1,
	},
}

var nativeBudgets = map[operationName]float64{
	tryLockFree: 0.75, tryLockHeld: 0.9, getLock: 0.9, unlock: 0.6, list: 0.08, unlockByPull: 0.01, pairs: 2,
}

const (
	// memoryBudgetIdle is 5 % of an idle Atlantis server on stock BoltDB, which takes 38.5 MB.
	memoryBudgetIdle = 0.05 * 38.5
	// memoryBudgetFilled is for memoryBudgetLocks locks stored; in hybrid mode it comes on top of native.
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
