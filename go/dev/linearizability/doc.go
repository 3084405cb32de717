// Package linearizability looks for one order of all operations of a run in which each answer is right: then nobody was ever
// told anything that one lock store, used by one caller at a time, would not have told.
//
// The tests run servers in processes of their own on one Redis, which is killed, restarted and paused meanwhile; the servers are
// killed, too. Each operation is written down with the time before it began and after it ended. One whose outcome nobody knows,
// because the store said so or because the process died, may take effect at any time after its begin. So may none that failed
// otherwise: it counts as not made.
//
// A local store that is not armed shows what was, while Redis is away: what is looked up there is no answer, and what is released
// there may be released at any time until the end, if by then no other has done so.
//
// With a queue, the lock and those who wait for it are one specification (queue_model_test.go): who is granted the lock out of turn, and
// whose place is not what was told, is found as two holders are. An operation on a queue is several steps, and each is in its time; of one
// whose outcome is unknown the last effect comes before the deadline of its last question, or never.
//
// ATLOCK_LINEARIZABILITY_SECONDS is the length of each run (default 15), ATLOCK_LINEARIZABILITY_SEED repeats the random choices
// of an earlier one.
package linearizability
