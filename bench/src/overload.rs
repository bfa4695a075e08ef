//! The subcommand `overload`: more pushes than the system can take, for a while.
//!
//! What it can take is measured first, with pushers of the library that push as soon as they may. Then bare calls come
//! at a fixed rate, whatever becomes of earlier ones: a library pusher that is refused waits and tries again, which is
//! what overload is relieved by. At the end the pushers of the beginning push again, over the connections that they
//! have had all the time. All of this is one process that competes with the system for the same processors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use protos::message_stream_client::MessageStreamClient;
use serde::Serialize;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::load::{Acks, Lanes, fingerprint, histogram, payload};
use crate::memory::{Memory, mib};
use crate::options::{Options, OverloadShape, Shape, count};
use crate::progress::{Counters, stage};
use crate::receive::Receivers;
use crate::report::{Report, rate, row};
use crate::system::System;

/// Seconds for which the capacity is measured; the first one only warms up.
const CAPACITY_SECS: u64 = 6;
/// Seconds for which the recovery is watched.
const RECOVERY_SECS: u64 = 10;
/// What counts as recovered.
const RECOVERED: f64 = 0.9;
/// The pause between two pushes of the connection that has no more than one under way.
const LONE_PACE: Duration = Duration::from_millis(10);

/// How a system behaved that was offered too much.
#[derive(Debug, Serialize)]
pub(crate) struct Overload {
    capacity_per_s: f64,
    /// What should have been sent in each second.
    offered_per_s: f64,
    /// What was sent; the rest was due while this process had as many under way as it allows itself.
    sent_per_s: f64,
    /// How many that are. No answer comes sooner than the system takes for them, and each costs it memory.
    under_way_most: usize,
    acked_per_s: f64,
    /// By code.
    refused: BTreeMap<String, u64>,
    refused_per_s: f64,
    ack_us: Quantiles,
    refusal_us: Quantiles,
    /// Of a connection that has one push under way at a time, so that it waits for none of its own.
    lone_sent: u64,
    lone_refused: u64,
    lone_refusal_us: Quantiles,
    mom_kib_before: u64,
    mom_kib_most: u64,
    mom_kib_after: u64,
    mom_kib_peak: u64,
    /// Acknowledged in each second after the overload, while its last pushes are still being answered.
    recovery_per_s: Vec<u64>,
    /// The first of these seconds with 90 % of the capacity, from 1.
    recovered_in_s: Option<usize>,
}

/// A median and the time that one in a hundred exceeds, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// What became of pushes that were sent without regard to earlier ones.
struct Flood {
    acks: Acks,
    ack_took: Histogram<u64>,
    refused: BTreeMap<String, u64>,
    refusal_took: Histogram<u64>,
    /// Neither acknowledged nor refused before it was accepted.
    failed: u64,
    sent: u64,
}

