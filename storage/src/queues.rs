//! Queues and who owns them.

use uuid::Uuid;

use crate::moms::{port, violates};
use crate::{Decision, Error, Lease, MomAddress, Result, Store};

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
    /// Creates a queue that `mom_id` owns at epoch 1. [`Error::AlreadyExists`] if the label is taken,
    /// [`Error::NotFound`] if there is no such MoM any more.
    pub async fn create_queue(&self, label: &str, mom_id: Uuid) -> Result<Ownership> {
        let queue_id = Uuid::now_v7();
        let created = sqlx::query_scalar!(
            r#"with created as (
                insert into queue (id, label, mom_id) values ($1, $2, $3)
                on conflict on constraint queue_label_key do nothing
                returning label, mom_id, epoch
            ),
            recorded as (
                insert into event (kind, subject, text)
                select 'queue_created', c.label, 'created at ' || mom_address(m.host, m.port)
                from created c join mom m on m.id = c.mom_id
            )
            select epoch as "epoch!" from created"#,
            queue_id,
            label,
            mom_id
        )
        .fetch_optional(&self.pool)
        .await;
        let epoch = match created {
            Err(error) if violates(&error, "queue_mom_id_fkey") => return Err(Error::NotFound),
            created => created?.ok_or(Error::AlreadyExists)?,
        };
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

    /// At most `limit` labels, sorted, from the one after `after` on. Locks nothing.
    pub async fn queue_labels_after(&self, after: &str, limit: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar!(
            "select label from queue where label > $1 order by label limit $2",
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
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

    /// Deletes a queue with its channels and messages, and returns it as it was. [`Error::NotFound`] if there is none.
    ///
    /// Locks the queue row; appends under way end first, later ones are fenced.
    pub async fn delete_queue(&self, label: &str) -> Result<Queue> {
        let row = sqlx::query!(
            r#"with deleted as (delete from queue where label = $1 returning id, label, epoch, mom_id),
            recorded as (
                insert into event (kind, subject, text)
                select 'queue_deleted', label, 'deleted with its channels and messages' from deleted
            )
            select d.id, d.label, d.epoch, m.id as "mom_id?", m.host as "host?", m.port as "port?"
            from deleted d left join mom m on m.id = d.mom_id"#,
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

    /// Takes back a creation that led to nothing: deletes the queue if it still is at this epoch and nobody uses it yet.
    /// Locks the queue row.
    pub async fn delete_queue_at(&self, queue_id: Uuid, epoch: i64) -> Result<bool> {
        let deleted = sqlx::query!(
            "with deleted as (
                delete from queue where id = $1 and epoch = $2
                    and not exists (select from message_batch where queue_id = $1)
                    and not exists (select from channel where queue_id = $1)
                returning label
            )
            insert into event (kind, subject, text)
            select 'queue_deleted', label, 'taken back, since its MoM did not take it' from deleted",
            queue_id,
            epoch
        )
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Gives a queue to the MoM `to` under the next epoch, if it still is at `epoch`; `None` if somebody was faster,
    /// or has removed that MoM. How managers move queues.
    ///
    /// Locks the queue row, and so waits for an append under way; once this has returned, no append under an older
    /// epoch can commit. A session that holds the row and is stalled is ended; [`Error::Locked`] if one holds it that
    /// works. Then locks the lease for share; in this order, so that nobody who waits for a queue keeps the lease from
    /// being renewed.
    pub async fn take_over(
        &self,
        lease: &Lease,
        queue_id: Uuid,
        epoch: i64,
        to: Uuid,
    ) -> Result<Decision<Option<Takeover>>> {
        #[cfg(feature = "chaos")]
        if crate::chaos::is(crate::chaos::Mutant::TakeoverWithoutBump) {
            let kept = sqlx::query_scalar(
                "update queue set mom_id = $3 where id = $1 and epoch = $2 returning epoch",
            )
            .bind(queue_id)
            .bind(epoch)
            .bind(to)
            .fetch_optional(&self.pool)
            .await?;
            return Ok(Decision::Made(
                kept.map(|epoch| Takeover { queue_id, epoch }),
            ));
        }
        let lease = *lease;
        let taken = self
            .past_stalled(move |connection, patience| Box::pin(async move {
                let taken = sqlx::query!(
                    r#"with seen as materialized (
                        select q.id, q.mom_id from queue q, set_config('lock_timeout', $6, true)
                        where q.id = $1 and q.epoch = $2
                        for no key update of q
                    ),
                    proven as materialized (
                        select seen.id from seen cross join lease l
                        where l.name = 'manager' and l.holder = $4 and l.epoch = $5
                            and l.expires_at > clock_timestamp()
                        for share of l
                    ),
                    raised as (
                        update queue q set mom_id = $3, epoch = q.epoch + 1 from proven where q.id = proven.id
                        returning q.label, q.epoch
                    ),
                    recorded as (
                        insert into event (kind, subject, text)
                        select
                            'queue_moved', r.label,
                            coalesce('from ' || mom_address(f.host, f.port) || ' ', '')
                                || 'to ' || mom_address(t.host, t.port) || ', epoch ' || r.epoch
                        from raised r cross join seen s
                        join mom t on t.id = $3
                        left join mom f on f.id = s.mom_id
                    )
                    select
                        exists (select from proven) or not exists (select from seen) as "is_leading!",
                        (select epoch from raised) as epoch"#,
                    queue_id,
                    epoch,
                    to,
                    lease.holder,
                    lease.epoch,
                    patience
                )
                .fetch_one(connection)
                .await;
                match taken {
                    Err(error) if violates(&error, "queue_mom_id_fkey") => Ok(None),
                    taken => Ok(Some(taken?)),
                }
            }))
            .await?;
        let Some(taken) = taken else {
            return Ok(Decision::Made(None));
        };
        let takeover = taken.epoch.map(|epoch| Takeover { queue_id, epoch });
        Ok(Decision::new(taken.is_leading, takeover))
    }

    /// Gives a queue to the MoM `to` without a manager, as that MoM was told to: otherwise as [`Store::take_over`].
    pub async fn seize(&self, queue_id: Uuid, epoch: i64, to: Uuid) -> Result<Option<Takeover>> {
        let raised = sqlx::query_scalar!(
            r#"with raised as (
                update queue set mom_id = $3, epoch = epoch + 1 where id = $1 and epoch = $2
                returning label, epoch
            ),
            recorded as (
                insert into event (kind, subject, text)
                select 'queue_moved', r.label, 'to ' || mom_address(t.host, t.port) || ', epoch ' || r.epoch
                from raised r join mom t on t.id = $3
            )
            select epoch as "epoch!" from raised"#,
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
