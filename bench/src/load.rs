//! Pushes: so many messages, over so many connections, with so many in flight on each.
//!
//! One task a connection keeps its pushes in flight and records what became of each; what it records is its own until
//! it ends, so that measuring takes no locks.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use momclient::{Pusher, Receipt};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::options::{Options, Shape};
use crate::progress::{Counters, Progress};
use crate::report::Report;
use crate::system::System;

/// Acknowledgements of one queue: the sequence of each and a fingerprint of its id.
pub(crate) type Acks = Vec<(i64, u32)>;

/// More than a pusher ever has in flight that pushes at a rate which the system can take.
const MOST_IN_FLIGHT: usize = 65_536;

/// What all connections share.
pub(crate) struct Load {
    payload: Bytes,
    topic: Option<String>,
    in_flight: usize,
    pub(crate) counters: Arc<Counters>,
    /// Set when a MoM was killed: from then on the instants of acknowledgements are kept.
    pub(crate) killed_at: OnceLock<Instant>,
    /// When to stop pushing, where there are no so many messages to push.
    ends_at: Option<Instant>,
}

/// What became of the pushes.
pub(crate) struct Pushed {
    /// By queue.
    pub(crate) acks: Vec<Acks>,
    /// In microseconds, from the call to its answer.
    pub(crate) latency: Histogram<u64>,
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    /// Acknowledgements after [`Load::killed_at`], in order.
    pub(crate) after_kill: Vec<Instant>,
}

/// One connection's share.
struct Lane {
    queue: usize,
    pusher: Pusher,
    messages: u64,
}

struct LaneOutcome {
    queue: usize,
    acks: Acks,
    latency: Histogram<u64>,
    failed: u64,
    first_failure: Option<momclient::Error>,
    after_kill: Vec<Instant>,
}

/// Connections that are open and wait for [`Lanes::run`].
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    queues: usize,
}

/// The subcommand `push`.
pub(crate) async fn push(system: &System, shape: &Shape, options: &Options) -> Result<Report> {
    let queues = system.create_queues(shape.queues.get()).await?;
    let load = Arc::new(Load::new(shape));
    let lanes = Lanes::open(system, &queues, shape).await?;
    let progress = Progress::show(&load.counters, shape.messages, options.json);
    let pushed = lanes.run(&load).await?;
    drop(progress);
    Ok(Report::of_push("push", shape, &pushed))
}

/// Tells messages apart with 4 bytes: the end of a UUIDv7 is random. Never 0, which stands for "not received".
pub(crate) fn fingerprint(id: &uuid::Uuid) -> u32 {
    (id.as_u128() as u32).max(1)
}

impl Load {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            payload: payload(shape.size),
            topic: shape.topic.clone(),
            in_flight: shape.in_flight.get(),
            counters: Arc::default(),
            killed_at: OnceLock::new(),
            ends_at: None,
        }
    }

    /// Whether there is time left to push.
    fn goes_on(&self) -> bool {
        self.ends_at.is_none_or(|end| Instant::now() < end)
    }
}

impl Lanes {
    /// Opens all connections, so that what is measured starts with connections that are there.
    pub(crate) async fn open(system: &System, queues: &[String], shape: &Shape) -> Result<Self> {
        let count = queues.len() * shape.connections.get();
        let mut lanes = Vec::with_capacity(count);
        for index in 0..count {
            let queue = index % queues.len();
            let pusher = open_pusher(system, &queues[queue], shape.in_flight.get()).await?;
            let extra = u64::from((index as u64) < shape.messages % count as u64);
            lanes.push(Lane {
                queue,
                pusher,
                messages: shape.messages / count as u64 + extra,
            });
        }
        Ok(Self {
            lanes,
            queues: queues.len(),
        })
    }

