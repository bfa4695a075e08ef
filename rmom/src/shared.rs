//! What all queues of a MoM share: whose turn it is with the [`committer`](crate::committer), and how much all of them
//! together may hold.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::budget::Budget;
use crate::queue::{Queue, lock};
use crate::statistics::Meters;

/// The most bytes that may wait in all inboxes together.
const ALL_INBOX_BYTES: usize = 256 << 20;

/// The most ids brought by pushers that all queues together remember.
pub(crate) const ALL_KEYS: usize = 1_000_000;

/// The most bytes of committed messages that all queues together keep for their subscribers.
const ALL_RECENT_BYTES: usize = 256 << 20;

/// The most bytes that all subscriptions together hold of large pages that they have read from the database.
const ALL_PAGE_BYTES: usize = 64 << 20;

/// What all queues of a MoM share.
#[derive(Debug)]
pub struct Shared {
    /// The queues whose inbox has something, in the order in which the committer turns to them.
    ready: Mutex<VecDeque<Arc<Queue>>>,
    /// Wakes the committer.
    wake: Notify,
    /// Bytes of messages that wait in all inboxes.
    pub inbox_bytes: Budget,
    /// Bytes of committed messages kept by all queues.
    pub recent_bytes: Arc<Budget>,
    /// Bytes of large pages that subscriptions hold.
    pub page_bytes: Arc<Budget>,
    /// Ids brought by pushers that all queues remember.
    pub keys: Arc<Budget>,
    /// How long they are remembered.
    pub key_window: Duration,
    /// `queue_buffer_size`.
    pub buffer_messages: usize,
    /// What is measured.
    pub meters: Meters,
}

impl Shared {
    /// For queues of at most `buffer_messages` waiting messages and as many committed ones in memory, which remember
    /// the ids that pushers bring for `key_window`.
    pub fn new(buffer_messages: usize, key_window: Duration) -> Arc<Self> {
        Arc::new(Self {
            ready: Mutex::default(),
            wake: Notify::new(),
            inbox_bytes: Budget::new(ALL_INBOX_BYTES),
            recent_bytes: Arc::new(Budget::new(ALL_RECENT_BYTES)),
            page_bytes: Arc::new(Budget::new(ALL_PAGE_BYTES)),
            keys: Arc::new(Budget::new(ALL_KEYS)),
            key_window,
            buffer_messages,
            meters: Meters::default(),
        })
    }

    /// Waits until some inbox has something, and returns at most `max` such queues, those first that wait longest.
    pub async fn ready(&self, max: usize) -> Vec<Arc<Queue>> {
        loop {
            // Registered before the look, so that a push between look and wait is not missed.
            let woken = self.wake.notified();
            let ready = self.take_ready(max);
            if !ready.is_empty() {
                return ready;
            }
            woken.await;
        }
    }

    /// As [`ready`](Self::ready), without waiting.
    pub fn take_ready(&self, max: usize) -> Vec<Arc<Queue>> {
        let mut ready = lock(&self.ready);
        let count = ready.len().min(max);
        ready.drain(..count).collect()
    }

    /// Gives back queues that were taken and not turned to; they keep their turn.
    pub fn give_back(&self, queues: impl DoubleEndedIterator<Item = Arc<Queue>>) {
        let mut ready = lock(&self.ready);
        for queue in queues.rev() {
            ready.push_front(queue);
        }
    }

    /// Adds a queue whose inbox has something, and wakes the committer.
    pub fn add_ready(&self, queue: Arc<Queue>) {
        lock(&self.ready).push_back(queue);
        self.wake.notify_one();
    }
}
