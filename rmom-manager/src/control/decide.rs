//! What to do, given what is: a pure function.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use storage::MomAddress;
use uuid::Uuid;

use crate::moms::Hosted;

/// What was found at the beginning of a turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// All MoMs, in the order of their registration.
    pub moms: Vec<MomState>,
    /// All queues, in the order of their creation. Read **before** the MoMs were asked, so that a MoM that hosts a
    /// queue at a later epoch is ahead of this snapshot, not behind it.
    pub queues: Vec<QueueState>,
    /// What operators have asked for, to even out the number of queues.
    pub rebalances: Vec<Uuid>,
}

/// A MoM as its row and itself tell.
#[derive(Clone, Debug, PartialEq)]
pub struct MomState {
    /// Its row.
    pub id: Uuid,
    /// Where it is reached.
    pub address: MomAddress,
    /// What its row says.
    pub was_up: bool,
    /// Whether its queues are to be elsewhere.
    pub draining: bool,
    /// What it hosts, if it is up.
    pub hosted: Option<Hosted>,
    /// Whether it answers, though it may be of no use: it can be told that its queues are elsewhere.
    pub answers: bool,
}

/// A queue as its row tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Its row.
    pub id: Uuid,
    /// Its name.
    pub label: String,
    /// The epoch of its ownership.
    pub epoch: i64,
    /// The MoM that owns it, if any.
    pub owner: Option<Uuid>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Record that a MoM is up or down.
    Mark {
        /// The MoM.
        mom: Uuid,
        /// What it is now.
        is_up: bool,
    },
    /// Give a queue to another MoM, if it still is at the epoch that was seen.
    Move {
        /// The queue as it was seen.
        queue: QueueState,
        /// The MoM that is to own it.
        to: Uuid,
    },
    /// Tell a MoM to host a queue that is its own.
    Rebuild {
        /// The queue as it was seen.
        queue: QueueState,
        /// Its owner.
        on: Uuid,
    },
    /// Forget what operators have asked for: with the rest of what was decided it is met.
    Forget {
        /// The requests.
        requests: Vec<Uuid>,
    },
}

impl Snapshot {
    /// Whether there are queues, but no MoM that could serve any.
    pub fn waits_for_a_mom(&self) -> bool {
        !self.queues.is_empty() && self.moms.iter().all(|mom| mom.hosted.is_none())
    }
}

/// What to do.
///
/// - A MoM is up if it answered and is not cut off from the database.
/// - A queue whose owner is not up, or that has none, moves to the MoM that has the fewest queues of those that are up
///   and not draining; of those that are up, if all are draining. If none is up it stays, so that its owner finds its own
///   queues when it comes back.
/// - A queue whose owner is up and draining moves likewise, but stays if all are draining.
/// - A queue that its owner does not host, or hosts at an older epoch, is to be hosted there.
/// - Else nothing is taken from a MoM that is up, unless an operator has asked to rebalance. One that hosts what it does
///   not own finds that out by itself, and until then the database refuses what it appends.
pub fn decide(snapshot: &Snapshot) -> Vec<Action> {
    let changed = snapshot
        .moms
        .iter()
        .filter(|mom| mom.was_up != mom.hosted.is_some());
    let mut actions: Vec<Action> = changed
        .map(|mom| Action::Mark {
            mom: mom.id,
            is_up: mom.hosted.is_some(),
        })
        .collect();

    let up: HashMap<Uuid, (&MomState, &Hosted)> = snapshot
        .moms
        .iter()
        .filter_map(|mom| Some((mom.id, (mom, mom.hosted.as_ref()?))))
        .collect();
    let is_open = |mom: &MomState| mom.hosted.is_some() && !mom.draining;
    let is_one_open = snapshot.moms.iter().any(is_open);
    let places: Vec<Uuid> = snapshot
        .moms
        .iter()
        .filter(|mom| is_open(mom) || (!is_one_open && mom.hosted.is_some()))
        .map(|mom| mom.id)
        .collect();

    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for queue in &snapshot.queues {
        match queue.owner.and_then(|owner| Some((owner, up.get(&owner)?))) {
            Some((owner, (mom, hosted))) if !mom.draining || !is_one_open => {
                let at = hosted.get(&queue.label);
                let is_hosted = at.is_some_and(|epoch| *epoch >= queue.epoch);
                staying.push((queue, owner, is_hosted));
            }
            _ => leaving.push(queue),
        }
    }
    let mut loads = Loads::new(&places, staying.iter().map(|(_, owner, _)| *owner));
    for queue in leaving {
        if let Some(to) = loads.give_one() {
            let queue = queue.clone();
            actions.push(Action::Move { queue, to });
        }
    }
    let is_rebalanced = is_one_open && !snapshot.rebalances.is_empty();
    let mut surplus = if is_rebalanced {
        loads.take_surplus()
    } else {
        HashMap::new()
    };
    for (queue, owner, is_hosted) in staying {
        let queue = queue.clone();
        match surplus.get_mut(&owner) {
            Some(more) if *more > 0 => {
                *more -= 1;
                let to = loads.give_one().expect("there is a MoM that is open");
                actions.push(Action::Move { queue, to });
            }
            _ if !is_hosted => actions.push(Action::Rebuild { queue, on: owner }),
            _ => {}
        }
    }
    if is_rebalanced {
        actions.push(Action::Forget {
            requests: snapshot.rebalances.clone(),
        });
    }
    actions
}

/// How many queues each MoM has that may be given some: load, place in the order of registration, MoM.
struct Loads(BinaryHeap<Reverse<(usize, usize, Uuid)>>);

impl Loads {
    /// An owner that is not among the places does not count.
    fn new(places: &[Uuid], owners: impl Iterator<Item = Uuid>) -> Self {
        let mut loads: HashMap<Uuid, usize> = places.iter().map(|mom| (*mom, 0)).collect();
        for owner in owners {
            if let Some(load) = loads.get_mut(&owner) {
                *load += 1;
            }
        }
        let places = places.iter().enumerate();
        Self(
            places
                .map(|(place, mom)| Reverse((loads[mom], place, *mom)))
                .collect(),
        )
    }

    /// Gives one more to the MoM with the fewest.
    fn give_one(&mut self) -> Option<Uuid> {
        let Reverse((load, place, mom)) = self.0.pop()?;
        self.0.push(Reverse((load + 1, place, mom)));
        Some(mom)
    }

    /// Takes from each MoM what it has too many, so that giving it to those with the fewest leaves no two that differ by
    /// more than one. The number of what is taken is the least possible: those with the most keep the odd ones.
    fn take_surplus(&mut self) -> HashMap<Uuid, usize> {
        let most_first: Vec<_> = std::mem::take(&mut self.0).into_sorted_vec();
        let total: usize = most_first.iter().map(|Reverse((load, ..))| load).sum();
        let (share, odd) = (
            total / most_first.len().max(1),
            total % most_first.len().max(1),
        );
        let mut surplus = HashMap::new();
        for (rank, Reverse((load, place, mom))) in most_first.into_iter().enumerate() {
            let more = load.saturating_sub(share + usize::from(rank < odd));
            surplus.insert(mom, more);
            self.0.push(Reverse((load - more, place, mom)));
        }
        surplus
    }
}

#[cfg(test)]
mod tests;
