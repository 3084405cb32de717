//! What each step and each dispatch keeps.

use super::*;

/// A ticket's keys that are reserved, of all or of those with a time.
fn kept(ticket: &Ticket, only_turns: bool) -> usize {
    ticket.wants.values().filter(|want| if only_turns { want.is_turn() } else { want.is_reserved() }).count()
}

/// L2; L5 and L6 but for what the step itself is; L7: part of a set is held only while its ticket names that.
pub(super) fn check_step(before: &World, step: Step, after: &World, events: &[Event]) {
    for key in KEYS {
        let count = after.queue.tickets.iter().filter(|ticket| ticket.has_reserved(key)).count();
        assert!(count <= 1, "L2 {key}: {}", after.path());
        let admitted = PULLS.iter().filter(|pull| after.queue.admits(key, Some(&id(**pull)))).count();
        let wanted = !after.queue.wanted_by(key).is_empty();
        assert!(!wanted || (admitted == count && !after.queue.admits(key, None)), "L2 {key}: {}", after.path());
    }
    let collecting = after.queue.tickets.iter().filter(|ticket| kept(ticket, false) > kept(ticket, true)).count();
    assert!(collecting <= 1, "two collect: {}", after.path());
    let may_change = match step {
        Step::TryLock(pull, _) | Step::TrySet(pull) | Step::Leave(pull) | Step::LeaveKey(pull, _) | Step::EndSet(pull) => {
            vec![pull]
        }
        Step::Dispatch | Step::DispatchFreed(_) | Step::DispatchCareless(_) | Step::UndoSets => PULLS.to_vec(),
        _ => vec![],
    };
    for ticket in &before.queue.tickets {
        let num = ticket.pull().num;
        let now = after.queue.ticket(ticket.pull());
        let wants = |ticket: &Ticket| ticket.wants.keys().cloned().collect::<BTreeSet<_>>();
        let same = now.is_some_and(|now| (now.seq, now.since) == (ticket.seq, ticket.since) && wants(now) == wants(ticket));
        if !may_change.contains(&num) {
            assert!(same, "L5, L6 of {num}: {}", after.path());
        }
        if before.looked_at(step).is_some() {
            let gone = ticket.wants.keys().filter(|key| now.is_none_or(|now| now.want(key).is_none()));
            for key in gone {
                let has = after.is(KEYS.iter().position(|k| k == key).expect("a key"), num);
                let left = events.iter().any(|event| matches!(event, Event::Left { waiter, .. } if waiter.pull.num == num));
                assert!(has || (left && ticket.missed == 2), "L5 {key} of {num}: {}", after.path());
            }
            assert!(now.is_none_or(|now| (now.seq, now.since) == (ticket.seq, ticket.since)), "L6 of {num}: {}", after.path());
        }
    }
    for (pull, _) in after.held.iter().flatten().filter(|(_, of_set)| *of_set) {
        let named = after.queue.ticket(&id(*pull)).is_some_and(|ticket| ticket.acquiring.is_some());
        assert!(named || (0..KEYS.len()).all(|key| after.is(key, *pull)), "L7 of {pull}: {}", after.path());
    }
}

