//! pgmq: a queue as a table of PostgreSQL, a row a message.
//!
//! Not the extension, which Debian does not package, but what it does: the table and the index that `pgmq.create` makes
//! and the statements that `pgmq.send`, `pgmq.send_batch` and `pgmq.pop` run, on the PostgreSQL of rusty-mom. They are
//! prepared, so this is if anything faster than the extension, which plans them anew inside its functions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::sleep;

use crate::flow::Sink;
use crate::peers::bare::{POOL, pool, table};
use crate::peers::{About, Contender, Inlet, Lane, System};

pub(crate) const KEY: &str = "pgmq";
/// How long a reader pauses that found nothing. The extension's own pause is 100 ms.
const POLL: Duration = Duration::from_millis(1);
/// Messages that are popped at a time.
const PAGE: i32 = 1_000;

pub(crate) struct Pgmq {
    pool: PgPool,
    system: System,
    about: About,
}

impl Pgmq {
    pub(crate) async fn connect(system: System) -> Result<Self> {
        let pool = pool(&system).await?;
        let version = system.cluster().psql("show server_version").await?;
        let about = About {
            key: KEY,
            name: "pgmq (its statements)",
            version: format!("the statements of pgmq 1.5, on PostgreSQL {version}"),
            promise: "committed: in the log, and that synced to disk",
            synced: true,
            settings: format!(
                "send, send_batch, pop of {PAGE}; {POOL} connections; a reader looks again after {} ms; \
                 a message goes to one reader",
                POLL.as_millis()
            ),
        };
        Ok(Self {
            pool,
            system,
            about,
        })
    }
}

impl Contender for Pgmq {
    type Lane = Sending;
    type Inlet = Popping;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        vec![("postgres", self.system.postgres_pid())]
    }

    fn most_subscribers(&self) -> usize {
        1
    }

    async fn create(&self, _subscribers: usize) -> Result<String> {
        let table = table();
        let sql = format!(
            "create table {table} (
                 msg_id bigint primary key generated always as identity,
                 read_ct int default 0 not null,
                 enqueued_at timestamp with time zone default now() not null,
                 vt timestamp with time zone not null,
                 message jsonb,
                 headers jsonb
             );
             create index {table}_vt_idx on {table} (vt asc)"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await?;
        Ok(table)
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        let sql = format!("drop table {queue}");
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await?;
        self.system.tidy().await
    }

    async fn lane(&self, queue: &str, _index: usize, _in_flight: usize) -> Result<Sending> {
        let insert = |values: &str| {
            format!("insert into {queue} (vt, message, headers) {values} returning msg_id").into()
        };
        Ok(Sending {
            pool: self.pool.clone(),
            send: insert("values (clock_timestamp(), $1::jsonb, null)"),
            send_batch: insert("select clock_timestamp(), unnest($1::jsonb[]), null::jsonb"),
        })
    }

    async fn inlet(&self, queue: &str, _index: usize) -> Result<Popping> {
        let pop = format!(
            "with cte as (
                 select msg_id from {queue} where vt <= clock_timestamp()
                 order by msg_id asc limit $1 for update skip locked
             )
             delete from {queue} where msg_id in (select msg_id from cte)
             returning msg_id, message #>> '{{}}'"
        );
        Ok(Popping {
            pool: self.pool.clone(),
            pop: pop.into(),
        })
    }
}

pub(crate) struct Sending {
    pool: PgPool,
    send: Arc<str>,
    send_batch: Arc<str>,
}

impl Lane for Sending {
    async fn push(&self, contents: Vec<Bytes>) -> Result<()> {
        let mut messages = Vec::with_capacity(contents.len());
        for content in &contents {
            // A string of JSON. The payload has no letter that would have to be escaped.
            messages.push(format!("\"{}\"", std::str::from_utf8(content)?));
        }
        let statement = match messages.len() {
            1 => sqlx::query(AssertSqlSafe(self.send.clone())).bind(messages.pop()),
            _ => sqlx::query(AssertSqlSafe(self.send_batch.clone())).bind(messages),
        };
        statement.fetch_all(&self.pool).await?;
        Ok(())
    }
}

pub(crate) struct Popping {
    pool: PgPool,
    pop: Arc<str>,
}

impl Inlet for Popping {
    async fn read(&mut self, sink: &mut Sink) -> Result<Infallible> {
        loop {
            let page: Vec<(i64, String)> = sqlx::query_as(AssertSqlSafe(self.pop.clone()))
                .bind(PAGE)
                .fetch_all(&self.pool)
                .await?;
            if page.is_empty() {
                sleep(POLL).await;
            }
            for (_, message) in page {
                sink.take(message.as_bytes());
            }
        }
    }
}
