//! Deletes expired messages, a bounded number at a time.

use std::convert::Infallible;
use std::time::Duration;

use tracing::{debug, error};

use crate::Manager;

/// Batches that one statement deletes at the most.
const CHUNK: i64 = 256;

/// Sweeps for as long as this manager leads: chunk after chunk while there is a full one, then after a pause again.
///
/// Only to spare the work: several managers may sweep at once, each skips what another has locked.
pub async fn run(manager: &Manager, period: Duration) -> Infallible {
    loop {
        manager.leading.begin().await;
        empty_slots(manager).await;
        while sweep(manager).await {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(period).await;
    }
}

/// Gives back the space of what has expired.
async fn empty_slots(manager: &Manager) {
    let database = &manager.database;
    match database
        .run_long(database.store().empty_expired_content())
        .await
    {
        Ok(0) => {}
        Ok(slots) => debug!(slots, "emptied tables of expired contents"),
        Err(error) if error.is_outage() => {}
        Err(error) => error!("cannot empty tables of expired contents: {error}"),
    }
}

/// Deletes one chunk. Returns whether there is likely more.
pub async fn sweep(manager: &Manager) -> bool {
    let database = &manager.database;
    match database
        .run_long(database.store().sweep_expired(CHUNK))
        .await
    {
        Ok(swept) => {
            if swept.batches > 0 {
                debug!(
                    batches = swept.batches,
                    messages = swept.messages,
                    "deleted expired messages"
                );
            }
            swept.batches >= CHUNK
        }
        Err(error) => {
            if !error.is_outage() {
                error!("cannot delete expired messages: {error}");
            }
            false
        }
    }
}
