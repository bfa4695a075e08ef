//! The subcommand `retention`: pushes at full speed for longer than messages are retained, with and without messages
//! expiring, in turns; how the tables of batches and the speed go on, and what it costs that messages expire.

use std::num::NonZeroU64;
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection};
use testkit::Cluster;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::compare::table::median;
use crate::cpu::Snapshot;
use crate::flow::{Source, Tally, push_singly};
use crate::options::RetentionShape;
use crate::peers::{CONNECTIONS, Contender, System};
use crate::plot::{Curve, Line, publish};
use crate::progress::stage;

const IN_FLIGHT: usize = 256;
/// As long as a message can be retained at the most.
const FOR_EVER: u64 = 3_153_600_000;
/// After that many times the retention messages have expired for as long as they had not.
const SETTLED: u64 = 2;

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
    /// CPU seconds of all servers for each one of the client, once expiry has settled: the client's are for the messages
    /// alone, on a machine that is as fast or slow as it is at the time.
    servers_cpu: Option<f64>,
}

impl Run {
    /// What the median second saw acknowledged, once expiry has settled.
    fn settled_rate(&self, ttl: u64) -> Option<f64> {
        let settled = self
            .rate
            .iter()
            .filter(|(at, _)| *at > (SETTLED * ttl) as f64);
        median(&settled.map(|(_, rate)| *rate).collect::<Vec<_>>())
    }
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
    let ttl = shape.ttl.get();
    let secs = [shape.secs, shape.unexpired_secs.unwrap_or(shape.secs)].map(NonZeroU64::get);
    let names = [format!("retained {ttl} s"), "never expired".to_owned()];
    let mut cost = Curve {
        title: "With expiry, of what it is without (medians after expiry has settled)".to_owned(),
        x: "round",
        y: "ratio",
        logarithmic: false,
        lines: ["messages/s", "servers' CPU for the client's"]
            .map(|name| line(name, Vec::new()))
            .into(),
        beside: Vec::new(),
    };
    for round in 0..shape.rounds.get() {
        let mut runs = [Run::default(), Run::default()];
        // In turns, so that what changes on the machine meanwhile is on neither side.
        for side in [round % 2, 1 - round % 2] {
            let name = &names[side];
            progress.set_message(format!("round {}, {name}: starting a cluster", round + 1));
            let retained = [ttl, FOR_EVER][side];
            let system = System::of(Cluster::builder().message_ttl(retained)).await?;
            let tell = |second: u64| {
                progress.set_message(format!("round {}, {name}: second {second}", round + 1));
            };
            runs[side] = push(&system, secs[side], shape, tell).await?;
        }
        let [with, without] = &runs;
        let ratio = |with: Option<f64>, without: Option<f64>| Some(with? / without?);
        let ratios = [
            ratio(with.settled_rate(ttl), without.settled_rate(ttl)),
            ratio(with.servers_cpu, without.servers_cpu),
        ];
        for (line, ratio) in cost.lines.iter_mut().zip(ratios) {
            line.points
                .extend(ratio.map(|ratio| ((round + 1) as f64, ratio)));
        }
        if round == 0 {
            for (name, run) in names.iter().zip(runs) {
                let [rate, size] = &mut curves;
                rate.lines.push(line(name, run.rate));
                size.lines.push(line(name, run.size));
                size.beside
                    .push(line(&format!("live rows, {name}"), run.live));
                size.beside
                    .push(line(&format!("dead rows, {name}"), run.dead));
            }
        }
    }
    progress.finish_and_clear();
    let mut curves = Vec::from(curves);
    if shape.rounds.get() > 1 {
        curves.push(cost);
    }
    publish("Retention", &curves, json, shape.svg.as_deref())?;
    Ok(true)
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    let name = name.to_owned();
    Line { name, points }
}

async fn push(
    system: &System,
    secs: u64,
    shape: &RetentionShape,
    tell: impl Fn(u64),
) -> Result<Run> {
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
        pushing.spawn(push_singly(
            lane,
            Source::at_once(&tally, shape.size),
            IN_FLIGHT,
        ));
    }
    let mut run = Run::default();
    let mut settled = None;
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
        if settled.is_none() && at as u64 >= SETTLED * shape.ttl.get() {
            settled = Some(Snapshot::take());
        }
        tell(at as u64);
    }
    run.servers_cpu = settled.map(|before| {
        let now = Snapshot::take();
        let client = now.of_process(process::id()) - before.of_process(process::id());
        let used = |(_, pid): (&str, u32)| now.of_tree(pid) - before.of_tree(pid);
        system.processes().into_iter().map(used).sum::<f64>() / client
    });
    tally.stop();
    while let Some(ended) = pushing.join_next().await {
        ended.context("a lane's task ended early")??;
    }
    Ok(run)
}
