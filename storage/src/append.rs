//! Writing messages: the one statement that makes a push durable.
//!
//! A batch comes from the MoM's committer and is handed back to it as committed or fenced.

use std::time::{Duration, Instant};

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgBindIterExt, PgConnectOptions, PgConnection, PgTypeInfo, Postgres,
};
use sqlx::{ConnectOptions, Connection, Type};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{Error, Packed, Result, Run, store};

/// How long one statement may take before its connection is given up and its outcome counts as unknown. Longer than
/// the server's own `lock_timeout`, so that a lock that is held is told apart from a server that does not answer.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of contents, and of where they end, up to which they stay in the row of their batch. Beyond, a second row costs
/// less than what the sweep would have to do about them.
const MAX_INLINE_BYTES: usize = 4096;

/// How many tables of contents take turns.
pub(crate) const SLOTS: i64 = 16;

/// Consecutive messages of one queue, to be committed together.
#[derive(Clone, Copy, Debug)]
pub struct NewBatch<'a> {
    /// The queue.
    pub queue_id: Uuid,
    /// The epoch at which the appending MoM believes to own it.
    pub epoch: i64,
    /// The sequence of the first message.
    pub first_seq: i64,
    /// The messages: at least one, at most [`MAX_BATCH_MESSAGES`](crate::MAX_BATCH_MESSAGES).
    pub messages: &'a Packed,
}

impl NewBatch<'_> {
    fn count(&self) -> i32 {
        self.messages.len() as i32
    }

    /// Bytes of all contents and headers.
    fn size(&self) -> i32 {
        self.messages.size() as i32
    }

    /// Whether the contents are kept apart from the row of the batch.
    fn is_large(&self) -> bool {
        self.messages.ends.len() + self.messages.contents.len() > MAX_INLINE_BYTES
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the database for good.
    Committed,
    /// It is not in the database and never will be: the MoM does not own the queue at that epoch, or the queue is gone.
    Fenced,
    /// This statement has not written it, since somebody holds the queue's row: a takeover that is about to end, or a
    /// person. Try the same again.
    Locked,
}

/// A writer of messages. It holds a connection of its own, so that neither a busy pool nor the pool's check of a
/// connection before each use delays a commit.
#[derive(Debug)]
pub struct Appender {
    options: PgConnectOptions,
    require_durable: bool,
    connection: Option<(PgConnection, ServerClock)>,
}

/// What the clock of the database shows, without asking it each time.
#[derive(Clone, Copy, Debug)]
struct ServerClock {
    /// Seconds since 1970 when it was asked.
    shown: f64,
    asked: Instant,
}

impl ServerClock {
    /// The slot of `message_content` for what is retained for `ttl` from now on. Each is the one for an eighth of that
    /// time, so half of the slots have their turn before the first of them has to be empty, and as long again to become
    /// so. If one is not empty by then, or the clock is wrong, some contents are only kept longer than they had to be.
    fn slot(&self, ttl: Duration) -> i16 {
        let turn = (ttl.as_secs_f64() / 8.0).max(2.0);
        let now = self.shown + self.asked.elapsed().as_secs_f64();
        ((now / turn) as i64 % SLOTS) as i16
    }
}

impl Appender {
    pub(crate) fn new(options: PgConnectOptions, require_durable: bool) -> Self {
        Self {
            options: options.options([
                // Planning takes longer than executing. By itself the server would plan every time: it takes the arrays
                // it sees for shorter than those it does not.
                ("plan_cache_mode", "force_generic_plan"),
                // A commit that waits for a synchronous standby would, struck by it, count as done on this server alone.
                ("statement_timeout", "0"),
            ]),
            require_durable,
            connection: None,
        }
    }

