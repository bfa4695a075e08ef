//! Bringing the database up to what a manager needs.

use std::time::Duration;

use storage::MomAddress;
use tokio::time::sleep;
use tracing::info;

use crate::Manager;
use crate::database::{Database, DatabaseError};

/// The pause after the first try, doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Applies the schema as soon as the database is there.
///
/// Errs only with what waiting does not mend, such as a wrong password.
pub async fn migrate(database: &Database) -> Result<(), DatabaseError> {
    until_available(|| database.run_long(database.store().migrate())).await?;
    info!("the schema is up to date");
    Ok(())
}

/// Applies the schema and registers the MoMs as soon as the database is there.
pub(crate) async fn bring_up(manager: &Manager, moms: &[MomAddress]) -> Result<(), DatabaseError> {
    let database = &manager.database;
    migrate(database).await?;
    until_available(|| database.run(database.store().register_moms(moms))).await
}

async fn until_available<F>(mut work: impl FnMut() -> F) -> Result<(), DatabaseError>
where
    F: Future<Output = Result<(), DatabaseError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match work().await {
            // Another manager that migrates holds the lock meanwhile.
            Err(error) if error.is_outage() => sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
