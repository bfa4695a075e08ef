//! Messages on their way: when they are pushed, how many are in flight, what is counted.
//!
//! A [`Source`] says what a lane is to push next, a [`Sink`] counts what an inlet has read, and a [`Tally`] is what all of
//! a run add up in. They cost tens of nanoseconds a message, so that the generator is not what is measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::sync::watch;

use crate::load::histogram;
use crate::peers::{Inlet, Lane};

/// How often messages fall due that are pushed at a rate. All that fall due in a tick are meant for its beginning.
const TICK: Duration = Duration::from_millis(1);
/// The hexadecimal digits at the start of a message that say which tick it was meant for.
const STAMP: usize = 16;

/// What was done so far in one run.
pub(crate) struct Tally {
    started: Instant,
    acked: AtomicU64,
    delivered: AtomicU64,
    bytes: AtomicU64,
    /// How many messages may still be pushed.
    left: AtomicU64,
    over: AtomicBool,
    /// In microseconds.
    latency: Mutex<Histogram<u64>>,
}

impl Tally {
    /// Of a run that pushes `messages` at the most.
    pub(crate) fn new(messages: u64) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            left: AtomicU64::new(messages),
            over: AtomicBool::new(false),
            latency: Mutex::new(histogram()),
        })
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Lets no source give anything any more.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn latency(&self) -> Histogram<u64> {
        self.latency
            .lock()
            .expect("nobody panics while holding it")
            .clone()
    }

    fn record(&self, took: Duration) {
        let mut latency = self.latency.lock().expect("nobody panics while holding it");
        latency.saturating_record(took.as_micros() as u64);
    }

    /// Takes up to `most` from what may still be pushed.
    fn claim(&self, most: u64) -> u64 {
        if self.over.load(Ordering::Relaxed) {
            return 0;
        }
        let claim = |left: u64| Some(left - left.min(most));
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .expect("the closure always answers");
        before.min(most)
    }
}

/// When messages are pushed.
#[derive(Clone)]
enum Pace {
    /// As soon as one may.
    AtOnce,
    /// As soon as one may, and what each push takes is recorded. Only for one in flight.
    Timed(Option<Instant>),
    /// When they fall due, however long the others take.
    Due(Schedule),
}

/// Messages that fall due at a rate, for all lanes together.
#[derive(Clone)]
struct Schedule {
    ticks: watch::Receiver<u64>,
    per_second: f64,
    claimed: Arc<AtomicU64>,
}

impl Schedule {
    /// How many have fallen due when a tick has begun.
    fn due(&self, tick: u64) -> u64 {
        ((tick + 1) as f64 * self.per_second * TICK.as_secs_f64()) as u64
    }

    /// The tick in which the message number `index` falls due.
    fn tick_of(&self, index: u64) -> u64 {
        // Rounding may be off by one either way.
        let guess = (index as f64 / (self.per_second * TICK.as_secs_f64())) as u64;
        let mut tick = guess.saturating_sub(1);
        while self.due(tick) <= index {
            tick += 1;
        }
        tick
    }

    /// Takes up to `most` that are due: the first one's number and how many.
    fn claim(&self, most: u64, tick: u64) -> Option<(u64, u64)> {
        let due = self.due(tick);
        let claim = |claimed: u64| (claimed < due).then(|| due.min(claimed + most));
        let first = self
            .claimed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .ok()?;
        Some((first, due.min(first + most) - first))
    }
}

/// What a lane is to push.
#[derive(Clone)]
pub(crate) struct Source {
    tally: Arc<Tally>,
    payload: Bytes,
    pace: Pace,
}

impl Source {
    /// Messages of `size` bytes, as fast as they can be pushed.
    pub(crate) fn at_once(tally: &Arc<Tally>, size: usize) -> Self {
        Self {
            tally: tally.clone(),
            payload: payload(size),
            pace: Pace::AtOnce,
        }
    }

    /// Likewise, one after the other, each of them timed.
    pub(crate) fn timed(tally: &Arc<Tally>, size: usize) -> Self {
        Self {
            pace: Pace::Timed(None),
            ..Self::at_once(tally, size)
        }
    }

