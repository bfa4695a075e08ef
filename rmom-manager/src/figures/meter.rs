//! Rates out of counters: what a MoM has done by now, less what it had done some seconds before.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use protos::{QueueStatistics, StatisticsResponse};
use tokio::time::Instant;

/// The time over which rates are told.
const WINDOW: Duration = Duration::from_secs(5);

/// Messages a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Committed.
    pub pushed: f64,
    /// Handed to subscriptions, each one counted.
    pub delivered: f64,
    /// Of these, read from the database.
    pub caught_up: f64,
}

impl std::ops::AddAssign for Rates {
    fn add_assign(&mut self, other: Self) {
        self.pushed += other.pushed;
        self.delivered += other.delivered;
        self.caught_up += other.caught_up;
    }
}

/// The counters of one MoM over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The process; with another one counters have started again.
    instance: String,
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    counters: HashMap<String, Counters>,
}

#[derive(Clone, Copy, Debug)]
struct Counters {
    /// Of the ownership in which they count: a queue that has been elsewhere meanwhile starts again.
    epoch: i64,
    pushed: u64,
    delivered: u64,
    caught_up: u64,
}

impl Meter {
    pub(super) fn add(&mut self, at: Instant, answer: &StatisticsResponse) {
        if self.instance != answer.instance {
            self.instance.clone_from(&answer.instance);
            self.samples.clear();
        }
        let counters = answer.queues.iter().map(|queue| {
            let QueueStatistics {
                queue_label, epoch, ..
            } = queue;
            let counters = Counters {
                epoch: *epoch,
                pushed: queue.pushed_messages,
                delivered: queue.delivered_messages,
                caught_up: queue.caught_up_messages,
            };
            (queue_label.clone(), counters)
        });
        let counters = counters.collect();
        self.samples.push_back(Sample { at, counters });
        while self
            .samples
            .front()
            .is_some_and(|oldest| oldest.at + WINDOW < at)
        {
            self.samples.pop_front();
        }
    }

    /// The rates of one queue; `None` if it has been seen only once in its present ownership.
    pub(super) fn of(&self, label: &str) -> Option<Rates> {
        let newest = self.samples.back()?;
        let now = newest.counters.get(label)?;
        let (since, then) = self.samples.iter().find_map(|sample| {
            let counters = sample.counters.get(label)?;
            (counters.epoch == now.epoch).then_some((sample.at, counters))
        })?;
        let secs = (newest.at - since).as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / secs;
        (secs > 0.0).then(|| Rates {
            pushed: rate(now.pushed, then.pushed),
            delivered: rate(now.delivered, then.delivered),
            caught_up: rate(now.caught_up, then.caught_up),
        })
    }

    /// The rates of all queues together; `None` if the MoM has been seen only once.
    pub(super) fn total(&self) -> Option<Rates> {
        if self.samples.len() < 2 {
            return None;
        }
        let mut total = Rates::default();
        for label in self.samples.back()?.counters.keys() {
            total += self.of(label).unwrap_or_default();
        }
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(instance: &str, queues: &[(&str, i64, u64)]) -> StatisticsResponse {
        let queues = queues.iter().map(|(label, epoch, pushed)| QueueStatistics {
            queue_label: (*label).to_owned(),
            epoch: *epoch,
            pushed_messages: *pushed,
            delivered_messages: 2 * pushed,
            ..QueueStatistics::default()
        });
        StatisticsResponse {
            instance: instance.to_owned(),
            queues: queues.collect(),
            ..StatisticsResponse::default()
        }
    }

    #[test]
    fn rates_are_differences_over_the_window() {
        let mut meter = Meter::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        meter.add(at(0), &answer("one", &[("a", 1, 100)]));
        assert_eq!((meter.of("a"), meter.total()), (None, None));
        meter.add(at(2), &answer("one", &[("a", 1, 140), ("b", 1, 7)]));
        let rates = Rates {
            pushed: 20.0,
            delivered: 40.0,
            caught_up: 0.0,
        };
        assert_eq!((meter.of("a"), meter.of("b")), (Some(rates), None));
        assert_eq!(meter.total(), Some(rates));
        // The first sample is out of the window by now.
        meter.add(at(6), &answer("one", &[("a", 1, 140), ("b", 1, 7)]));
        assert_eq!(meter.total(), Some(Rates::default()));
    }

    #[test]
    fn counters_that_have_started_again_are_no_difference() {
        let mut meter = Meter::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        meter.add(at(0), &answer("one", &[("a", 1, 100)]));
        meter.add(at(1), &answer("two", &[("a", 1, 500)]));
        assert_eq!(meter.total(), None);
        meter.add(at(2), &answer("two", &[("a", 3, 0)]));
        assert_eq!(meter.of("a"), None);
        assert_eq!(meter.total(), Some(Rates::default()));
    }
}
