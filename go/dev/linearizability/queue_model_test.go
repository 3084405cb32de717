package linearizability

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// queueAnswer is what an operation is told of the queue.
type queueAnswer struct {
	// Own: a granted plan had the lock before.
	Own bool `json:",omitempty"`
	// Kept: nobody holds the lock, and it is kept for Pull.
	Kept bool `json:",omitempty"`
	// Placed: a refused plan has a place; Ahead are the pulls before it, a byte each, the first one first.
	Placed bool   `json:",omitempty"`
	Ahead  []byte `json:",omitempty"`
	// Gave: a replan was told that it gave its lock up.
	Gave bool `json:",omitempty"`
	// Place is that of a position, 0 for the holder and 1 for the first in order, or notQueued.
	Place int `json:",omitempty"`
	// Left: a leave ended a place.
	Left bool `json:",omitempty"`
}

const notQueued = -1

func (a queueAnswer) String() string {
	var text strings.Builder
	for _, part := range []struct {
		name  string
		holds bool
	}{{"had before", a.Own}, {"kept", a.Kept}, {"gave up", a.Gave}, {"left", a.Left}} {
		if part.holds {
			fmt.Fprintf(&text, ", %s", part.name)
		}
	}
	if a.Placed {
		fmt.Fprintf(&text, ", behind %v", a.Ahead)
	}
	if a.Place != 0 {
		fmt.Fprintf(&text, ", place %d", a.Place)
	}
	return text.String()
}

// queued is one key's lock and who waits for it. Pulls are numbered from 1 to 63.
type queued struct {
	// holder is the pull that has the lock, or 0.
	holder int
	// order has a byte for each pull that waits, the first one first.
	order string
	// had are those in it that were granted the lock, of which the queue was not told yet: a bit each.
	had uint64
	// passes tells whom the store lets in though it is not first: nobody (0), one pull whose reservation it has not forgotten yet, or
	// anybody, while the first place has no gate yet: then it is minus the pull that has that place.
	passes int
	// taking are those that were granted the lock by an operation that has not told the queue yet, a bit each.
	taking uint64
	// spent are the plans of unknown outcome that made their try, a bit each: they join no more.
	spent uint64
}

func bit(pull int) uint64 { return 1 << pull }

func (q queued) waits(pull int) bool { return q.place(pull) > 0 }

// place is 1 for the first in order, and 0 without a place.
func (q queued) place(pull int) int { return strings.IndexByte(q.order, byte(pull)) + 1 }

func (q queued) isFirst(pull int) bool { return q.place(pull) == 1 }

func (q queued) lets(pull int) bool {
	return q.order == "" || q.isFirst(pull) || q.passes < 0 || q.passes == pull
}

func (q queued) granted(pull int) queued {
	q.holder = pull
	if q.waits(pull) {
		q.had |= bit(pull)
	}
	return q
}

func (q queued) without(pull int) queued {
	q.order = strings.ReplaceAll(q.order, string([]byte{byte(pull)}), "")
	q.had &^= bit(pull)
	if q.order == "" {
		q.passes = 0
	}
	return q
}

// with is the queue with the pull in it. One that waits keeps its place.
func (q queued) with(pull int, gates bool) queued {
	q.had &^= bit(pull)
	if q.waits(pull) {
		return q
	}
	if q.order == "" && gates {
		q.passes = -pull
	}
	q.order += string([]byte{byte(pull)})
	return q
}

// change is what takes effect at one moment: what may be then; nothing, if what was told of it is wrong.
type change func(q queued) []queued

// If tells the one state that may be then.
func (q queued) If(right bool) []queued {
	if !right {
		return nil
	}
	return []queued{q}
}

// order specifies a lock and its queue as one. What is promised:
//
//   - One pull has the lock. It is granted, while pulls wait, to the first of them alone, in the order in which they joined.
//   - Who is refused in a plan has a place when the plan ends, behind exactly those of whom it is told; it keeps that place until it
//     has the lock or leaves. Who is told that a free lock is kept for a pull is told of the first in order.
//   - Who had the lock waits for it no more, at the latest when the lock is released.
//   - A plan of the holder, which gives the lock up and takes it again, lets nobody in between.
//
// An operation is more than one step, and another one may come between any two. A grant stands before the queue is told of it, so a
// holder may be in the queue for a while. On Redis a place stands before its gate: until the plan that joined an empty queue has
// ended, anybody may be let in, and after a crash in between as long as the queue is not empty. In the same way a pull that
// left may be let in after a crash within its leave.
//
// A queue that cannot be read or written fails no lock: a grant at a time when Redis was away may be out of order, and the queue may
// be told of it later.
type order struct {
	// gates: the store keeps them apart from the queue.
	gates bool
}

