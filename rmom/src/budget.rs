//! A bound that all queues of a MoM share.

use std::sync::Arc;
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

    /// As [`take_within`](Self::take_within), until what is returned is dropped.
    pub fn share(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let budget = self.clone();
        self.take_within(amount).then(|| Share { budget, amount })
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

/// What was taken of a budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    amount: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_had_while_there_is_room_and_given_back_once() {
        let budget = Arc::new(Budget::new(10));
        let share = budget.share(6).unwrap();
        assert!(budget.share(5).is_none());
        let rest = budget.share(4).unwrap();
        assert_eq!(budget.used(), (10, 10));
        drop(share);
        assert_eq!(budget.used(), (4, 10));
        drop(rest);
        assert_eq!(budget.used(), (0, 10));
    }
}