    /// Appends batches of different queues in one statement, which proves for each that `mom_id` owns the queue at the
    /// batch's epoch. Returns what became of each, in order. The messages expire `ttl` from now.
    ///
    /// Locks the queue rows `for share`, so that a takeover waits for this commit. It waits for nobody who holds one of
    /// them: a lock on one queue is none on the others.
    ///
    /// # Errors
    /// After [`Error::Unavailable`] and [`Error::Locked`] the outcome is **not known**. Call again with the identical
    /// batches until the answer is definite, and append nothing else to these queues meanwhile: a batch that was
    /// committed the first time is recognised by its epoch and its first message's id, and not written twice. Should the first
    /// statement still be at work in the server, the second waits for it, on the primary key. After any other error
    /// nothing was committed.
    pub async fn append(
        &mut self,
        mom_id: Uuid,
        ttl: Duration,
        batches: &[NewBatch<'_>],
    ) -> Result<Vec<Appended>> {
        debug_assert!(
            batches.iter().enumerate().all(|(place, batch)| {
                batches[..place]
                    .iter()
                    .all(|other| other.queue_id != batch.queue_id)
            }),
            "two batches of one queue in one statement"
        );
        let result = self.try_append(mom_id, ttl, batches).await;
        if let Err(Error::Unavailable(_)) = &result {
            // Closing it politely could wait for a server that does not answer.
            self.connection = None;
        }
        result
    }

    /// Makes sure that there is a connection to a server that takes writes and keeps what it acknowledges.
    pub async fn connect(&mut self) -> Result<()> {
        self.connection().await.map(|_| ())
    }

    async fn connection(&mut self) -> Result<(&mut PgConnection, ServerClock)> {
        if self.connection.is_none() {
            let connected = timeout(CONNECT_DEADLINE, async {
                let mut connection = self.options.connect().await?;
                store::check_server(&mut connection, self.require_durable).await?;
                let now = "select extract(epoch from clock_timestamp())::double precision";
                let shown = sqlx::query_scalar(now).fetch_one(&mut connection).await?;
                let asked = Instant::now();
                Ok::<_, Error>((connection, ServerClock { shown, asked }))
            });
            self.connection = Some(
                connected
                    .await
                    .map_err(|_| no_answer("no connection was made", CONNECT_DEADLINE))??,
            );
        }
        let (connection, clock) = self.connection.as_mut().expect("it was just made");
        Ok((connection, *clock))
    }

    async fn try_append(
        &mut self,
        mom_id: Uuid,
        ttl: Duration,
        batches: &[NewBatch<'_>],
    ) -> Result<Vec<Appended>> {
        let (connection, clock) = self.connection().await?;
        let slot = clock.slot(ttl);
        let append = async {
            let accepted = insert(connection, mom_id, ttl, slot, batches).await?;
            if accepted.len() == batches.len() {
                return Ok(vec![Appended::Committed; batches.len()]);
            }
            let fates = fates(connection, mom_id, batches).await?;
            let fate = |batch: &NewBatch<'_>| {
                if accepted.contains(&batch.queue_id) {
                    return Appended::Committed;
                }
                let fate = fates
                    .iter()
                    .find(|(queue_id, _)| *queue_id == batch.queue_id);
                fate.map_or(Appended::Fenced, |(_, fate)| *fate)
            };
            Ok(batches.iter().map(fate).collect())
        };
        timeout(STATEMENT_DEADLINE, append)
            .await
            .map_err(|_| no_answer("no answer came", STATEMENT_DEADLINE))?
    }

    /// Says goodbye to the server.
    pub async fn close(mut self) {
        if let Some((connection, _)) = self.connection.take() {
            // Nobody waits for the outcome, and the server notices the end of the connection by itself.
            let _ = timeout(CONNECT_DEADLINE, connection.close()).await;
        }
    }
}

fn no_answer(what: &str, deadline: Duration) -> Error {
    Error::Unavailable(sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("{what} within {} s", deadline.as_secs()),
    )))
}

