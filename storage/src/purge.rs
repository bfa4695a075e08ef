//! Deleting messages before their time, as an operator wants it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Result, Store};

/// Batches that one statement of a purge deletes at the most.
const CHUNK: i64 = 1024;

impl Store {
    /// Deletes what a queue retains at this moment, and returns how many messages that were.
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such queue.
    ///
    /// Sequences go on: the newest batch is emptied instead of deleted, as a sweep does. First it is decided, and
    /// recorded as an event, up to which sequence messages go; then they go, some at a time, each part in a statement of
    /// its own that locks its rows and passes over those that a sweep has locked. Cut off, it has deleted some of the
    /// oldest. Contents that are kept apart go with their slot.
    pub async fn purge(&self, label: &str) -> Result<i64> {
        let decided = sqlx::query!(
            r#"with decided as (
                select
                    q.id, q.label,
                    coalesce(
                        (select first_seq + count - 1 from message_batch where queue_id = q.id
                            order by first_seq desc limit 1),
                        0) as last_seq
                from queue q
                where q.label = $1
            ),
            recorded as (
                insert into event (kind, subject, text)
                select 'queue_purged', label, 'all messages up to sequence ' || last_seq || ' are deleted' from decided
            )
            select id as "queue_id!", last_seq as "last_seq!" from decided"#,
            label
        )
        .fetch_one(&self.pool)
        .await?;
        let mut messages = 0;
        loop {
            let part = self.purge_part(decided.queue_id, decided.last_seq).await?;
            messages += part.messages;
            if part.batches < CHUNK {
                return Ok(messages);
            }
        }
    }

    async fn purge_part(&self, queue_id: Uuid, last_seq: i64) -> Result<Part> {
        Ok(sqlx::query_as!(
            Part,
            r#"with newest as materialized (
                select first_seq from message_batch where queue_id = $1 order by first_seq desc limit 1
            ),
            taken as materialized (
                select m.first_seq, m.count, m.expires_at > now() as is_retained, n.first_seq is not null as is_newest
                from message_batch m
                left join newest n on n.first_seq = m.first_seq
                where m.queue_id = $1 and m.first_seq <= $2
                    -- Not one that was emptied before and is still the newest.
                    and not (m.ids = '{}' and n.first_seq is not null)
                order by m.first_seq
                limit $3
                for update of m skip locked
            ),
            deleted as (
                delete from message_batch m
                using taken t
                where m.queue_id = $1 and m.first_seq = t.first_seq and not t.is_newest
            ),
            emptied as (
                update message_batch m
                set ids = '{}', counts = '{}', topics = null, keyed = null, slot = null, ends = '', contents = '', size = 0,
                    expires_at = least(m.expires_at, now())
                from taken t
                where m.queue_id = $1 and m.first_seq = t.first_seq and t.is_newest
            )
            select
                count(*) as "batches!",
                coalesce(sum(count) filter (where is_retained), 0)::bigint as "messages!"
            from taken"#,
            queue_id,
            last_seq,
            CHUNK
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// When each of these batches of a queue, told by the sequences of their first messages, was committed. Locks
    /// nothing.
    pub async fn committed_at(
        &self,
        queue_id: Uuid,
        first_seqs: &[i64],
    ) -> Result<HashMap<i64, DateTime<Utc>>> {
        let rows = sqlx::query!(
            "select first_seq, pushed_at from message_batch where queue_id = $1 and first_seq = any($2)",
            queue_id,
            first_seqs
        )
        .fetch_all(&self.pool)
        .await?;
        let times = rows.into_iter().map(|row| (row.first_seq, row.pushed_at));
        Ok(times.collect())
    }
}

struct Part {
    batches: i64,
    messages: i64,
}
