//! What is: the rows, and what each MoM says of itself.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use storage::{Lease, Mom};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{MomState, QueueState, Snapshot};
use crate::Manager;
use crate::database::DatabaseError;
use crate::error::MomError;
use crate::moms::Hosted;

/// For how long a MoM, which asks the database every second, may not hear from it while this manager does.
const CUT_OFF: Duration = Duration::from_secs(5);

/// How much longer than the others a MoM that was down may take in a turn that is urgent.
const MOMENT: Duration = Duration::from_millis(100);

/// Reads the rows, then asks all MoMs at once. A MoM that does not answer costs its deadline once. From then on it is
/// down, and is not waited for in a turn that is urgent, or from when somebody hints that another is: else one MoM that
/// is frozen would delay the failover of every other.
pub(super) async fn gather(
    manager: &Manager,
    lease: Lease,
    is_urgent: bool,
) -> Result<Snapshot, DatabaseError> {
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
    let probe = async |place: usize, mom: &Mom| {
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
        let answers = matches!(answer, Ok(_) | Err(MomError::CutOff { .. }));
        (place, (answer.ok(), answers))
    };
    let enough = CancellationToken::new();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (place, mom) in moms.iter().enumerate() {
        if mom.is_up {
            up.push(probe(place, mom));
        } else {
            down.push(enough.run_until_cancelled(probe(place, mom)));
        }
    }
    let (answers, returned) = match select(join_all(up), join_all(down)).await {
        Either::Left((answers, mut returning)) => {
            let hurry = async {
                if is_urgent {
                    sleep(MOMENT).await;
                } else {
                    manager.hint.notified().await;
                    manager.hint.notify_one();
                }
            };
            let returned = tokio::select! {
                returned = &mut returning => returned,
                () = hurry => {
                    enough.cancel();
                    returning.await
                }
            };
            (answers, returned)
        }
        Either::Right((returned, answering)) => (answering.await, returned),
    };
    let answers = answers.into_iter().chain(returned.into_iter().flatten());
    let mut answers: HashMap<usize, (Option<Hosted>, bool)> = answers.collect();
    let moms = moms.into_iter().enumerate().map(|(place, mom)| {
        let (hosted, answers) = answers.remove(&place).unwrap_or_default();
        MomState {
            id: mom.id,
            address: mom.address,
            was_up: mom.is_up,
            draining: mom.draining,
            hosted,
            answers,
        }
    });
    let queues = queues.into_iter().map(|queue| QueueState {
        id: queue.id,
        label: queue.label,
        epoch: queue.epoch,
        owner: queue.owner.map(|(owner, _)| owner),
    });
    // Queues are evened out over all MoMs, so not in a turn that has not heard from each. The request stays.
    let rebalances = if enough.is_cancelled() {
        Vec::new()
    } else {
        rebalances
    };
    Ok(Snapshot {
        moms: moms.collect(),
        queues: queues.collect(),
        rebalances,
    })
}
