//! What the whole system does at the moment, for people who look at it.
//!
//! One task looks, once a second and only while somebody wants to know: it reads how full each queue is, asks each MoM
//! for its statistics, and follows the events. All who want to know share what it finds. Nothing is decided by it, and
//! every manager does it for itself, whether it leads or not.

mod meter;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use protos::StatisticsResponse;
use storage::{Depth, Event, EventRange, Mom, MomAddress, Totals};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use crate::Manager;
use crate::database::DatabaseError;
use crate::error::Error;
use meter::Meter;

pub use meter::Rates;

/// The time between two looks, if looking takes a small part of it.
const PERIOD: Duration = Duration::from_secs(1);
/// Looks take at the most one in so many parts of the time, unless one takes very long.
const SHARE: u32 = 4;
/// The time between two looks at the most.
const LONGEST_PERIOD: Duration = Duration::from_secs(10);
/// For how long it goes on looking for somebody who has asked once.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// What is older is not told to somebody who asks: they wait for the next look.
const FRESH: Duration = Duration::from_secs(2);
/// How long they wait. Then they are told what there is, if any.
const PATIENCE: Duration = Duration::from_secs(4);
/// Queues that are looked at, at the most.
const MAX_QUEUES: i64 = 100_000;
/// Events that are read again each time, since one of a lower id may be committed after one of a higher id.
const OVERLAP: usize = 256;
/// Events that one look reads at the most.
const MAX_EVENTS: i64 = 1024;

/// The task and what it has found.
#[derive(Debug)]
pub struct Watching {
    latest: watch::Sender<Option<Arc<Look>>>,
    events: broadcast::Sender<Arc<Event>>,
    /// When somebody asked for the last time.
    wanted_at: watch::Sender<Option<Instant>>,
    wanted: Notify,
}

/// What one look came to.
#[derive(Debug)]
pub struct Look {
    began: Instant,
    /// What was found; `Err`: whether trying again later may help.
    pub found: Result<Figures, Failed>,
}

/// Nothing was found.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    is_outage: bool,
}

/// What there is at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// When this was found.
    pub at: DateTime<Utc>,
    /// The MoMs, in the order of their registration.
    pub moms: Vec<Mom>,
    /// The queues, sorted by label.
    pub queues: Vec<Depth>,
    /// What is counted over all.
    pub totals: Totals,
    /// What is known of each MoM that tells.
    pub of_moms: HashMap<MomAddress, MomFigures>,
    /// What is known of each queue whose MoM tells.
    pub of_queues: HashMap<String, QueueFigures>,
}

/// What a MoM does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomFigures {
    /// Memory in use.
    pub resident_bytes: u64,
    /// Of clients and managers.
    pub connections: u32,
    /// For how long it has run.
    pub uptime: Duration,
    /// Its work, if it has been looked at for long enough.
    pub rates: Option<Rates>,
}

/// What a MoM does for one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueFigures {
    /// The epoch at which it hosts the queue.
    pub epoch: i64,
    /// How many subscriptions there are.
    pub subscriptions: u32,
    /// How many messages the one that is furthest behind has still to get.
    pub largest_lag: u64,
    /// The work, if it has been looked at for long enough.
    pub rates: Option<Rates>,
}

/// Somebody who listens; looks go on until this is dropped.
#[derive(Debug)]
pub struct Listener {
    /// Each look, unless the listener is too slow for it.
    pub looks: watch::Receiver<Option<Arc<Look>>>,
    /// Each event that is seen from now on.
    pub events: broadcast::Receiver<Arc<Event>>,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(None),
            events: broadcast::Sender::new(MAX_EVENTS as usize),
            wanted_at: watch::Sender::new(None),
            wanted: Notify::new(),
        }
    }
}

impl Watching {
    /// What there is, not older than some seconds.
    pub async fn figures(&self) -> Result<Arc<Look>, Error> {
        let mut looks = self.latest.subscribe();
        let asked = Instant::now();
        self.wanted_at.send_replace(Some(asked));
        self.wanted.notify_one();
        let is_fresh =
            |look: &Option<Arc<Look>>| look.as_ref().is_some_and(|look| look.began + FRESH > asked);
        let found = match timeout(PATIENCE, looks.wait_for(is_fresh)).await {
            Ok(Ok(look)) => look.clone(),
            _ => self.latest.borrow().clone(),
        };
        let look = found.ok_or(Error::NoFigures { is_outage: true })?;
        match look.found {
            Ok(_) => Ok(look),
            Err(failed) => Err(failed.into()),
        }
    }

    /// What there is, if somebody has looked lately; otherwise nothing yet, but there will be.
    pub fn known(&self) -> Option<Arc<Look>> {
        self.wanted_at.send_replace(Some(Instant::now()));
        self.wanted.notify_one();
        let look = self.latest.borrow().clone()?;
        (look.began.elapsed() < WANTED_FOR).then_some(look)
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        let events = self.events.subscribe();
        let mut looks = self.latest.subscribe();
        looks.mark_unchanged();
        self.wanted.notify_one();
        Listener { looks, events }
    }

    fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    fn is_wanted(&self) -> bool {
        let asked = *self.wanted_at.borrow();
        self.listeners() > 0 || asked.is_some_and(|asked| asked.elapsed() < WANTED_FOR)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::NoFigures {
            is_outage: failed.is_outage,
        }
    }
}

