//! The subcommand `failover`: a MoM with many queues dies or freezes, again and again.
//!
//! Each queue has a pusher and a subscriber of the client library, which nobody tells. Some queues of the MoM that
//! fails are pushed to all the time, whatever becomes of earlier pushes; all others once it has failed. For each queue
//! counts the time from the signal to the first acknowledgement of a push that was begun when the MoM was gone: what it
//! acknowledged in its last moments proves nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use momclient::{Pusher, Receipt};
use serde::{Deserialize, Serialize};
use testkit::{Mom, try_wait_until};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::load::{Acks, fingerprint, histogram, payload};
use crate::options::{FailoverShape, Fault, Options, Shape, count};
use crate::progress::{Counters, stage};
use crate::receive::Receivers;
use crate::report::{Report, row};
use crate::system::{LIFE_PROBE_DEADLINE_MILLIS, MANAGER_CYCLE_SECS, System};

/// The pause between two pushes to a queue that is observed, and so how exact the figures are.
const PACE: Duration = Duration::from_millis(5);
/// How long a round may take to have all queues answer.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
/// How long MoMs may take to be up again, and queues to be spread evenly.
const UP_WITHIN: Duration = Duration::from_mins(1);
const EVEN_WITHIN: Duration = Duration::from_secs(20);

/// What failures cost those who push, over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Failover {
    fault: &'static str,
    moms: usize,
    managers: usize,
    manager_cycle_secs: u64,
    life_probe_deadline_millis: u64,
    /// From the signal to the first acknowledgement, over the observed queues of all rounds.
    first_ack_ms_median: u64,
    first_ack_ms_worst: u64,
    /// From the signal until each queue had acknowledged a push, over the rounds.
    all_queues_ms_median: u64,
    all_queues_ms_worst: u64,
    rounds: Vec<Round>,
}

/// One failure.
#[derive(Debug, Serialize)]
struct Round {
    /// Queues of the MoM that failed.
    queues: usize,
    /// From the signal until it was gone: until it was reaped, or all its threads stood still.
    gone_ms: u64,
    /// For each observed queue.
    first_ack_ms: Vec<u64>,
    all_queues_ms: u64,
}

/// A MoM as `GET /moms` tells.
#[derive(Deserialize)]
struct Row {
    host: String,
    port: u16,
    is_up: bool,
    queues: usize,
}

/// An answer to a push.
struct Answer {
    queue: usize,
    begun: Instant,
    at: Instant,
    receipt: Result<Receipt, momclient::Error>,
}

/// Everything that pushes, and what became of it.
struct Field<'a> {
    system: &'a System,
    http: reqwest::Client,
    labels: Vec<String>,
    pushers: Vec<Pusher>,
    content: Bytes,
    counters: Arc<Counters>,
    acks: Vec<Acks>,
    failed: u64,
    latency: Histogram<u64>,
}

/// Runs all rounds.
pub(crate) async fn failover(
    system: &System,
    shape: &FailoverShape,
    options: &Options,
) -> Result<Report> {
    ensure!(
        shape.moms.get() > 1,
        "failover needs 2 MoMs at least: queues must have somewhere to go"
    );
    let started = Instant::now();
    let dimensions = shape.dimensions();
    let stage = stage(options.json);
    stage.set_message("creating queues");
    let mut field = Field::open(system, shape).await?;
    let receivers =
        Receivers::open(system, &field.labels, &dimensions, field.counters.clone()).await?;
    let mut rounds = Vec::new();
    for number in 0..shape.rounds.get() {
        let round = field.round(number, shape, &stage).await;
        rounds.push(round.with_context(|| format!("in round {}", number + 1))?);
    }
    stage.set_message("comparing what was acknowledged with what was delivered");
    let (verdict, last_at) = receivers.finish(&field.acks).await?;
    stage.finish_and_clear();
    let elapsed = started.elapsed();
    let mut report = Report::of_acks(
        "failover",
        &dimensions,
        &field.acks,
        field.failed,
        &field.latency,
        elapsed,
    )
    .with_deliveries(1, &verdict, last_at - started);
    report.failover = Some(Failover::of(shape, rounds));
    Ok(report)
}

