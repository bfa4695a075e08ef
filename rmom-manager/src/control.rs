//! The control loop: gather what is, decide what should be, apply the difference.
//!
//! Each turn starts from nothing, so boot, failover, the return of a MoM and the repair of a creation that was cut
//! short are all the same path. A turn comes at the end of each period and at once on a hint; what gave the hint does
//! not matter. Only the manager that leads takes turns. Should another one lead since, what this one still does changes
//! nothing: the database asks for the lease again with each decision.

mod apply;
mod decide;
mod gather;

use std::convert::Infallible;
use std::time::Duration;

use storage::Lease;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::Manager;
use crate::database::DatabaseError;

pub use decide::{Action, MomState, QueueState, Snapshot, decide};

/// Hints are answered at most ten times a second, so that a MoM whose connections break all the time costs little.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);
/// How soon a turn is tried again that failed as a whole.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// Takes turns whenever this manager leads. May be dropped at any point: a turn that is cut off is completed by whoever
/// takes the next one.
pub async fn run(manager: &Manager, period: Duration) -> Infallible {
    loop {
        let lease = manager.leading.begin().await;
        tokio::select! {
            never = lead(manager, lease, period) => match never {},
            () = manager.leading.end(lease) => {}
        }
    }
}

async fn lead(manager: &Manager, lease: Lease, period: Duration) -> Infallible {
    let (mut was_waiting, mut is_urgent) = (false, false);
    loop {
        let began = Instant::now();
        let pause = match turn(manager, lease, is_urgent).await {
            Ok(waits) => {
                if waits && !was_waiting {
                    warn!("no MoM is up: queues stay where they are until one is");
                }
                was_waiting = waits;
                period
            }
            Err(error) => {
                // The database has said so itself when it is away.
                if !error.is_outage() {
                    error!("a turn of the control loop failed: {error}");
                }
                period.min(RETRY_PERIOD)
            }
        };
        tokio::select! {
            () = sleep(pause) => is_urgent = false,
            () = manager.hint.notified() => {
                is_urgent = true;
                sleep_until(began + SHORTEST_PERIOD).await;
            }
        }
    }
}

/// One turn under a lease. One that `is_urgent` does not wait for MoMs that have been down. Returns whether there are
/// queues, but no MoM that could serve any.
pub async fn turn(manager: &Manager, lease: Lease, is_urgent: bool) -> Result<bool, DatabaseError> {
    let began = Instant::now();
    let snapshot = gather::gather(manager, lease, is_urgent).await?;
    if manager.leading.is_under(lease) {
        let actions = decide(&snapshot);
        apply::apply(manager, lease, &snapshot, actions).await;
    }
    manager.metrics.turned(began.elapsed());
    Ok(snapshot.waits_for_a_mom())
}
