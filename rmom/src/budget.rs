//! A bound that all queues of a MoM share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of something may be held at once, by whoever holds it.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    /// At most `most`.
    pub fn new(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }

    /// Takes some, whether it is there or not.
    pub fn take(&self, amount: usize) {
        self.used.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes some if there is room for it. Two at once may both find the last room, which makes them a little more than
    /// the most, once.
    pub fn take_within(&self, amount: usize) -> bool {
        let has_room = self.has_room(amount);
        if has_room {
            self.take(amount);
        }
        has_room
    }

    /// How much is taken, and how much there may be.
    pub fn used(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), self.most)
    }

    /// Whether there is room for so much.
    pub fn has_room(&self, amount: usize) -> bool {
        self.used.load(Ordering::Relaxed) + amount <= self.most
    }

    /// Gives some back.
    pub fn give(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}
