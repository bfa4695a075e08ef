//! What a run found, as one line of JSON or as a table.

use std::fmt::Display;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failover::Failover;
use crate::load::{Acks, Pushed};
use crate::options::{LoneShape, Shape};
use crate::overload::Overload;
use crate::receive::Verdict;
use crate::slow::Slow;

/// The figures of a run. What a subcommand does not measure is 0, or is left out if no other measures it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    command: &'static str,
    size: usize,
    messages: u64,
    queues: usize,
    connections: usize,
    in_flight: usize,
    subscribers: usize,
    acked: u64,
    failed: u64,
    acked_per_s: f64,
    ack_us_p50: u64,
    ack_us_p99: u64,
    delivered: u64,
    lost: u64,
    repeats: u64,
    unacknowledged: u64,
    delivered_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lone: Option<Lone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kill: Option<Kill>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failover: Option<Failover>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<Overload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slow: Option<Slow>,
    /// Why the figures say nothing, if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proves_nothing: Option<&'static str>,
}

/// A lone push beside a bare insert.
#[derive(Debug, Serialize)]
pub(crate) struct Lone {
    pub(crate) push_us_p50: u64,
    pub(crate) insert_us_p50: u64,
    /// `push_us_p50 / insert_us_p50`.
    pub(crate) ratio: f64,
}

/// What the death of a MoM cost those who push.
#[derive(Debug, Serialize)]
pub(crate) struct Kill {
    /// From the kill to the acknowledgement that ended the longest silence after it.
    pub(crate) kill_to_ack_ms: u64,
    /// That silence.
    pub(crate) silence_ms: u64,
}

impl Report {
    pub(crate) fn of_push(command: &'static str, shape: &Shape, pushed: &Pushed) -> Self {
        let acked: u64 = pushed.acks.iter().map(|acks| acks.len() as u64).sum();
        Self {
            command,
            size: shape.size,
            messages: shape.messages,
            queues: shape.queues.get(),
            connections: shape.connections.get(),
            in_flight: shape.in_flight.get(),
            acked,
            failed: pushed.failed,
            acked_per_s: rate(acked, pushed.elapsed),
            ack_us_p50: pushed.latency.value_at_quantile(0.5),
            ack_us_p99: pushed.latency.value_at_quantile(0.99),
            ..Self::default()
        }
    }

    /// Of a run with more figures than those of its pushes.
    pub(crate) fn of_acks(
        command: &'static str,
        shape: &Shape,
        acks: &[Acks],
        failed: u64,
        latency: &Histogram<u64>,
        elapsed: Duration,
    ) -> Self {
        let acked = acks.iter().map(|acks| acks.len() as u64).sum();
        Self {
            command,
            size: shape.size,
            messages: acked + failed,
            queues: shape.queues.get(),
            connections: shape.connections.get(),
            in_flight: shape.in_flight.get(),
            acked,
            failed,
            acked_per_s: rate(acked, elapsed),
            ack_us_p50: latency.value_at_quantile(0.5),
            ack_us_p99: latency.value_at_quantile(0.99),
            ..Self::default()
        }
    }

    pub(crate) fn of_lone(shape: &LoneShape, pushes: &Histogram<u64>, lone: Lone) -> Self {
        Self {
            command: "lone",
            size: shape.size,
            messages: pushes.len(),
            queues: 1,
            connections: 1,
            in_flight: 1,
            acked: pushes.len(),
            // The pushes follow one another without a pause, apart from the rounds of inserts between them.
            acked_per_s: (1e7 / pushes.mean()).round() / 10.0,
            ack_us_p50: pushes.value_at_quantile(0.5),
            ack_us_p99: pushes.value_at_quantile(0.99),
            lone: Some(lone),
            ..Self::default()
        }
    }

    /// `elapsed` is from when messages could first be received to when the last was.
    pub(crate) fn with_deliveries(
        mut self,
        subscribers: usize,
        verdict: &Verdict,
        elapsed: Duration,
    ) -> Self {
        self.subscribers = subscribers;
        self.delivered = verdict.delivered;
        self.lost = verdict.lost;
        self.repeats = verdict.repeats;
        self.unacknowledged = verdict.unacknowledged;
        self.delivered_per_s = rate(verdict.delivered, elapsed);
        self
    }

    pub(crate) fn with_kill(mut self, kill: Kill) -> Self {
        self.kill = Some(kill);
        self
    }

    /// Whether nothing acknowledged was lost, nothing came twice, no push failed, and the figures say something.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost == 0 && self.repeats == 0 && self.failed == 0 && self.proves_nothing.is_none()
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            let line = serde_json::to_string(self).expect("a report has only numbers and names");
            println!("{line}");
            return;
        }
        let load = format!(
            "{} messages of {} bytes, {} queues, {} connections a queue, {} in flight on each",
            self.messages, self.size, self.queues, self.connections, self.in_flight
        );
        println!("{:<18}{load}", self.command);
        row(
            "acknowledged",
            format!("{}, {} a second", self.acked, self.acked_per_s),
        );
        row(
            "acknowledged in",
            format!("{} us (p50), {} us (p99)", self.ack_us_p50, self.ack_us_p99),
        );
        row("failed", self.failed);
        if self.subscribers > 0 {
            let rate = self.delivered_per_s;
            row("subscribers", format!("{} a queue", self.subscribers));
            row(
                "delivered",
                format!("{}, {rate} a second over all subscribers", self.delivered),
            );
            row("lost", self.lost);
            row("repeats", self.repeats);
            row(
                "unacknowledged",
                format!(
                    "{} delivered beyond what was acknowledged",
                    self.unacknowledged
                ),
            );
        }
        if let Some(lone) = &self.lone {
            row("bare insert in", format!("{} us (p50)", lone.insert_us_p50));
            row("push / insert", lone.ratio);
        }
        if let Some(kill) = &self.kill {
            row("kill to next ack", format!("{} ms", kill.kill_to_ack_ms));
            row("longest silence", format!("{} ms", kill.silence_ms));
        }
        if let Some(failover) = &self.failover {
            failover.print();
        }
        if let Some(overload) = &self.overload {
            overload.print();
        }
        if let Some(slow) = &self.slow {
            slow.print();
        }
        if let Some(why) = self.proves_nothing {
            row("proves nothing", why);
        }
    }
}

pub(crate) fn row(name: &str, value: impl Display) {
    println!("{name:<18}{value}");
}

/// Per second, rounded to a tenth: more digits would only pretend.
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    (count as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0
}
