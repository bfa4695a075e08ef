//! The subcommand `slow`: whether a subscriber that does not read, and one that reads slowly, are felt by anybody.
//!
//! Pushes come at a fixed rate, half of what the system can take with all these subscribers. Each bears the instant at
//! which it was due, and latencies count from there, so that a push that had to wait for earlier ones is not taken for a
//! fast one; due are those of a millisecond at once. Client and system share their processors and the client's clock.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use momclient::{Pusher, Receipt, Subscriber};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::load::{Acks, Lanes, fingerprint, histogram, open_pushers, payload};
use crate::memory::{Memory, mib};
use crate::options::{Options, Shape, SlowShape, count};
use crate::overload::Quantiles;
use crate::progress::stage;
use crate::receive::{Received, Verdict};
use crate::report::{Report, rate, row};
use crate::system::System;

/// Seconds for which the capacity is measured; the first one only warms up.
const CAPACITY_SECS: u64 = 4;
/// Connections that push.
const CONNECTIONS: usize = 4;
/// How long a subscriber may wait for what it is due.
const PATIENCE: Duration = Duration::from_secs(30);
/// The slow one takes one message and then pauses for so long.
const PAUSE: Duration = Duration::from_millis(1);
/// More than lies in the buffers between a MoM and a subscriber that does not read.
const PROVEN_BEHIND: u64 = 20_000;
/// What tells a push with a stamp from one that is not measured.
const MAGIC: [u8; 8] = *b"stamped:";
const STAMP: usize = MAGIC.len() + 9;

/// What two slow subscribers cost the others.
#[derive(Debug, Serialize)]
pub(crate) struct Slow {
    capacity_per_s: f64,
    rate_per_s: f64,
    without: Phase,
    with: Phase,
    /// With divided by without.
    push_ratio: Ratio,
    delivery_ratio: Ratio,
    mom_kib_before: u64,
    mom_kib_without_most: u64,
    mom_kib_with_most: u64,
    mom_kib_after: u64,
    /// How far behind they were when they were let go.
    stopped_behind: u64,
    dawdler_behind: u64,
    /// And how long it took them to come up.
    caught_up_in_ms: u64,
}

