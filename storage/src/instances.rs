//! What a MoM asks about itself. A MoM is known by its address; the process that serves there is its *instance*.

use uuid::Uuid;

use crate::{MomAddress, Result, Store};

/// A MoM's row, as the MoM itself looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The row.
    pub mom_id: Uuid,
    /// The process that started last under this address; `None` before the first.
    pub instance: Option<Uuid>,
}

/// A queue, as a MoM that is asked for it looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The queue's row.
    pub queue_id: Uuid,
    /// The epoch of its ownership.
    pub epoch: i64,
    /// The sequence that its next message gets: right for the owner at this epoch, since both are of one snapshot, in
    /// which the takeover had ended, and so everything that it had to wait for.
    pub next_seq: i64,
    /// The owner's row, address and instance.
    pub owner: Option<(Registration, MomAddress)>,
}

impl Store {
    /// Makes `instance` the process that serves under this address. `None` if no manager has registered it. Locks the
    /// row of the MoM.
    pub async fn claim_address(
        &self,
        address: &MomAddress,
        instance: Uuid,
    ) -> Result<Option<Uuid>> {
        Ok(sqlx::query_scalar!(
            "update mom set instance = $3 where host = $1 and port = $2 returning id",
            address.host,
            i32::from(address.port),
            instance
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// As [`claim_address`](Self::claim_address), if no other process has done so yet. `None` if one has.
    pub async fn claim_free_address(
        &self,
        address: &MomAddress,
        instance: Uuid,
    ) -> Result<Option<Uuid>> {
        Ok(sqlx::query_scalar!(
            "update mom set instance = $3
            where host = $1 and port = $2 and coalesce(instance, $3) = $3
            returning id",
            address.host,
            i32::from(address.port),
            instance
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The row of the MoM with this external address, if a manager has registered it. Locks nothing.
    pub async fn registration(&self, address: &MomAddress) -> Result<Option<Registration>> {
        Ok(sqlx::query_as!(
            Registration,
            "select id as mom_id, instance from mom where host = $1 and port = $2",
            address.host,
            i32::from(address.port)
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// A queue with what its owner needs to host it. [`Error::NotFound`](crate::Error::NotFound) if there is none.
    /// Locks nothing.
    pub async fn claimed_queue(&self, label: &str) -> Result<Claimed> {
        let row = sqlx::query!(
            r#"select
                q.id, q.epoch, m.id as "mom_id?", m.instance, m.host as "host?", m.port as "port?",
                coalesce(
                    (select first_seq + count from message_batch where queue_id = q.id order by first_seq desc limit 1),
                    1) as "next_seq!"
            from queue q left join mom m on m.id = q.mom_id
            where q.label = $1"#,
            label
        )
        .fetch_one(&self.pool)
        .await?;
        let instance = row.instance;
        let owner = crate::queues::owner(row.mom_id, row.host, row.port);
        Ok(Claimed {
            queue_id: row.id,
            epoch: row.epoch,
            next_seq: row.next_seq,
            owner: owner.map(|(mom_id, address)| (Registration { mom_id, instance }, address)),
        })
    }
}