func (s order) specification() specification {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{queued{}} },
		Step: func(state, input, _ any) []any {
			var after []any
			for _, q := range input.(change)(state.(queued)) {
				after = append(after, q)
				if q.holder != 0 && q.had&bit(q.holder) != 0 { // whoever looks tells the queue who has the lock
					after = append(after, s.gone(q, q.holder))
				}
			}
			return after
		},
	}
	return specification{
		model: model.ToModel(),
		steps: func(operations []operation) []porcupine.Operation {
			var history []porcupine.Operation
			plans := 0
			for _, o := range operations {
				if o.answer.Unknown && (o.request.Kind == plan || o.request.Kind == replan) {
					plans++
				}
				for at, change := range s.changes(o, plans) {
					// The search tries what begins first first, and mostly this is their order. It is not bound to it.
					begin := o.begin + int64(at)
					history = append(history, porcupine.Operation{Input: change, Call: begin, Return: max(begin, o.end)})
				}
			}
			return history
		},
	}
}

// changes are those of an operation; number is its own among the plans of unknown outcome.
func (s order) changes(o operation, number int) []change {
	pull, told := o.request.Pull, o.answer
	switch o.request.Kind {
	case plan, replan:
		return s.plans(o, number)
	case take:
		switch {
		case told.Unknown:
			return []change{s.mayTake(pull, 0)}
		case told.Granted:
			return s.grants(o)
		case told.Kept:
			return []change{s.kept(o)}
		default:
			return []change{isHeld(told.Pull)}
		}
	case release, releaseOwned:
		return s.releases(o)
	case leave:
		return []change{func(q queued) []queued {
			if told.Unknown {
				return []queued{q, s.gone(q, pull)}
			}
			return q.without(pull).If(q.waits(pull) == told.Left)
		}}
	case position:
		if told.Unknown {
			return nil
		}
		return []change{func(q queued) []queued {
			switch told.Place {
			case 0:
				return q.If(q.holder == pull)
			case notQueued:
				return q.If(!q.waits(pull))
			default:
				return q.If(q.place(pull) == told.Place)
			}
		}}
	default:
		if told.Unknown {
			return nil
		}
		return []change{isHeld(told.Pull)}
	}
}

func isHeld(by int) change {
	return func(q queued) []queued { return q.If(q.holder == by) }
}

func (s order) plans(o operation, number int) []change {
	pull, told := o.request.Pull, o.answer
	// A lock that is released just when a plan joined is tried again: so whatever it is told, it may have joined before.
	mayJoin := func(q queued) []queued {
		if q.holder == pull {
			return []queued{q}
		}
		return []queued{q, q.with(pull, s.gates)}
	}
	var changes []change
	switch {
	case told.Unknown:
		spent := uint64(1) << number // those above 63 have none, and may do both
		changes = []change{s.mayTake(pull, spent), func(q queued) []queued {
			if q.spent&spent != 0 {
				return []queued{q}
			}
			return mayJoin(q)
		}}
		if o.request.Kind == replan { // it gave up what it could not take again
			changes = append(changes, mayFree(pull), s.mayEnd)
		}
		return changes
	case told.Own:
		changes = []change{isHeld(pull)}
	case told.Granted:
		changes = append(s.grants(o), mayJoin)
	case told.Kept:
		changes = []change{s.kept(o), hasGate(pull), mayJoin}
	case told.Placed:
		joins := func(q queued) []queued {
			q = q.with(pull, s.gates)
			return q.If(q.isBehind(pull, told.Ahead))
		}
		changes = []change{isHeld(told.Pull), joins, hasGate(pull), mayJoin}
	default: // the queue could not be reached, or its answer was lost
		changes = []change{isHeld(told.Pull), mayJoin}
	}
	if o.request.Kind == replan {
		gives := func(q queued) []queued { return q.If((q.holder == pull) == told.Gave) }
		changes = append([]change{gives}, changes...)
	}
	return changes
}