    /// Messages that fall due at a rate, whether or not those before them are through. Clones share the rate.
    pub(crate) fn at_rate(tally: &Arc<Tally>, size: usize, per_second: f64) -> Self {
        let pace = Pace::Due(Schedule {
            ticks: start_ticking(tally),
            per_second,
            claimed: Arc::default(),
        });
        Self {
            pace,
            ..Self::at_once(tally, size)
        }
    }

    /// Waits until there is something to push, and gives up to `most` messages. Nothing: that was all.
    ///
    /// A future that is dropped has taken nothing.
    async fn take(&mut self, most: usize) -> Vec<Bytes> {
        let most = most as u64;
        match &mut self.pace {
            Pace::AtOnce => {
                let count = self.tally.claim(most);
                vec![self.payload.clone(); count as usize]
            }
            Pace::Timed(since) => {
                *since = Some(Instant::now());
                let count = self.tally.claim(1);
                vec![self.payload.clone(); count as usize]
            }
            Pace::Due(schedule) => loop {
                if self.tally.over.load(Ordering::Relaxed) {
                    return Vec::new();
                }
                let tick = *schedule.ticks.borrow_and_update();
                if let Some((first, count)) = schedule.claim(most, tick) {
                    return (first..first + count)
                        .map(|index| stamp(&self.payload, schedule.tick_of(index)))
                        .collect();
                }
                // The clock goes on until all is over.
                if schedule.ticks.changed().await.is_err() {
                    return Vec::new();
                }
            },
        }
    }

    fn acked(&self, count: usize) {
        self.tally.acked.fetch_add(count as u64, Ordering::Relaxed);
        if let Pace::Timed(Some(since)) = self.pace {
            self.tally.record(since.elapsed());
        }
    }
}

/// Counts ticks until the run is over.
///
/// A thread of its own, since tokio rounds its timers up to the next millisecond, which would be most of what is measured
/// of a fast system.
fn start_ticking(tally: &Arc<Tally>) -> watch::Receiver<u64> {
    let (sender, ticks) = watch::channel(0);
    let tally = tally.clone();
    std::thread::spawn(move || {
        let first = ticks_since(tally.started) + 1;
        let mut tick = first;
        while !tally.over.load(Ordering::Relaxed) {
            let begins = tally.started + TICK * tick as u32;
            std::thread::sleep(begins.saturating_duration_since(Instant::now()));
            if sender.send(tick).is_err() {
                break;
            }
            // Late ticks are made up for at once: what was due in them is late, and is to be seen to be.
            tick = ticks_since(tally.started).max(tick + 1);
        }
    });
    ticks
}

fn ticks_since(instant: Instant) -> u64 {
    (instant.elapsed().as_nanos() / TICK.as_nanos()) as u64
}

/// Pushes all that the source gives, in calls of up to `together` messages, with at most `in_flight` of them not
/// acknowledged.
pub(crate) async fn keep_in_flight(
    lane: &impl Lane,
    mut source: Source,
    in_flight: usize,
    together: usize,
) -> Result<()> {
    let mut running = FuturesUnordered::new();
    let mut free = in_flight;
    let mut more = true;
    loop {
        tokio::select! {
            biased;
            Some((count, outcome)) = running.next(), if !running.is_empty() => {
                let outcome: Result<()> = outcome;
                outcome?;
                free += count;
                source.acked(count);
            }
            contents = source.take(free.min(together)), if more && free > 0 => {
                let count = contents.len();
                more = count > 0;
                if more {
                    free -= count;
                    running.push(async move { (count, lane.push(contents).await) });
                }
            }
            else => return Ok(()),
        }
    }
}

/// Pushes all that the source gives, each message for itself.
pub(crate) async fn push_singly(lane: impl Lane, source: Source, in_flight: usize) -> Result<()> {
    let together = lane.together(in_flight).clamp(1, in_flight);
    keep_in_flight(&lane, source, in_flight, together).await
}

