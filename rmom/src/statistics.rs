//! What a MoM counts of its work, and what it tells of it.
//!
//! Counting happens where the work is done, once for a batch and never for a message, in relaxed atomics: nobody waits
//! for anybody, and whoever reads sees each number by itself, not all of them at one instant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use protos::{NO_TOPIC, QueueStatistics, SubscriptionStatistics};
use telemetry::metrics::Histogram;
use uuid::Uuid;

use crate::queue::{Queue, lock};

/// The most queues that one answer tells of. With labels of full length they and [`MOST_SUBSCRIPTIONS`] fit the 4 MiB
/// that a gRPC client takes by default.
pub const MOST_QUEUES: usize = 10_000;

/// The most subscriptions that one answer tells of.
pub const MOST_SUBSCRIPTIONS: usize = 1_000;

/// What was done for one queue, or for several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were committed.
    pub pushed_messages: u64,
    /// Bytes of their contents.
    pub pushed_bytes: u64,
    /// Messages that were handed to subscriptions, each one counted.
    pub delivered_messages: u64,
    /// Bytes of their contents.
    pub delivered_bytes: u64,
    /// Of the delivered ones, those that came from the database.
    pub caught_up_messages: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.pushed_messages += other.pushed_messages;
        self.pushed_bytes += other.pushed_bytes;
        self.delivered_messages += other.delivered_messages;
        self.delivered_bytes += other.delivered_bytes;
        self.caught_up_messages += other.caught_up_messages;
    }
}

/// [`Counts`] that grow.
#[derive(Debug, Default)]
pub struct Counters {
    pushed_messages: AtomicU64,
    pushed_bytes: AtomicU64,
    delivered_messages: AtomicU64,
    delivered_bytes: AtomicU64,
    caught_up_messages: AtomicU64,
}

impl Counters {
    /// A batch was committed.
    pub fn pushed(&self, messages: usize, bytes: usize) {
        add(&self.pushed_messages, messages);
        add(&self.pushed_bytes, bytes);
    }

    /// A subscription was handed messages.
    pub fn delivered(&self, messages: usize, bytes: usize, from_database: bool) {
        add(&self.delivered_messages, messages);
        add(&self.delivered_bytes, bytes);
        if from_database {
            add(&self.caught_up_messages, messages);
        }
    }

    /// How far they are.
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            pushed_messages: read(&self.pushed_messages),
            pushed_bytes: read(&self.pushed_bytes),
            delivered_messages: read(&self.delivered_messages),
            delivered_bytes: read(&self.delivered_bytes),
            caught_up_messages: read(&self.caught_up_messages),
        }
    }
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

/// What is measured over all queues.
#[derive(Debug)]
pub struct Meters {
    /// How long a commit took.
    pub commit: Histogram,
    /// Messages of one queue that were committed together.
    pub batch: Histogram,
    /// From the arrival of the first push of a batch until somebody was handed some of it.
    pub delivery: Histogram,
    /// Messages that were refused since too many waited.
    pub overloaded: AtomicU64,
    /// Batches that were refused since another MoM owned the queue.
    pub fenced: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            commit: Histogram::of_seconds(),
            batch: Histogram::new(&[
                1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
            ]),
            delivery: Histogram::of_seconds(),
            overloaded: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
        }
    }
}

/// Who subscribes to a queue at this moment.
#[derive(Debug, Default)]
pub struct Subscribers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    all: BTreeMap<u64, Arc<Progress>>,
}

/// A subscription, and how far it is.
#[derive(Debug)]
struct Progress {
    channel: Uuid,
    topic: Option<Arc<str>>,
    peer: Option<SocketAddr>,
    /// The last sequence that was handed over or passed over.
    seq: AtomicI64,
}

impl Progress {
    fn lag(&self, committed: i64) -> u64 {
        (committed - self.seq.load(Ordering::Relaxed)).max(0) as u64
    }
}

impl Subscribers {
    /// How many there are, and how many messages the one that is furthest behind has still to get.
    pub fn count_and_lag(&self, committed: i64) -> (usize, u64) {
        let known = lock(&self.0);
        let lags = known.all.values().map(|progress| progress.lag(committed));
        (known.all.len(), lags.max().unwrap_or(0))
    }

    /// Each one, those first that are furthest behind.
    pub fn tell(&self, committed: i64) -> Vec<SubscriptionStatistics> {
        let mut all: Vec<(u64, Arc<Progress>)> = lock(&self.0)
            .all
            .values()
            .map(|progress| (progress.lag(committed), progress.clone()))
            .collect();
        all.sort_by_key(|(lag, _)| std::cmp::Reverse(*lag));
        all.truncate(MOST_SUBSCRIPTIONS);
        let told = all.into_iter().map(|(lag, progress)| {
            let peer = progress.peer.map(|peer| peer.to_string());
            SubscriptionStatistics {
                channel_id: progress.channel.to_string(),
                topic: progress.topic.as_deref().unwrap_or(NO_TOPIC).to_owned(),
                peer: peer.unwrap_or_default(),
                seq: progress.seq.load(Ordering::Relaxed),
                lag,
            }
        });
        told.collect()
    }
}

/// A subscription that its queue tells of, as long as it lasts.
#[derive(Debug)]
pub struct Told {
    queue: Arc<Queue>,
    number: u64,
    progress: Arc<Progress>,
}

impl Told {
    /// Counts a subscription in that has everything up to `seq`.
    pub fn new(
        queue: Arc<Queue>,
        channel: Uuid,
        topic: Option<Arc<str>>,
        peer: Option<SocketAddr>,
        seq: i64,
    ) -> Self {
        let progress = Arc::new(Progress {
            channel,
            topic,
            peer,
            seq: AtomicI64::new(seq),
        });
        let mut known = lock(&queue.subscribers.0);
        let number = known.next;
        known.next += 1;
        known.all.insert(number, progress.clone());
        drop(known);
        Self {
            queue,
            number,
            progress,
        }
    }

    /// It was handed or passed over everything up to `seq`.
    pub fn reached(&self, seq: i64) {
        self.progress.seq.store(seq, Ordering::Relaxed);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        lock(&self.queue.subscribers.0).all.remove(&self.number);
    }
}

/// What is told of a queue.
pub fn of_queue(queue: &Queue) -> QueueStatistics {
    let last_seq = queue.feed.committed();
    let (subscriptions, largest_lag) = queue.subscribers.count_and_lag(last_seq);
    let counts = queue.counters.read();
    QueueStatistics {
        queue_label: queue.label.clone(),
        epoch: queue.epoch,
        last_seq,
        pushed_messages: counts.pushed_messages,
        pushed_bytes: counts.pushed_bytes,
        delivered_messages: counts.delivered_messages,
        delivered_bytes: counts.delivered_bytes,
        caught_up_messages: counts.caught_up_messages,
        subscriptions: subscriptions as u32,
        largest_lag,
    }
}
