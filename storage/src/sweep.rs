//! Deleting messages whose time is over.

use crate::{Result, Store};

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Batches deleted or emptied.
    pub batches: i64,
    /// Messages that they held.
    pub messages: i64,
}

impl Store {
    /// Deletes at most `limit` expired batches. The newest batch of a queue is emptied instead of deleted: its row
    /// tells a new owner where the sequence goes on, which costs the message path nothing, whereas a counter on the
    /// queue row would be contended between the sweep and every append.
    ///
    /// Locks the rows that it deletes and skips those that another sweep has locked; it touches no queue row.
    pub async fn sweep_expired(&self, limit: i64) -> Result<Swept> {
        let swept = sqlx::query!(
            r#"
            with expired as materialized (
                select b.queue_id, b.first_seq, b.count, b.is_newest
                from queue q
                cross join lateral (
                    select
                        m.queue_id, m.first_seq, m.count,
                        m.first_seq = (
                            select max(first_seq) from message_batch where queue_id = q.id
                        ) as is_newest
                    from message_batch m
                    where m.queue_id = q.id and m.expires_at <= now()
                        -- Not one that was emptied before and is still the newest.
                        and (m.ids <> '{}' or m.first_seq < (
                            select max(first_seq) from message_batch where queue_id = q.id))
                    order by m.expires_at
                    limit $1
                    for update of m skip locked
                ) b
                limit $1
            ),
            deleted as (
                delete from message_batch m
                using expired e
                where m.queue_id = e.queue_id and m.first_seq = e.first_seq and not e.is_newest
                returning m.count
            ),
            emptied as (
                update message_batch m
                set ids = '{}', topics = null, contents = '{}', size = 0
                from expired e
                where m.queue_id = e.queue_id and m.first_seq = e.first_seq and e.is_newest
                returning m.count
            )
            select count(*) as "batches!", coalesce(sum(count), 0) as "messages!"
            from (select count from deleted union all select count from emptied) swept
            "#,
            limit,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Swept {
            batches: swept.batches,
            messages: swept.messages,
        })
    }
}
