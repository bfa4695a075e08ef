//! How full queues are, by looking at the ends of each and never at all that it retains.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::queues::owner;
use crate::{Error, MomAddress, Result, Store};

/// Batches of a queue, the newest ones, by whose messages the size of all is told.
const SAMPLE: i64 = 32;

/// A queue and what it retains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Its row.
    pub id: Uuid,
    /// Its name.
    pub label: String,
    /// The term of its ownership.
    pub epoch: i64,
    /// The MoM that owns it, if any: its row and its address.
    pub owner: Option<(Uuid, MomAddress)>,
    /// How many channels it has.
    pub channels: i64,
    /// How many messages it retains: sequences from the oldest that is retained to the newest.
    pub messages: i64,
    /// Bytes of their contents and headers. Exact as long as the newest batches are all there are; beyond, the others are
    /// taken to have messages of the same size on the average.
    pub bytes: i64,
    /// When the oldest of them was committed.
    pub oldest_at: Option<DateTime<Utc>>,
    /// The sequence of the newest message, retained or not; 0 before the first.
    pub last_seq: i64,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Channels.
    pub channels: i64,
    /// The epoch of the managers' lease.
    pub lease_epoch: i64,
}

impl Store {
    /// At most `limit` queues, sorted by label, from the one after the label `after` on. Locks nothing. It costs some
    /// looks into an index for each, however much they retain.
    pub async fn depths(&self, after: Option<&str>, limit: i64) -> Result<Vec<Depth>> {
        self.depths_where(None, after, limit).await
    }

    /// One queue. [`Error::NotFound`] if there is none of this label. Locks nothing.
    pub async fn depth(&self, label: &str) -> Result<Depth> {
        let found = self.depths_where(Some(label), None, 1).await?;
        found.into_iter().next().ok_or(Error::NotFound)
    }

    async fn depths_where(
        &self,
        label: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Depth>> {
        let rows = sqlx::query!(
            r#"select
                q.id, q.label, q.epoch, m.id as "mom_id?", m.host as "host?", m.port as "port?",
                (select count(*) from channel c where c.queue_id = q.id) as "channels!",
                newest.last_seq as "last_seq?", oldest.first_seq as "first_seq?", oldest.pushed_at as "oldest_at?"
            from (
                select id, label, epoch, mom_id
                from queue
                where ($1::text is null or label = $1) and ($2::text is null or label > $2)
                order by label
                limit $3
            ) q
            left join mom m on m.id = q.mom_id
            left join lateral (
                select first_seq + count - 1 as last_seq
                from message_batch
                where queue_id = q.id
                order by first_seq desc
                limit 1
            ) newest on true
            left join lateral (
                select first_seq, pushed_at
                from message_batch
                where queue_id = q.id and expires_at > now()
                order by first_seq
                limit 1
            ) oldest on true
            order by q.label"#,
            label,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let sampled = self.retained_bytes(&ids).await?;
        let depths = rows.into_iter().map(|row| {
            let last_seq = row.last_seq.unwrap_or(0);
            let messages = row.first_seq.map_or(0, |first| last_seq - first + 1);
            Depth {
                id: row.id,
                label: row.label,
                epoch: row.epoch,
                owner: owner(row.mom_id, row.host, row.port),
                channels: row.channels,
                messages,
                bytes: sampled
                    .get(&row.id)
                    .map_or(0, |sample| sample.bytes(messages)),
                oldest_at: row.oldest_at,
                last_seq,
            }
        });
        Ok(depths.collect())
    }

    /// The newest retained batches of each of these queues, to tell from them how many bytes all have.
    async fn retained_bytes(&self, queue_ids: &[Uuid]) -> Result<HashMap<Uuid, Sample>> {
        let rows = sqlx::query!(
            r#"select q.id as "queue_id!", sum(b.count)::bigint as "messages!", sum(b.size)::bigint as "bytes!"
            from unnest($1::uuid[]) as q (id)
            cross join lateral (
                select count, size
                from message_batch
                where queue_id = q.id and expires_at > now()
                order by first_seq desc
                limit $2
            ) b
            group by q.id"#,
            queue_ids,
            SAMPLE
        )
        .fetch_all(&self.pool)
        .await?;
        let samples = rows.into_iter().map(|row| {
            let (messages, bytes) = (row.messages, row.bytes);
            (row.queue_id, Sample { messages, bytes })
        });
        Ok(samples.collect())
    }

    /// What is counted over all queues. Locks nothing.
    pub async fn totals(&self) -> Result<Totals> {
        Ok(sqlx::query_as!(
            Totals,
            r#"select
                (select count(*) from channel) as "channels!",
                coalesce((select epoch from lease where name = 'manager'), 0) as "lease_epoch!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

/// Some of a queue's messages.
#[derive(Clone, Copy, Debug)]
struct Sample {
    messages: i64,
    bytes: i64,
}

impl Sample {
    /// Bytes of so many messages of which these are some.
    fn bytes(self, messages: i64) -> i64 {
        if messages <= self.messages {
            self.bytes
        } else {
            (self.bytes as f64 / self.messages.max(1) as f64 * messages as f64) as i64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told_exactly_and_beyond_it_the_average_counts() {
        let sample = Sample {
            messages: 4,
            bytes: 10,
        };
        assert_eq!(sample.bytes(4), 10);
        assert_eq!(sample.bytes(3), 10, "one has expired meanwhile");
        assert_eq!(sample.bytes(400), 1000);
    }
}
