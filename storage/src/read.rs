//! Reading messages back, page by page, for subscriptions that are behind.

use std::sync::Arc;

use sqlx::types::Uuid;

use crate::packed::headers_from;
use crate::{Error, Packed, Result, Run, Store};

/// Messages that were committed together.
#[derive(Debug)]
pub struct StoredBatch {
    /// The sequence of the first message.
    pub first_seq: i64,
    /// The messages, whose parts were checked.
    pub messages: Packed,
}

/// What [`Store::read_page`] found.
#[derive(Debug)]
pub struct Page {
    /// Unexpired batches in the order of their sequences. Between them only what has expired is missing.
    pub batches: Vec<StoredBatch>,
    /// Whether there was nothing more to read when the page was read.
    pub is_last: bool,
}

impl Store {
    /// Reads the unexpired batches of a queue that hold messages after the sequence `after`: at most `max_rows` of
    /// them, and no further one once their contents exceed `max_bytes`. The first batch may begin before `after + 1`.
    ///
    /// Locks nothing. What was committed before the call is seen.
    pub async fn read_page(
        &self,
        queue_id: Uuid,
        after: i64,
        max_rows: i64,
        max_bytes: i64,
    ) -> Result<Page> {
        // Sizes come first and contents second, so that no content is fetched that the page has no room for.
        let rows = sqlx::query!(
            r#"
            with sized as (
                select first_seq, sum(size) over (order by first_seq) - size as before
                from (
                    select first_seq, size
                    from message_batch
                    where queue_id = $1
                        and first_seq >= coalesce(
                            (select max(first_seq) from message_batch where queue_id = $1 and first_seq <= $2::bigint + 1), 0)
                        and first_seq + count - 1 > $2::bigint
                        and expires_at > now()
                    order by first_seq
                    limit $3
                ) found
            )
            select
                b.first_seq, b.ids, b.counts, b.topics as "topics: Vec<Option<String>>",
                b.headers::text[] as "headers: Vec<Option<String>>",
                coalesce(c.ends, b.ends) as "ends!", coalesce(c.contents, b.contents) as "contents!",
                b.slot is not null and c.slot is null as "is_gone!",
                (select count(*) from sized) as "found!"
            from sized s
            join message_batch b on b.queue_id = $1 and b.first_seq = s.first_seq
            left join message_content c on c.slot = b.slot and c.queue_id = $1 and c.first_seq = b.first_seq
            where s.before < $4
            order by b.first_seq
            "#,
            queue_id,
            after,
            max_rows,
            max_bytes as _,
        )
        .fetch_all(&self.pool)
        .await?;
        let found = rows.first().map_or(0, |row| row.found);
        let is_last = found < max_rows && rows.len() as i64 == found;
        // What has expired since the statement began may have no content any more.
        let rows = rows.into_iter().filter(|row| !row.is_gone);
        let batches = rows.map(|row| {
            let mut topics = row.topics.unwrap_or_default().into_iter();
            let mut headers = row.headers.unwrap_or_default().into_iter();
            let mut are_headers_sound = true;
            let runs = row.ids.into_iter().zip(row.counts).map(|(id, count)| Run {
                id,
                count: count as u32,
                topic: topics.next().flatten().map(Arc::from),
                is_keyed: false,
                headers: headers.next().flatten().and_then(|json| {
                    headers_from(&json).unwrap_or_else(|()| {
                        are_headers_sound = false;
                        None
                    })
                }),
            });
            let runs: Vec<Run> = runs.collect();
            let messages = Packed {
                header_bytes: runs.iter().map(Run::header_bytes).sum(),
                runs,
                ends: row.ends,
                contents: row.contents,
            };
            if messages.is_sound() && are_headers_sound {
                Ok(StoredBatch {
                    first_seq: row.first_seq,
                    messages,
                })
            } else {
                let what = format!(
                    "the batch {} of the queue {queue_id} is corrupt",
                    row.first_seq
                );
                Err(Error::Refused(sqlx::Error::Decode(what.into())))
            }
        });
        Ok(Page {
            batches: batches.collect::<Result<_>>()?,
            is_last,
        })
    }
}
