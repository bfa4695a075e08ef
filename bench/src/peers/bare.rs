//! PostgreSQL without anything before it: what the store of rusty-mom could do at the most for one that needs no queues.
//!
//! A push of one message is one autocommitted insert of one row; a batch is one row as well, with all bytes in one
//! column. Nothing is numbered, nothing can be told apart, nothing is read.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::flow::Sink;
use crate::peers::{About, Contender, Inlet, Lane, System};

pub(crate) const KEY: &str = "bare";
/// A connection takes one statement at a time, so there have to be many for PostgreSQL to sync several commits at once;
/// more than this only contend.
pub(crate) const POOL: u32 = 32;

pub(crate) struct Bare {
    pool: PgPool,
    system: System,
    about: About,
}

impl Bare {
    pub(crate) async fn connect(system: System) -> Result<Self> {
        let pool = pool(&system).await?;
        let version = system.cluster().psql("show server_version").await?;
        let about = About {
            key: KEY,
            name: "PostgreSQL, bare",
            version: format!("PostgreSQL {version}"),
            promise: "committed: in the log, and that synced to disk",
            synced: true,
            settings: format!(
                "one autocommitted row a message, or one row a batch, into a table with one bytea; {POOL} connections"
            ),
        };
        Ok(Self {
            pool,
            system,
            about,
        })
    }
}

/// Connections to the database of rusty-mom.
pub(crate) async fn pool(system: &System) -> Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(POOL)
        // A ping before each statement would double its cost.
        .test_before_acquire(false)
        .connect(&system.cluster().database_url())
        .await
        .context("connecting to PostgreSQL")
}

/// A table's name of its own.
pub(crate) fn table() -> String {
    format!("compare_{}", uuid::Uuid::now_v7().simple())
}

impl Contender for Bare {
    type Lane = Inserting;
    type Inlet = Nothing;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        vec![("postgres", self.system.postgres_pid())]
    }

    fn most_subscribers(&self) -> usize {
        0
    }

    async fn create(&self, _subscribers: usize) -> Result<String> {
        let table = table();
        let sql = format!(
            "create table {table} (content bytea not null);
             alter table {table} alter column content set storage external"
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

    async fn lane(&self, queue: &str, _index: usize, _in_flight: usize) -> Result<Inserting> {
        Ok(Inserting {
            pool: self.pool.clone(),
            insert: format!("insert into {queue} (content) values ($1)").into(),
        })
    }

    async fn inlet(&self, _queue: &str, _index: usize) -> Result<Nothing> {
        Ok(Nothing)
    }
}

pub(crate) struct Inserting {
    pool: PgPool,
    insert: Arc<str>,
}

impl Lane for Inserting {
    async fn push(&self, contents: Vec<Bytes>) -> Result<()> {
        let row = contents.concat();
        sqlx::query(AssertSqlSafe(self.insert.clone()))
            .bind(row)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Nothing is read.
pub(crate) struct Nothing;

impl Inlet for Nothing {
    async fn read(&mut self, _sink: &mut Sink) -> Result<Infallible> {
        bail!("a bare table has no subscribers")
    }
}
