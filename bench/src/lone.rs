//! The subcommand `lone`: what a push costs that has the system for itself, beside a bare insert.
//!
//! The insert is the least that any design on PostgreSQL must pay: one autocommit statement, prepared, over one
//! connection, into a table with nothing but the bytes. Rounds of both alternate, so that what the machine does
//! otherwise hits both.

use std::time::Instant;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::load::{histogram, payload};
use crate::options::LoneShape;
use crate::report::{Lone, Report};
use crate::system::System;

/// Runs all rounds; the first of each kind only warms up and is not counted.
pub(crate) async fn lone(system: &System, shape: &LoneShape) -> Result<Report> {
    let queues = system.create_queues(1).await?;
    let pusher = system
        .client()
        .pusher(&queues[0])
        .await
        .context("connecting a pusher")?;
    let url = system.database_url(shape.database_url.as_deref())?;
    let mut scratch = Scratch::create(&url).await?;
    let content = payload(shape.size);
    let (mut push_took, mut insert_took) = (histogram(), histogram());
    let measured = async {
        for round in 0..=shape.rounds.get() {
            if round == 1 {
                push_took.reset();
                insert_took.reset();
            }
            for _ in 0..shape.messages.get() {
                let started = Instant::now();
                pusher
                    .push(content.clone(), None)
                    .await
                    .context("a push failed")?;
                record(&mut push_took, started);
            }
            for _ in 0..shape.messages.get() {
                let started = Instant::now();
                scratch.insert(&content).await?;
                record(&mut insert_took, started);
            }
        }
        anyhow::Ok(())
    }
    .await;
    scratch.drop_table().await?;
    measured?;
    let (push, insert) = (
        push_took.value_at_quantile(0.5),
        insert_took.value_at_quantile(0.5),
    );
    let ratio = (push as f64 / insert.max(1) as f64 * 1000.0).round() / 1000.0;
    let lone = Lone {
        push_us_p50: push,
        insert_us_p50: insert,
        ratio,
    };
    Ok(Report::of_lone(shape, &push_took, lone))
}

fn record(histogram: &mut Histogram<u64>, started: Instant) {
    histogram.saturating_record(started.elapsed().as_micros() as u64);
}

/// A plain table with nothing but bytes, over a connection of its own.
struct Scratch {
    connection: PgConnection,
    table: String,
    insert: String,
}

impl Scratch {
    async fn create(url: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(url)
            .await
            .context("connecting to PostgreSQL")?;
        let table = format!("rmom_bench_{}", uuid::Uuid::now_v7().simple());
        let create = format!("create table {table} (content bytea not null)");
        sqlx::query(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .with_context(|| format!("creating the scratch table {table}"))?;
        let insert = format!("insert into {table} (content) values ($1)");
        Ok(Self {
            connection,
            table,
            insert,
        })
    }

    async fn insert(&mut self, content: &[u8]) -> Result<()> {
        sqlx::query(AssertSqlSafe(self.insert.as_str()))
            .bind(content)
            .execute(&mut self.connection)
            .await
            .with_context(|| format!("inserting into the scratch table {}", self.table))?;
        Ok(())
    }

    async fn drop_table(mut self) -> Result<()> {
        sqlx::query(AssertSqlSafe(format!("drop table {}", self.table)))
            .execute(&mut self.connection)
            .await
            .with_context(|| format!("dropping the scratch table {}", self.table))?;
        self.connection
            .close()
            .await
            .context("closing the connection to PostgreSQL")
    }
}
