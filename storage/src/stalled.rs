//! Getting past sessions that hold a lock and do nothing.
//!
//! A process that is frozen, or that the network has cut off, in the middle of a transaction or of the protocol leaves
//! a session in the server that waits for its client, holds its locks, and is struck by no timeout of statements or
//! idleness. What must not wait for it, such as the takeover of its queues, ends it. Its client can tell that from any
//! other broken connection by nothing, and so has to cope with it anyway.

use std::pin::Pin;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{Error, Result, Store};

/// `lock_timeout` of a first try, which costs no more than the work itself: longer than any append holds a lock.
const FIRST: &str = "300ms";
/// `lock_timeout` of the second try, for what really works.
const SECOND: &str = "2s";
/// How often the second try is looked at while it waits.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Seconds for which a session waits for its client before it counts as stalled. It has held the lock since before the
/// first try, so this only spares one that goes from statement to statement.
const STALLED_SECS: f64 = 0.25;

/// What [`Store::past_stalled`] does once or twice.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

impl Store {
    /// Does `work`, which gets its `lock_timeout`, and if that cannot have a lock does it again while a second
    /// connection ends the stalled sessions that are in the way. [`Error::Locked`] if one is in the way that works.
    pub(crate) async fn past_stalled<T>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection, &'static str) -> Work<'c, T>,
    ) -> Result<T> {
        let mut connection = self.pool.acquire().await?;
        match work(&mut connection, FIRST).await {
            Err(Error::Locked(_)) => {}
            result => return result,
        }
        // One of its own: those who wait for locks may have used the pool up.
        let mut second = PgConnection::connect_with(&self.options).await?;
        let waiting = sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#)
            .fetch_one(&mut *connection)
            .await?;
        let outcome = {
            let mut work = work(&mut connection, SECOND);
            loop {
                tokio::select! {
                    outcome = &mut work => break outcome,
                    () = sleep(LOOK_PERIOD) => end_stalled(&mut second, waiting).await?,
                }
            }
        };
        // It has served its purpose; a failure to say goodbye changes nothing.
        let _ = second.close().await;
        outcome
    }
}

/// Ends the sessions that the session `waiting` waits for, directly or by way of others, if they wait for their client.
async fn end_stalled(connection: &mut PgConnection, waiting: i32) -> Result<()> {
    let ended = sqlx::query!(
        r#"with recursive blocking as (
            select unnest(pg_blocking_pids($1)) as pid
            union
            select unnest(pg_blocking_pids(pid)) from blocking
        )
        select
            a.pid as "pid!",
            coalesce(a.application_name, '') as "application!",
            coalesce(a.state, '') as "state!",
            pg_terminate_backend(a.pid) as "is_ended!"
        from blocking
        join pg_stat_activity a on a.pid = blocking.pid
        -- Between the statements of a transaction, in the middle of the protocol, or while it sends.
        where a.wait_event_type = 'Client' and a.state_change < clock_timestamp() - make_interval(secs => $2)"#,
        waiting,
        STALLED_SECS
    )
    .fetch_all(connection)
    .await?;
    for session in ended.iter().filter(|session| session.is_ended) {
        tracing::warn!(
            pid = session.pid,
            application = session.application,
            state = session.state,
            "ended a session that held a lock and waited for its client"
        );
    }
    Ok(())
}