/// Overloads, and watches.
pub(crate) async fn overload(
    system: &System,
    shape: &OverloadShape,
    options: &Options,
) -> Result<Report> {
    let stage = stage(options.json);
    let steady = shape.steady();
    let queues = system.create_queues(1).await?;
    let mom = system.cluster()?.mom(0);
    let memory = Memory::watch(mom.pid().context("the MoM does not run")?);
    let mut acks = vec![Acks::new()];

    stage.set_message("measuring the capacity");
    let later = Lanes::open(system, &queues, &steady).await?;
    let (before, by_second) = Lanes::open(system, &queues, &steady)
        .await?
        .run_for(&steady, CAPACITY_SECS)
        .await?;
    let counted: u64 = by_second.iter().skip(1).sum();
    let capacity = rate(counted, Duration::from_secs(CAPACITY_SECS - 1));
    let mom_kib_before = memory.now_kib()?;
    memory.take_most_kib();

    stage.set_message(format!(
        "offering {} times {capacity} a second",
        shape.times
    ));
    let push = protos::Push {
        content: payload(shape.size),
        topic: protos::NO_TOPIC.to_owned(),
        queue_label: queues[0].clone(),
        ..protos::Push::default()
    };
    let offered = capacity * shape.times;
    let began = Instant::now();
    let end = began + Duration::from_secs(shape.secs.get());
    let storm = Storm::start(&mom.url(), &push, offered, shape, end).await?;
    sleep_until(end.into()).await;
    let mom_kib_most = memory.take_most_kib();

    stage.set_message("watching the recovery");
    let recovery = later.run_for(&steady, RECOVERY_SECS);
    let (recovery, storm) = tokio::join!(recovery, storm.end());
    let ((after, recovery_per_s), (mut all, lone)) = (recovery?, storm?);

    stage.set_message("reading everything that was acknowledged");
    for pushed in [&before, &after] {
        acks[0].extend(&pushed.acks[0]);
    }
    acks[0].extend(&all.acks);
    acks[0].extend(&lone.acks);
    let failed = before.failed + after.failed + all.failed + lone.failed;
    let counters = Arc::<Counters>::default();
    let reading = Instant::now();
    let receivers = Receivers::open(system, &queues, &steady, counters).await?;
    let (verdict, last_at) = receivers.finish(&acks).await?;
    stage.finish_and_clear();

    let secs = Duration::from_secs(shape.secs.get());
    let refused: u64 = all.refused.values().sum();
    let acked_in_time = all.acks.len() as u64;
    let enough = |count: &u64| *count as f64 >= RECOVERED * capacity;
    let mut report = Report::of_acks(
        "overload",
        &steady,
        &acks,
        failed,
        &before.latency,
        began.elapsed(),
    )
    .with_deliveries(1, &verdict, last_at - reading);
    if refused == 0 {
        report.proves_nothing = Some("nothing was refused: the system was not overloaded");
    }
    report.overload = Some(Overload {
        capacity_per_s: capacity,
        offered_per_s: offered,
        sent_per_s: rate(all.sent, secs),
        under_way_most: shape.connections.get() * shape.in_flight.get(),
        acked_per_s: rate(acked_in_time, secs),
        refused_per_s: rate(refused, secs),
        refused: std::mem::take(&mut all.refused),
        ack_us: Quantiles::of(&all.ack_took),
        refusal_us: Quantiles::of(&all.refusal_took),
        lone_sent: lone.sent,
        lone_refused: lone.refusal_took.len(),
        lone_refusal_us: Quantiles::of(&lone.refusal_took),
        mom_kib_before,
        mom_kib_most,
        mom_kib_after: memory.now_kib()?,
        mom_kib_peak: memory.peak_kib()?,
        recovered_in_s: recovery_per_s.iter().position(enough).map(|at| at + 1),
        recovery_per_s,
    });
    Ok(report)
}

/// All connections that overload, and one that does not.
struct Storm {
    floods: JoinSet<Flood>,
    lone: JoinHandle<Flood>,
}

impl Storm {
    async fn start(
        url: &str,
        push: &protos::Push,
        rate: f64,
        shape: &OverloadShape,
        end: Instant,
    ) -> Result<Self> {
        let lone = tokio::spawn(trickle(connect(url).await?, push.clone(), end));
        let mut floods = JoinSet::new();
        for _ in 0..shape.connections.get() {
            let mom = connect(url).await?;
            let rate = rate / shape.connections.get() as f64;
            floods.spawn(flood(mom, push.clone(), rate, shape.in_flight.get(), end));
        }
        Ok(Self { floods, lone })
    }

    /// Waits for the last answers. What became of the pushes that overload, and of those of the lone connection.
    async fn end(mut self) -> Result<(Flood, Flood)> {
        let mut all = Flood::new();
        while let Some(flood) = self.floods.join_next().await {
            all.add(flood.context("a connection's task ended early")?)?;
        }
        let lone = self.lone.await;
        Ok((all, lone.context("the lone connection's task ended early")?))
    }
}

impl OverloadShape {
    /// What measures the capacity before and after.
    fn steady(&self) -> Shape {
        Shape {
            size: self.size,
            connections: count(4),
            in_flight: count(256),
            messages: 0,
            subscribers: count(1),
            topic: None,
            queues: count(1),
        }
    }
}

async fn connect(url: &str) -> Result<MessageStreamClient<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let channel = endpoint.connect().await.context("connecting to the MoM")?;
    Ok(MessageStreamClient::new(channel))
}