/// One of two runs that differ in nothing but the slow subscribers.
#[derive(Debug, Serialize)]
struct Phase {
    push_us: Quantiles,
    delivery_us: Quantiles,
    acked_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Ratio {
    p50: f64,
    p99: f64,
}

/// What the pushers of a phase found.
struct Pushes {
    acks: Acks,
    took: Histogram<u64>,
    failed: u64,
}

/// What a subscriber found: its book, and the latencies of each phase.
struct Heard {
    received: Received,
    took: [Histogram<u64>; 2],
}

/// Subscribers that read what comes.
struct Audience {
    live: JoinSet<Result<Heard>>,
    goal: watch::Sender<Option<i64>>,
}

/// One subscriber that does not read and one that reads slowly.
struct Late {
    stopped: Subscriber,
    slow: JoinHandle<Result<(Received, u64)>>,
    let_go: watch::Sender<bool>,
}

/// What they received in the end, and how far behind they were.
struct CaughtUp {
    stopped: Received,
    slow: Received,
    stopped_behind: u64,
    slow_behind: u64,
    took: Duration,
}

/// Subscribers read until they have this, once it is known.
type Goal = watch::Receiver<Option<i64>>;

/// Measures both phases.
pub(crate) async fn slow(system: &System, shape: &SlowShape, options: &Options) -> Result<Report> {
    ensure!(
        shape.size >= STAMP,
        "--size is too small; legal is {STAMP} and more"
    );
    let stage = stage(options.json);
    let dimensions = shape.dimensions();
    let queues = system.create_queues(1).await?;
    let queue = queues[0].as_str();
    let mom = system.cluster()?.mom(0);
    let memory = Memory::watch(mom.pid().context("the MoM does not run")?);
    let origin = Instant::now();
    let started = Instant::now();
    let audience = Audience::open(system, queue, shape.subscribers.get(), origin).await?;

    stage.set_message("measuring the capacity");
    let lanes = Lanes::open(system, &queues, &dimensions).await?;
    let (warm, by_second) = lanes.run_for(&dimensions, CAPACITY_SECS).await?;
    let counted: u64 = by_second.iter().skip(1).sum();
    let capacity = rate(counted, Duration::from_secs(CAPACITY_SECS - 1));
    let load = OpenLoop {
        pushers: open_pushers(system, queue, CONNECTIONS).await?,
        rate: capacity / 2.0,
        secs: shape.secs.get(),
        size: shape.size,
        origin,
    };
    let mom_kib_before = memory.now_kib()?;
    memory.take_most_kib();

    stage.set_message("without slow subscribers");
    let without = load.run(0).await?;
    let mom_kib_without_most = memory.take_most_kib();

    stage.set_message("with slow subscribers");
    let reached = without.acks.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
    let late = Late::open(system, queue, reached, audience.goal.subscribe()).await?;
    let with = load.run(1).await?;
    let mom_kib_with_most = memory.take_most_kib();

    stage.set_message("letting them read on");
    let last = with.acks.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
    audience.goal.send_replace(Some(last));
    let late = late.let_go(last, audience.goal.subscribe(), origin).await?;

    let acks: Acks = [&warm.acks[0], &without.acks, &with.acks]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let mut verdict = Verdict::default();
    let delivery = audience.finish(&acks, &mut verdict).await?;
    for received in [&late.stopped, &late.slow] {
        received.judge(&with.acks, &mut verdict);
    }
    stage.finish_and_clear();

    let failed = warm.failed + without.failed + with.failed;
    let took = &without.took;
    let mut report = Report::of_acks(
        "slow",
        &dimensions,
        std::slice::from_ref(&acks),
        failed,
        took,
        started.elapsed(),
    )
    .with_deliveries(shape.subscribers.get() + 2, &verdict, started.elapsed());
    if late.stopped_behind < PROVEN_BEHIND || delivery.iter().any(Histogram::is_empty) {
        report.proves_nothing = Some("nobody fell behind by more than what buffers take");
    }
    let phase = |pushes: &Pushes, delivery: &Histogram<u64>| Phase {
        push_us: Quantiles::of(&pushes.took),
        delivery_us: Quantiles::of(delivery),
        acked_per_s: rate(pushes.acks.len() as u64, Duration::from_secs(load.secs)),
    };
    let phases = (phase(&without, &delivery[0]), phase(&with, &delivery[1]));
    report.slow = Some(Slow {
        capacity_per_s: capacity,
        rate_per_s: load.rate,
        push_ratio: Ratio::of(phases.1.push_us, phases.0.push_us),
        delivery_ratio: Ratio::of(phases.1.delivery_us, phases.0.delivery_us),
        without: phases.0,
        with: phases.1,
        mom_kib_before,
        mom_kib_without_most,
        mom_kib_with_most,
        mom_kib_after: memory.now_kib()?,
        stopped_behind: late.stopped_behind,
        dawdler_behind: late.slow_behind,
        caught_up_in_ms: late.took.as_millis() as u64,
    });
    Ok(report)
}

impl SlowShape {
    fn dimensions(&self) -> Shape {
        Shape {
            size: self.size,
            connections: count(CONNECTIONS),
            in_flight: count(256),
            messages: 0,
            subscribers: self.subscribers,
            topic: None,
            queues: count(1),
        }
    }
}

impl Audience {
    async fn open(system: &System, queue: &str, count: usize, origin: Instant) -> Result<Self> {
        let goal = watch::Sender::new(None);
        let mut live = JoinSet::new();
        for _ in 0..count {
            let subscriber = subscribe(system, queue, 0).await?;
            live.spawn(listen(subscriber, goal.subscribe(), origin));
        }
        Ok(Self { live, goal })
    }

    /// Waits until all have come to the goal. Returns the latencies of both phases.
    async fn finish(mut self, acks: &Acks, verdict: &mut Verdict) -> Result<[Histogram<u64>; 2]> {
        let mut took = [histogram(), histogram()];
        while let Some(heard) = self.live.join_next().await {
            let heard = heard.context("a subscriber's task ended early")??;
            heard.received.judge(acks, verdict);
            for (all, one) in took.iter_mut().zip(&heard.took) {
                all.add(one)?;
            }
        }
        Ok(took)
    }
}

impl Late {
    async fn open(system: &System, queue: &str, after: i64, goal: Goal) -> Result<Self> {
        let let_go = watch::Sender::new(false);
        let slow = subscribe(system, queue, after).await?;
        Ok(Self {
            stopped: subscribe(system, queue, after).await?,
            slow: tokio::spawn(dawdle(slow, let_go.subscribe(), goal)),
            let_go,
        })
    }