/// L3, L4 and what a dispatch leaves behind at the keys that it looked at.
pub(super) fn check_dispatch(before: &World, step: Step, after: &World, events: &[Event]) {
    let careless = matches!(step, Step::DispatchCareless(_));
    let Some(looked) = before.looked_at(step).filter(|_| !careless) else { return };
    let order = after.queue.tickets_in_order(&RULES);
    let free = |key: &str| looked.contains(key) && after.held[KEYS.iter().position(|k| *k == key).expect("a key")].is_none();
    let own = |ticket: &Ticket, key: &str| after.is(KEYS.iter().position(|k| *k == key).expect("a key"), ticket.pull().num);
    let had_before = |ticket: &Ticket, key: &str| before.queue.ticket(ticket.pull()).is_some_and(|t| t.has_reserved(key));
    let reserved_to = |key: &str| order.iter().find(|ticket| ticket.has_reserved(key)).copied();
    let missed = |ticket: &Ticket| events.iter().any(|e| matches!(e, Event::Missed { pull, .. } if pull == ticket.pull()));
    let old = |ticket: &Ticket| ticket.whole && after.now - ticket.since >= RULES.collect_after && kept(ticket, true) == 0;
    let collected = |queue: &Queue| queue.tickets.iter().find(|t| kept(t, false) > kept(t, true)).map(|ticket| ticket.seq);
    let old_ones = |late: bool| order.iter().filter(move |ticket| missed(ticket) == late).find(|ticket| old(ticket));
    let first_old = || old_ones(false).or_else(|| old_ones(true)).map(|ticket| ticket.seq);
    let collects = collected(&after.queue).or_else(|| collected(&before.queue)).or_else(first_old);
    let demanded = |set: &Ticket, key: &str| {
        let has = |ticket: &Ticket| set.wants.keys().any(|key| own(ticket, key));
        order.iter().any(|ticket| ticket.seq != set.seq && ticket.want(key).is_some() && has(ticket))
    };
    for ticket in order.iter().filter(|ticket| ticket.wants.keys().any(|key| looked.contains(key))) {
        let turns = kept(ticket, true);
        assert!(!ticket.whole || ticket.wants.keys().all(|key| looked.contains(key)), "not looked at: {}", after.path());
        assert!(!ticket.whole || turns == 0 || turns == ticket.wants.len(), "half a set: {}", after.path());
        for (key, want) in ticket.wants.iter().filter(|(key, _)| looked.contains(*key)) {
            let stands = free(key) || (ticket.whole && own(ticket, key));
            assert!(!want.is_reserved() || stands, "reserved and held: {}", after.path());
            assert!(!matches!(want, Want::Reserved { until, .. } if *until <= after.now), "over: {}", after.path());
        }
        // What it could use although it does not have it: free, and kept for nobody, or given in this dispatch to one behind it.
        let behind = |other: &Ticket| compare(ticket, other, &RULES).is_lt() && !missed(ticket);
        let usable = |key: &str| {
            let given = |to: &Ticket| to.pull() == ticket.pull() || (behind(to) && !had_before(to, key));
            free(key) && reserved_to(key).is_none_or(given)
        };
        let lacks: Vec<&String> = ticket.wants.keys().filter(|key| !ticket.has_reserved(key)).collect();
        let could = if ticket.whole && collects != Some(ticket.seq) {
            !lacks.is_empty() && ticket.wants.keys().all(|key| own(ticket, key) || usable(key))
        } else {
            lacks.iter().any(|key| usable(key) && !(ticket.whole && demanded(ticket, key)))
        };
        // Whoever has a key of a set is not kept from another one by what was collected for that set.
        let circle =
            ticket.wants.iter().find(|(key, want)| want.is_collected() && looked.contains(*key) && demanded(ticket, key));
        assert!(circle.is_none(), "a circle: {}", after.path());
        assert!(!could, "L3, L4 of {}: {}", ticket.pull().num, after.path());
    }
}

/// From here, when all who hold release and all who get a turn take: everybody comes through.
pub(super) fn check_drain(world: &World) {
    let mut world = world.clone();
    for _ in 0..8 {
        world.now += 10;
        world.queue.give_up(world.now);
        for (pull, set) in world.queue.given_up() {
            world.end_set(pull.num, set.keys.into_keys().collect());
        }
        world.held = [None; 2];
        let look = world.holders(&world.queue.keys_to_look_at(&[]));
        world.queue.dispatch(&look, &RULES, world.now);
        for pull in PULLS {
            for (key, name) in KEYS.iter().enumerate() {
                let has_turn = world.queue.ticket(&id(pull)).and_then(|t| t.want(name)).is_some_and(Want::is_turn);
                if has_turn && world.may_take(key, pull) {
                    world.held[key] = Some((pull, false));
                    world.queue.took(&id(pull), name);
                }
            }
        }
        if world.queue.is_empty() {
            return;
        }
    }
    panic!("somebody waits for ever: {}", world.path());
}
