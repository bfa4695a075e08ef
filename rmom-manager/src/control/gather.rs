//! What is: the rows, and what each MoM says of itself.

use futures_util::future::join_all;
use tracing::{info, warn};

use super::{MomState, QueueState, Snapshot};
use crate::Manager;
use crate::database::DatabaseError;

/// Reads the rows, then asks all MoMs at once. A MoM that does not answer costs its deadline and holds nobody up.
pub(super) async fn gather(manager: &Manager) -> Result<Snapshot, DatabaseError> {
    let database = &manager.database;
    let moms = database.run(database.store().moms()).await?;
    let queues = database.run(database.store().queues()).await?;
    manager
        .moms
        .retain(&moms.iter().map(|mom| &mom.address).collect());

    let probes = moms.into_iter().map(|mom| async move {
        let answer = manager.moms.probe(&mom.address).await;
        match &answer {
            Ok(_) if !mom.is_up => info!(mom = %mom.address, "the MoM is up"),
            Err(error) if mom.is_up => warn!(mom = %mom.address, "the MoM is down: {error}"),
            _ => {}
        }
        MomState {
            id: mom.id,
            address: mom.address,
            was_up: mom.is_up,
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
    })
}
