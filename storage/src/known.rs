//! Finding messages that were pushed before, so that a repeated push makes no second one.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::{Result, Store};

/// A message whose id its pusher brought.
#[derive(Debug)]
pub struct KeyedMessage {
    /// The id.
    pub id: Uuid,
    /// Its place in the queue.
    pub seq: i64,
    /// Its topic, in lower case.
    pub topic: Option<String>,
    /// What was pushed.
    pub content: Vec<u8>,
    /// How long ago it was committed, by the database's clock.
    pub age: Duration,
}

impl Store {
    /// Of these ids, the ones that messages of the queue behind the sequence `after` have, with the messages' sequences.
    ///
    /// It reads the ids of all runs behind `after`, so it costs what was pushed since. Locks nothing.
    pub async fn find_messages(
        &self,
        queue_id: Uuid,
        after: i64,
        ids: &[Uuid],
    ) -> Result<Vec<(Uuid, i64)>> {
        let mut wanted: HashMap<u128, Vec<u32>> = HashMap::new();
        for id in ids {
            let (pusher, number) = split(*id);
            wanted.entry(pusher).or_default().push(number);
        }
        for numbers in wanted.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let mut rows = sqlx::query!(
            r#"
            select first_seq, ids, counts
            from message_batch
            where queue_id = $1 and first_seq + count - 1 > $2::bigint
                and first_seq >= coalesce(
                    (select max(first_seq) from message_batch where queue_id = $1 and first_seq <= $2::bigint + 1), 0)
            "#,
            queue_id,
            after,
        )
        .fetch(&self.pool);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let mut seq = row.first_seq;
            for (first, count) in row.ids.into_iter().zip(row.counts) {
                let (pusher, number) = split(first);
                if let Some(numbers) = wanted.get(&pusher) {
                    let start = numbers.partition_point(|wanted| *wanted < number);
                    let those = numbers[start..]
                        .iter()
                        .take_while(|wanted| {
                            i64::from(**wanted) < i64::from(number) + i64::from(count)
                        })
                        .map(|wanted| (join(pusher, *wanted), seq + i64::from(wanted - number)));
                    found.extend(those.filter(|(_, seq)| *seq > after));
                }
                seq += i64::from(count);
            }
        }
        Ok(found)
    }

    /// Gives `visit` the messages of a queue whose ids were brought by their pushers within the last `window`, at most
    /// `limit` of them, the newest first. One at a time, since there may be many and large ones. Locks nothing.
    pub async fn keyed_messages(
        &self,
        queue_id: Uuid,
        window: Duration,
        limit: i64,
        mut visit: impl FnMut(KeyedMessage),
    ) -> Result<()> {
        let mut rows = sqlx::query!(
            r#"
            select
                m.id as "id!", b.first_seq + m.place - 1 as "seq!", m.topic as "topic?", m.content as "content!",
                extract(epoch from clock_timestamp() - b.pushed_at)::double precision as "age!"
            from message_batch b
            left join message_content c on c.slot = b.slot and c.queue_id = b.queue_id and c.first_seq = b.first_seq
            cross join lateral unpack_batch(
                b.ids, b.counts, b.topics, b.keyed, coalesce(c.ends, b.ends), coalesce(c.contents, b.contents)) m
            where b.queue_id = $1 and b.keyed is not null and b.pushed_at > now() - make_interval(secs => $2)
                and (b.slot is null or c.slot is not null) and m.is_keyed
            order by b.first_seq desc, m.place desc
            limit $3
            "#,
            queue_id,
            window.as_secs_f64(),
            limit,
        )
        .fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            visit(KeyedMessage {
                id: row.id,
                seq: row.seq,
                topic: row.topic,
                content: row.content,
                age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
            });
        }
        Ok(())
    }
}

/// What a run has in common, and what counts on in it.
fn split(id: Uuid) -> (u128, u32) {
    (id.as_u128() >> 32, id.as_u128() as u32)
}

fn join(pusher: u128, number: u32) -> Uuid {
    Uuid::from_u128(pusher << 32 | u128::from(number))
}