/// Pushes all that the source gives in batches of `batch`, so many of them in flight.
pub(crate) async fn push_batches(
    lane: impl Lane,
    source: Source,
    batch: usize,
    in_flight: usize,
) -> Result<()> {
    keep_in_flight(&lane, source, batch * in_flight, batch).await
}

/// What an inlet has read.
pub(crate) struct Sink {
    tally: Arc<Tally>,
    /// Latencies of messages that were meant for this tick or a later one are recorded.
    from_tick: Option<u64>,
}

impl Sink {
    /// Counts only.
    pub(crate) fn counting(tally: &Arc<Tally>) -> Self {
        Self {
            tally: tally.clone(),
            from_tick: None,
        }
    }

    /// Records as well how long after the instant that a message was meant for it came. What was meant for less than
    /// `warm_up` after the tally's beginning only warms up.
    pub(crate) fn timing(tally: &Arc<Tally>, warm_up: Duration) -> Self {
        Self {
            tally: tally.clone(),
            from_tick: Some((warm_up.as_nanos() / TICK.as_nanos()) as u64),
        }
    }

    /// One message came.
    pub(crate) fn take(&mut self, content: &[u8]) {
        self.tally.delivered.fetch_add(1, Ordering::Relaxed);
        self.tally
            .bytes
            .fetch_add(content.len() as u64, Ordering::Relaxed);
        if let Some(from) = self.from_tick
            && let Some(tick) = read_stamp(content)
            && tick >= from
        {
            let meant = self.tally.started + TICK * tick as u32;
            self.tally.record(meant.elapsed());
        }
    }
}

/// Reads until it is dropped.
pub(crate) async fn read_all(mut inlet: impl Inlet, mut sink: Sink) -> Result<()> {
    inlet.read(&mut sink).await.map(|never| match never {})
}

/// Text that does not compress well, the same for all messages: making new ones for each would measure the generator.
/// Text, since pgmq takes JSON.
fn payload(size: usize) -> Bytes {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    crate::load::payload(size)
        .iter()
        .map(|byte| LETTERS[usize::from(byte % 64)])
        .collect()
}

/// The payload with the tick that it is meant for at its start. One that is too short stays as it is.
fn stamp(payload: &Bytes, tick: u64) -> Bytes {
    let mut content = payload.to_vec();
    if let Some(place) = content.get_mut(..STAMP) {
        let mut rest = tick;
        for digit in place.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(rest % 16) as usize];
            rest /= 16;
        }
    }
    content.into()
}

fn read_stamp(content: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(content.get(..STAMP)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(per_second: f64) -> Schedule {
        Schedule {
            ticks: watch::channel(0).1,
            per_second,
            claimed: Arc::default(),
        }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamped = stamp(&payload(128), 0x1234_abcd);
        assert_eq!(stamped.len(), 128);
        assert_eq!(read_stamp(&stamped), Some(0x1234_abcd));
        assert_eq!(read_stamp(b"short"), None);
        assert_eq!(read_stamp(&payload(128)), None);
    }

    #[test]
    fn each_message_of_a_schedule_falls_due_once_and_in_its_tick() {
        for per_second in [10.0, 999.0, 1000.0, 76_543.2] {
            let schedule = schedule(per_second);
            let mut next = 0;
            for tick in 0..2000 {
                while let Some((first, count)) = schedule.claim(7, tick) {
                    assert_eq!(first, next);
                    for index in first..first + count {
                        assert_eq!(schedule.tick_of(index), tick, "at {per_second}/s");
                    }
                    next += count;
                }
            }
            assert!((next as f64 - per_second * 2.0).abs() <= 1.0);
        }
    }

    #[test]
    fn no_more_is_pushed_than_may_be_and_nothing_once_it_is_over() {
        let tally = Tally::new(10);
        assert_eq!([tally.claim(7), tally.claim(7), tally.claim(7)], [7, 3, 0]);
        let tally = Tally::new(10);
        tally.stop();
        assert_eq!(tally.claim(1), 0);
    }
}