impl Look {
    /// What was found.
    pub fn figures(&self) -> Option<&Figures> {
        self.found.as_ref().ok()
    }
}

/// Looks whenever somebody wants to know.
pub async fn run(manager: &Manager) -> Infallible {
    let watching = &manager.watching;
    let mut meters = HashMap::new();
    let mut follower = None;
    loop {
        while !watching.is_wanted() {
            meters.clear();
            watching.wanted.notified().await;
        }
        let began = Instant::now();
        if watching.listeners() > 0 {
            if let Err(error) = follow(manager, &mut follower).await {
                log_failure(&error);
            }
        } else {
            follower = None;
        }
        let (found, pause) = match look(manager, &mut meters).await {
            Ok(figures) => (Ok(figures), began.elapsed() * SHARE),
            Err(error) => {
                log_failure(&error);
                let is_outage = error.is_outage();
                (Err(Failed { is_outage }), PERIOD)
            }
        };
        watching
            .latest
            .send_replace(Some(Arc::new(Look { began, found })));
        sleep_until(began + pause.clamp(PERIOD, LONGEST_PERIOD)).await;
    }
}

async fn look(
    manager: &Manager,
    meters: &mut HashMap<MomAddress, Meter>,
) -> Result<Figures, DatabaseError> {
    let database = &manager.database;
    let store = database.store();
    let moms = database.answer(store.moms()).await?;
    let ask = async |mom: &Mom| {
        // One that is down would only be waited for.
        if !mom.is_up {
            return None;
        }
        let answer = manager.moms.statistics(&mom.address, "").await?;
        Some((mom.address.clone(), Instant::now(), answer))
    };
    let (queues, totals, answers) = tokio::join!(
        database.answer(store.depths(None, MAX_QUEUES)),
        database.answer(store.totals()),
        join_all(moms.iter().map(ask)),
    );
    let (queues, totals) = (queues?, totals?);
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    meters.retain(|mom, _| answers.iter().any(|(answering, ..)| answering == mom));
    let mut of_moms = HashMap::new();
    let mut of_queues: HashMap<String, QueueFigures> = HashMap::new();
    for (mom, at, answer) in answers {
        let meter = meters.entry(mom.clone()).or_default();
        meter.add(at, &answer);
        for (label, figures) in queue_figures(&answer, meter) {
            // A former owner that does not know it yet tells of an earlier epoch.
            let known = of_queues.entry(label).or_insert(figures);
            if known.epoch < figures.epoch {
                *known = figures;
            }
        }
        let figures = MomFigures {
            resident_bytes: answer.resident_bytes,
            connections: answer.connections,
            uptime: Duration::from_millis(answer.uptime_millis),
            rates: meter.total(),
        };
        of_moms.insert(mom, figures);
    }
    Ok(Figures {
        at: Utc::now(),
        moms,
        queues,
        totals,
        of_moms,
        of_queues,
    })
}

fn queue_figures(
    answer: &StatisticsResponse,
    meter: &Meter,
) -> impl Iterator<Item = (String, QueueFigures)> {
    answer.queues.iter().map(|queue| {
        let figures = QueueFigures {
            epoch: queue.epoch,
            subscriptions: queue.subscriptions,
            largest_lag: queue.largest_lag,
            rates: meter.of(&queue.queue_label),
        };
        (queue.queue_label.clone(), figures)
    })
}

/// Where the events have been read to.
#[derive(Debug, Default)]
struct Follower {
    /// Events up to this one are not read again.
    floor: i64,
    /// The newest of those that have been seen.
    seen: BTreeSet<i64>,
}

impl Follower {
    /// Whether this one is seen for the first time.
    fn is_new(&mut self, id: i64) -> bool {
        let is_new = self.seen.insert(id);
        if self.seen.len() > OVERLAP {
            self.floor = self.seen.pop_first().unwrap_or(self.floor);
        }
        is_new
    }
}

/// Tells listeners of the events since the last time. The first time it only finds out which there have been.
async fn follow(manager: &Manager, follower: &mut Option<Follower>) -> Result<(), DatabaseError> {
    let database = &manager.database;
    let Some(follower) = follower else {
        let newest = database.store().events(EventRange::Newest, OVERLAP as i64);
        let seen: BTreeSet<i64> = database
            .answer(newest)
            .await?
            .iter()
            .map(|event| event.id)
            .collect();
        let floor = seen.first().map_or(0, |first| first - 1);
        *follower = Some(Follower { floor, seen });
        return Ok(());
    };
    let range = EventRange::After(follower.floor);
    let events = database.store().events(range, MAX_EVENTS);
    for event in database.answer(events).await? {
        if follower.is_new(event.id) {
            // Nobody listens any more, if this fails.
            let _ = manager.watching.events.send(Arc::new(event));
        }
    }
    Ok(())
}

fn log_failure(failure: &DatabaseError) {
    if !failure.is_outage() {
        error!("cannot look at the system: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_once_also_if_it_is_committed_after_a_later_one() {
        let mut follower = Follower::default();
        assert!(follower.is_new(1) && follower.is_new(3));
        assert!(!follower.is_new(1) && follower.is_new(2) && !follower.is_new(2));
        assert_eq!(follower.floor, 0);
        for id in 4..=OVERLAP as i64 + 2 {
            assert!(follower.is_new(id));
        }
        assert_eq!(follower.floor, 2);
        assert!(!follower.is_new(3));
    }
}
