//! The subcommand `retention`: pushes at full speed for longer than messages are retained, once with and once without
//! messages expiring, and how the table of batches and the speed go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection};
use testkit::Cluster;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::flow::{Source, Tally, push_singly};
use crate::options::RetentionShape;
use crate::peers::{CONNECTIONS, Contender, System};
use crate::plot::{Curve, Line, publish};
use crate::progress::stage;

const IN_FLIGHT: usize = 256;
/// As long as a message can be retained at the most.
const FOR_EVER: u64 = 3_153_600_000;

/// What one run showed, second by second.
#[derive(Default)]
struct Run {
    /// Acknowledged in that second.
    rate: Vec<(f64, f64)>,
    /// MiB of the table with its index and what it keeps aside.
    size: Vec<(f64, f64)>,
    /// Rows that are there and rows that wait to be vacuumed, as PostgreSQL estimates them.
    live: Vec<(f64, f64)>,
    dead: Vec<(f64, f64)>,
}

/// Measures both and prints them.
pub(crate) async fn retention(shape: &RetentionShape, json: bool) -> Result<bool> {
    let progress = stage(json);
    let mut curves = [
        ("Pushes of 128 B at full speed", "messages/s"),
        (
            "Size of message_batch and message_content, indexes and toast included",
            "MiB",
        ),
    ]
    .map(|(title, y)| Curve {
        title: title.to_owned(),
        x: "seconds",
        y,
        logarithmic: false,
        lines: Vec::new(),
        beside: Vec::new(),
    });
    let unexpired_secs = shape.unexpired_secs.unwrap_or(shape.secs);
    for (name, ttl, secs) in [
        (
            format!("retained {} s", shape.ttl),
            shape.ttl.get(),
            shape.secs,
        ),
        ("never expired".to_owned(), FOR_EVER, unexpired_secs),
    ] {
        progress.set_message(format!("{name}: starting a cluster"));
        let system = System::of(Cluster::builder().message_ttl(ttl)).await?;
        let tell = |second: u64| progress.set_message(format!("{name}: second {second}"));
        let run = push(&system, secs.get(), shape.size, tell).await?;
        let line = |name: String, points| Line { name, points };
        let [rate, size] = &mut curves;
        rate.lines.push(line(name.clone(), run.rate));
        size.lines.push(line(name.clone(), run.size));
        size.beside
            .push(line(format!("live rows, {name}"), run.live));
        size.beside
            .push(line(format!("dead rows, {name}"), run.dead));
    }
    progress.finish_and_clear();
    publish("Retention", &curves, json, shape.svg.as_deref())?;
    Ok(true)
}

async fn push(system: &System, secs: u64, size: usize, tell: impl Fn(u64)) -> Result<Run> {
    let mut connection = PgConnection::connect(&system.cluster().database_url())
        .await
        .context("connecting to PostgreSQL")?;
    let queue = system.create(0).await?;
    let mut lanes = Vec::new();
    for index in 0..CONNECTIONS {
        lanes.push(system.lane(&queue, index, IN_FLIGHT).await?);
    }
    let tally = Tally::new(u64::MAX);
    let mut pushing = JoinSet::new();
    for lane in lanes {
        pushing.spawn(push_singly(lane, Source::at_once(&tally, size), IN_FLIGHT));
    }
    let mut run = Run::default();
    let started = Instant::now();
    let (mut acked, mut since) = (tally.acked(), started);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    second.tick().await;
    while started.elapsed().as_secs() < secs {
        second.tick().await;
        let (acked_now, now) = (tally.acked(), Instant::now());
        let at = (now - started).as_secs_f64().round();
        run.rate
            .push((at, (acked_now - acked) as f64 / (now - since).as_secs_f64()));
        (acked, since) = (acked_now, now);
        let (bytes, live, dead): (i64, i64, i64) = sqlx::query_as(
            "select
                pg_total_relation_size('message_batch')
                    + (select sum(pg_total_relation_size(relid)) from pg_partition_tree('message_content'))::bigint,
                coalesce(n_live_tup, 0), coalesce(n_dead_tup, 0)
             from pg_stat_user_tables where relname = 'message_batch'",
        )
        .fetch_one(&mut connection)
        .await
        .context("asking for the size of message_batch")?;
        run.size.push((at, bytes as f64 / (1024.0 * 1024.0)));
        run.live.push((at, live as f64));
        run.dead.push((at, dead as f64));
        tell(at as u64);
    }
    tally.stop();
    while let Some(ended) = pushing.join_next().await {
        ended.context("a lane's task ended early")??;
    }
    Ok(run)
}
