//! What a queue has committed, for its subscriptions: how far it is, and the newest batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use storage::Packed;
use tokio::sync::broadcast;

use crate::batch::Batch;
use crate::budget::Budget;
use crate::marks::Marks;
use crate::queue::lock;

/// The most bytes of committed messages that one queue keeps. Their encoded forms come on top: one for all subscribers,
/// one more for those with topics, and one more for those who receive messages singly, each of about the same size.
const RECENT_BYTES: usize = 8 << 20;

/// The most batches between the fastest and the slowest live subscription. The ring is allocated when the first
/// subscription attaches, so it is kept small.
const FEED_BATCHES: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Feed {
    /// The sequence of the last message known to be committed. Only the committer raises it.
    committed: AtomicI64,
    sender: broadcast::Sender<Weak<Batch>>,
    recent: Mutex<Recent>,
    marks: Mutex<Marks>,
    /// The most messages that are kept.
    most_messages: usize,
    /// Bytes that all queues of the MoM keep.
    all_bytes: Arc<Budget>,
}

/// The newest committed batches. The feed only points at them, so that memory is bounded by messages and bytes, which
/// the slots of a broadcast channel cannot do.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<Arc<Batch>>,
    messages: usize,
    bytes: usize,
}

impl Feed {
    /// A feed whose next message has the sequence `next_seq`. It keeps at most so many messages, and bytes as far as
    /// the budget of all queues goes.
    pub fn new(next_seq: i64, most_messages: usize, all_bytes: Arc<Budget>) -> Self {
        Self {
            committed: AtomicI64::new(next_seq - 1),
            sender: broadcast::Sender::new(FEED_BATCHES.min(most_messages)),
            recent: Mutex::default(),
            marks: Mutex::new(Marks::new(next_seq, Instant::now())),
            most_messages,
            all_bytes,
        }
    }

    /// The sequence of the last message known to be committed.
    pub fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Records messages as committed and gives them to the subscriptions, if there are any; otherwise they are left
    /// where they are. The first of them was pushed at `pushed_at`. Called by the committer alone, in order.
    pub fn publish(&self, messages: &mut Packed, pushed_at: Option<Instant>) {
        let first_seq = self.committed() + 1;
        // Before the look at the receivers: a subscription that attaches after it reads this from the database.
        self.committed
            .store(first_seq + messages.len() as i64 - 1, Ordering::SeqCst);
        if let Some(at) = pushed_at {
            lock(&self.marks).mark(first_seq, at);
        }
        if self.sender.receiver_count() == 0 {
            self.forget();
            return;
        }
        let batch = Batch::new(first_seq, std::mem::take(messages)).pushed_at(pushed_at);
        let batch = Arc::new(batch);
        let pointer = Arc::downgrade(&batch);
        self.keep(batch);
        // It fails only if the last subscription has just gone.
        let _ = self.sender.send(pointer);
    }

    /// How long ago the message with this sequence was pushed, at the most; of one that was pushed before this MoM had
    /// the queue, how long it has had it.
    pub fn age(&self, seq: i64) -> Duration {
        lock(&self.marks).age(seq, Instant::now())
    }

    /// Attaches. Whoever attaches reads [`committed`](Self::committed) afterwards: up to there the messages are in the
    /// database, and beyond it they come through the feed.
    pub fn attach(&self) -> broadcast::Receiver<Weak<Batch>> {
        self.sender.subscribe()
    }

    fn keep(&self, batch: Arc<Batch>) {
        let mut recent = lock(&self.recent);
        let (mut freed, size) = (0, batch.size());
        recent.messages += batch.len();
        recent.bytes += size;
        recent.batches.push_back(batch);
        let over = !self.all_bytes.has_room(size);
        // The newest batch stays in any case, or no live subscription could go on.
        while recent.batches.len() > 1
            && (recent.messages > self.most_messages || recent.bytes > RECENT_BYTES || over)
        {
            let oldest = recent.batches.pop_front().expect("there is more than one");
            recent.messages -= oldest.len();
            recent.bytes -= oldest.size();
            freed += oldest.size();
        }
        drop(recent);
        self.all_bytes.take(size);
        self.all_bytes.give(freed);
    }

    /// Gives back the memory of batches that no subscription waits for.
    fn forget(&self) {
        let recent = std::mem::take(&mut *lock(&self.recent));
        self.all_bytes.give(recent.bytes);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.forget();
    }
}
