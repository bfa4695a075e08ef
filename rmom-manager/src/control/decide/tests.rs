use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn mom_id(number: usize) -> Uuid {
    Uuid::from_u128(1000 + number as u128)
}

/// A MoM; `hosted` is what it answered, `None` if it did not.
fn mom(number: usize, was_up: bool, hosted: Option<&[(&str, i64)]>) -> MomState {
    let hosted = hosted.map(|queues| {
        let queues = queues.iter();
        queues.map(|(label, epoch)| ((*label).to_owned(), *epoch))
    });
    MomState {
        id: mom_id(number),
        address: MomAddress {
            host: "127.0.0.1".into(),
            port: number as u16,
        },
        was_up,
        draining: false,
        answers: hosted.is_some(),
        hosted: hosted.map(Iterator::collect),
    }
}

/// A MoM that is up and whose queues are to be elsewhere.
fn draining(number: usize, hosted: &[(&str, i64)]) -> MomState {
    MomState {
        draining: true,
        ..mom(number, true, Some(hosted))
    }
}

fn queue(label: &str, epoch: i64, owner: Option<usize>) -> QueueState {
    QueueState {
        id: queue_id(label),
        label: label.to_owned(),
        epoch,
        owner: owner.map(mom_id),
    }
}

/// A different one for each label of up to 16 bytes.
fn queue_id(label: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..label.len()].copy_from_slice(label.as_bytes());
    Uuid::from_bytes(bytes)
}

fn mark(number: usize, is_up: bool) -> Action {
    Action::Mark {
        mom: mom_id(number),
        is_up,
    }
}

fn move_to(queue: QueueState, number: usize) -> Action {
    Action::Move {
        queue,
        to: mom_id(number),
    }
}

fn rebuild(queue: QueueState, number: usize) -> Action {
    Action::Rebuild {
        queue,
        on: mom_id(number),
    }
}

#[test]
fn nothing_is_done_where_all_is_well() {
    let snapshot = Snapshot {
        moms: vec![
            mom(1, true, Some(&[("a", 1)])),
            mom(2, true, Some(&[("b", 7)])),
            mom(3, false, None),
        ],
        queues: vec![queue("a", 1, Some(1)), queue("b", 7, Some(2))],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), []);
}

#[test]
fn a_mom_that_answers_is_up_and_one_that_does_not_is_down() {
    let snapshot = Snapshot {
        moms: vec![mom(1, false, Some(&[])), mom(2, true, None)],
        queues: vec![],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), [mark(1, true), mark(2, false)]);
}

#[test]
fn the_queues_of_a_mom_that_is_down_are_spread_over_the_others_by_load() {
    let snapshot = Snapshot {
        moms: vec![
            mom(1, true, None),
            mom(2, true, Some(&[("x", 1), ("y", 1)])),
            mom(3, true, Some(&[])),
        ],
        queues: vec![
            queue("a", 3, Some(1)),
            queue("b", 1, Some(1)),
            queue("c", 1, Some(1)),
            queue("d", 1, Some(1)),
            queue("x", 1, Some(2)),
            queue("y", 1, Some(2)),
        ],
        ..Snapshot::default()
    };
    assert_eq!(
        decide(&snapshot),
        [
            mark(1, false),
            move_to(queue("a", 3, Some(1)), 3),
            move_to(queue("b", 1, Some(1)), 3),
            move_to(queue("c", 1, Some(1)), 2),
            move_to(queue("d", 1, Some(1)), 3),
        ]
    );
}

#[test]
fn a_queue_without_an_owner_is_given_one() {
    let snapshot = Snapshot {
        moms: vec![mom(1, true, Some(&[]))],
        queues: vec![queue("a", 4, None)],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), [move_to(queue("a", 4, None), 1)]);
}

#[test]
fn nothing_moves_while_no_mom_is_up() {
    let snapshot = Snapshot {
        moms: vec![mom(1, true, None), mom(2, false, None)],
        queues: vec![
            queue("a", 1, Some(1)),
            queue("b", 1, Some(2)),
            queue("c", 1, None),
        ],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), [mark(1, false)]);
    assert!(snapshot.waits_for_a_mom());
}

#[test]
fn a_mom_that_comes_back_hosts_its_own_and_takes_nothing_from_others() {
    let snapshot = Snapshot {
        moms: vec![
            mom(1, false, Some(&[])),
            mom(2, true, Some(&[("a", 2), ("b", 2), ("c", 1)])),
        ],
        queues: vec![
            queue("a", 2, Some(2)),
            queue("b", 2, Some(2)),
            queue("c", 1, Some(2)),
            queue("d", 1, Some(1)),
        ],
        ..Snapshot::default()
    };
    assert_eq!(
        decide(&snapshot),
        [mark(1, true), rebuild(queue("d", 1, Some(1)), 1)]
    );
}

