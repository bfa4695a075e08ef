//! Deleting messages whose time is over.

use crate::append::SLOTS;
use crate::{Error, Result, Store};

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
    /// It works from the oldest batch on: one that is to be retained longer than those after it, since `message_ttl`
    /// was longer when it was pushed, keeps them in the table. They are not delivered all the same.
    ///
    /// Locks the rows that it deletes and skips those that another sweep has locked; it touches no queue row.
    pub async fn sweep_expired(&self, limit: i64) -> Result<Swept> {
        let swept = sqlx::query!(
            r#"
            with candidates as materialized (
                select q.id as queue_id, c.first_seq, c.first_seq = newest.first_seq as is_newest
                from queue q
                cross join lateral (
                    select first_seq from message_batch where queue_id = q.id order by first_seq desc limit 1
                ) newest
                cross join lateral (
                    select first_seq, expires_at from message_batch where queue_id = q.id order by first_seq limit 1
                ) oldest
                cross join lateral (
                    select first_seq, expires_at, ids = '{}' as is_empty
                    from message_batch
                    where queue_id = q.id and first_seq >= oldest.first_seq and oldest.expires_at <= now()
                    order by first_seq
                    limit $1
                ) c
                where c.expires_at <= now()
                    -- Not one that was emptied before and is still the newest.
                    and not (c.is_empty and c.first_seq = newest.first_seq)
                limit $1
            ),
            expired as materialized (
                select m.queue_id, m.first_seq, m.count, c.is_newest
                from candidates c
                join message_batch m on m.queue_id = c.queue_id and m.first_seq = c.first_seq
                for update of m skip locked
            ),
            deleted as (
                delete from message_batch m
                using expired e
                where m.queue_id = e.queue_id and m.first_seq = e.first_seq and not e.is_newest
                returning m.count
            ),
            emptied as (
                update message_batch m
                set ids = '{}', counts = '{}', topics = null, headers = null, keyed = null, slot = null, ends = '', contents = '', size = 0
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

    /// Empties the slots of `message_content` in which everything has expired; how many there were. What belongs to
    /// deleted batches, and what the sweep of batches has not come to yet, goes as well.
    ///
    /// Locks such a slot against everybody for as long as it takes, and gives up on one that is in use.
    pub async fn empty_expired_content(&self) -> Result<usize> {
        let slots = sqlx::query_scalar!(
            r#"select s.slot::smallint as "slot!"
            from generate_series(0, $1::bigint - 1) s (slot)
            cross join lateral (
                select expires_at from message_content c where c.slot = s.slot order by expires_at desc limit 1
            ) newest
            where newest.expires_at <= now()"#,
            SLOTS,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut emptied = 0;
        for slot in slots {
            let asked = sqlx::query_scalar!(r#"select empty_content($1) as "is_empty!""#, slot);
            match asked.fetch_one(&self.pool).await.map_err(Error::from) {
                Ok(is_empty) => emptied += usize::from(is_empty),
                // Tried again with the next sweep.
                Err(Error::Locked(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(emptied)
    }
}