impl FailoverShape {
    fn dimensions(&self) -> Shape {
        Shape {
            size: self.size,
            connections: count(1),
            in_flight: count(1),
            messages: 0,
            subscribers: count(1),
            topic: None,
            queues: self.queues,
        }
    }
}

impl<'a> Field<'a> {
    async fn open(system: &'a System, shape: &FailoverShape) -> Result<Self> {
        let labels = system.create_queues(shape.queues.get()).await?;
        let pushers = stream::iter(&labels)
            .map(|label| async move {
                let pusher = system.client().pusher(label).deadline(ANSWERS_WITHIN).await;
                pusher.with_context(|| format!("connecting a pusher to the queue {label}"))
            })
            .buffered(8)
            .try_collect()
            .await?;
        Ok(Self {
            system,
            // A proxy of the environment is not for the loopback address.
            http: reqwest::Client::builder().no_proxy().build()?,
            acks: vec![Acks::new(); labels.len()],
            labels,
            pushers,
            content: payload(shape.size),
            counters: Arc::default(),
            failed: 0,
            latency: histogram(),
        })
    }

    /// One failure, from queues that all answer to queues that all answer and MoMs that are all up.
    async fn round(
        &mut self,
        number: usize,
        shape: &FailoverShape,
        stage: &ProgressBar,
    ) -> Result<Round> {
        stage.set_message(format!("round {}: warming up", number + 1));
        let (victim, port) = self.victim(number).await?;
        let hosted = self.queues_at(port).await?;
        let (answers, mut inbox) = mpsc::channel(4096);
        // Once to each queue, so that all pushers are where their queues are.
        for queue in 0..self.labels.len() {
            self.push(queue, &answers);
        }
        for _ in 0..self.labels.len() {
            let answer = timeout(ANSWERS_WITHIN, inbox.recv()).await;
            let answer = answer.context("not all queues answer before anything has failed")?;
            self.record(&answer.context("the channel is open")?);
        }

        let observed: Vec<usize> = hosted.iter().copied().take(shape.observed.get()).collect();
        let enough = CancellationToken::new();
        for queue in &observed {
            tokio::spawn(push_steadily(
                *queue,
                self.pushers[*queue].clone(),
                self.content.clone(),
                answers.clone(),
                enough.clone(),
            ));
        }
        // Not always at the same point of the managers' cycle.
        let calm = Duration::from_millis(500 + number as u64 * 370 % 1000);
        let until = tokio::time::Instant::now() + calm;
        while let Ok(Some(answer)) = timeout_at(until, inbox.recv()).await {
            self.record(&answer);
        }

        stage.set_message(format!(
            "round {}: {} queues fail",
            number + 1,
            hosted.len()
        ));
        let signalled = Instant::now();
        match shape.fault {
            Fault::Kill => victim.kill().await,
            Fault::Freeze => victim.freeze().await?,
        }
        let gone = Instant::now();
        for queue in 0..self.labels.len() {
            if !observed.contains(&queue) {
                self.push(queue, &answers);
            }
        }
        let mut firsts = vec![None; self.labels.len()];
        let mut missing = firsts.len();
        let until = tokio::time::Instant::now() + ANSWERS_WITHIN;
        while missing > 0 {
            let Ok(answer) = timeout_at(until, inbox.recv()).await else {
                bail!("{missing} queues gave no answer within {ANSWERS_WITHIN:?}");
            };
            let answer = answer.context("the channel is open")?;
            self.record(&answer);
            let first = &mut firsts[answer.queue];
            if first.is_none() && answer.begun >= gone && answer.receipt.is_ok() {
                *first = Some(answer.at);
                missing -= 1;
            }
        }
        enough.cancel();
        drop(answers);
        while let Some(answer) = inbox.recv().await {
            self.record(&answer);
        }

        stage.set_message(format!("round {}: mending", number + 1));
        match shape.fault {
            Fault::Kill => victim.start().await?,
            Fault::Freeze => victim.thaw().await?,
        }
        self.all_up().await?;
        self.even_out().await?;
        let firsts: Vec<Instant> = firsts.into_iter().flatten().collect();
        let after = |at: Instant| (at - signalled).as_millis() as u64;
        Ok(Round {
            queues: hosted.len(),
            gone_ms: after(gone),
            first_ack_ms: observed.iter().map(|queue| after(firsts[*queue])).collect(),
            all_queues_ms: firsts.iter().copied().map(after).max().unwrap_or_default(),
        })
    }