    /// Lets both read on until the goal, which is `last`.
    async fn let_go(self, last: i64, goal: Goal, origin: Instant) -> Result<CaughtUp> {
        let stopped_behind = (last - self.stopped.last_seq()) as u64;
        let began = Instant::now();
        self.let_go.send_replace(true);
        let stopped = listen(self.stopped, goal, origin).await?.received;
        let slow = self.slow.await;
        let (slow, slow_behind) = slow.context("the slow subscriber's task ended early")??;
        Ok(CaughtUp {
            stopped,
            slow,
            stopped_behind,
            slow_behind,
            took: began.elapsed(),
        })
    }
}

/// Pushes that come when they are due, whatever became of earlier ones.
struct OpenLoop {
    pushers: Vec<Pusher>,
    /// A second, over all pushers.
    rate: f64,
    secs: u64,
    size: usize,
    /// What stamps count from.
    origin: Instant,
}

impl OpenLoop {
    async fn run(&self, phase: u8) -> Result<Pushes> {
        let mut lanes = JoinSet::new();
        for pusher in &self.pushers {
            let rate = self.rate / self.pushers.len() as f64;
            let template = payload(self.size);
            let due = (rate * self.secs as f64) as u64;
            let pusher = pusher.clone();
            lanes.spawn(push_when_due(
                pusher,
                template,
                rate,
                due,
                phase,
                self.origin,
            ));
        }
        let mut all = Pushes::new();
        while let Some(lane) = lanes.join_next().await {
            let lane = lane.context("a connection's task ended early")?;
            all.acks.extend(lane.acks);
            all.took.add(&lane.took)?;
            all.failed += lane.failed;
        }
        Ok(all)
    }
}

impl Pushes {
    fn new() -> Self {
        Self {
            acks: Acks::new(),
            took: histogram(),
            failed: 0,
        }
    }