    /// Pushes for so many seconds instead of so many messages. Also tells how many were acknowledged in each.
    pub(crate) async fn run_for(
        mut self,
        shape: &Shape,
        seconds: u64,
    ) -> Result<(Pushed, Vec<u64>)> {
        for lane in &mut self.lanes {
            lane.messages = u64::MAX;
        }
        let started = Instant::now();
        let mut load = Load::new(shape);
        load.ends_at = Some(started + Duration::from_secs(seconds));
        let load = Arc::new(load);
        let by_second = async {
            let mut counts = Vec::new();
            let mut before = 0;
            for second in 1..=seconds {
                sleep_until((started + Duration::from_secs(second)).into()).await;
                let now = load.counters.acked();
                counts.push(now - before);
                before = now;
            }
            counts
        };
        let (pushed, counts) = tokio::join!(self.run(&load), by_second);
        Ok((pushed?, counts))
    }

    /// Pushes everything and waits for the last answer.
    pub(crate) async fn run(self, load: &Arc<Load>) -> Result<Pushed> {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for lane in self.lanes {
            running.spawn(lane.run(load.clone()));
        }
        let mut pushed = Pushed {
            acks: vec![Acks::new(); self.queues],
            latency: histogram(),
            failed: 0,
            elapsed: Duration::ZERO,
            after_kill: Vec::new(),
        };
        while let Some(outcome) = running.join_next().await {
            let outcome = outcome.context("a connection's task ended early")?;
            pushed.acks[outcome.queue].extend(outcome.acks);
            pushed
                .latency
                .add(&outcome.latency)
                .context("adding up latencies")?;
            pushed.failed += outcome.failed;
            pushed.after_kill.extend(outcome.after_kill);
            if let Some(error) = outcome.first_failure {
                eprintln!("rmom-bench: a push failed: {error}");
            }
        }
        pushed.elapsed = started.elapsed();
        pushed.after_kill.sort_unstable();
        Ok(pushed)
    }
}

/// Pushers for those who push at a rate of their own.
pub(crate) async fn open_pushers(
    system: &System,
    queue: &str,
    count: usize,
) -> Result<Vec<Pusher>> {
    let mut pushers = Vec::with_capacity(count);
    for _ in 0..count {
        pushers.push(open_pusher(system, queue, MOST_IN_FLIGHT).await?);
    }
    Ok(pushers)
}

/// A pusher over a connection of its own.
async fn open_pusher(system: &System, queue: &str, in_flight: usize) -> Result<Pusher> {
    system
        .another_client()?
        .pusher(queue)
        .in_flight(in_flight)
        .deadline(Duration::from_mins(1))
        .await
        .with_context(|| format!("connecting a pusher to the queue {queue}"))
}

impl Lane {
    async fn run(self, load: Arc<Load>) -> LaneOutcome {
        let mut outcome = LaneOutcome {
            queue: self.queue,
            acks: Acks::with_capacity(self.messages.min(1 << 20) as usize),
            latency: histogram(),
            failed: 0,
            first_failure: None,
            after_kill: Vec::new(),
        };
        let push = || async {
            let started = Instant::now();
            let receipt = self
                .pusher
                .push(load.payload.clone(), load.topic.as_deref())
                .await;
            (started.elapsed(), receipt)
        };
        let mut left = self.messages;
        let mut in_flight = FuturesUnordered::new();
        while left > 0 && in_flight.len() < load.in_flight {
            in_flight.push(push());
            left -= 1;
        }
        while let Some((took, receipt)) = in_flight.next().await {
            if left > 0 && load.goes_on() {
                in_flight.push(push());
                left -= 1;
            }
            outcome.record(took, receipt, &load);
        }
        drop(in_flight);
        outcome
    }
}

impl LaneOutcome {
    fn record(&mut self, took: Duration, receipt: Result<Receipt, momclient::Error>, load: &Load) {
        match receipt {
            Ok(receipt) => {
                self.acks.push((receipt.seq, fingerprint(&receipt.id)));
                self.latency.saturating_record(took.as_micros() as u64);
                load.counters.add_acked(1);
                if load.killed_at.get().is_some() {
                    self.after_kill.push(Instant::now());
                }
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }
}

/// Microseconds up to two minutes, with three significant figures.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are constants and legal")
}

/// Bytes that do not compress, the same for all messages: making new ones for each would measure the generator.
pub(crate) fn payload(size: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // A xorshift generator, after Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}
