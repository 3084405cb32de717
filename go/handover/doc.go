// Package handover is what a linked Atlantis server does with locks beyond storing them: it tells the library where a command begins and
// ends, it says in a refusal what happens next, and nobody applies without the lock.
//
// Who needs it: whoever links a server in another way than `make atlantis` does. go/cmd/atlantis shows how.
//
// # Seams
//
// [Wire] puts its parts between Atlantis's own, after server.NewServer and before Start, without a change of Atlantis's code. Each is an
// exported field or map, and a part that is not what it was stops the start:
//
//   - S1, the project locker: field Locker of the command runner that `atlantis cancel` knows.
//   - S2, the list of projects: the builder inside Atlantis's instrumented one, which plan, apply and the API share.
//   - S3, brackets around plan, apply and unlock: the command runner's map.
//   - S5, the cleaner of closed pull requests.
//   - [Store], the database in Atlantis's hands.
//
// # Invariants
//
//   - A bracket begins no later than its command's first lock, and ends after its last, whatever comes of the command.
//   - Inside the bracket of a plan, a lock that the pull request gives up and takes again is held by that pull request all the time.
//   - A lock under which something was applied leaves its pull request by unlock, discard or close only: not by a plan, whatever comes of
//     the plan. What was applied is told by the pull status and, since a later plan overwrites that, by a file beside the pull
//     request's clones.
//   - With the guard on, terraform's apply begins only if, just before, the store that decides said that the pull request holds the lock, by
//     the grant under which its plan was made. Where that cannot be said, nobody applies.
//   - A pull request that was closed during its plan holds nothing after that plan.
//   - Nothing here grants a lock: the library does.
//
// What remains is the time between the guard's question and terraform's own state lock: see docs/waiting.md.
//
// # What a crash leaves
//
// Brackets are of this process. A crash in a plan leaves its locks held, as a crash of stock Atlantis does, and also those that the end of the
// plan would have released; the pull request's next plan, unlock or close puts that right. A token that was not written yet is the one of the
// plan before: the apply is refused, and says to plan again.
package handover
