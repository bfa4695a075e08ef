//! The subcommand `scale`: what rusty-mom does and costs as queues, subscriptions, messages and subscribers grow.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use futures_util::{StreamExt, TryStreamExt, stream};
use momclient::Subscriber;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::compare::workload::{Extent, Measured, Workload};
use crate::memory::Memory;
use crate::options::ScaleShape;
use crate::peers::{CONNECTIONS, Contender, System};
use crate::plot::{Curve, Line, publish};
use crate::progress::stage;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Growth {
    /// Queues that are pushed to.
    Queues,
    /// Subscriptions with nothing to receive.
    Idle,
    /// Bytes in a message.
    Sizes,
    /// Subscribers that receive what is pushed.
    Subscribers,
}

/// In flight over all queues, so that more queues are not more load.
const IN_FLIGHT: usize = 1_024;
const QUEUES: [usize; 7] = [1, 3, 10, 30, 100, 300, 1_000];
const IDLE: [usize; 7] = [0, 100, 300, 1_000, 3_000, 6_000, 10_000];
const SIZES: [usize; 6] = [128, 512, 2_048, 8_192, 32_768, 65_536];
const SUBSCRIBERS: [usize; 5] = [1, 3, 10, 30, 100];
/// Subscriptions that are opened at a time.
const OPENING: usize = 32;

/// Measures what is asked for and prints it.
pub(crate) async fn scale(shape: &ScaleShape, json: bool) -> Result<bool> {
    allow_many_connections();
    let progress = stage(json);
    let extent = Extent {
        time: Duration::from_secs_f64(shape.secs.clamp(0.1, 600.0)),
        backlog: std::num::NonZeroU64::MIN,
    };
    let mut curves = Vec::new();
    for growth in Growth::value_variants() {
        if !shape.growth.is_empty() && !shape.growth.contains(growth) {
            continue;
        }
        // One after the other would be measured in the ruins of the one before.
        progress.set_message("starting a cluster");
        let system = System::start().await?;
        let tell = |step: usize| progress.set_message(format!("{growth:?}: {step}"));
        curves.extend(match growth {
            Growth::Queues => queues(&system, &extent, tell).await?,
            Growth::Idle => idle(&system, tell).await?,
            Growth::Sizes => sizes(&system, &extent, tell).await?,
            Growth::Subscribers => subscribers(&system, &extent, tell).await?,
        });
    }
    progress.finish_and_clear();
    publish("rusty-mom as it grows", &curves, json, shape.svg.as_deref())?;
    Ok(true)
}

async fn queues(system: &System, extent: &Extent, tell: impl Fn(usize)) -> Result<Vec<Curve>> {
    let mut runs = Vec::new();
    for queues in QUEUES {
        tell(queues);
        let workload = Workload::Push {
            size: 128,
            queues,
            connections: 1,
            in_flight: (IN_FLIGHT / queues).max(1),
        };
        runs.push((queues, run(system, workload, extent).await?));
    }
    let title = format!("Pushes of 128 B, {IN_FLIGHT} in flight over all queues");
    Ok(vec![rates(title, "queues", "messages/s", &runs)])
}

async fn sizes(system: &System, extent: &Extent, tell: impl Fn(usize)) -> Result<Vec<Curve>> {
    let mut runs = Vec::new();
    for size in SIZES {
        tell(size);
        let workload = Workload::Push {
            size,
            queues: 1,
            connections: CONNECTIONS,
            in_flight: 64,
        };
        runs.push((size, run(system, workload, extent).await?));
    }
    let mut bytes = rates(
        "Pushes as messages grow, 4 × 64 in flight".to_owned(),
        "bytes in a message",
        "MB/s",
        &runs,
    );
    let messages = std::mem::take(&mut bytes.lines[0]);
    let per_second = messages
        .points
        .iter()
        .map(|(size, rate)| (*size, size * rate / 1e6));
    bytes.lines[0] = Line {
        name: "MB/s".to_owned(),
        points: per_second.collect(),
    };
    bytes.beside.insert(0, messages);
    Ok(vec![bytes])
}

async fn subscribers(system: &System, extent: &Extent, tell: impl Fn(usize)) -> Result<Vec<Curve>> {
    let mut runs = Vec::new();
    for subscribers in SUBSCRIBERS {
        tell(subscribers);
        let workload = Workload::FanOut { subscribers };
        runs.push((subscribers, run(system, workload, extent).await?));
    }
    Ok(vec![rates(
        "Deliveries of 128 B, to all subscribers together".to_owned(),
        "subscribers",
        "deliveries/s",
        &runs,
    )])
}

/// What subscriptions hold in memory that receive nothing, each over a connection of its own.
async fn idle(system: &System, tell: impl Fn(usize)) -> Result<Vec<Curve>> {
    let memory = Memory::watch(system.mom_pid()?);
    let queue = system.create(0).await?;
    let client = system.client();
    let channel = client.create_channel(&queue, None).await?;
    let mut open: Vec<Subscriber> = Vec::new();
    let (mut resident, mut each) = (Vec::new(), Vec::new());
    let mut empty = 0.0;
    for count in IDLE {
        tell(count);
        let more = count - open.len();
        let opened = stream::iter(0..more)
            .map(|_| client.subscribe(&channel.id).into_future())
            .buffer_unordered(OPENING)
            .try_collect::<Vec<_>>()
            .await;
        match opened {
            Ok(opened) => open.extend(opened),
            Err(error) => {
                eprintln!(
                    "rmom-bench: no more than {} subscriptions: {error}",
                    open.len()
                );
                break;
            }
        }
        let bytes = memory.now_kib()? as f64 * 1024.0;
        if count == 0 {
            empty = bytes;
        } else {
            each.push((count as f64, (bytes - empty) / count as f64));
        }
        resident.push((count as f64, bytes / (1024.0 * 1024.0)));
    }
    if resident.is_empty() {
        bail!("not even the first subscription could be opened");
    }
    Ok(vec![Curve {
        title: "Memory of the MoM with idle subscriptions, each over a connection of its own"
            .to_owned(),
        x: "subscriptions",
        y: "MiB resident",
        logarithmic: false,
        lines: vec![Line {
            name: "MiB resident".to_owned(),
            points: resident,
        }],
        beside: vec![Line {
            name: "bytes each".to_owned(),
            points: each,
        }],
    }])
}

async fn run(system: &System, workload: Workload, extent: &Extent) -> Result<Measured> {
    let measured = workload.run(system, extent, None).await?;
    measured.context("rusty-mom has every workload")
}

/// The first value of each run, and beside it what a million messages cost each process.
fn rates(title: String, x: &'static str, y: &'static str, runs: &[(usize, Measured)]) -> Curve {
    let line = |name: &str, value: &dyn Fn(&Measured) -> f64| Line {
        name: name.to_owned(),
        points: runs
            .iter()
            .map(|(x, measured)| (*x as f64, value(measured)))
            .collect(),
    };
    let processes = runs.first().map_or(&[][..], |(_, measured)| &measured.cpu);
    let beside = processes.iter().enumerate().map(|(index, (name, _))| {
        line(&format!("{name} CPU s/million"), &|measured: &Measured| {
            measured.cpu[index].1
        })
    });
    Curve {
        title,
        x,
        y,
        logarithmic: true,
        lines: vec![line("messages/s", &|measured| measured.values[0])],
        beside: beside.collect(),
    }
}

/// Each subscription is a socket here as well.
fn allow_many_connections() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("rmom-bench: the limit of open files stays: {error}");
    }
}
