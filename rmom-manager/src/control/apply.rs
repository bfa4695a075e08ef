//! Does what was decided. Everything here may be done twice, by this manager or by another one, and may be cut off at
//! any point: the next turn finds what is left.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use storage::MomAddress;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{Action, QueueState, Snapshot};
use crate::Manager;
use crate::database::DatabaseError;

/// Moves under way at once.
const PARALLEL: usize = 8;

/// Does all of it. A failure of one action does not stop the others.
pub(super) async fn apply(manager: &Manager, snapshot: &Snapshot, actions: Vec<Action>) {
    let turn = Turn {
        manager,
        addresses: snapshot
            .moms
            .iter()
            .map(|mom| (mom.id, &mom.address))
            .collect(),
        failing: Mutex::default(),
    };
    let (marks, rest): (Vec<_>, Vec<_>) = actions
        .into_iter()
        .partition(|action| matches!(action, Action::Mark { .. }));
    // First of all, so that no new queue is placed on a MoM that is down.
    for stage in [marks, rest] {
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
    addresses: HashMap<Uuid, &'a MomAddress>,
    /// MoMs that did not answer in this turn; they are left alone until the next one.
    failing: Mutex<HashSet<Uuid>>,
}

impl Turn<'_> {
    async fn act(&self, action: Action) {
        match action {
            Action::Mark { mom, is_up } => self.mark(mom, is_up).await,
            Action::Move { queue, to } => self.move_queue(queue, to).await,
            Action::Rebuild { queue, on } => self.rebuild(&queue.label, queue.epoch, on).await,
        }
    }

    async fn mark(&self, mom: Uuid, is_up: bool) {
        let database = &self.manager.database;
        if let Err(error) = database.run(database.store().set_mom_up(mom, is_up)).await {
            let mom = self.address(mom);
            log_failure(&error, &format!("cannot record that {mom} is up or down"));
        }
    }

    async fn move_queue(&self, queue: QueueState, to: Uuid) {
        if self.failing().contains(&to) {
            return;
        }
        let database = &self.manager.database;
        let taken = database
            .run(database.store().take_over(queue.id, queue.epoch, to))
            .await;
        let QueueState {
            label,
            epoch: old_epoch,
            owner,
            ..
        } = queue;
        match taken {
            Ok(Some(takeover)) => {
                let from = owner.map_or_else(|| "nobody".to_owned(), |owner| self.address(owner));
                info!(
                    label,
                    from,
                    to = self.address(to),
                    old_epoch,
                    epoch = takeover.epoch,
                    "moved a queue"
                );
                self.rebuild(&label, takeover.epoch, to).await;
            }
            Ok(None) => debug!(label, old_epoch, "somebody else moved or deleted the queue"),
            Err(error) => log_failure(&error, &format!("cannot move the queue {label:?}")),
        }
    }

    async fn rebuild(&self, label: &str, epoch: i64, on: Uuid) {
        let Some(address) = self.addresses.get(&on) else {
            return;
        };
        if self.failing().contains(&on) {
            return;
        }
        match self.manager.moms.rebuild_queue(address, label, epoch).await {
            Ok(()) => debug!(label, epoch, mom = %address, "the MoM hosts the queue"),
            Err(error @ crate::error::MomError::Silent { .. }) => {
                // Once a MoM, not once a queue.
                if self.failing().insert(on) {
                    warn!("{error}; its queues go elsewhere if it stays so");
                }
            }
            // The queue has moved on or is gone, or the MoM cannot now; the next turn sees what is the case.
            Err(error) => warn!(label, epoch, "{error}"),
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
