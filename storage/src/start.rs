//! Where in a queue a subscription starts.

use uuid::Uuid;

use crate::{Result, Store};

impl Store {
    /// The sequence of the last message that a queue has committed, 0 before the first. Locks nothing.
    ///
    /// Whatever was acknowledged before the call is not beyond it, whoever owns the queue.
    pub async fn last_seq(&self, queue_id: Uuid) -> Result<i64> {
        Ok(self.next_seq(queue_id).await? - 1)
    }

    /// The sequence before that of the first message that was committed at a time or later, in microseconds since 1970
    /// by the clock of the database; the last sequence if none was. Locks nothing.
    ///
    /// A batch has the time at which its commit began. It is found by halving, each step being one look into the primary
    /// key: times rise with the sequences, and an index for them would be paid for by every push. Should the clock have
    /// been set back, what is found is one of the places at which the time was passed.
    pub async fn seq_before(&self, queue_id: Uuid, micros: i64) -> Result<i64> {
        let first = sqlx::query_scalar!(
            r#"
            with recursive
            halving as (
                -- Everything before `low` is older, nothing from `high` on is.
                select
                    (select first_seq from message_batch where queue_id = $1 order by first_seq limit 1) as low,
                    (select first_seq + count from message_batch
                        where queue_id = $1 order by first_seq desc limit 1) as high
                union all
                select
                    case when at.is_older then greatest(at.next_seq, middle.seq + 1) else h.low end,
                    case when at.is_older then h.high else at.first_seq end
                from halving h
                cross join lateral (select (h.low + h.high) / 2 as seq) middle
                cross join lateral (
                    select
                        first_seq,
                        first_seq + count as next_seq,
                        pushed_at < timestamptz 'epoch' + $2::bigint * interval '1 microsecond' as is_older
                    from message_batch
                    where queue_id = $1 and first_seq <= middle.seq
                    order by first_seq desc
                    limit 1
                ) at
                where h.low < h.high
            )
            select high from halving order by high - low limit 1
            "#,
            queue_id,
            micros,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(first.unwrap_or(1) - 1)
    }
}
