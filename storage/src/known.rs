//! Finding messages that were pushed before, so that a repeated push makes no second one.

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
    /// It reads the ids of all batches behind `after`, so it costs what was pushed since. Locks nothing.
    pub async fn find_messages(
        &self,
        queue_id: Uuid,
        after: i64,
        ids: &[Uuid],
    ) -> Result<Vec<(Uuid, i64)>> {
        let found = sqlx::query!(
            r#"
            select wanted.id as "id!", b.first_seq + m.place - 1 as "seq!"
            from message_batch b
            cross join lateral unnest(b.ids) with ordinality as m (id, place)
            join unnest($3::uuid[]) as wanted (id) on wanted.id = m.id
            where b.queue_id = $1 and b.first_seq + m.place - 1 > $2::bigint
                and b.first_seq >= coalesce(
                    (select max(first_seq) from message_batch where queue_id = $1 and first_seq <= $2::bigint + 1), 0)
            "#,
            queue_id,
            after,
            ids,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(found.into_iter().map(|row| (row.id, row.seq)).collect())
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
                m.id as "id!", b.first_seq + m.place - 1 as "seq!", m.topic, m.content as "content!",
                extract(epoch from clock_timestamp() - b.pushed_at)::double precision as "age!"
            from message_batch b
            cross join lateral unnest(b.ids, b.topics, b.contents, b.keyed) with ordinality
                as m (id, topic, content, is_keyed, place)
            where b.queue_id = $1 and b.keyed is not null and b.pushed_at > now() - make_interval(secs => $2)
                and m.is_keyed
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