    /// Pushes once in a task of its own.
    fn push(&self, queue: usize, answers: &mpsc::Sender<Answer>) {
        let pusher = self.pushers[queue].clone();
        let (content, answers) = (self.content.clone(), answers.clone());
        tokio::spawn(async move {
            // Nobody listens any more if the run was given up.
            let _ = answers.send(push(queue, &pusher, content).await).await;
        });
    }

    fn record(&mut self, answer: &Answer) {
        match &answer.receipt {
            Ok(receipt) => {
                self.acks[answer.queue].push((receipt.seq, fingerprint(&receipt.id)));
                let took = answer.at - answer.begun;
                self.latency.saturating_record(took.as_micros() as u64);
                self.counters.add_acked(1);
            }
            Err(error) => {
                if self.failed == 0 {
                    eprintln!("rmom-bench: a push failed: {error}");
                }
                self.failed += 1;
            }
        }
    }

    /// The MoM with most queues, another one each time where several have.
    async fn victim(&self, number: usize) -> Result<(&'a Mom, u16)> {
        let rows = self.rows().await?;
        let turn = |index: usize| (index + rows.len() - number % rows.len()) % rows.len();
        let (_, row) = rows
            .iter()
            .enumerate()
            .max_by_key(|(index, row)| (row.queues, turn(*index)))
            .context("the manager knows no MoM")?;
        let mom = self.system.cluster()?.mom_at(&row.host, row.port);
        Ok((
            mom.context("the manager knows a MoM that is not of the cluster")?,
            row.port,
        ))
    }

    /// The queues that the MoM on a port hosts.
    async fn queues_at(&self, port: u16) -> Result<Vec<usize>> {
        let client = self.system.client();
        let ports: Vec<u16> = stream::iter(&self.labels)
            .map(|label| async move { client.queue(label).await.map(|queue| queue.port) })
            .buffered(8)
            .try_collect()
            .await?;
        let hosted = ports.iter().enumerate().filter(|(_, at)| **at == port);
        Ok(hosted.map(|(queue, _)| queue).collect())
    }

    async fn rows(&self) -> Result<Vec<Row>> {
        let url = format!("{}/moms", self.system.cluster()?.manager_url(0));
        let answer = self.http.get(url).send().await?.error_for_status()?;
        serde_json::from_slice(&answer.bytes().await?).context("GET /moms answers otherwise")
    }

