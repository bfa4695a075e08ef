//! What a MoM tells Prometheus: the numbers of [`statistics`](crate::statistics) as text.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use telemetry::metrics::{Kind, Text};
use telemetry::process;
use tokio::sync::Semaphore;

use crate::connections::Connections;
use crate::hosting::Hosting;
use crate::queue::Queue;
use crate::shared::Shared;
use crate::statistics::of_queue;

/// The label of what is told of all queues together that have no series of their own. No queue is called so: labels
/// have no brackets.
const OTHERS: &str = "(others)";

/// Where the numbers are found.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What is hosted.
    pub hosting: Arc<Hosting>,
    /// What queues share.
    pub shared: Arc<Shared>,
    /// Those of clients and managers.
    pub connections: Connections,
    /// One permit for each subscription that may still come.
    pub subscriptions: Arc<Semaphore>,
    /// How many there may be.
    pub max_subscriptions: usize,
    /// False while the database is away.
    pub database_is_up: Arc<AtomicBool>,
    /// How many queues have series of their own.
    pub max_queues: usize,
    /// When the process started.
    pub started: SystemTime,
}

/// A queue's figures, or those of several together.
#[derive(Clone, Debug, Default)]
struct Figures {
    label: String,
    pushed_messages: u64,
    pushed_bytes: u64,
    delivered_messages: u64,
    delivered_bytes: u64,
    caught_up_messages: u64,
    subscriptions: u64,
    largest_lag: u64,
    oldest_behind: Duration,
    waiting_messages: usize,
    oldest_waiting: Duration,
}

impl Figures {
    fn of(queue: &Queue) -> Self {
        let told = of_queue(queue);
        let (waiting_messages, oldest_waiting) = queue.waiting();
        let oldest_behind = match told.largest_lag {
            0 => Duration::ZERO,
            lag => queue.feed.age(told.last_seq - lag as i64 + 1),
        };
        Self {
            label: told.queue_label,
            pushed_messages: told.pushed_messages,
            pushed_bytes: told.pushed_bytes,
            delivered_messages: told.delivered_messages,
            delivered_bytes: told.delivered_bytes,
            caught_up_messages: told.caught_up_messages,
            subscriptions: told.subscriptions.into(),
            largest_lag: told.largest_lag,
            oldest_behind,
            waiting_messages,
            oldest_waiting,
        }
    }

    /// The sums, and of lag and age the largest.
    fn add(&mut self, other: &Self) {
        self.pushed_messages += other.pushed_messages;
        self.pushed_bytes += other.pushed_bytes;
        self.delivered_messages += other.delivered_messages;
        self.delivered_bytes += other.delivered_bytes;
        self.caught_up_messages += other.caught_up_messages;
        self.subscriptions += other.subscriptions;
        self.largest_lag = self.largest_lag.max(other.largest_lag);
        self.oldest_behind = self.oldest_behind.max(other.oldest_behind);
        self.waiting_messages += other.waiting_messages;
        self.oldest_waiting = self.oldest_waiting.max(other.oldest_waiting);
    }
}

impl Metrics {
    /// All of them, as they are now.
    pub fn render(&self) -> String {
        let mut text = Text::new();
        let version = env!("CARGO_PKG_VERSION");
        let instance = self.hosting.instance().to_string();
        text.family(
            "rmom_info",
            Kind::Gauge,
            "What runs: always 1.",
            [([("version", version), ("instance", &instance)], 1.0)],
        );
        self.write_limits(&mut text);
        self.write_sums(&mut text);
        self.write_queues(&mut text);
        process::write(&mut text, self.started);
        text.into_string()
    }

    fn write_limits(&self, text: &mut Text) {
        let subscriptions = self.max_subscriptions - self.subscriptions.available_permits();
        let (inbox, most_inbox) = self.shared.inbox_bytes.used();
        let (recent, most_recent) = self.shared.recent_bytes.used();
        let gauges = [
            (
                "rmom_connections",
                "Connections of clients and managers.",
                self.connections.open(),
            ),
            (
                "rmom_connections_limit",
                "How many there may be: max_connections.",
                self.connections.max(),
            ),
            (
                "rmom_subscriptions",
                "Subscriptions that are open.",
                subscriptions,
            ),
            (
                "rmom_subscriptions_limit",
                "How many there may be: max_subscriptions.",
                self.max_subscriptions,
            ),
            (
                "rmom_waiting_bytes",
                "Bytes of messages that wait to be committed.",
                inbox,
            ),
            (
                "rmom_waiting_bytes_limit",
                "How many may wait before pushes are refused.",
                most_inbox,
            ),
            (
                "rmom_recent_bytes",
                "Bytes of committed messages that are kept for subscribers.",
                recent,
            ),
            ("rmom_recent_bytes_limit", "How many are kept.", most_recent),
        ];
        for (name, help, value) in gauges {
            text.single(name, Kind::Gauge, help, value as f64);
        }
        let is_up = self.database_is_up.load(Ordering::Relaxed);
        text.single(
            "rmom_database_up",
            Kind::Gauge,
            "Whether the last commit was answered by the database: 1 or 0.",
            f64::from(u8::from(is_up)),
        );
        text.single(
            "rmom_database_silent_seconds",
            Kind::Gauge,
            "For how long the database, which is asked every second, has not answered.",
            self.hosting.database_silence().as_secs_f64(),
        );
    }

