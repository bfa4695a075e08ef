//! What was decided, for people who look at it afterwards.
//!
//! An event is written by the statement that makes the decision, so there is none without the other. Nothing in the
//! system depends on them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Result, Store};

/// Something that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Rises with time, near enough: of decisions made at the same instant the later id may be seen first.
    pub id: i64,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// One of [`EVENT_KINDS`].
    pub kind: String,
    /// What it happened to: the label of a queue, the address of a MoM.
    pub subject: String,
    /// The same for people, with all that is known.
    pub text: String,
}

/// What can happen.
pub const EVENT_KINDS: &[&str] = &[
    "leader_changed",
    "mom_added",
    "mom_removed",
    "mom_up",
    "mom_down",
    "mom_draining",
    "mom_undrained",
    "queue_created",
    "queue_deleted",
    "queue_moved",
    "queue_purged",
    "rebalanced",
    "mom_fenced",
];

/// Which part of the events to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRange {
    /// The newest, the newest first.
    Newest,
    /// Those with a lower id than this, the newest first.
    Before(i64),
    /// Those with a higher id than this, the oldest first.
    After(i64),
}

impl Store {
    /// At most `limit` events. Locks nothing.
    pub async fn events(&self, range: EventRange, limit: i64) -> Result<Vec<Event>> {
        let (before, after) = match range {
            EventRange::Newest => (i64::MAX, None),
            EventRange::Before(id) => (id, None),
            EventRange::After(id) => (i64::MAX, Some(id)),
        };
        let events = if let Some(after) = after {
            sqlx::query_as!(
                Event,
                "select id, at, kind, subject, text from event where id > $1 order by id limit $2",
                after,
                limit
            )
            .fetch_all(&self.pool)
            .await?
        } else {
            sqlx::query_as!(
                Event,
                "select id, at, kind, subject, text from event where id < $1 order by id desc limit $2",
                before,
                limit
            )
            .fetch_all(&self.pool)
            .await?
        };
        Ok(events)
    }

    /// Deletes all events but the newest `keep`, or fewer where ids were not used. Locks the rows that it deletes.
    pub async fn sweep_events(&self, keep: i64) -> Result<u64> {
        let deleted = sqlx::query!(
            "delete from event where id <= (select max(id) from event) - $1::bigint",
            keep
        )
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Records that a MoM has found out by itself, and late, that queues which it had at these epochs are others'. It does
    /// so for one that was taken for down, now or until a moment ago: one that is up was told, or about to be.
    pub async fn record_fenced(
        &self,
        mom_id: Uuid,
        queue_ids: &[Uuid],
        epochs: &[i64],
    ) -> Result<()> {
        sqlx::query!(
            "insert into event (kind, subject, text)
            select
                'mom_fenced', mom_address(m.host, m.port),
                'it went on with queues that had been given to others: '
                    || array_to_string((array_agg(q.label order by q.label))[1:10], ', ')
                    || case when count(*) > 10 then ' and ' || count(*) - 10 || ' more' else '' end
            from mom m
            cross join unnest($2::uuid[], $3::bigint[]) as lost (queue_id, epoch)
            join queue q on q.id = lost.queue_id and q.epoch > lost.epoch
            where m.id = $1 and (not m.is_up or m.since > now() - interval '10 seconds')
            group by m.id",
            mom_id,
            queue_ids,
            epochs
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
