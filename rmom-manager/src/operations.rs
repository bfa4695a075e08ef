//! What operators do about MoMs. Any manager accepts it; what follows from it is for the leading manager to decide, which
//! finds it in the database.

use storage::{Mom, MomAddress, Rebalance};
use tracing::info;
use uuid::Uuid;

use crate::Manager;
use crate::database::DatabaseError;
use crate::error::Error;

impl Manager {
    /// Registers a MoM.
    pub async fn add_mom(&self, address: MomAddress) -> Result<Mom, Error> {
        let registered = self.database.store().register_mom(&address);
        let mom = match self.database.answer(registered).await {
            Ok(mom) => mom,
            Err(DatabaseError::Answered(storage::Error::AlreadyExists)) => {
                return Err(Error::MomExists(address));
            }
            Err(error) => return Err(error.into()),
        };
        info!(mom = %address, "registered a MoM");
        self.hint.notify_one();
        Ok(mom)
    }

    /// One MoM.
    pub async fn mom(&self, id: Uuid) -> Result<Mom, Error> {
        let found = self.database.store().mom(id);
        let found = self.database.answer(found).await;
        found.map_err(|error| missing_mom(error, id))
    }

    /// Forgets a MoM that owns no queues.
    pub async fn remove_mom(&self, id: Uuid) -> Result<(), Error> {
        let mom = self.mom(id).await?;
        let removed = self.database.store().remove_mom(id);
        let removed = self.database.answer(removed).await;
        if !removed.map_err(|error| missing_mom(error, id))? {
            return Err(Error::MomNotEmpty(id));
        }
        info!(mom = %mom.address, "removed a MoM");
        self.moms.forget(&mom.address);
        Ok(())
    }

    /// Wants the queues of a MoM to be elsewhere, or not any more.
    pub async fn drain(&self, id: Uuid, draining: bool) -> Result<Mom, Error> {
        let recorded = self.database.store().set_draining(id, draining);
        let mom = self.database.answer(recorded).await;
        let mom = mom.map_err(|error| missing_mom(error, id))?;
        info!(mom = %mom.address, draining, "an operator has asked to drain a MoM, or not to");
        self.hint.notify_one();
        Ok(mom)
    }

    /// Wants the number of queues to be the same on all MoMs.
    pub async fn rebalance(&self) -> Result<Rebalance, Error> {
        let requested = self.database.store().request_rebalance();
        let rebalance = self.database.answer(requested).await?;
        info!("an operator has asked to rebalance");
        self.hint.notify_one();
        Ok(rebalance)
    }
}

fn missing_mom(error: DatabaseError, id: Uuid) -> Error {
    if error.is_not_found() {
        Error::MomNotFound(id)
    } else {
        error.into()
    }
}
