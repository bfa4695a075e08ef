//! Does what was decided. Everything here may be done twice, by this manager or by another one, and may be cut off at
//! any point: the next turn finds what is left.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use storage::{Decision, Lease, MomAddress};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{Action, QueueState, Snapshot};
use crate::Manager;
use crate::database::DatabaseError;

/// Moves under way at once. More than the database is asked by at a time, since most of a move is waiting for a MoM.
const PARALLEL: usize = 16;

/// Does all of it. A failure of one action does not stop the others; the end of the lease stops all.
pub(super) async fn apply(
    manager: &Manager,
    lease: Lease,
    snapshot: &Snapshot,
    actions: Vec<Action>,
) {
    let turn = Turn {
        manager,
        lease,
        addresses: snapshot
            .moms
            .iter()
            .map(|mom| (mom.id, &mom.address))
            .collect(),
        answering: snapshot
            .moms
            .iter()
            .filter(|mom| mom.answers)
            .map(|mom| mom.id)
            .collect(),
        failing: Mutex::default(),
        all_moved: AtomicBool::new(true),
    };
    let (marks, rest): (Vec<_>, Vec<_>) = actions
        .into_iter()
        .partition(|action| matches!(action, Action::Mark { .. }));
    let (last, rest): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .partition(|action| matches!(action, Action::Forget { .. }));
    // Marks first of all, so that no new queue is placed on a MoM that is down.
    for stage in [marks, rest, last] {
        stream::iter(stage)
            .for_each_concurrent(PARALLEL, |action| turn.act(action))
            .await;
    }
    if !turn.failing().is_empty() {
        // What was meant for a MoM that failed meanwhile goes elsewhere in the next turn.
        manager.hint.notify_one();
    }
}

struct Turn<'a> {
    manager: &'a Manager,
    lease: Lease,
    addresses: HashMap<Uuid, &'a MomAddress>,
    /// MoMs that answered at the beginning.
    answering: HashSet<Uuid>,
    /// MoMs that did not answer in this turn; they are left alone until the next one.
    failing: Mutex<HashSet<Uuid>>,
    /// Whether each move so far has been made, or has been found to be somebody else's doing.
    all_moved: AtomicBool,
}

impl Turn<'_> {
    async fn act(&self, action: Action) {
        if !self.manager.leading.is_under(self.lease) {
            return;
        }
        match action {
            Action::Mark { mom, is_up } => self.mark(mom, is_up).await,
            Action::Move { queue, to } => self.move_queue(queue, to).await,
            Action::Rebuild { queue, on } => self.rebuild(&queue.label, queue.epoch, on).await,
            Action::Forget { requests } => self.forget(&requests).await,
        }
    }

    async fn mark(&self, mom: Uuid, is_up: bool) {
        let database = &self.manager.database;
        let marked = database.store().set_mom_up(&self.lease, mom, is_up);
        match database.run(marked).await {
            Ok(Decision::Made(_)) => {}
            Ok(Decision::LeaseEnded) => self.manager.leading.is_lost(self.lease),
            Err(error) => {
                let mom = self.address(mom);
                log_failure(&error, &format!("cannot record that {mom} is up or down"));
            }
        }
    }

    async fn move_queue(&self, queue: QueueState, to: Uuid) {
        if self.failing().contains(&to) {
            self.all_moved.store(false, Ordering::Relaxed);
            return;
        }
        let database = &self.manager.database;
        let store = database.store();
        let taken = database
            .run(store.take_over(&self.lease, queue.id, queue.epoch, to))
            .await;
        let QueueState {
            label,
            epoch: old_epoch,
            owner,
            ..
        } = queue;
        match taken {
            Ok(Decision::Made(Some(takeover))) => {
                let from = owner.map_or_else(|| "nobody".to_owned(), |owner| self.address(owner));
                info!(
                    label,
                    from,
                    to = self.address(to),
                    old_epoch,
                    epoch = takeover.epoch,
                    "moved a queue"
                );
                self.manager.metrics.moved();
                self.rebuild(&label, takeover.epoch, to).await;
                if let Some(owner) = owner.filter(|owner| self.answering.contains(owner)) {
                    self.release(&label, takeover.epoch, owner, to).await;
                }
            }
            Ok(Decision::Made(None)) => {
                debug!(label, old_epoch, "somebody else moved or deleted the queue");
            }
            Ok(Decision::LeaseEnded) => self.manager.leading.is_lost(self.lease),
            Err(error) => {
                self.all_moved.store(false, Ordering::Relaxed);
                log_failure(&error, &format!("cannot move the queue {label:?}"));
            }
        }
    }

    async fn rebuild(&self, label: &str, epoch: i64, on: Uuid) {
        let Some(address) = self.addresses.get(&on) else {
            return;
        };
        if self.failing().contains(&on) {
            return;
        }
        let moms = &self.manager.moms;
        let rebuilt = moms.rebuild_queue(address, label, epoch, self.lease.epoch);
        match rebuilt.await {
            Ok(()) => debug!(label, epoch, mom = %address, "the MoM hosts the queue"),
            Err(error @ crate::error::MomError::Silent { .. }) => {
                // Once a MoM, not once a queue.
                if self.failing().insert(on) {
                    warn!("{error}; its queues go elsewhere if it stays so");
                }
            }
            Err(crate::error::MomError::Outdated { .. }) => {
                self.manager.leading.is_lost(self.lease);
            }
            // The queue has moved on or is gone, or the MoM cannot now; the next turn sees what is the case.
            Err(error) => warn!(label, epoch, "{error}"),
        }
    }

    /// The former owner would find out by itself within a second, if it can reach the database.
    async fn release(&self, label: &str, epoch: i64, from: Uuid, to: Uuid) {
        if let (Some(from), Some(to)) = (self.addresses.get(&from), self.addresses.get(&to)) {
            let moms = &self.manager.moms;
            moms.release_queue(from, label, epoch, to, self.lease.epoch)
                .await;
        }
    }

    /// The next turn completes what this one could not.
    async fn forget(&self, requests: &[Uuid]) {
        if !self.all_moved.load(Ordering::Relaxed) {
            return;
        }
        let database = &self.manager.database;
        let met = database.store().requests_are_met(&self.lease, requests);
        match database.run(met).await {
            Ok(Decision::Made(())) => {
                info!("the queues are evenly spread, as an operator has asked");
            }
            Ok(Decision::LeaseEnded) => self.manager.leading.is_lost(self.lease),
            Err(error) => log_failure(&error, "cannot forget a request that was met"),
        }
    }

    fn address(&self, mom: Uuid) -> String {
        let address = self.addresses.get(&mom);
        address.map_or_else(|| mom.to_string(), ToString::to_string)
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An outage is logged where it is found, once for all that it strikes.
fn log_failure(error: &DatabaseError, what: &str) {
    match error {
        DatabaseError::Answered(storage::Error::Locked(_)) => warn!("{what}: {error}"),
        error if error.is_outage() => {}
        error => error!("{what}: {error}"),
    }
}