#[test]
fn an_owner_behind_the_database_is_told_and_one_ahead_of_the_snapshot_is_left_alone() {
    let snapshot = Snapshot {
        moms: vec![mom(1, true, Some(&[("a", 1), ("b", 5)]))],
        queues: vec![queue("a", 2, Some(1)), queue("b", 4, Some(1))],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), [rebuild(queue("a", 2, Some(1)), 1)]);
}

#[test]
fn a_mom_that_hosts_what_it_does_not_own_gets_no_command() {
    let snapshot = Snapshot {
        moms: vec![
            mom(1, true, Some(&[("a", 1), ("gone", 3)])),
            mom(2, true, Some(&[("a", 2)])),
        ],
        queues: vec![queue("a", 2, Some(2))],
        ..Snapshot::default()
    };
    assert_eq!(decide(&snapshot), []);
}

#[test]
fn the_queues_of_a_mom_that_drains_move_to_those_that_do_not() {
    let snapshot = Snapshot {
        moms: vec![
            draining(1, &[("a", 1), ("b", 1)]),
            mom(2, true, Some(&[("c", 1)])),
            draining(3, &[]),
            mom(4, true, None),
        ],
        queues: vec![
            queue("a", 1, Some(1)),
            queue("b", 1, Some(1)),
            queue("c", 1, Some(2)),
            queue("d", 1, Some(4)),
        ],
        ..Snapshot::default()
    };
    assert_eq!(
        decide(&snapshot),
        [
            mark(4, false),
            move_to(queue("a", 1, Some(1)), 2),
            move_to(queue("b", 1, Some(1)), 2),
            move_to(queue("d", 1, Some(4)), 2),
        ]
    );
}

#[test]
fn where_all_drain_queues_stay_and_those_of_a_mom_that_is_down_are_served_all_the_same() {
    let snapshot = Snapshot {
        moms: vec![draining(1, &[("a", 1)]), mom(2, false, None)],
        queues: vec![queue("a", 1, Some(1)), queue("b", 1, Some(2))],
        rebalances: vec![Uuid::nil()],
    };
    assert_eq!(decide(&snapshot), [move_to(queue("b", 1, Some(2)), 1)]);
}

#[test]
fn to_rebalance_takes_the_fewest_moves_and_is_then_forgotten() {
    let request = Uuid::from_u128(7);
    let snapshot = Snapshot {
        moms: vec![
            mom(1, true, Some(&[])),
            mom(2, true, Some(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)])),
            mom(3, true, Some(&[("e", 1)])),
        ],
        queues: vec![
            queue("a", 1, Some(2)),
            queue("b", 1, Some(2)),
            queue("c", 1, Some(2)),
            queue("d", 1, Some(2)),
            queue("e", 1, Some(3)),
        ],
        rebalances: vec![request],
    };
    let forget = Action::Forget {
        requests: vec![request],
    };
    assert_eq!(
        decide(&snapshot),
        [
            move_to(queue("a", 1, Some(2)), 1),
            move_to(queue("b", 1, Some(2)), 1),
            forget.clone(),
        ]
    );
    let even = after(&snapshot, &decide(&snapshot)[..2]);
    assert_eq!(decide(&even), [forget]);
}

/// What the world looks like when everything that was decided has succeeded.
fn after(snapshot: &Snapshot, actions: &[Action]) -> Snapshot {
    let mut next = snapshot.clone();
    let host = |next: &mut Snapshot, mom: Uuid, label: &str, epoch: i64| {
        let mom = next.moms.iter_mut().find(|state| state.id == mom).unwrap();
        let hosted = mom.hosted.as_mut().unwrap();
        hosted.insert(label.to_owned(), epoch);
    };
    for action in actions {
        match action {
            Action::Mark { mom, is_up } => {
                let mom = next.moms.iter_mut().find(|state| state.id == *mom);
                mom.unwrap().was_up = *is_up;
            }
            Action::Move { queue, to } => {
                let row = next.queues.iter_mut().find(|row| row.id == queue.id);
                let row = row.unwrap();
                row.owner = Some(*to);
                row.epoch += 1;
                let epoch = row.epoch;
                host(&mut next, *to, &queue.label, epoch);
            }
            Action::Rebuild { queue, on } => host(&mut next, *on, &queue.label, queue.epoch),
            Action::Forget { requests } => next.rebalances.retain(|id| !requests.contains(id)),
        }
    }
    next
}

prop_compose! {
    /// Any MoMs and queues, with what MoMs host unrelated to what they own.
    fn any_snapshot()(
        moms in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..6),
        queues in prop::collection::vec((1..4_i64, prop::option::of(0..6_usize)), 0..24),
        hosted in prop::collection::vec((0..6_usize, 0..24_usize, 1..5_i64), 0..40),
        rebalances in prop::collection::vec((0..9_u128).prop_map(Uuid::from_u128), 0..2),
    ) -> Snapshot {
        let moms: Vec<MomState> = moms
            .iter()
            .enumerate()
            .map(|(number, (was_up, answers, draining))| {
                let label = |queue: &usize| format!("q{queue}");
                let of_this = hosted.iter().filter(|(mom, ..)| *mom == number);
                let hosted = of_this.map(|(_, queue, epoch)| (label(queue), *epoch)).collect();
                MomState {
                    hosted: answers.then_some(hosted),
                    draining: *draining,
                    ..mom(number, *was_up, None)
                }
            })
            .collect();
        let queues = queues
            .iter()
            .enumerate()
            .map(|(number, (epoch, owner))| {
                queue(&format!("q{number}"), *epoch, owner.filter(|owner| *owner < moms.len()))
            })
            .collect();
        Snapshot { moms, queues, rebalances }
    }
}