func (q queued) isBehind(pull int, ahead []byte) bool {
	return strings.HasPrefix(q.order, string(ahead)+string([]byte{byte(pull)}))
}

// hasGate: the place of a pull has its gate when its plan ends.
func hasGate(pull int) change {
	return func(q queued) []queued {
		right := q.waits(pull) || q.holder == pull
		return q.gated(pull).If(right)
	}
}

func (q queued) gated(pull int) queued {
	if q.passes == -pull {
		q.passes = 0
	}
	return q
}

// grants: the lock is granted, and then the queue told.
func (s order) grants(o operation) []change {
	pull := o.request.Pull
	grants := func(q queued) []queued {
		return q.granted(pull).If(q.holder == 0 && (o.troubled || q.lets(pull)))
	}
	if o.troubled {
		return []change{grants}
	}
	return []change{
		func(q queued) []queued {
			q.taking |= bit(pull)
			return grants(q)
		},
		func(q queued) []queued {
			if q.taking&bit(pull) == 0 {
				return nil
			}
			q.taking &^= bit(pull)
			q = q.gated(pull)
			if q.passes < 0 { // a grant that met no gate tells nobody
				return []queued{q, q.without(pull)}
			}
			return []queued{q.without(pull)}
		},
	}
}

// mayTake is a try of unknown outcome.
func (s order) mayTake(pull int, spent uint64) change {
	return func(q queued) []queued {
		if q.holder != 0 || !q.lets(pull) {
			return []queued{q}
		}
		taken := q.granted(pull)
		taken.spent |= spent
		return []queued{q, taken}
	}
}

// gone is the queue without a pull, where the store may not be told so.
func (s order) gone(q queued, pull int) queued {
	wasFirst := q.isFirst(pull)
	q = q.without(pull)
	if s.gates && wasFirst && q.order != "" && q.passes >= 0 {
		q.passes = pull
	}
	return q
}

// kept: the lock is kept for who is first in order, and may have it just now.
func (s order) kept(o operation) change {
	pull, first := o.request.Pull, o.answer.Pull
	return func(q queued) []queued {
		right := q.isFirst(first) && pull != first && (q.holder == 0 || q.holder == first)
		if o.request.Kind == take {
			return q.If(right)
		}
		q = q.with(pull, s.gates)
		return q.If(right && o.answer.Placed && q.isBehind(pull, o.answer.Ahead))
	}
}

func (s order) releases(o operation) []change {
	by := o.answer.Pull
	isOwn := o.request.Kind == releaseOwned
	switch {
	case o.answer.Unknown && isOwn:
		return []change{mayFree(o.request.Pull), s.mayEnd}
	case o.answer.Unknown:
		return []change{func(q queued) []queued {
			free := q
			free.holder = 0
			return []queued{q, free}
		}, s.mayEnd}
	case by == 0 && isOwn:
		return []change{func(q queued) []queued { return q.If(q.holder != o.request.Pull) }}
	case by == 0:
		return []change{isHeld(0)}
	}
	frees := func(q queued) []queued {
		right := q.holder == by && (!isOwn || by == o.request.Pull)
		q.holder = 0
		return q.If(right)
	}
	if o.troubled {
		return []change{frees, s.mayEnd}
	}
	return []change{frees, func(q queued) []queued { // who had the lock waits no more
		if q.had&bit(by) != 0 {
			q = q.without(by)
		}
		return []queued{q}
	}}
}

func mayFree(pull int) change {
	return func(q queued) []queued {
		free := q
		if q.holder == pull {
			free.holder = 0
		}
		return []queued{q, free}
	}
}

// mayEnd: the queue may be told that somebody had the lock who has it no more.
func (s order) mayEnd(q queued) []queued {
	after := []queued{q}
	for _, pull := range []byte(q.order) {
		if int(pull) != q.holder && q.had&bit(int(pull)) != 0 {
			after = append(after, s.gone(q, int(pull)))
		}
	}
	return after
}