/// The queues whose batch was inserted.
async fn insert(
    connection: &mut PgConnection,
    mom_id: Uuid,
    ttl: Duration,
    slot: i16,
    batches: &[NewBatch<'_>],
) -> Result<Vec<Uuid>> {
    #[cfg(feature = "chaos")]
    if crate::chaos::is(crate::chaos::Mutant::NoEpochCheck) {
        return insert_unchecked(connection, ttl, batches).await;
    }
    match batches {
        [batch] => insert_one(connection, mom_id, ttl, slot, batch).await,
        _ => insert_many(connection, mom_id, ttl, slot, batches).await,
    }
}

/// The batch of one queue: what a lone push and a single busy queue come to, and cheaper for the server. A sequence that
/// is taken is an error there: to look before each insert would cost more.
async fn insert_one(
    connection: &mut PgConnection,
    mom_id: Uuid,
    ttl: Duration,
    slot: i16,
    batch: &NewBatch<'_>,
) -> Result<Vec<Uuid>> {
    let messages = batch.messages;
    let runs = || messages.runs.iter();
    let parts = (&messages.ends[..], &messages.contents[..]);
    let (here, apart) = if batch.is_large() {
        (Default::default(), parts)
    } else {
        (parts, Default::default())
    };
    let inserted = sqlx::query!(
        r#"
        with batch as (
            insert into message_batch
                (queue_id, first_seq, count, size, epoch, ids, counts, topics, headers, keyed, ends, contents, slot,
                expires_at)
            select
                id, $1, $2, $3, epoch, $4::uuid[], $5::integer[], $6::text[], $7::text[]::jsonb[], $8::boolean[], $9,
                $10, $11::smallint, now() + make_interval(secs => $14)
            from queue
            where id = $15 and epoch = $16 and mom_id = $17
            for share skip locked
            returning queue_id, first_seq, slot, expires_at
        ),
        content as (
            insert into message_content (slot, queue_id, first_seq, expires_at, ends, contents)
            select slot, queue_id, first_seq, expires_at, $12, $13
            from batch
            where slot is not null
        )
        select from batch
        "#,
        batch.first_seq,
        batch.count(),
        batch.size(),
        runs().map(|run| run.id).bind_iter() as _,
        runs().map(|run| run.count as i32).bind_iter() as _,
        messages.has_topic().then(|| runs().map(|run| run.topic.as_deref()).bind_iter()) as _,
        messages.has_headers().then(|| runs().map(Run::json).bind_iter()) as _,
        messages.has_key().then(|| runs().map(|run| run.is_keyed).bind_iter()) as _,
        here.0,
        here.1,
        batch.is_large().then_some(slot),
        apart.0,
        apart.1,
        ttl.as_secs_f64(),
        batch.queue_id,
        batch.epoch,
        mom_id,
    )
    .execute(connection)
    .await;
    match inserted {
        Ok(done) if done.rows_affected() == 1 => Ok(vec![batch.queue_id]),
        Ok(_) => Ok(Vec::new()),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The defect [`NoEpochCheck`](crate::chaos::Mutant::NoEpochCheck).
#[cfg(feature = "chaos")]
async fn insert_unchecked(
    connection: &mut PgConnection,
    ttl: Duration,
    batches: &[NewBatch<'_>],
) -> Result<Vec<Uuid>> {
    let mut accepted = Vec::new();
    for batch in batches {
        let runs = || batch.messages.runs.iter();
        let inserted = sqlx::query(
            "insert into message_batch
                (queue_id, first_seq, count, size, epoch, ids, counts, topics, ends, contents, expires_at)
            select id, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11)
            from queue where id = $1
            on conflict on constraint message_batch_pkey do nothing",
        )
        .bind(batch.queue_id)
        .bind(batch.first_seq)
        .bind(batch.count())
        .bind(batch.size())
        .bind(batch.epoch)
        .bind(runs().map(|run| run.id).collect::<Vec<_>>())
        .bind(runs().map(|run| run.count as i32).collect::<Vec<_>>())
        .bind(runs().map(|run| run.topic.as_deref()).collect::<Vec<_>>())
        .bind(&batch.messages.ends)
        .bind(&batch.messages.contents)
        .bind(ttl.as_secs_f64())
        .execute(&mut *connection)
        .await?;
        if inserted.rows_affected() == 1 {
            accepted.push(batch.queue_id);
        }
    }
    Ok(accepted)
}

/// The batches of several queues. Flat arrays, of which each batch has a place or, with what it has for each run, a
/// stretch, keep the text of the statement the same for any number of queues, so that it is planned once. What has bytes
/// comes as one piece to be cut, since the server finds an element of an array by walking over those before it.
async fn insert_many(
    connection: &mut PgConnection,
    mom_id: Uuid,
    ttl: Duration,
    slot: i16,
    batches: &[NewBatch<'_>],
) -> Result<Vec<Uuid>> {
    let runs = || batches.iter().flat_map(|batch| &batch.messages.runs);
    let run_count = |batch: &NewBatch<'_>| batch.messages.runs.len() as i32;
    let content_size = |batch: &NewBatch<'_>| batch.messages.contents.len() as i32;
    let any_topic = batches.iter().any(|batch| batch.messages.has_topic());
    let any_key = batches.iter().any(|batch| batch.messages.has_key());
    let any_headers = batches.iter().any(|batch| batch.messages.has_headers());
    let inserted = sqlx::query_scalar!(
        r#"
        with owned as (
            select b.*
            from unnest(
                    $1::uuid[], $2::bigint[], $3::bigint[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
                    $8::integer[], $9::integer[], $10::integer[], $11::boolean[], $12::boolean[], $13::boolean[],
                    $14::boolean[])
                as b (queue_id, epoch, first_seq, count, size, runs, runs_before, messages_before, content_size,
                    content_before, has_topic, has_headers, has_key, is_large)
            join queue q on q.id = b.queue_id and q.epoch = b.epoch and q.mom_id = $15
            for share of q skip locked
        ),
        content as (
            insert into message_content (slot, queue_id, first_seq, expires_at, ends, contents)
            select
                $23, queue_id, first_seq, now() + make_interval(secs => $24),
                substring($21::bytea from messages_before * 4 + 1 for count * 4),
                substring($22::bytea from content_before + 1 for content_size)
            from owned
            where is_large
        )
        insert into message_batch
            (queue_id, first_seq, count, size, epoch, ids, counts, topics, headers, keyed, ends, contents, slot,
            expires_at)
        select
            queue_id, first_seq, count, size, epoch,
            ($16::uuid[])[runs_before + 1 : runs_before + runs],
            ($17::integer[])[runs_before + 1 : runs_before + runs],
            case when has_topic then ($18::text[])[runs_before + 1 : runs_before + runs] end,
            case when has_headers then ($19::text[])[runs_before + 1 : runs_before + runs]::jsonb[] end,
            case when has_key then ($20::boolean[])[runs_before + 1 : runs_before + runs] end,
            case when is_large then '' else substring($21 from messages_before * 4 + 1 for count * 4) end,
            case when is_large then '' else substring($22 from content_before + 1 for content_size) end,
            case when is_large then $23::smallint end,
            now() + make_interval(secs => $24)
        from owned
        returning queue_id
        "#,
        batches.iter().map(|batch| batch.queue_id).bind_iter() as _,
        batches.iter().map(|batch| batch.epoch).bind_iter() as _,
        batches.iter().map(|batch| batch.first_seq).bind_iter() as _,
        batches.iter().map(NewBatch::count).bind_iter() as _,
        batches.iter().map(NewBatch::size).bind_iter() as _,
        batches.iter().map(run_count).bind_iter() as _,
        sums_before(batches.iter().map(run_count)).bind_iter() as _,
        sums_before(batches.iter().map(NewBatch::count)).bind_iter() as _,
        batches.iter().map(content_size).bind_iter() as _,
        sums_before(batches.iter().map(content_size)).bind_iter() as _,
        batches.iter().map(|batch| batch.messages.has_topic()).bind_iter() as _,
        batches.iter().map(|batch| batch.messages.has_headers()).bind_iter() as _,
        batches.iter().map(|batch| batch.messages.has_key()).bind_iter() as _,
        batches.iter().map(NewBatch::is_large).bind_iter() as _,
        mom_id,
        runs().map(|run| run.id).bind_iter() as _,
        runs().map(|run| run.count as i32).bind_iter() as _,
        any_topic.then(|| runs().map(|run| run.topic.as_deref()).bind_iter()) as _,
        any_headers.then(|| runs().map(Run::json).bind_iter()) as _,
        any_key.then(|| runs().map(|run| run.is_keyed).bind_iter()) as _,
        Joined(batches.iter().map(|batch| &batch.messages.ends[..])) as _,
        Joined(batches.iter().map(|batch| &batch.messages.contents[..])) as _,
        slot,
        ttl.as_secs_f64(),
    )
    .fetch_all(&mut *connection)
    .await;
    match inserted {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            // A sequence of one of the queues is taken, as after a try whose outcome was not known, and nothing was
            // inserted. That is too seldom to make every statement look first.
            let mut accepted = Vec::with_capacity(batches.len());
            for batch in batches {
                accepted.append(&mut insert_one(connection, mom_id, ttl, slot, batch).await?);
            }
            Ok(accepted)
        }
        inserted => Ok(inserted?),
    }
}

/// For each number, the sum of those before it.
fn sums_before(numbers: impl Iterator<Item = i32> + Clone) -> impl Iterator<Item = i32> + Clone {
    numbers.scan(0, |sum, number| {
        let before = *sum;
        *sum += number;
        Some(before)
    })
}

/// Pieces of bytes that are one value to the server.
struct Joined<I>(I);

impl<I> Type<Postgres> for Joined<I> {
    fn type_info() -> PgTypeInfo {
        <[u8] as Type<Postgres>>::type_info()
    }
}

impl<'q, I: Iterator<Item = &'q [u8]> + Clone> Encode<'q, Postgres> for Joined<I> {
    fn encode_by_ref(
        &self,
        buffer: &mut PgArgumentBuffer,
    ) -> std::result::Result<IsNull, BoxDynError> {
        for piece in self.0.clone() {
            buffer.extend_from_slice(piece);
        }
        Ok(IsNull::No)
    }
}

/// What became of batches that were not inserted: an earlier try of the same batch may have been, or somebody held the
/// row of the queue, or the MoM does not own it any more. Read in a statement of its own, so that it sees what was
/// committed meanwhile.
///
/// A batch is known again by its first id and its epoch. The id alone would not do: a push that was repeated at the next
/// owner has the same id there, and may begin another batch at the same sequence.
///
/// The row of an earlier try may have become visible by a restart of the server, before it reached a synchronous
/// standby. The message to nobody makes this statement one that writes, so that its commit waits for the standby to have
/// all before it.
async fn fates(
    connection: &mut PgConnection,
    mom_id: Uuid,
    batches: &[NewBatch<'_>],
) -> Result<Vec<(Uuid, Appended)>> {
    let first_id = |batch: &NewBatch<'_>| batch.messages.runs[0].id;
    let rows = sqlx::query!(
        r#"
        select
            b.queue_id as "queue_id!", m.queue_id is not null as "is_taken!",
            coalesce(m.ids[1] = b.first_id and m.epoch = b.epoch, false) as "is_ours!", q.id is not null as "is_owned!"
        from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[]) as b (queue_id, epoch, first_seq, first_id)
        left join message_batch m on m.queue_id = b.queue_id and m.first_seq = b.first_seq
        left join queue q on q.id = b.queue_id and q.epoch = b.epoch and q.mom_id = $5
        left join lateral (
            select pg_logical_emit_message(true, 'rmom', '') where m.ids[1] = b.first_id and m.epoch = b.epoch
        ) barrier on true
        "#,
        batches.iter().map(|batch| batch.queue_id).bind_iter() as _,
        batches.iter().map(|batch| batch.epoch).bind_iter() as _,
        batches.iter().map(|batch| batch.first_seq).bind_iter() as _,
        batches.iter().map(first_id).bind_iter() as _,
        mom_id,
    )
    .fetch_all(connection)
    .await?;
    let fate = |is_ours: bool, is_taken: bool, is_owned: bool| {
        if is_ours {
            Appended::Committed
        } else if is_owned && !is_taken {
            Appended::Locked
        } else {
            // With the sequence taken by another batch, this MoM is not the only one, or behind: it has to begin anew.
            Appended::Fenced
        }
    };
    let fates = rows
        .into_iter()
        .map(|row| (row.queue_id, fate(row.is_ours, row.is_taken, row.is_owned)));
    Ok(fates.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_take_turns_of_an_eighth_of_the_time_that_is_retained() {
        let slot_at = |shown, ttl| {
            let asked = Instant::now();
            ServerClock { shown, asked }.slot(Duration::from_secs(ttl))
        };
        let turns: Vec<i16> = (0..17)
            .map(|turn| slot_at(8_000.0 + f64::from(turn) * 10.0, 80))
            .collect();
        assert_eq!(turns, (0..16).chain([0]).collect::<Vec<i16>>());
        assert_eq!(slot_at(3.5, 0), 1, "a turn has 2 s at the least");
    }
}
