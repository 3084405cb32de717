package linearizability

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// kind is a kind of operation.
type kind string

const (
	take         kind = "take"
	release      kind = "release"
	releaseOwned kind = "releaseOwned"
	look         kind = "look"

	// Those of a queue: see queue_model_test.go.
	plan     kind = "plan"
	replan   kind = "replan"
	leave    kind = "leave"
	position kind = "position"
)

// request is what was asked for.
type request struct {
	Kind kind
	Key  string
	// Pull takes or, with releaseOwned, releases. No two takes have the same.
	Pull int `json:",omitempty"`
}

// answer is what was told.
type answer struct {
	// Granted: a take succeeded.
	Granted bool `json:",omitempty"`
	// Pull holds the lock, or, of a release, held it; 0: nobody.
	Pull int `json:",omitempty"`
	// Unknown: the operation may have been made, now or later, or not at all.
	Unknown bool `json:",omitempty"`
	queueAnswer
}

// operation is one operation of a history.
type operation struct {
	client     int
	request    request
	answer     answer
	begin, end int64 // nanoseconds of a clock that all processes share
	// troubled: the queue may have been out of reach meanwhile.
	troubled bool
}

// stillOpen is the end of an operation whose outcome is unknown.
const stillOpen = math.MaxInt64

// never is the answer of an operation that has none.
var never = answer{Unknown: true}

func (o operation) String() string {
	end, told := "?", fmt.Sprintf("%d", o.answer.Pull)
	if o.answer.Unknown {
		told = "unknown"
	} else {
		end = seconds(o.end)
	}
	if o.answer.Granted {
		told = "granted"
	}
	told += o.answer.queueAnswer.String()
	if o.troubled {
		told += " (Redis was away)"
	}
	return fmt.Sprintf("%s–%s client %d: %s %d → %s", seconds(o.begin), end, o.client, o.request.Kind, o.request.Pull, told)
}

func seconds(at int64) string { return fmt.Sprintf("%.6f", time.Duration(at).Seconds()) }

// specification is what the operations on one key are checked by.
type specification struct {
	model porcupine.Model
	// steps are what the operations are made of: each takes effect at one moment.
	steps func(operations []operation) []porcupine.Operation
	// patience bounds the search for an order of one key's operations; 0 is checkLimit.
	patience time.Duration
	// unchecked is the share of the keys for which the search may take longer, and of which nothing is known then.
	unchecked float64
}

// lock is one key's lock: the pull that holds it, or 0. Each operation is one step.
var lock = specification{
	model: porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) { return step(state.(int), input.(request), output.(answer)) },
	},
	steps: func(operations []operation) []porcupine.Operation {
		history := make([]porcupine.Operation, len(operations))
		for i, o := range operations {
			history[i] = porcupine.Operation{Input: o.request, Output: o.answer, Call: o.begin, Return: o.end}
		}
		return history
	},
}

// step tells whether an answer is right where a pull holds the lock, and who holds it afterwards.
func step(holder int, request request, answer answer) (right bool, after int) {
	releases := request.Kind == release || (request.Kind == releaseOwned && holder == request.Pull)
	switch {
	case request.Kind == take && holder == 0:
		return answer.Unknown || answer.Granted, request.Pull
	case request.Kind == take:
		return answer.Unknown || (!answer.Granted && answer.Pull == holder), holder
	case releases:
		return answer.Unknown || answer.Pull == holder, 0
	case request.Kind == releaseOwned:
		return answer.Unknown || answer.Pull == 0, holder
	default:
		return answer.Unknown || answer.Pull == holder, holder
	}
}

// checkLimit bounds the search for an order of one key's operations.
const checkLimit = 30 * time.Second

// check returns an error for the first key whose operations have no order in which each answer is right.
func (s specification) check(history []operation) error {
	byKey := map[string][]operation{}
	for _, o := range history {
		byKey[o.request.Key] = append(byKey[o.request.Key], o)
	}
	unchecked := 0
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		operations := byKey[key]
		result := s.result(operations)
		if result == porcupine.Unknown {
			unchecked++
		}
		if result == porcupine.Ok || (result == porcupine.Unknown && float64(unchecked) <= s.unchecked*float64(len(byKey))) {
			continue
		}
		shortest := s.shortest(operations)
		if s.result(shortest) == porcupine.Illegal {
			return fmt.Errorf("no order explains the answers about %q; the first that has none is the last of:\n%s", key, story(shortest))
		}
		return fmt.Errorf("the %d operations on %q are too many to be checked in %v, and those on %d other keys", len(operations), key, s.limit(), unchecked-1)
	}
	return nil
}

// shortest is the shortest beginning of a history that is not known to have an order. It is looked for from the begin on: a wrong
// answer is seen soon where nothing comes after it, and else perhaps never.
func (s specification) shortest(operations []operation) []operation {
	const stride = 32
	ends := make([]int64, len(operations))
	for i, o := range operations {
		ends[i] = o.end
	}
	slices.Sort(ends)
	isRight := func(at int) bool { return s.result(until(operations, ends[at])) == porcupine.Ok }
	from, to := 0, min(stride, len(ends))-1
	for to < len(ends)-1 && isRight(to) {
		from, to = to+1, min(to+stride, len(ends)-1)
	}
	first := from + sort.Search(to-from, func(at int) bool { return !isRight(from + at) })
	return until(operations, ends[first])
}

func (s specification) result(operations []operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(s.model, s.steps(operations), s.limit())
}

func (s specification) limit() time.Duration { return cmp.Or(s.patience, checkLimit) }

// story tells of a history that has no order: the operations that ended last, those still open, and those about the pull of the wrong
// answer.
func story(shortest []operation) string {
	const most = 40
	slices.SortFunc(shortest, func(a, b operation) int { return cmp.Compare(a.end, b.end) })
	open := slices.IndexFunc(shortest, func(o operation) bool { return o.end == stillOpen })
	if open < 0 {
		open = len(shortest)
	}
	var text strings.Builder
	for _, o := range shortest[open:] {
		fmt.Fprintf(&text, "  %v\n", o)
	}
	recent := max(0, open-most)
	for i, o := range shortest[:open] {
		if i >= recent || o.isAbout(shortest[open-1].answer.Pull) {
			fmt.Fprintf(&text, "  %v\n", o)
		}
	}
	return text.String()
}

func (o operation) isAbout(pull int) bool {
	return pull != 0 && (o.answer.Pull == pull || o.request.Pull == pull)
}

// until is the history as it was known at a moment.
func until(operations []operation, moment int64) []operation {
	var known []operation
	for _, o := range operations {
		if o.begin > moment {
			continue
		}
		if o.end > moment {
			o.end, o.answer = stillOpen, never
		}
		known = append(known, o)
	}
	return known
}
