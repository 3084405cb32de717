package linearizability

import "testing"

var (
	had   = answer{Granted: true, queueAnswer: queueAnswer{Own: true}}
	kept1 = answer{Pull: 1, queueAnswer: queueAnswer{Kept: true}}
)

// behind is the answer to a plan that was refused because a pull has the lock, and joined behind these.
func behind(holder int, ahead ...byte) answer {
	return answer{Pull: holder, queueAnswer: queueAnswer{Placed: true, Ahead: ahead}}
}

// reserved is the same where the lock is free, and kept for the first of them.
func reserved(ahead ...byte) answer {
	return answer{Pull: int(ahead[0]), queueAnswer: queueAnswer{Kept: true, Placed: true, Ahead: ahead}}
}

func place(place int) answer { return answer{queueAnswer: queueAnswer{Place: place}} }

var left = answer{queueAnswer: queueAnswer{Left: true}}

// late is an operation of unknown outcome, which has its effect until then.
func late(begin, end int64, kind kind, pull int) operation { return of(begin, end, kind, pull, never) }

func troubled(o operation) operation {
	o.troubled = true
	return o
}

// waiting is a history in which pull 9 has the lock, and 1 and 2 wait for it.
func waiting(more ...operation) []operation {
	return append([]operation{
		of(10, 19, plan, 9, granted), of(20, 29, plan, 1, behind(9)), of(30, 39, plan, 2, behind(9, 1)),
	}, more...)
}

// freed is the same after its release.
func freed(more ...operation) []operation {
	return append(waiting(of(40, 49, release, 0, is(9))), more...)
}

// both are right on either store, and onRedis only where gates are beside the queue.
func TestRightQueuesPass(t *testing.T) {
	both := map[string][]operation{
		"in order": freed(
			of(50, 59, take, 3, kept1), of(60, 69, plan, 3, reserved(1, 2)), of(70, 79, plan, 1, granted), of(80, 89, position, 2, place(1)),
			of(90, 99, position, 1, place(0)), of(100, 109, position, 9, place(notQueued)), of(110, 119, take, 4, is(1)),
		),
		"who leaves is passed": freed(
			of(50, 59, leave, 1, left), of(60, 69, leave, 1, answer{}), of(70, 79, plan, 2, granted), of(80, 89, plan, 1, behind(2)),
		),
		"asked again, the place stays": waiting(of(40, 49, plan, 1, behind(9)), of(50, 59, plan, 2, behind(9, 1))),
		"a plan of the holder": waiting(of(40, 49, replan, 9, answer{Granted: true, queueAnswer: queueAnswer{Own: true, Gave: true}}),
			of(50, 59, take, 1, is(9))),
		"a take of one's own lock is refused with it": {of(10, 19, plan, 9, granted), of(20, 29, take, 9, is(9)), of(30, 39, plan, 9, had)},
		"joined at once: the places tell the order": {
			of(10, 19, plan, 9, granted), of(20, 39, plan, 1, behind(9, 2)), of(20, 39, plan, 2, behind(9)),
		},
		"the holder is in the queue until that is told of the grant": freed(of(50, 99, plan, 1, granted), of(60, 69, look, 0, is(1)), of(70, 79, position, 2, place(2))),
		"an unknown plan joined":                                     {of(10, 19, plan, 9, granted), late(20, 80, plan, 1), of(30, 39, plan, 2, behind(9, 1))},
		"an unknown plan joined later":                               {of(10, 19, plan, 9, granted), late(20, 80, plan, 1), of(30, 39, plan, 2, behind(9)), of(40, 49, plan, 3, behind(9, 2, 1))},
		"an unknown plan did nothing":                                {of(10, 19, plan, 9, granted), late(20, 80, plan, 1), of(90, 99, plan, 2, behind(9))},
		"an unknown plan was granted the lock":                       freed(late(50, 60, plan, 1), of(70, 79, look, 0, is(1)), of(80, 89, position, 2, place(2)), of(90, 99, release, 0, is(1)), of(100, 109, position, 2, place(1))),
		"a look that was not answered":                               freed(late(50, 60, look, 0), late(50, 60, position, 2)),
		"an unknown leave":                                           freed(late(50, 60, leave, 1), of(70, 79, plan, 2, granted)),
		"a queue out of reach fails no lock":                         freed(troubled(of(50, 59, take, 3, granted)), of(60, 69, look, 0, is(3))),
	}
	onRedis := map[string][]operation{
		"a place whose gate is not known to stand": {
			of(10, 19, plan, 9, granted), late(20, 80, plan, 1), of(30, 39, plan, 2, behind(9, 1)), of(40, 49, release, 0, is(9)), of(50, 59, take, 3, granted),
		},
		"a place that is not answered yet": {
			of(10, 19, plan, 9, granted), of(20, 80, plan, 1, behind(9)), of(30, 39, position, 1, place(1)), of(40, 49, release, 0, is(9)), of(50, 59, take, 3, granted),
		},
		"a reservation that outlives a leave": freed(late(50, 60, leave, 1), of(70, 79, position, 2, place(1)), of(80, 89, take, 1, granted)),
	}
	for name, history := range both {
		for _, gates := range []bool{false, true} {
			if err := (order{gates}).specification().check(history); err != nil {
				t.Errorf("%s (gates: %v): %v", name, gates, err)
			}
		}
	}
	for name, history := range onRedis {
		if err := (order{gates: true}).specification().check(history); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (order{}).specification().check(history) == nil {
			t.Errorf("%s: passed without gates", name)
		}
	}
}

