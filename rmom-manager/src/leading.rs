//! Whether this manager leads: of several, the one that holds the lease decides, see [`storage::Lease`].
//!
//! What is known here may be out of date at any moment, so it only spares work: whether a decision takes effect is up
//! to the database, which asks for the lease again with each of them.

use std::time::Duration;

use storage::{Leadership, Lease};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::database::Database;

/// The least time that one attempt to get or renew the lease may take, for a lease that is short.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub struct Leading {
    /// This process; a new one each time, so that nothing of an earlier run counts.
    holder: Uuid,
    length: Duration,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Following,
    Leads(Lease),
}

impl Leading {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            holder: Uuid::now_v7(),
            length,
            state: watch::Sender::new(State::Starting),
        }
    }

    /// Waits until this manager leads.
    pub(crate) async fn begin(&self) -> Lease {
        let mut state = self.state.subscribe();
        loop {
            if let State::Leads(lease) = *state.borrow_and_update() {
                return lease;
            }
            state.changed().await.expect("the sender is in self");
        }
    }

    /// Waits until this manager does not lead under this lease any more.
    pub(crate) async fn end(&self, lease: Lease) {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| *state != State::Leads(lease));
        ended.await.expect("the sender is in self");
    }

    /// Whether this manager leads under this lease, as far as it knows.
    pub(crate) fn is_under(&self, lease: Lease) -> bool {
        *self.state.borrow() == State::Leads(lease)
    }

    /// The lease under which this manager leads, if it does, as far as it knows.
    pub fn lease(&self) -> Option<Lease> {
        match *self.state.borrow() {
            State::Leads(lease) => Some(lease),
            State::Starting | State::Following => None,
        }
    }

    /// The lease has turned out to be another manager's: decides nothing more under it.
    pub(crate) fn is_lost(&self, lease: Lease) {
        if self.is_under(lease) {
            self.follow();
        }
    }

    fn lead(&self, lease: Lease) {
        if self.state.send_replace(State::Leads(lease)) != State::Leads(lease) {
            info!("leading since lease epoch {}", lease.epoch);
        }
    }

    fn follow(&self) {
        match self.state.send_replace(State::Following) {
            State::Starting => info!("another manager leads; this one takes over when it ends"),
            State::Following => {}
            State::Leads(lease) => warn!(
                "another manager leads, or may: the lease of epoch {} has ended, and nothing more is decided under it",
                lease.epoch
            ),
        }
    }

    /// Gets the lease when it is free and renews it every third of its length, until `stop`; then gives it back, so that
    /// another manager has it at once.
    pub(crate) async fn keep(&self, database: &Database, stop: &CancellationToken) {
        let period = self.length / 3;
        let deadline = period.max(SHORTEST_DEADLINE);
        let mut held = None;
        loop {
            let asked_at = Instant::now();
            let asked = database.store().lead(self.holder, self.length);
            let pause = match database.within(deadline, asked).await {
                Ok(Leadership::Held(lease)) => {
                    held = Some((lease, asked_at));
                    self.lead(lease);
                    period
                }
                Ok(Leadership::Elsewhere(left)) => {
                    held = None;
                    self.follow();
                    // It ends then, unless it is renewed.
                    left.min(period)
                }
                Err(error) => {
                    if !error.is_outage() {
                        error!("cannot get or renew the lease: {error}");
                    }
                    if held.is_some_and(|(_, since)| since.elapsed() >= self.length) {
                        held = None;
                        self.follow();
                    }
                    period
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(asked_at + pause) => {}
            }
        }
        if let Some((lease, _)) = held {
            // If this fails the others wait until it ends by itself.
            let _ = database
                .within(deadline, database.store().give_back(&lease))
                .await;
        }
    }
}
