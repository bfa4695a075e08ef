//! What a manager counts, and what it tells Prometheus.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::Utc;
use storage::{Depth, Mom, Queue};
use telemetry::metrics::{Histogram, Kind, Text};
use telemetry::process;
use uuid::Uuid;

use crate::Manager;

/// MoMs that have series of their own, at the most.
const MOST_MOMS: usize = 200;

/// Queues that have series of their own, at the most: the first ones by their labels.
const MOST_QUEUES: i64 = 200;

/// Method, route and status of answers.
type Answered = (&'static str, String, u16);

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    answers: Mutex<BTreeMap<Answered, u64>>,
    answer: Histogram,
    turn: Histogram,
    moves: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            answers: Mutex::default(),
            answer: Histogram::of_seconds(),
            turn: Histogram::of_seconds(),
            moves: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// A request was answered. There are as many kinds of answers as there are routes, methods and statuses.
    pub(crate) fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.answer.note_time(took);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers
            .entry((method, route.to_owned(), status))
            .or_default() += 1;
    }

    /// The control loop has taken a turn.
    pub(crate) fn turned(&self, took: Duration) {
        self.turn.note_time(took);
    }

    /// A queue was given to another MoM.
    pub(crate) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answers: Vec<(Answered, u64)> = answers
            .iter()
            .map(|(answered, count)| (answered.clone(), *count))
            .collect();
        let series = answers
            .iter()
            .map(|((method, route, status), count)| (method, route, status.to_string(), *count));
        let series: Vec<_> = series.collect();
        text.family(
            "rmom_manager_requests_total",
            Kind::Counter,
            "Requests that were answered.",
            series.iter().map(|(method, route, status, count)| {
                let labels = [
                    ("method", **method),
                    ("route", route.as_str()),
                    ("status", status.as_str()),
                ];
                (labels, *count as f64)
            }),
        );
        text.histogram(
            "rmom_manager_request_seconds",
            "How long it took to answer a request.",
            &self.answer,
        );
        text.histogram(
            "rmom_manager_turn_seconds",
            "How long a turn of the control loop took.",
            &self.turn,
        );
        text.single(
            "rmom_manager_moved_queues_total",
            Kind::Counter,
            "Queues that this manager has given to another MoM.",
            self.moves.load(Ordering::Relaxed) as f64,
        );
    }
}

/// All of it. While the database is away, what is in it is left out.
pub async fn render(manager: &Manager) -> String {
    let mut text = Text::new();
    let version = env!("CARGO_PKG_VERSION");
    text.family(
        "rmom_manager_info",
        Kind::Gauge,
        "What runs: always 1.",
        [([("version", version)], 1.0)],
    );
    let database = &manager.database;
    let rows = async {
        let moms = database.answer(database.store().moms()).await?;
        let queues = database.answer(database.store().queues()).await?;
        let depths = database.answer(database.store().depths(None, MOST_QUEUES));
        Ok::<_, crate::database::DatabaseError>((moms, queues, depths.await?))
    };
    let rows = rows.await;
    let lease = manager.leading.lease();
    let gauges = [
        (
            "rmom_manager_database_up",
            "Whether the database answered when it was last asked: 1 or 0.",
            i64::from(database.is_up()),
        ),
        (
            "rmom_manager_leads",
            "Whether this manager leads, as far as it knows: 1 or 0.",
            i64::from(lease.is_some()),
        ),
        (
            "rmom_manager_lease_epoch",
            "The term of its lease; 0 if it does not lead.",
            lease.map_or(0, |lease| lease.epoch),
        ),
    ];
    for (name, help, value) in gauges {
        text.single(name, Kind::Gauge, help, value as f64);
    }
    if let Ok((moms, queues, depths)) = rows {
        write_moms(&mut text, &moms);
        write_queues(&mut text, &moms, &queues);
        write_depths(&mut text, &depths);
    }
    manager.metrics.write(&mut text);
    process::write(&mut text, manager.metrics.started);
    text.into_string()
}

fn state(mom: &Mom) -> &'static str {
    match (mom.is_up, mom.draining) {
        (false, _) => "down",
        (true, true) => "draining",
        (true, false) => "up",
    }
}

fn write_moms(text: &mut Text, moms: &[Mom]) {
    let count = |wanted| moms.iter().filter(|mom| state(mom) == wanted).count();
    let states = ["up", "draining", "down"];
    text.family(
        "rmom_manager_moms",
        Kind::Gauge,
        "MoMs by state. Those that drain are up.",
        states.map(|state| ([("state", state)], count(state) as f64)),
    );
    let addresses: Vec<(String, f64)> = moms
        .iter()
        .take(MOST_MOMS)
        .map(|mom| (mom.address.to_string(), f64::from(u8::from(mom.is_up))))
        .collect();
    text.family(
        "rmom_manager_mom_up",
        Kind::Gauge,
        "Whether the MoM is up: 1 or 0.",
        addresses
            .iter()
            .map(|(mom, is_up)| ([("mom", mom.as_str())], *is_up)),
    );
}

fn write_queues(text: &mut Text, moms: &[Mom], queues: &[Queue]) {
    let is_up: HashMap<Uuid, bool> = moms.iter().map(|mom| (mom.id, mom.is_up)).collect();
    let state = |queue: &Queue| match &queue.owner {
        None => "unowned",
        Some((owner, _)) if is_up.get(owner) == Some(&true) => "served",
        Some(_) => "down",
    };
    let count = |wanted| queues.iter().filter(|queue| state(queue) == wanted).count();
    let states = ["served", "down", "unowned"];
    text.family(
        "rmom_manager_queues",
        Kind::Gauge,
        "Queues by state: their MoM is up, or down, or they have none.",
        states.map(|state| ([("state", state)], count(state) as f64)),
    );
}

fn write_depths(text: &mut Text, depths: &[Depth]) {
    let now = Utc::now();
    let age = |depth: &Depth| {
        let oldest = depth.oldest_at.map(|at| (now - at).as_seconds_f64());
        // Clocks differ.
        oldest.map_or(0.0, |age| age.max(0.0))
    };
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Depth) -> f64| {
        let series = depths
            .iter()
            .map(|depth| ([("queue", depth.label.as_str())], value(depth)));
        text.family(name, Kind::Gauge, help, series);
    };
    gauge(
        "rmom_queue_retained_messages",
        "Messages that the queue retains.",
        &|depth| depth.messages as f64,
    );
    gauge(
        "rmom_queue_retained_bytes",
        "Bytes of their contents, nearly.",
        &|depth| depth.bytes as f64,
    );
    gauge(
        "rmom_queue_oldest_message_age_seconds",
        "For how long the oldest of them is there; 0 where there is none.",
        &age,
    );
}