fn up(snapshot: &Snapshot) -> HashSet<Uuid> {
    let answered = snapshot.moms.iter().filter(|mom| mom.hosted.is_some());
    answered.map(|mom| mom.id).collect()
}

/// Those that are up and not draining.
fn open(snapshot: &Snapshot) -> HashSet<Uuid> {
    let mut open = up(snapshot);
    for mom in snapshot.moms.iter().filter(|mom| mom.draining) {
        open.remove(&mom.id);
    }
    open
}

proptest! {
    #[test]
    fn queues_move_to_moms_that_are_up_and_do_not_drain_and_no_others_move_than_have_to(
        snapshot in any_snapshot()
    ) {
        let (up, open) = (up(&snapshot), open(&snapshot));
        let mut moved = HashSet::new();
        for action in decide(&snapshot) {
            if let Action::Move { queue, to } = action {
                prop_assert!(up.contains(&to));
                prop_assert!(open.is_empty() || open.contains(&to));
                prop_assert!(queue.owner != Some(to));
                prop_assert!(snapshot.queues.contains(&queue));
                prop_assert!(moved.insert(queue.id), "moved twice");
            }
        }
        let is_rebalanced = !open.is_empty() && !snapshot.rebalances.is_empty();
        for queue in &snapshot.queues {
            let has_to = match queue.owner {
                Some(owner) if open.contains(&owner) => false,
                Some(owner) if up.contains(&owner) => !open.is_empty(),
                _ => !up.is_empty(),
            };
            prop_assert!(moved.contains(&queue.id) || !has_to);
            prop_assert!(!moved.contains(&queue.id) || has_to || is_rebalanced);
        }
    }

    #[test]
    fn to_rebalance_evens_all_out_and_moves_no_more_than_is_too_many(snapshot in any_snapshot()) {
        let open = open(&snapshot);
        let actions = decide(&snapshot);
        let forgets = actions.iter().any(|action| matches!(action, Action::Forget { .. }));
        prop_assert_eq!(forgets, !open.is_empty() && !snapshot.rebalances.is_empty());
        if forgets {
            let load = |snapshot: &Snapshot, mom: Uuid| {
                snapshot.queues.iter().filter(|queue| queue.owner == Some(mom)).count()
            };
            let next = after(&snapshot, &actions);
            let loads: Vec<usize> = open.iter().map(|mom| load(&next, *mom)).collect();
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(most - least <= 1);
            for mom in open {
                let left = actions.iter().filter(
                    |action| matches!(action, Action::Move { queue, .. } if queue.owner == Some(mom))
                );
                let too_many = load(&snapshot, mom).saturating_sub(*least);
                prop_assert!(left.count() <= too_many);
            }
        }
    }

    #[test]
    fn commands_go_only_to_owners_that_are_up(snapshot in any_snapshot()) {
        let up = up(&snapshot);
        for action in decide(&snapshot) {
            if let Action::Rebuild { queue, on } = action {
                prop_assert_eq!(queue.owner, Some(on));
                prop_assert!(up.contains(&on));
            }
        }
    }

    #[test]
    fn queues_that_move_leave_nobody_with_two_more_than_the_least(snapshot in any_snapshot()) {
        let actions = decide(&snapshot);
        let next = after(&snapshot, &actions);
        let load = |mom: Uuid| next.queues.iter().filter(|queue| queue.owner == Some(mom)).count();
        let open = open(&snapshot);
        let places = if open.is_empty() { up(&snapshot) } else { open };
        let least = places.into_iter().map(load).min();
        for action in &actions {
            if let Action::Move { to, .. } = action {
                prop_assert!(load(*to) <= least.unwrap() + 1);
            }
        }
    }

    #[test]
    fn nothing_is_left_to_do_when_all_has_been_done(snapshot in any_snapshot()) {
        let actions = decide(&snapshot);
        prop_assert_eq!(decide(&after(&snapshot, &actions)), []);
    }

    #[test]
    fn what_was_cut_off_is_completed_by_the_next_turn(
        snapshot in any_snapshot(),
        done in any::<prop::sample::Index>(),
    ) {
        let actions = decide(&snapshot);
        let half = after(&snapshot, &actions[..done.index(actions.len() + 1)]);
        let whole = after(&half, &decide(&half));
        prop_assert_eq!(decide(&whole), []);
        let up = up(&whole);
        for queue in &whole.queues {
            prop_assert!(up.is_empty() || up.contains(&queue.owner.unwrap()));
        }
    }
}
