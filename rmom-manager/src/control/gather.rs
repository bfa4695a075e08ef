//! What is: the rows, and what each MoM says of itself.

use std::time::Duration;

use futures_util::future::join_all;
use storage::Lease;
use tracing::{info, warn};

use super::{MomState, QueueState, Snapshot};
use crate::Manager;
use crate::database::DatabaseError;
use crate::error::MomError;

/// For how long a MoM, which asks the database every second, may not hear from it while this manager does.
const CUT_OFF: Duration = Duration::from_secs(5);

/// Reads the rows, then asks all MoMs at once. A MoM that does not answer costs its deadline and holds nobody up.
pub(super) async fn gather(manager: &Manager, lease: Lease) -> Result<Snapshot, DatabaseError> {
    let database = &manager.database;
    // Before the rest: what an operator did before asking for this, such as adding a MoM, is seen below.
    let rebalances = database.run(database.store().rebalances()).await?;
    let moms = database.run(database.store().moms()).await?;
    let queues = database.run(database.store().queues()).await?;
    manager
        .moms
        .retain(&moms.iter().map(|mom| &mom.address).collect());

    // Right after an outage for all, MoMs need a moment longer than this manager to find the database back.
    let all_had_time = database.answers_for() >= 2 * CUT_OFF;
    let may_be_cut_off = all_had_time.then_some(CUT_OFF);
    let probes = moms.into_iter().map(|mom| async move {
        let answer = manager
            .moms
            .probe(&mom.address, lease.epoch, may_be_cut_off)
            .await;
        match &answer {
            Err(MomError::Outdated { .. }) => manager.leading.is_lost(lease),
            Ok(_) if !mom.is_up => info!(mom = %mom.address, "the MoM is up"),
            Err(error) if mom.is_up => warn!(mom = %mom.address, "the MoM is down: {error}"),
            _ => {}
        }
        MomState {
            id: mom.id,
            address: mom.address,
            was_up: mom.is_up,
            draining: mom.draining,
            hosted: answer.ok(),
        }
    });
    let queues = queues.into_iter().map(|queue| QueueState {
        id: queue.id,
        label: queue.label,
        epoch: queue.epoch,
        owner: queue.owner.map(|(owner, _)| owner),
    });
    Ok(Snapshot {
        moms: join_all(probes).await,
        queues: queues.collect(),
        rebalances,
    })
}
