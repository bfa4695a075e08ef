//! What each contender is put to, and what is read off.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cpu::Snapshot;
use crate::flow::{Sink, Source, Tally, push_batches, push_singly, read_all};
use crate::peers::{CONNECTIONS, Contender};

/// Messages in flight on each connection where the system is to be busy.
const IN_FLIGHT: usize = 256;
/// What open-loop pushes may have in flight on each connection: more than falls due while any sound system hesitates.
const OPEN_LOOP: usize = 16_384;
/// Batches in flight on each connection.
const BATCHES: usize = 4;
/// How long the last answers and the last deliveries may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Deliveries that a fan-out is stopped at, whatever time is left: a hundred subscribers take long to be through.
const MOST_DELIVERIES: u64 = 5_000_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Workload {
    /// Full speed to so many queues, with so many connections to each and so many messages in flight on each.
    Push {
        size: usize,
        queues: usize,
        connections: usize,
        in_flight: usize,
    },
    /// Full speed in explicit batches.
    Batches { of: usize },
    /// One message at a time.
    Lone,
    /// Full speed to so many subscribers.
    FanOut { subscribers: usize },
    /// A subscriber that comes when everything has been pushed.
    CatchUp,
    /// At half of what the contender can take, or at a fixed rate, from the instant that a message was meant for to its
    /// receipt.
    EndToEnd { per_second: Option<f64> },
}

/// In this order, so that a contender's capacity is known when it is needed.
pub(crate) const WORKLOADS: [Workload; 12] = [
    Workload::Push {
        size: 128,
        queues: 1,
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
    },
    Workload::Push {
        size: 1024,
        queues: 1,
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
    },
    Workload::Batches { of: 100 },
    Workload::Batches { of: 1000 },
    Workload::Push {
        size: 128,
        queues: 64,
        connections: 1,
        in_flight: 16,
    },
    Workload::Lone,
    Workload::FanOut { subscribers: 1 },
    Workload::FanOut { subscribers: 10 },
    Workload::FanOut { subscribers: 100 },
    Workload::CatchUp,
    Workload::EndToEnd { per_second: None },
    Workload::EndToEnd {
        per_second: Some(1000.0),
    },
];

/// The workloads whose figure is a contender's capacity: the first of them that was measured. Who pushes and delivers at
/// once can do less than who only pushes.
pub(crate) const CAPACITY: [Workload; 2] = [Workload::FanOut { subscribers: 1 }, WORKLOADS[0]];

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better.
    Microseconds,
}

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// What is measured of a workload, after a quarter of it to warm up.
    pub(crate) time: Duration,
    /// Messages to catch up with.
    pub(crate) backlog: NonZeroU64,
}

impl Extent {
    fn warm_up(&self) -> Duration {
        self.time / 4
    }
}

/// What came of one workload at one contender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// One for each of [`Workload::rows`].
    pub(crate) values: Vec<f64>,
    /// CPU seconds for a million messages (deliveries, where there are any), by process.
    pub(crate) cpu: Vec<(String, f64)>,
    /// What a reader has to know beside the figures.
    pub(crate) remark: Option<String>,
}

impl Workload {
    pub(crate) fn title(self) -> String {
        match self {
            Self::Push {
                size,
                queues: 1,
                connections,
                in_flight,
            } => format!("push {size} B, {connections} × {in_flight} in flight"),
            Self::Push {
                size,
                queues,
                in_flight,
                ..
            } => format!("push {size} B, {queues} queues × {in_flight} in flight"),
            Self::Batches { of } => format!("push 128 B in batches of {of}"),
            Self::Lone => "lone push of 128 B".to_owned(),
            Self::FanOut { subscribers: 1 } => "push and deliver to 1 subscriber".to_owned(),
            Self::FanOut { subscribers } => {
                format!("push and deliver to {subscribers} subscribers")
            }
            Self::CatchUp => "catch up, 1 late subscriber".to_owned(),
            Self::EndToEnd { per_second: None } => "push to receipt at half load".to_owned(),
            Self::EndToEnd {
                per_second: Some(rate),
            } => format!("push to receipt at {rate}/s"),
        }
    }

