//! Queues and who owns them.

use uuid::Uuid;

use crate::moms::port;
use crate::{Error, MomAddress, Result, Store};

/// A queue and its place, for those who look it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its row.
    pub id: Uuid,
    /// Its name, in lower case.
    pub label: String,
    /// The term of its ownership.
    pub epoch: i64,
    /// The MoM that owns it, if any: its row and its address.
    pub owner: Option<(Uuid, MomAddress)>,
}

/// A queue that a MoM owns, for the MoM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The queue's row.
    pub queue_id: Uuid,
    /// The queue's name.
    pub label: String,
    /// The epoch at which it is owned.
    pub epoch: i64,
}

/// A change of ownership that has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The queue.
    pub queue_id: Uuid,
    /// The epoch of the new ownership.
    pub epoch: i64,
}

impl Store {
    /// Creates a queue that `mom_id` owns at epoch 1. [`Error::AlreadyExists`] if the label is taken.
    pub async fn create_queue(&self, label: &str, mom_id: Uuid) -> Result<Ownership> {
        let queue_id = Uuid::now_v7();
        let created = sqlx::query_scalar!(
            "insert into queue (id, label, mom_id) values ($1, $2, $3)
            on conflict on constraint queue_label_key do nothing
            returning epoch",
            queue_id,
            label,
            mom_id
        )
        .fetch_optional(&self.pool)
        .await?;
        let epoch = created.ok_or(Error::AlreadyExists)?;
        Ok(Ownership {
            queue_id,
            label: label.to_owned(),
            epoch,
        })
    }

    /// The labels of all queues, sorted. Locks nothing.
    pub async fn queue_labels(&self) -> Result<Vec<String>> {
        Ok(
            sqlx::query_scalar!("select label from queue order by label")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// All queues with their owners, in the order of their creation. Locks nothing.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        let rows = sqlx::query!(
            r#"select q.id, q.label, q.epoch, m.id as "mom_id?", m.host as "host?", m.port as "port?"
            from queue q left join mom m on m.id = q.mom_id
            order by q.id"#
        )
        .fetch_all(&self.pool)
        .await?;
        let queues = rows.into_iter().map(|row| Queue {
            id: row.id,
            label: row.label,
            epoch: row.epoch,
            owner: owner(row.mom_id, row.host, row.port),
        });
        Ok(queues.collect())
    }

    /// A queue by its label. [`Error::NotFound`] if there is none. Locks nothing.
    pub async fn queue(&self, label: &str) -> Result<Queue> {
        let row = sqlx::query!(
            r#"select q.id, q.label, q.epoch, m.id as "mom_id?", m.host as "host?", m.port as "port?"
            from queue q left join mom m on m.id = q.mom_id
            where q.label = $1"#,
            label
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Queue {
            id: row.id,
            label: row.label,
            epoch: row.epoch,
            owner: owner(row.mom_id, row.host, row.port),
        })
    }

    /// Deletes a queue with its channels and messages. [`Error::NotFound`] if there is none.
    ///
    /// Locks the queue row; appends under way end first, later ones are fenced.
    pub async fn delete_queue(&self, label: &str) -> Result<()> {
        let deleted = sqlx::query!("delete from queue where label = $1", label)
            .execute(&self.pool)
            .await?;
        if deleted.rows_affected() == 0 {
            Err(Error::NotFound)
        } else {
            Ok(())
        }
    }

    /// Takes back a creation that led to nothing: deletes the queue if it still is at this epoch. Locks the queue row.
    pub async fn delete_queue_at(&self, queue_id: Uuid, epoch: i64) -> Result<bool> {
        let deleted = sqlx::query!(
            "delete from queue where id = $1 and epoch = $2",
            queue_id,
            epoch
        )
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Gives a queue to the MoM `to` under the next epoch, if it still is at `epoch`; `None` if somebody was faster.
    ///
    /// Locks the queue row, and so waits for an append under way; once this has returned, no append under an older
    /// epoch can commit. [`Error::Locked`] if a stalled session holds the row.
    pub async fn take_over(
        &self,
        queue_id: Uuid,
        epoch: i64,
        to: Uuid,
    ) -> Result<Option<Takeover>> {
        let raised = sqlx::query_scalar!(
            "update queue set mom_id = $3, epoch = epoch + 1 where id = $1 and epoch = $2 returning epoch",
            queue_id,
            epoch,
            to
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(raised.map(|epoch| Takeover { queue_id, epoch }))
    }

    /// Raises the epoch of every queue that `mom_id` owns, so that an older process of the same MoM can append no more.
    /// A MoM does so when it starts. Locks the rows of its queues.
    pub async fn renew_ownerships(&self, mom_id: Uuid) -> Result<Vec<Ownership>> {
        Ok(sqlx::query_as!(
            Ownership,
            "update queue set epoch = epoch + 1 where mom_id = $1 returning id as queue_id, label, epoch",
            mom_id
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The queues that `mom_id` owns, sorted by label. Locks nothing.
    pub async fn ownerships(&self, mom_id: Uuid) -> Result<Vec<Ownership>> {
        Ok(sqlx::query_as!(
            Ownership,
            "select id as queue_id, label, epoch from queue where mom_id = $1 order by label",
            mom_id
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The sequence that the next message of a queue gets. Locks nothing.
    ///
    /// Only the owner may rely on it, and only if it reads it in a statement that began after its ownership was
    /// committed: a statement that itself raises the epoch may see the queue as it was before it waited for the
    /// former owner's last append.
    pub async fn next_seq(&self, queue_id: Uuid) -> Result<i64> {
        let next = sqlx::query_scalar!(
            "select first_seq + count from message_batch where queue_id = $1 order by first_seq desc limit 1",
            queue_id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(next.flatten().unwrap_or(1))
    }
}

pub(crate) fn owner(
    mom_id: Option<Uuid>,
    host: Option<String>,
    stored: Option<i32>,
) -> Option<(Uuid, MomAddress)> {
    Some((
        mom_id?,
        MomAddress {
            host: host?,
            port: port(stored?),
        },
    ))
}
