//! A pusher's identity, and the numbers of its pushes: what lets a MoM know a repeated push again.
//!
//! Numbers are given in the order in which pushes begin and settled in the order in which they end; a MoM remembers
//! those between the oldest push without an answer and the newest. Before the numbers of an identity end it is
//! replaced, and lives on for the pushes that still bear it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// How far a number may be ahead of the oldest one that is not settled: what a MoM remembers at the most.
const WINDOW: usize = (1 << 18) - 1;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Session {
    inner: Mutex<Inner>,
    /// Wakes those who wait since the window is full.
    room: Notify,
    /// The last number of an identity.
    last_number: u32,
}

#[derive(Debug)]
struct Inner {
    /// The one that numbers new pushes last; before it, those that pushes under way still bear.
    identities: VecDeque<Identity>,
}

#[derive(Debug)]
struct Identity {
    pusher: Uuid,
    /// All lower numbers are settled. It ends one above the last number.
    settled: u64,
    /// Of this number and each above, whether it is settled.
    done: VecDeque<bool>,
}

/// A push under way. It is settled when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    session: Arc<Session>,
    /// Whose push it is.
    pub(crate) pusher: Uuid,
    /// Its number.
    pub(crate) number: u32,
}

impl Session {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_numbers(u32::MAX)
    }

    fn with_numbers(last_number: u32) -> Arc<Self> {
        let inner = Inner {
            identities: VecDeque::from([Identity::new()]),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            room: Notify::new(),
            last_number,
        })
    }

    /// Numbers a push, as soon as the oldest one under way is not too far behind.
    pub(crate) async fn begin(self: &Arc<Self>) -> Ticket {
        loop {
            let freed = self.room.notified();
            if let Some(ticket) = self.try_begin() {
                return ticket;
            }
            freed.await;
        }
    }

    fn try_begin(self: &Arc<Self>) -> Option<Ticket> {
        let mut inner = self.lock();
        let current = inner.current();
        if current.done.len() >= WINDOW {
            return None;
        }
        if current.next() > u64::from(self.last_number) {
            inner.identities.push_back(Identity::new());
            inner.forget_settled();
        }
        let current = inner.current();
        let number = current.next() as u32;
        current.done.push_back(false);
        Some(Ticket {
            session: self.clone(),
            pusher: current.pusher,
            number,
        })
    }

    /// Each identity that pushes bear or will bear, and below which number its pushes are settled.
    pub(crate) fn identities(&self) -> Vec<(Uuid, u32)> {
        let inner = self.lock();
        let identities = inner.identities.iter();
        identities
            .map(|identity| (identity.pusher, identity.settled()))
            .collect()
    }

    fn settle(&self, pusher: Uuid, number: u32) {
        let mut inner = self.lock();
        let Some(identity) = inner
            .identities
            .iter_mut()
            .find(|identity| identity.pusher == pusher)
        else {
            return;
        };
        let was_full = identity.done.len() >= WINDOW;
        identity.settle(number);
        if was_full && identity.done.len() < WINDOW {
            self.room.notify_waiters();
        }
        inner.forget_settled();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn current(&mut self) -> &mut Identity {
        self.identities
            .back_mut()
            .expect("there is always an identity")
    }

    fn forget_settled(&mut self) {
        while self.identities.len() > 1 && self.identities[0].done.is_empty() {
            self.identities.pop_front();
        }
    }
}

impl Identity {
    fn new() -> Self {
        let pusher = Uuid::from_u128(Uuid::now_v7().as_u128() & !u128::from(u32::MAX));
        Self {
            pusher,
            settled: 1,
            done: VecDeque::new(),
        }
    }

    /// The next number, which may be one more than there are.
    fn next(&self) -> u64 {
        self.settled + self.done.len() as u64
    }

    /// As it is told to a MoM.
    fn settled(&self) -> u32 {
        self.settled.min(u32::MAX.into()) as u32
    }

    fn settle(&mut self, number: u32) {
        let place = u64::from(number) - self.settled;
        if let Some(done) = self.done.get_mut(place as usize) {
            *done = true;
        }
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.settled += 1;
        }
    }
}

impl Ticket {
    /// The number below which all pushes of this one's pusher are settled.
    pub(crate) fn settled(&self) -> u32 {
        let inner = self.session.lock();
        inner
            .identities
            .iter()
            .find(|identity| identity.pusher == self.pusher)
            .map_or(self.number, Identity::settled)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.session.settle(self.pusher, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_settled_up_to_the_oldest_push_under_way() {
        let session = Session::new();
        let mut tickets: Vec<_> = (0..4).map(|_| session.try_begin().unwrap()).collect();
        assert_eq!(
            tickets.iter().map(|t| t.number).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        let last = tickets.pop().unwrap();
        tickets.remove(1);
        assert_eq!(last.settled(), 1, "the first is under way");
        tickets.remove(0);
        assert_eq!(last.settled(), 3);
        drop(tickets);
        assert_eq!(last.settled(), 4);
    }

    #[test]
    fn an_identity_whose_numbers_end_is_replaced_and_lives_on_for_its_pushes() {
        let session = Session::with_numbers(2);
        let first = session.try_begin().unwrap();
        drop(session.try_begin().unwrap());
        let third = session.try_begin().unwrap();
        assert_ne!(first.pusher, third.pusher);
        assert_eq!((first.number, third.number), (1, 1));
        assert_eq!(session.identities(), [(first.pusher, 1), (third.pusher, 1)]);
        drop(first);
        assert_eq!(session.identities(), [(third.pusher, 1)]);
    }

    #[tokio::test]
    async fn a_push_waits_while_the_window_is_full() {
        let session = Session::new();
        let oldest = session.try_begin().unwrap();
        for _ in 1..WINDOW {
            drop(session.try_begin().unwrap());
        }
        assert!(session.try_begin().is_none());
        let (next, ()) = tokio::join!(session.begin(), async { drop(oldest) });
        assert_eq!(next.number as usize, WINDOW + 1);
    }
}