    fn write_sums(&self, text: &mut Text) {
        let counts = self.hosting.counts();
        let meters = &self.shared.meters;
        let counters = [
            (
                "rmom_pushed_messages_total",
                "Messages that were committed.",
                counts.pushed_messages,
            ),
            (
                "rmom_pushed_bytes_total",
                "Bytes of the contents of committed messages.",
                counts.pushed_bytes,
            ),
            (
                "rmom_delivered_messages_total",
                "Messages that were handed to subscriptions, each one counted.",
                counts.delivered_messages,
            ),
            (
                "rmom_delivered_bytes_total",
                "Bytes of the contents of delivered messages.",
                counts.delivered_bytes,
            ),
            (
                "rmom_caught_up_messages_total",
                "Delivered messages that were read from the database.",
                counts.caught_up_messages,
            ),
            (
                "rmom_overloaded_messages_total",
                "Messages that were refused since more waited than may wait.",
                meters.overloaded.load(Ordering::Relaxed),
            ),
            (
                "rmom_fenced_batches_total",
                "Batches that were not committed since another MoM owned the queue.",
                meters.fenced.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, value) in counters {
            text.single(name, Kind::Counter, help, value as f64);
        }
        text.histogram(
            "rmom_commit_seconds",
            "How long a commit took, of all that was committed together.",
            &meters.commit,
        );
        text.histogram(
            "rmom_batch_messages",
            "How many messages of one queue were committed together.",
            &meters.batch,
        );
        text.histogram(
            "rmom_delivery_seconds",
            "From the arrival of the first push of a batch until a subscription was the first to be handed some of it.",
            &meters.delivery,
        );
    }

    fn write_queues(&self, text: &mut Text) {
        let hosted = self.hosting.hosted();
        text.single(
            "rmom_queues",
            Kind::Gauge,
            "Queues that are hosted here.",
            hosted.len() as f64,
        );
        // In the order of the labels, so that a queue's series stay as long as the queues do.
        let (own, others) = hosted.split_at(self.max_queues.min(hosted.len()));
        let mut all: Vec<Figures> = own.iter().map(|queue| Figures::of(queue)).collect();
        if !others.is_empty() {
            let mut sum = Figures {
                label: OTHERS.to_owned(),
                ..Figures::default()
            };
            for queue in others {
                sum.add(&Figures::of(queue));
            }
            all.push(sum);
        }
        write_of_queues(text, &all);
    }
}

fn write_of_queues(text: &mut Text, all: &[Figures]) {
    type Read = fn(&Figures) -> f64;
    let families: [(&str, Kind, &str, Read); 10] = [
        (
            "rmom_queue_pushed_messages_total",
            Kind::Counter,
            "Messages that were committed.",
            |queue| queue.pushed_messages as f64,
        ),
        (
            "rmom_queue_pushed_bytes_total",
            Kind::Counter,
            "Bytes of the contents of committed messages.",
            |queue| queue.pushed_bytes as f64,
        ),
        (
            "rmom_queue_delivered_messages_total",
            Kind::Counter,
            "Messages that were handed to subscriptions, each one counted.",
            |queue| queue.delivered_messages as f64,
        ),
        (
            "rmom_queue_delivered_bytes_total",
            Kind::Counter,
            "Bytes of the contents of delivered messages.",
            |queue| queue.delivered_bytes as f64,
        ),
        (
            "rmom_queue_caught_up_messages_total",
            Kind::Counter,
            "Delivered messages that were read from the database.",
            |queue| queue.caught_up_messages as f64,
        ),
        (
            "rmom_queue_subscriptions",
            Kind::Gauge,
            "Subscriptions that are open.",
            |queue| queue.subscriptions as f64,
        ),
        (
            "rmom_queue_lag_messages",
            Kind::Gauge,
            "How many messages the subscription that is furthest behind has still to get.",
            |queue| queue.largest_lag as f64,
        ),
        (
            "rmom_queue_lag_seconds",
            Kind::Gauge,
            "How long ago the first message came that the subscription that is furthest behind has still to get; 0 if none is behind.",
            |queue| queue.oldest_behind.as_secs_f64(),
        ),
        (
            "rmom_queue_waiting_messages",
            Kind::Gauge,
            "Messages that wait to be committed.",
            |queue| queue.waiting_messages as f64,
        ),
        (
            "rmom_queue_oldest_waiting_seconds",
            Kind::Gauge,
            "For how long the oldest of the messages that wait to be committed has waited; 0 if none does.",
            |queue| queue.oldest_waiting.as_secs_f64(),
        ),
    ];
    for (name, kind, help, read) in families {
        let series = all
            .iter()
            .map(|queue| ([("queue", &queue.label[..])], read(queue)));
        text.family(name, kind, help, series);
    }
}