    fn record(&mut self, due_at: Instant, receipt: Result<Receipt, momclient::Error>) {
        match receipt {
            Ok(receipt) => {
                self.acks.push((receipt.seq, fingerprint(&receipt.id)));
                let took = due_at.elapsed().as_micros() as u64;
                self.took.saturating_record(took);
            }
            Err(error) => {
                if self.failed == 0 {
                    eprintln!("rmom-bench: a push failed: {error}");
                }
                self.failed += 1;
            }
        }
    }
}

async fn push_when_due(
    pusher: Pusher,
    template: Bytes,
    rate: f64,
    total: u64,
    phase: u8,
    origin: Instant,
) -> Pushes {
    let mut found = Pushes::new();
    let mut under_way = FuturesUnordered::new();
    let mut pace = interval(Duration::from_millis(1));
    // A tick that is noticed late still tells when it was due.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut sent = 0;
    while sent < total || !under_way.is_empty() {
        tokio::select! {
            Some((due_at, receipt)) = under_way.next() => found.record(due_at, receipt),
            now = pace.tick(), if sent < total => {
                let due_at = now.into_std();
                let due = (due_at.saturating_duration_since(began).as_secs_f64() * rate) as u64;
                let content = stamped(&template, phase, due_at - origin);
                let due = due.min(total);
                for _ in sent..due {
                    let content = content.clone();
                    under_way.push(push(&pusher, content, due_at));
                }
                sent = sent.max(due);
            }
        }
    }
    drop(under_way);
    found
}

async fn push(
    pusher: &Pusher,
    content: Bytes,
    due_at: Instant,
) -> (Instant, Result<Receipt, momclient::Error>) {
    (due_at, pusher.push(content, None).await)
}

fn stamped(template: &[u8], phase: u8, since_origin: Duration) -> Bytes {
    let micros = since_origin.as_micros() as u64;
    let mut content = Vec::with_capacity(template.len());
    content.extend_from_slice(&MAGIC);
    content.extend_from_slice(&micros.to_le_bytes());
    content.push(phase);
    content.extend_from_slice(&template[STAMP..]);
    content.into()
}

/// The phase and the instant of a push, in microseconds since the origin, if it is stamped.
fn stamp(content: &[u8]) -> Option<(usize, u64)> {
    let stamp = content.strip_prefix(&MAGIC)?;
    let (micros, rest) = stamp.split_first_chunk()?;
    Some((usize::from(*rest.first()?), u64::from_le_bytes(*micros)))
}

async fn subscribe(system: &System, queue: &str, after: i64) -> Result<Subscriber> {
    let channel = system.client().create_channel(queue, None).await?;
    Ok(system.client().subscribe_after(&channel.id, after).await?)
}

/// Reads what comes until the goal is reached.
async fn listen(mut subscriber: Subscriber, mut goal: Goal, origin: Instant) -> Result<Heard> {
    let mut heard = Heard {
        received: Received::new(0),
        took: [histogram(), histogram()],
    };
    let mut until = None;
    while until.is_none_or(|until| subscriber.last_seq() < until) {
        let message = tokio::select! {
            biased;
            message = subscriber.next() => message,
            last = goal.wait_for(Option::is_some), if until.is_none() => {
                until = *last.context("the run was given up")?;
                continue;
            }
            () = sleep(PATIENCE), if until.is_some() => None,
        };
        // What it has missed by then is found in its book.
        let Some(message) = message else { break };
        let message = message.context("a subscription failed")?;
        heard.received.record(message.seq, fingerprint(&message.id));
        if let Some((phase, micros)) = stamp(&message.content) {
            let took = (origin.elapsed().as_micros() as u64).saturating_sub(micros);
            heard.took[phase].saturating_record(took);
        }
    }
    Ok(heard)
}

/// Reads slowly until it is let go, then as fast as it can. Also tells how far behind it was.
async fn dawdle(
    mut subscriber: Subscriber,
    let_go: watch::Receiver<bool>,
    goal: Goal,
) -> Result<(Received, u64)> {
    let mut received = Received::new(0);
    let mut behind = None;
    loop {
        let last = *goal.borrow();
        if let Some(last) = last {
            behind.get_or_insert((last - subscriber.last_seq()).max(0) as u64);
            if subscriber.last_seq() >= last {
                break;
            }
        }
        let Ok(Some(message)) = timeout(PATIENCE, subscriber.next()).await else {
            break;
        };
        let message = message.context("a subscription failed")?;
        received.record(message.seq, fingerprint(&message.id));
        if !*let_go.borrow() {
            sleep(PAUSE).await;
        }
    }
    Ok((received, behind.unwrap_or(0)))
}

impl Ratio {
    fn of(with: Quantiles, without: Quantiles) -> Self {
        let ratio =
            |with: u64, without: u64| (with as f64 / without.max(1) as f64 * 100.0).round() / 100.0;
        Self {
            p50: ratio(with.p50, without.p50),
            p99: ratio(with.p99, without.p99),
        }
    }
}

impl Slow {
    pub(crate) fn print(&self) {
        row(
            "rate",
            format!(
                "{} pushes a second, of {} possible",
                self.rate_per_s, self.capacity_per_s
            ),
        );
        for (name, phase) in [
            ("without slow ones", &self.without),
            ("with slow ones", &self.with),
        ] {
            row(name, format!("{} acknowledged a second", phase.acked_per_s));
            row("  pushes in", phase.push_us);
            row("  delivered in", phase.delivery_us);
        }
        for (name, ratio) in [
            ("push", &self.push_ratio),
            ("delivery", &self.delivery_ratio),
        ] {
            row(
                &format!("{name} ratio"),
                format!("{} (p50), {} (p99)", ratio.p50, ratio.p99),
            );
        }
        row(
            "memory of the MoM",
            format!(
                "{} MiB before, {} at the most without, {} at the most with, {} at the end",
                mib(self.mom_kib_before),
                mib(self.mom_kib_without_most),
                mib(self.mom_kib_with_most),
                mib(self.mom_kib_after)
            ),
        );
        row(
            "behind",
            format!(
                "the stopped one {}, the slow one {} messages; read within {} ms",
                self.stopped_behind, self.dawdler_behind, self.caught_up_in_ms
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_again_and_only_they() {
        let template = payload(64);
        let content = stamped(&template, 1, Duration::from_micros(77));
        assert_eq!(content.len(), 64);
        assert_eq!(stamp(&content), Some((1, 77)));
        assert_eq!(stamp(&template), None);
    }
}