/// Sends `rate` pushes a second until the end, but has no more than `most` under way.
async fn flood(
    mom: MessageStreamClient<Channel>,
    push: protos::Push,
    rate: f64,
    most: usize,
    end: Instant,
) -> Flood {
    let mut flood = Flood::new();
    let mut under_way = FuturesUnordered::new();
    let mut pace = interval(Duration::from_millis(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let mut considered = 0;
    let mut is_over = false;
    while !is_over || !under_way.is_empty() {
        tokio::select! {
            Some((took, answer)) = under_way.next() => flood.record(took, answer),
            _ = pace.tick(), if !is_over => {
                let due = (began.elapsed().as_secs_f64() * rate) as u64;
                let room = (most - under_way.len()) as u64;
                for _ in 0..room.min(due - considered) {
                    under_way.push(call(mom.clone(), push.clone()));
                    flood.sent += 1;
                }
                // What there is no room for is not sent later either: the rate would rise above what is offered.
                considered = due;
                is_over = Instant::now() >= end;
            }
        }
    }
    flood
}

/// Pushes with a pause after each answer.
async fn trickle(mom: MessageStreamClient<Channel>, push: protos::Push, end: Instant) -> Flood {
    let mut trickle = Flood::new();
    let mut pace = interval(LONE_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        pace.tick().await;
        trickle.sent += 1;
        let (took, answer) = call(mom.clone(), push.clone()).await;
        trickle.record(took, answer);
    }
    trickle
}

async fn call(
    mut mom: MessageStreamClient<Channel>,
    push: protos::Push,
) -> (Duration, Result<Response<protos::PushOkResponse>, Status>) {
    let started = Instant::now();
    let answer = mom.push_to_queue(push).await;
    (started.elapsed(), answer)
}

impl Flood {
    fn new() -> Self {
        Self {
            acks: Acks::new(),
            ack_took: histogram(),
            refused: BTreeMap::new(),
            refusal_took: histogram(),
            failed: 0,
            sent: 0,
        }
    }

    fn record(&mut self, took: Duration, answer: Result<Response<protos::PushOkResponse>, Status>) {
        let took = took.as_micros() as u64;
        let status = match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let id = answer.id.parse().unwrap_or_default();
                self.acks.push((answer.seq, fingerprint(&id)));
                self.ack_took.saturating_record(took);
                return;
            }
            Err(status) => status,
        };
        if status.code() == tonic::Code::ResourceExhausted {
            let code = status.metadata().get(protos::CODE_METADATA);
            let code = code.and_then(|code| code.to_str().ok()).unwrap_or("none");
            *self.refused.entry(code.to_owned()).or_default() += 1;
            self.refusal_took.saturating_record(took);
        } else {
            if self.failed == 0 {
                eprintln!("rmom-bench: a push failed: {status}");
            }
            self.failed += 1;
        }
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.acks.extend(other.acks);
        self.ack_took.add(&other.ack_took)?;
        self.refusal_took.add(&other.refusal_took)?;
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.failed += other.failed;
        self.sent += other.sent;
        Ok(())
    }
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
        }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} us (p50), {} us (p99)", self.p50, self.p99)
    }
}

impl Overload {
    pub(crate) fn print(&self) {
        row("capacity", format!("{} a second", self.capacity_per_s));
        row(
            "offered",
            format!(
                "{} a second, of which a client on the same processors sent {}, with at most {} under way",
                self.offered_per_s.round(),
                self.sent_per_s,
                self.under_way_most
            ),
        );
        row(
            "under overload",
            format!("{} acknowledged a second", self.acked_per_s),
        );
        row("  in", self.ack_us);
        row(
            "refused",
            format!("{:?}, {} a second", self.refused, self.refused_per_s),
        );
        row("  in", self.refusal_us);
        row(
            "  lone push",
            format!(
                "refused {} times of {}, in {}",
                self.lone_refused, self.lone_sent, self.lone_refusal_us
            ),
        );
        row(
            "memory of the MoM",
            format!(
                "{} MiB before, {} at the most under overload, {} at the end",
                mib(self.mom_kib_before),
                mib(self.mom_kib_most),
                mib(self.mom_kib_after)
            ),
        );
        row("then, by second", format!("{:?}", self.recovery_per_s));
        let recovered = match self.recovered_in_s {
            Some(second) => format!("in second {second}"),
            None => "no".to_owned(),
        };
        row("90 % again", recovered);
    }
}