func TestWrongQueuesAreRejected(t *testing.T) {
	for name, history := range map[string][]operation{
		"a newcomer passes who waits":                freed(of(50, 59, take, 3, granted)),
		"a newcomer's plan passes who waits":         freed(of(50, 59, plan, 3, granted)),
		"the second passes the first":                freed(of(50, 59, plan, 2, granted)),
		"the second passes the first, at once":       freed(of(50, 59, plan, 2, granted), of(50, 59, plan, 1, behind(2))),
		"two holders":                                freed(of(50, 59, plan, 1, granted), of(60, 69, plan, 2, granted)),
		"two holders, at once":                       freed(of(50, 69, plan, 1, granted), of(50, 69, plan, 2, granted)),
		"a place that lies":                          waiting(of(40, 49, position, 2, place(1))),
		"a place behind others than those who wait":  waiting(of(40, 49, plan, 3, behind(9, 2, 1))),
		"a place that was told twice":                waiting(of(40, 49, plan, 3, behind(9, 1))),
		"a place is lost":                            waiting(of(40, 49, position, 1, place(notQueued))),
		"a place is lost by asking again":            waiting(of(40, 49, plan, 1, behind(9, 2))),
		"who left is in the queue":                   waiting(of(40, 49, leave, 1, left), of(50, 59, position, 2, place(2))),
		"who waits is told that it does not":         waiting(of(40, 49, leave, 1, answer{})),
		"who has the lock has a place":               freed(of(50, 59, plan, 1, granted), of(60, 69, position, 2, place(2))),
		"kept for the second":                        freed(of(50, 59, take, 3, answer{Pull: 2, queueAnswer: queueAnswer{Kept: true}})),
		"kept for who is behind":                     freed(of(50, 59, plan, 1, reserved(2))),
		"kept though held":                           waiting(of(40, 49, take, 3, kept1)),
		"kept though nobody waits":                   {of(10, 19, plan, 9, granted), of(20, 29, release, 0, is(9)), of(30, 39, take, 3, kept1)},
		"held though free":                           freed(of(50, 59, plan, 3, behind(9, 1, 2))),
		"a plan of the holder lets another in":       waiting(of(40, 49, replan, 9, answer{Granted: true, queueAnswer: queueAnswer{Own: true, Gave: true}}), of(41, 42, take, 3, granted)),
		"a release takes the next one's turn":        freed(of(50, 59, releaseOwned, 9, is(9))),
		"an unknown take passes who waits":           freed(late(50, 60, take, 3), of(70, 79, look, 0, is(3))),
		"an unknown plan was made after its time":    {of(10, 19, plan, 9, granted), late(20, 25, plan, 1), of(30, 39, plan, 2, behind(9)), of(40, 49, position, 1, place(2))},
		"an unknown plan was granted, and joined":    freed(late(50, 200, plan, 1), of(60, 69, look, 0, is(1)), of(70, 79, release, 0, is(1)), of(80, 89, position, 1, place(2))),
		"out of reach, and the place of another one": freed(troubled(of(50, 59, position, 2, place(1)))),
		// A server died when it had granted the lock, before the queue was told.
		"kept once more for who had the lock": freed(
			late(50, 60, plan, 1), of(70, 79, look, 0, is(1)), of(80, 89, release, 0, is(1)), of(90, 99, take, 3, kept1),
		),
	} {
		for _, gates := range []bool{false, true} {
			if (order{gates}).specification().check(history) == nil {
				t.Errorf("%s (gates: %v): passed", name, gates)
			}
		}
	}
}
