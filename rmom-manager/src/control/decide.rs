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
    /// What it hosts, if it answered.
    pub hosted: Option<Hosted>,
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
}

impl Snapshot {
    /// Whether there are queues, but no MoM that could serve any.
    pub fn waits_for_a_mom(&self) -> bool {
        !self.queues.is_empty() && self.moms.iter().all(|mom| mom.hosted.is_none())
    }
}

/// What to do.
///
/// - A MoM is up if it answered.
/// - A queue whose owner is not up, or that has none, moves to the MoM that is up and has the fewest queues. If none is
///   up it stays, so that its owner finds its own queues when it comes back.
/// - A queue that its owner does not host, or hosts at an older epoch, is to be hosted there.
/// - Nothing is taken from a MoM that is up. One that hosts what it does not own finds that out by itself, and until
///   then the database refuses what it appends.
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

    let up: HashMap<Uuid, (usize, &Hosted)> = snapshot
        .moms
        .iter()
        .enumerate()
        .filter_map(|(place, mom)| Some((mom.id, (place, mom.hosted.as_ref()?))))
        .collect();
    let owner_that_is_up =
        |queue: &QueueState| queue.owner.and_then(|owner| Some((owner, up.get(&owner)?)));

    let mut loads: HashMap<Uuid, usize> = up.keys().map(|mom| (*mom, 0)).collect();
    for (owner, _) in snapshot.queues.iter().filter_map(owner_that_is_up) {
        *loads.entry(owner).or_default() += 1;
    }
    let mut by_load: BinaryHeap<Reverse<(usize, usize, Uuid)>> = loads
        .into_iter()
        .map(|(mom, load)| Reverse((load, up[&mom].0, mom)))
        .collect();

    for queue in &snapshot.queues {
        if let Some((owner, (_, hosted))) = owner_that_is_up(queue) {
            if hosted
                .get(&queue.label)
                .is_none_or(|epoch| *epoch < queue.epoch)
            {
                actions.push(Action::Rebuild {
                    queue: queue.clone(),
                    on: owner,
                });
            }
        } else if let Some(Reverse((load, place, mom))) = by_load.pop() {
            by_load.push(Reverse((load + 1, place, mom)));
            actions.push(Action::Move {
                queue: queue.clone(),
                to: mom,
            });
        }
    }
    actions
}

#[cfg(test)]
mod tests;