    async fn all_up(&self) -> Result<()> {
        let up = async || match self.rows().await {
            Ok(rows) if rows.iter().all(|row| row.is_up) => Ok(()),
            Ok(_) => Err("not all are".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(try_wait_until("all MoMs to be up again", UP_WITHIN, up).await?)
    }

    /// Has the managers spread the queues evenly. Where they do not know how, the next round strikes whoever has most.
    async fn even_out(&self) -> Result<()> {
        let url = format!("{}/rebalance", self.system.cluster()?.manager_url(0));
        let answer = self.http.post(url).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(());
        }
        answer.error_for_status()?;
        let even = async || match self.rows().await {
            Ok(rows) => {
                let counts: Vec<usize> = rows.iter().map(|row| row.queues).collect();
                let spread = counts.iter().max().zip(counts.iter().min());
                if spread.is_some_and(|(most, least)| most - least <= 1) {
                    Ok(())
                } else {
                    Err(format!("the MoMs have {counts:?}"))
                }
            }
            Err(error) => Err(error.to_string()),
        };
        try_wait_until("queues to be spread evenly", EVEN_WITHIN, even).await?;
        // What moves last is hosted a moment after the row says so.
        sleep(Duration::from_millis(200)).await;
        Ok(())
    }
}

impl Failover {
    fn of(shape: &FailoverShape, rounds: Vec<Round>) -> Self {
        let mut firsts: Vec<u64> = rounds
            .iter()
            .flat_map(|round| round.first_ack_ms.iter().copied())
            .collect();
        let mut alls: Vec<u64> = rounds.iter().map(|round| round.all_queues_ms).collect();
        firsts.sort_unstable();
        alls.sort_unstable();
        Self {
            fault: match shape.fault {
                Fault::Kill => "kill",
                Fault::Freeze => "freeze",
            },
            moms: shape.moms.get(),
            managers: shape.managers.get(),
            manager_cycle_secs: MANAGER_CYCLE_SECS,
            life_probe_deadline_millis: LIFE_PROBE_DEADLINE_MILLIS,
            first_ack_ms_median: median(&firsts),
            first_ack_ms_worst: firsts.last().copied().unwrap_or_default(),
            all_queues_ms_median: median(&alls),
            all_queues_ms_worst: alls.last().copied().unwrap_or_default(),
            rounds,
        }
    }

    pub(crate) fn print(&self) {
        row(
            "cluster",
            format!(
                "{} MoMs, {} managers, manager_cycle_secs {}, life_probe_deadline_millis {}",
                self.moms, self.managers, self.manager_cycle_secs, self.life_probe_deadline_millis
            ),
        );
        for (index, round) in self.rounds.iter().enumerate() {
            let mut firsts = round.first_ack_ms.clone();
            firsts.sort_unstable();
            row(
                &format!("round {}", index + 1),
                format!(
                    "{} of {} queues: first ack {} ms (median), {} ms (worst); all queues {} ms",
                    self.fault,
                    round.queues,
                    median(&firsts),
                    firsts.last().copied().unwrap_or_default(),
                    round.all_queues_ms
                ),
            );
        }
        row(
            "first ack",
            format!(
                "{} ms (median), {} ms (worst)",
                self.first_ack_ms_median, self.first_ack_ms_worst
            ),
        );
        row(
            "all queues",
            format!(
                "{} ms (median), {} ms (worst)",
                self.all_queues_ms_median, self.all_queues_ms_worst
            ),
        );
    }
}

async fn push(queue: usize, pusher: &Pusher, content: Bytes) -> Answer {
    let begun = Instant::now();
    let receipt = pusher.push(content, None).await;
    Answer {
        queue,
        begun,
        at: Instant::now(),
        receipt,
    }
}

/// Pushes at a fixed pace, whatever became of earlier pushes, until it is enough; then waits for those under way.
async fn push_steadily(
    queue: usize,
    pusher: Pusher,
    content: Bytes,
    answers: mpsc::Sender<Answer>,
    enough: CancellationToken,
) {
    let mut pace: Interval = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = tokio::task::JoinSet::new();
    while enough.run_until_cancelled(pace.tick()).await.is_some() {
        let (pusher, content, answers) = (pusher.clone(), content.clone(), answers.clone());
        under_way.spawn(async move {
            let _ = answers.send(push(queue, &pusher, content).await).await;
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// The lower one of the two in the middle.
fn median(sorted: &[u64]) -> u64 {
    match sorted.len() {
        0 => 0,
        len => sorted[(len - 1) / 2],
    }
}