    /// The names of the figures, after the title, and their units.
    pub(crate) fn rows(self) -> Vec<(&'static str, Unit)> {
        match self {
            Self::Push { .. } | Self::Batches { .. } | Self::FanOut { .. } | Self::CatchUp => {
                vec![("", Unit::PerSecond)]
            }
            Self::Lone => vec![("p50", Unit::Microseconds)],
            Self::EndToEnd { .. } => ["p50", "p99", "p99.9", "max"]
                .map(|quantile| (quantile, Unit::Microseconds))
                .into(),
        }
    }

    fn subscribers(self) -> usize {
        match self {
            Self::Push { .. } | Self::Batches { .. } | Self::Lone => 0,
            Self::FanOut { subscribers } => subscribers,
            Self::CatchUp | Self::EndToEnd { .. } => 1,
        }
    }

    /// Runs it once. `None`: the contender has no such thing.
    pub(crate) async fn run<C: Contender>(
        self,
        contender: &C,
        extent: &Extent,
        capacity: Option<f64>,
    ) -> Result<Option<Measured>> {
        if self.subscribers() > contender.most_subscribers() {
            return Ok(None);
        }
        let queues = match self {
            Self::Push { queues, .. } => queues,
            _ => 1,
        };
        let mut made = Vec::with_capacity(queues);
        for _ in 0..queues {
            made.push(contender.create(self.subscribers()).await?);
        }
        let run = Run {
            contender,
            queues: &made,
            extent,
        };
        let outcome = match self {
            Self::Push {
                size,
                connections,
                in_flight,
                ..
            } => run.push(size, connections, in_flight).await.map(Some),
            Self::Batches { of } => run.batches(of).await.map(Some),
            Self::Lone => run.lone().await.map(Some),
            Self::FanOut { subscribers } => run.fan_out(subscribers).await.map(Some),
            Self::CatchUp => run.catch_up().await.map(Some),
            Self::EndToEnd { per_second } => {
                match per_second.or(capacity.map(|capacity| capacity / 2.0)) {
                    Some(rate) => run.end_to_end(rate).await.map(Some),
                    None => Ok(None),
                }
            }
        };
        for queue in &made {
            contender.remove(queue).await?;
        }
        outcome
    }
}

/// One workload at one contender.
struct Run<'a, C> {
    contender: &'a C,
    queues: &'a [String],
    extent: &'a Extent,
}

/// The state of things at an instant.
struct Mark {
    at: Instant,
    acked: u64,
    cpu: Snapshot,
}

impl Mark {
    fn of(tally: &Tally) -> Self {
        let cpu = Snapshot::take();
        Self {
            at: Instant::now(),
            acked: tally.acked(),
            cpu,
        }
    }
}

