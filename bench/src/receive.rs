//! Subscribers that keep book of what they receive, and the comparison with what was acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use momclient::Subscriber;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::load::{Acks, Lanes, Load, fingerprint};
use crate::options::{Options, Shape};
use crate::progress::{Counters, Progress};
use crate::report::Report;
use crate::system::System;

/// Subscribers that got nothing for this long, although messages are due to them, have lost them.
const PATIENCE: Duration = Duration::from_mins(1);

/// Subscribers at work.
pub(crate) struct Receivers {
    running: JoinSet<Received>,
    /// The last sequence acknowledged by queue, once pushing is over.
    last_seqs: watch::Sender<Option<Vec<i64>>>,
    /// Makes subscribers stop where they are.
    given_up: CancellationToken,
    counters: Arc<Counters>,
}

/// What one subscriber received.
pub(crate) struct Received {
    queue: usize,
    /// The fingerprint at each sequence, from 1; 0 where nothing came.
    seen: Vec<u32>,
    messages: u64,
    repeats: u64,
    last_at: Instant,
}

/// How deliveries compare with acknowledgements, over all subscribers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Acknowledged messages that reached a subscriber, counted for each subscriber.
    pub(crate) delivered: u64,
    /// Acknowledged messages that did not.
    pub(crate) lost: u64,
    /// Sequences that one subscriber was given again.
    pub(crate) repeats: u64,
    /// Delivered messages that nobody has an acknowledgement for: second messages of pushes that were tried again.
    pub(crate) unacknowledged: u64,
}

/// The subcommand `subscribe`.
pub(crate) async fn subscribe(system: &System, shape: &Shape, options: &Options) -> Result<Report> {
    let queues = system.create_queues(shape.queues.get()).await?;
    let load = Arc::new(Load::new(shape));
    let lanes = Lanes::open(system, &queues, shape).await?;
    let receivers = Receivers::open(system, &queues, shape, load.counters.clone()).await?;
    let total = shape.messages * (1 + shape.subscribers.get() as u64);
    let progress = Progress::show(&load.counters, total, options.json);
    let started = Instant::now();
    let pushed = lanes.run(&load).await?;
    let (verdict, last_at) = receivers.finish(&pushed.acks).await?;
    drop(progress);
    Ok(
        Report::of_push("subscribe", shape, &pushed).with_deliveries(
            shape.subscribers.get(),
            &verdict,
            last_at - started,
        ),
    )
}

impl Receivers {
    /// Creates a channel for each subscriber, subscribes, and starts to receive.
    pub(crate) async fn open(
        system: &System,
        queues: &[String],
        shape: &Shape,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let last_seqs = watch::Sender::new(None);
        let given_up = CancellationToken::new();
        let mut running = JoinSet::new();
        for (index, queue) in queues.iter().enumerate() {
            for _ in 0..shape.subscribers.get() {
                let channel = system
                    .client()
                    .create_channel(queue, shape.topic.as_deref())
                    .await
                    .with_context(|| format!("creating a channel on the queue {queue}"))?;
                let subscriber = system
                    .client()
                    .subscribe(&channel.id)
                    .await
                    .with_context(|| format!("subscribing to the channel {}", channel.id))?;
                running.spawn(receive(
                    index,
                    subscriber,
                    last_seqs.subscribe(),
                    given_up.clone(),
                    counters.clone(),
                ));
            }
        }
        Ok(Self {
            running,
            last_seqs,
            given_up,
            counters,
        })
    }

    /// Waits until each subscriber has come to the last acknowledged sequence, and compares. Also tells when the last
    /// message came.
    pub(crate) async fn finish(mut self, acks: &[Acks]) -> Result<(Verdict, Instant)> {
        let last = |acks: &Acks| acks.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
        self.last_seqs
            .send_replace(Some(acks.iter().map(last).collect()));
        let mut verdict = Verdict::default();
        let mut last_at = None;
        while !self.running.is_empty() {
            let before = self.counters.delivered();
            match timeout(PATIENCE, self.running.join_next()).await {
                Ok(Some(received)) => {
                    let received = received.context("a subscriber's task ended early")?;
                    received.judge(&acks[received.queue], &mut verdict);
                    last_at = last_at.max(Some(received.last_at));
                }
                Ok(None) => break,
                Err(_) if self.counters.delivered() > before => {}
                Err(_) => {
                    let waiting = self.running.len();
                    eprintln!(
                        "rmom-bench: {waiting} subscribers were given nothing for {PATIENCE:?}"
                    );
                    self.given_up.cancel();
                }
            }
        }
        Ok((verdict, last_at.context("there are no subscribers")?))
    }
}

/// Receives until the last acknowledged sequence is there. A subscription that ends early leaves a book with holes,
/// which is what is to be found out.
async fn receive(
    queue: usize,
    mut subscriber: Subscriber,
    mut last_seqs: watch::Receiver<Option<Vec<i64>>>,
    given_up: CancellationToken,
    counters: Arc<Counters>,
) -> Received {
    let mut received = Received::new(queue);
    let mut until = None;
    while until.is_none_or(|until| subscriber.last_seq() < until) {
        let message = tokio::select! {
            biased;
            message = subscriber.next() => message,
            () = given_up.cancelled() => break,
            last = last_seqs.wait_for(Option::is_some), if until.is_none() => match last {
                Ok(last) => {
                    until = last.as_ref().map(|last| last[queue]);
                    continue;
                }
                // The run was given up.
                Err(_) => break,
            },
        };
        match message {
            Some(Ok(message)) => {
                received.record(message.seq, fingerprint(&message.id));
                counters.add_delivered(1);
            }
            Some(Err(error)) => eprintln!("rmom-bench: a subscription failed: {error}"),
            None => break,
        }
    }
    received
}

impl Received {
    /// An empty book.
    pub(crate) fn new(queue: usize) -> Self {
        Self {
            queue,
            seen: Vec::new(),
            messages: 0,
            repeats: 0,
            last_at: Instant::now(),
        }
    }

    pub(crate) fn record(&mut self, seq: i64, fingerprint: u32) {
        let index = seq as usize - 1;
        if index >= self.seen.len() {
            self.seen.resize(index + 1, 0);
        }
        self.repeats += u64::from(self.seen[index] != 0);
        self.seen[index] = fingerprint;
        self.messages += 1;
        self.last_at = Instant::now();
    }

    /// Adds to the verdict how this compares with what was acknowledged.
    pub(crate) fn judge(&self, acks: &Acks, verdict: &mut Verdict) {
        let came = |(seq, fingerprint): &&(i64, u32)| {
            self.seen.get(*seq as usize - 1) == Some(fingerprint)
        };
        let delivered = acks.iter().filter(came).count() as u64;
        verdict.delivered += delivered;
        verdict.lost += acks.len() as u64 - delivered;
        verdict.repeats += self.repeats;
        verdict.unacknowledged += self.messages - self.repeats - delivered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_did_not_come_or_came_as_another_is_lost() {
        let mut received = Received::new(0);
        for (seq, fingerprint) in [(1, 11), (2, 22), (4, 44), (4, 44), (5, 99)] {
            received.record(seq, fingerprint);
        }
        let mut verdict = Verdict::default();
        received.judge(
            &vec![(2, 22), (1, 11), (3, 33), (5, 55), (6, 66)],
            &mut verdict,
        );
        assert_eq!(
            verdict,
            Verdict {
                delivered: 2,
                lost: 3,
                repeats: 1,
                unacknowledged: 2
            }
        );
    }
}