impl<C: Contender> Run<'_, C> {
    async fn push(&self, size: usize, connections: usize, in_flight: usize) -> Result<Measured> {
        let mut lanes = Vec::new();
        for index in 0..self.queues.len() * connections {
            let queue = &self.queues[index % self.queues.len()];
            lanes.push(self.contender.lane(queue, index, in_flight).await?);
        }
        let tally = Tally::new(u64::MAX);
        let mut pushing = JoinSet::new();
        for lane in lanes {
            let source = Source::at_once(&tally, size);
            pushing.spawn(push_singly(lane, source, in_flight));
        }
        self.rate_of_acks(&tally, pushing).await
    }

    async fn batches(&self, of: usize) -> Result<Measured> {
        let mut lanes = Vec::new();
        for index in 0..CONNECTIONS {
            let lane = self.contender.lane(&self.queues[0], index, of * BATCHES);
            lanes.push(lane.await?);
        }
        let tally = Tally::new(u64::MAX);
        let mut pushing = JoinSet::new();
        for lane in lanes {
            pushing.spawn(push_batches(
                lane,
                Source::at_once(&tally, 128),
                of,
                BATCHES,
            ));
        }
        self.rate_of_acks(&tally, pushing).await
    }

    /// Measures what is acknowledged in the time, once it has warmed up.
    async fn rate_of_acks(
        &self,
        tally: &Arc<Tally>,
        pushing: JoinSet<Result<()>>,
    ) -> Result<Measured> {
        sleep(self.extent.warm_up()).await;
        let begin = Mark::of(tally);
        sleep(self.extent.time).await;
        let end = Mark::of(tally);
        tally.stop();
        finish(pushing).await?;
        let messages = end.acked - begin.acked;
        if messages == 0 {
            bail!("nothing was acknowledged in the time that was measured");
        }
        let rate = messages as f64 / (end.at - begin.at).as_secs_f64();
        Ok(Measured {
            values: vec![rate],
            cpu: self.cpu(&begin.cpu, &end.cpu, messages),
            remark: None,
        })
    }

    async fn lone(&self) -> Result<Measured> {
        let mut quantiles = Vec::new();
        let mut marks = Vec::new();
        // The first, shorter turn warms up.
        for time in [self.extent.warm_up(), self.extent.time] {
            let lane = self.contender.lane(&self.queues[0], 0, 1).await?;
            let tally = Tally::new(u64::MAX);
            let begin = Mark::of(&tally);
            let mut pushing = JoinSet::new();
            pushing.spawn(push_singly(lane, Source::timed(&tally, 128), 1));
            sleep(time).await;
            tally.stop();
            finish(pushing).await?;
            quantiles = vec![tally.latency().value_at_quantile(0.5) as f64];
            marks = vec![begin, Mark::of(&tally)];
        }
        Ok(Measured {
            values: quantiles,
            cpu: self.cpu(&marks[0].cpu, &marks[1].cpu, marks[1].acked),
            remark: None,
        })
    }

    async fn fan_out(&self, subscribers: usize) -> Result<Measured> {
        let queue = &self.queues[0];
        let mut inlets = Vec::new();
        for index in 0..subscribers {
            inlets.push(self.contender.inlet(queue, index).await?);
        }
        let mut lanes = Vec::new();
        for index in 0..CONNECTIONS {
            lanes.push(self.contender.lane(queue, index, IN_FLIGHT).await?);
        }
        let tally = Tally::new(MOST_DELIVERIES / subscribers as u64);
        let begin = Mark::of(&tally);
        let mut reading = JoinSet::new();
        for inlet in inlets {
            reading.spawn(read_all(inlet, Sink::counting(&tally)));
        }
        let mut pushing = JoinSet::new();
        for lane in lanes {
            pushing.spawn(push_singly(lane, Source::at_once(&tally, 128), IN_FLIGHT));
        }
        let stopping = tokio::spawn({
            let (tally, time) = (tally.clone(), self.extent.time);
            async move {
                sleep(time).await;
                tally.stop();
            }
        });
        finish(pushing).await?;
        stopping.abort();
        let due = tally.acked() * subscribers as u64;
        let all_came = self.until_delivered(&tally, due, &mut reading).await?;
        let end = Mark::of(&tally);
        let delivered = tally.delivered();
        let rate = delivered as f64 / (end.at - begin.at).as_secs_f64();
        let remark = (!all_came).then(|| {
            let share = 100.0 * delivered as f64 / due as f64;
            format!("gave up after {PATIENCE:?} with {share:.0} % delivered")
        });
        Ok(Measured {
            values: vec![rate],
            cpu: self.cpu(&begin.cpu, &end.cpu, delivered),
            remark,
        })
    }

    async fn catch_up(&self) -> Result<Measured> {
        let queue = &self.queues[0];
        let backlog = self.extent.backlog.get();
        let tally = Tally::new(backlog);
        let mut pushing = JoinSet::new();
        for index in 0..CONNECTIONS {
            let lane = self.contender.lane(queue, index, 1000 * BATCHES).await?;
            pushing.spawn(push_batches(
                lane,
                Source::at_once(&tally, 128),
                1000,
                BATCHES,
            ));
        }
        while let Some(ended) = pushing.join_next().await {
            ended.context("a lane's task ended early")??;
        }
        let begin = Mark::of(&tally);
        let inlet = self.contender.inlet(queue, 0).await?;
        let mut reading = JoinSet::new();
        reading.spawn(read_all(inlet, Sink::counting(&tally)));
        let all_came = self.until_delivered(&tally, backlog, &mut reading).await?;
        let end = Mark::of(&tally);
        let delivered = tally.delivered();
        let rate = delivered as f64 / (end.at - begin.at).as_secs_f64();
        Ok(Measured {
            values: vec![rate],
            cpu: self.cpu(&begin.cpu, &end.cpu, delivered),
            remark: (!all_came).then(|| format!("gave up after {PATIENCE:?} at {delivered}")),
        })
    }

    async fn end_to_end(&self, per_second: f64) -> Result<Measured> {
        let queue = &self.queues[0];
        let inlet = self.contender.inlet(queue, 0).await?;
        let mut lanes = Vec::new();
        for index in 0..CONNECTIONS {
            lanes.push(self.contender.lane(queue, index, OPEN_LOOP).await?);
        }
        let tally = Tally::new(u64::MAX);
        let begin = Mark::of(&tally);
        let mut reading = JoinSet::new();
        reading.spawn(read_all(inlet, Sink::timing(&tally, self.extent.warm_up())));
        let source = Source::at_rate(&tally, 128, per_second);
        let mut pushing = JoinSet::new();
        for lane in lanes {
            pushing.spawn(push_singly(lane, source.clone(), OPEN_LOOP));
        }
        drop(source);
        sleep(self.extent.warm_up() + self.extent.time).await;
        tally.stop();
        finish(pushing).await?;
        let all_came = self
            .until_delivered(&tally, tally.acked(), &mut reading)
            .await?;
        let end = Mark::of(&tally);
        let latency = tally.latency();
        let mut values: Vec<_> = [0.5, 0.99, 0.999]
            .map(|quantile| latency.value_at_quantile(quantile) as f64)
            .into();
        values.push(latency.max() as f64);
        let fell_behind = tally.acked() as f64
            / (per_second * (self.extent.warm_up() + self.extent.time).as_secs_f64());
        let remark = if !all_came {
            Some(format!("gave up after {PATIENCE:?}"))
        } else if fell_behind < 0.95 {
            Some(format!(
                "kept up with {:.0} % of the rate",
                fell_behind * 100.0
            ))
        } else {
            None
        };
        Ok(Measured {
            values,
            cpu: self.cpu(&begin.cpu, &end.cpu, tally.delivered()),
            remark,
        })
    }

    /// Waits until so many messages were delivered. False: they have not come.
    async fn until_delivered(
        &self,
        tally: &Tally,
        due: u64,
        reading: &mut JoinSet<Result<()>>,
    ) -> Result<bool> {
        let came = async {
            while tally.delivered() < due {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            came = timeout(PATIENCE, came) => Ok(came.is_ok()),
            Some(ended) = reading.join_next() => {
                ended.context("an inlet's task ended early")??;
                bail!("an inlet has ended")
            }
        }
    }

    fn cpu(&self, begin: &Snapshot, end: &Snapshot, messages: u64) -> Vec<(String, f64)> {
        let millions = messages.max(1) as f64 / 1e6;
        let client = std::process::id();
        let own = end.of_process(client) - begin.of_process(client);
        let mut cpu = vec![("client".to_owned(), own / millions)];
        for (name, pid) in self.contender.processes() {
            let used = end.of_tree(pid) - begin.of_tree(pid);
            cpu.push((name.to_owned(), used / millions));
        }
        cpu
    }
}

/// Waits for the last answers.
async fn finish(mut pushing: JoinSet<Result<()>>) -> Result<()> {
    let all = async {
        while let Some(ended) = pushing.join_next().await {
            ended.context("a lane's task ended early")??;
        }
        Ok(())
    };
    timeout(PATIENCE, all)
        .await
        .context("the last pushes got no answer")?
}
