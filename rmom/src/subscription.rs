//! A subscription: a cursor over one queue that loses nothing, however slow its client is.
//!
//! Messages come from the [`feed`](crate::feed) of its queue while the subscription keeps up, and from PostgreSQL
//! while it does not; they go out as a response stream of [`service`](crate::service). A slow client stops its own
//! subscription from being polled and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use protos::{BatchSubscription, Encoded};
use storage::chaos::{self, Mutant};
use storage::{Store, StoredBatch};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::batch::{Batch, Credit};
use crate::budget::Share;
use crate::error::Error;
use crate::hosting::Subscribed;
use crate::queue::Queue;
use crate::statistics::Told;
use crate::topics::Topics;

/// The most bytes of contents in one page read from the database, unless one batch alone has more: of a small page, and of
/// a large one. A page costs the server as much as 100 KiB of contents do, whatever is in it, so large ones are cheaper,
/// for as many subscriptions as there is memory for.
const PAGE_BYTES: (usize, usize) = (64 << 10, 1 << 20);

/// The most bytes and messages of small batches that are put together.
const MERGED: (usize, usize) = (64 << 10, 1024);

/// Rows in the first page, and in the largest.
const PAGE_ROWS: (i64, i64) = (32, 1024);

/// Whatever ends a subscription from outside, and what it says then.
#[derive(Debug)]
pub struct Ends {
    /// The channel, which may be deleted.
    pub subscribed: Subscribed,
    /// The MoM is stopping.
    pub stopping: CancellationToken,
    /// One of the subscriptions that the MoM allows; given back when this one ends.
    pub permit: OwnedSemaphorePermit,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    store: Store,
    ends: Ends,
    live: broadcast::Receiver<Weak<Batch>>,
    cursor: Cursor,
    page_rows: i64,
    /// What was read from the database and is still to be sent, last first.
    page: Vec<Batch>,
    /// Held while it is a large one.
    room_for_page: Option<Share>,
    /// Whether the batch that came last was read from the database.
    is_catching_up: bool,
    told: Arc<Told>,
}

/// Where a subscription is, and how far it has to read the database before it can go live. Pure, so that every
/// interleaving can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence up to which everything was sent or has expired.
    sent: i64,
    /// Up to here everything is in the database; the feed need not have it.
    stored: i64,
}

impl Cursor {
    /// Starts behind `after`, on a queue that was committed up to `committed` after attaching to its feed.
    pub fn new(after: i64, committed: i64) -> Self {
        Self {
            sent: after,
            stored: committed,
        }
    }

    /// Whether the database has to be read before the feed can be relied on.
    pub fn is_behind(self) -> bool {
        self.sent < self.stored
    }

    /// The feed has dropped something: everything up to `committed` may have to be read.
    pub fn lagged(&mut self, committed: i64) {
        self.stored = self.stored.max(committed);
    }

    /// A batch with the sequences `first..=last` came through the feed or from a page that was read in order. Returns
    /// how many of its first messages to skip, or `None` if nothing of it may be sent now: because all of it was sent
    /// before, or because of a hole before it that only the database can fill; then the cursor is behind.
    pub fn take(&mut self, first: i64, last: i64, from_database: bool) -> Option<usize> {
        if last <= self.sent {
            return None;
        }
        if first > self.sent + 1 && !from_database {
            self.stored = self.stored.max(last);
            return None;
        }
        let skip = (self.sent + 1 - first).max(0);
        self.sent = last;
        Some(skip as usize)
    }

    /// The database had nothing more when it was asked for what follows: what is missing up to `stored`, as it was
    /// before the asking, has expired.
    pub fn reached_end(&mut self, stored: i64) {
        self.sent = self.sent.max(stored);
    }
}

impl Subscription {
    /// Subscribes to a queue behind the sequence `after`. The topic and who subscribes are only told.
    pub fn new(
        queue: Arc<Queue>,
        store: Store,
        after: i64,
        ends: Ends,
        topic: Option<Arc<str>>,
        peer: Option<SocketAddr>,
    ) -> Self {
        // Attach first, ask how far the queue is second: what is committed in between is known from both.
        let live = queue.feed.attach();
        let cursor = Cursor::new(after, queue.feed.committed());
        let channel = ends.subscribed.channel;
        let told = Told::new(queue.clone(), channel, topic, peer, after);
        Self {
            queue,
            store,
            ends,
            live,
            cursor,
            page_rows: PAGE_ROWS.0,
            page: Vec::new(),
            room_for_page: None,
            is_catching_up: false,
            told: Arc::new(told),
        }
    }

    /// The messages with these topics, or all, until the subscription is ended from outside.
    pub fn messages(
        self,
        topics: Option<Arc<Topics>>,
    ) -> impl Stream<Item = Result<Encoded, Error>> {
        stream::try_unfold(self, async |mut subscription: Self| {
            let (batch, skip) = subscription.next().await?;
            let tally = Tally {
                queue: subscription.queue.clone(),
                batch: batch.clone(),
                told: subscription.told.clone(),
                from_database: subscription.is_catching_up,
                messages: 0,
                bytes: 0,
                seq: batch.first_seq() - 1,
            };
            Ok::<_, Error>(Some(((batch, skip, tally), subscription)))
        })
        .map_ok(move |(batch, skip, mut tally)| {
            let mut seen = batch.seen(skip, topics.as_deref()).into_iter().flatten();
            stream::iter(std::iter::from_fn(move || {
                let index = seen.next();
                tally.passed(index);
                index.map(|index| Ok(batch.message(index)))
            }))
        })
        .try_flatten()
        .fuse()
    }

    /// The messages with these topics, or all, in batches for which the client grants credit: `credit` first, and more by
    /// `grants`. Ends when no credit is left and no more can come.
    pub fn batches(
        self,
        topics: Option<Arc<Topics>>,
        credit: Credit,
        grants: Streaming<BatchSubscription>,
    ) -> impl Stream<Item = Result<Encoded, Error>> {
        let delivery = Delivery {
            subscription: self,
            topics,
            credit,
            grants,
            rest: None,
        };
        stream::try_unfold(delivery, async |mut delivery| {
            let next = delivery.next().await?;
            Ok(next.map(|batch| (batch, delivery)))
        })
    }

    /// The next batch, and how many of its first messages to skip.
    async fn next(&mut self) -> Result<(Arc<Batch>, usize), Error> {
        loop {
            if let Some(batch) = self.page.pop() {
                if self.page.is_empty() {
                    self.room_for_page = None;
                }
                if let Some(skip) = self.cursor.take(batch.first_seq(), batch.last_seq(), true) {
                    self.is_catching_up = true;
                    return Ok((Arc::new(batch), skip));
                }
            } else if self.cursor.is_behind() {
                self.read_page().await?;
            } else if let Some(batch) = self.receive().await?
                && let Some(skip) = self.cursor.take(batch.first_seq(), batch.last_seq(), false)
            {
                self.is_catching_up = false;
                return Ok((batch, skip));
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), Error> {
        // What was committed before the page is read, is in it.
        let stored = self.cursor.stored;
        let room = self.queue.room_for_page(PAGE_BYTES.1);
        let most = room.as_ref().map_or(PAGE_BYTES.0, |_| PAGE_BYTES.1);
        let read =
            self.store
                .read_page(self.queue.id, self.cursor.sent, self.page_rows, most as i64);
        let page = tokio::select! {
            biased;
            error = self.ended() => return Err(error),
            page = read => page?,
        };
        let rows = page.batches.len() as i64;
        let bytes: usize = page.batches.iter().map(|read| read.messages.size()).sum();
        self.room_for_page = room.filter(|_| bytes > PAGE_BYTES.0);
        self.page = merged(page.batches)
            .map(|stored| Batch::new(stored.first_seq, stored.messages))
            .collect();
        self.page.reverse();
        if page.is_last {
            // Skips what has expired at the end; in front of a batch, taking the batch does.
            if self.page.is_empty() {
                self.cursor.reached_end(stored);
                self.told.reached(self.cursor.sent);
            }
        } else {
            // Rows are cheap to ask for where they are small, and not where they are large.
            let wanted = if rows < self.page_rows {
                rows * 2
            } else {
                rows * 4
            };
            self.page_rows = wanted.clamp(PAGE_ROWS.0, PAGE_ROWS.1);
        }
        Ok(())
    }

    /// The next batch of the feed, or `None` if the feed went on without this subscription.
    async fn receive(&mut self) -> Result<Option<Arc<Batch>>, Error> {
        let received = tokio::select! {
            biased;
            error = ended(&self.queue, &self.ends) => return Err(error),
            received = self.live.recv() => received,
        };
        match received {
            Ok(pointer) => {
                let batch = pointer.upgrade();
                if batch.is_none() {
                    self.lagged();
                }
                Ok(batch)
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.lagged();
                Ok(None)
            }
            Err(broadcast::error::RecvError::Closed) => Err(self.queue.not_owner()),
        }
    }

    async fn ended(&self) -> Error {
        ended(&self.queue, &self.ends).await
    }

    /// The feed went on without this subscription.
    fn lagged(&mut self) {
        tracing::debug!(
            queue = self.queue.label,
            after = self.cursor.sent,
            "lagged: reading from the database"
        );
        if chaos::is(Mutant::LagIsEnd) {
            self.cursor.reached_end(self.queue.feed.committed());
        } else {
            self.cursor.lagged(self.queue.feed.committed());
        }
    }
}

/// Puts small batches together that follow each other, so that what was pushed singly is not received singly.
fn merged(batches: Vec<StoredBatch>) -> impl Iterator<Item = StoredBatch> {
    let mut batches = batches.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut first = batches.next()?;
        while let Some(next) = batches.next_if(|next| {
            let follows = next.first_seq == first.first_seq + first.messages.len() as i64;
            let bytes = first.messages.size() + next.messages.size();
            let messages = first.messages.len() + next.messages.len();
            follows && bytes <= MERGED.0 && messages <= MERGED.1
        }) {
            first.messages.append(&next.messages);
        }
        Some(first)
    })
}

/// A subscription whose client takes batches.
struct Delivery {
    subscription: Subscription,
    topics: Option<Arc<Topics>>,
    credit: Credit,
    grants: Streaming<BatchSubscription>,
    /// A batch of which something is still to be sent, from this index on.
    rest: Option<(Arc<Batch>, usize)>,
}

impl Delivery {
    async fn next(&mut self) -> Result<Option<Encoded>, Error> {
        loop {
            let (batch, from) = match self.rest.take() {
                Some(rest) => rest,
                None => self.subscription.next().await?,
            };
            while self.credit.is_used_up() {
                let granted = tokio::select! {
                    biased;
                    error = self.subscription.ended() => return Err(error),
                    granted = self.grants.message() => granted,
                };
                match granted {
                    Ok(Some(grant)) => self.credit = self.credit + (grant.messages, grant.bytes),
                    // The client has gone, or will take no more.
                    Ok(None) | Err(_) => return Ok(None),
                }
            }
            let part = batch.part(from, self.topics.as_ref(), self.credit);
            // The last message that was handed over, or passed over since it has another topic.
            let reached = batch.first_seq() + part.next as i64 - 1;
            self.subscription.told.reached(reached);
            if part.messages > 0 {
                let from_database = self.subscription.is_catching_up;
                let queue = &self.subscription.queue;
                queue.delivered(&batch, part.messages, part.bytes, from_database);
            }
            if part.next < batch.len() {
                self.rest = Some((batch, part.next));
            }
            if part.messages > 0 {
                self.credit.use_up(part.messages, part.bytes);
                return Ok(Some(part.encoded));
            }
        }
    }
}

/// What was handed over of one batch, message by message; counted when it is dropped.
struct Tally {
    queue: Arc<Queue>,
    batch: Arc<Batch>,
    told: Arc<Told>,
    from_database: bool,
    messages: usize,
    bytes: usize,
    seq: i64,
}

impl Tally {
    /// The message with this index was handed over, or all that are left were passed over.
    fn passed(&mut self, handed_over: Option<usize>) {
        let Some(index) = handed_over else {
            self.seq = self.batch.last_seq();
            return;
        };
        self.seq = self.batch.first_seq() + index as i64;
        self.messages += 1;
        self.bytes += self.batch.bytes(index, index + 1);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.told.reached(self.seq);
        if self.messages > 0 {
            self.queue
                .delivered(&self.batch, self.messages, self.bytes, self.from_database);
        }
    }
}

/// Waits for what ends a subscription from outside.
async fn ended(queue: &Queue, ends: &Ends) -> Error {
    tokio::select! {
        biased;
        () = ends.subscribed.deleted.cancelled() => Error::ChannelNotFound(ends.subscribed.channel),
        () = queue.lost().cancelled() => queue.not_owner(),
        () = ends.stopping.cancelled() => Error::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subscription_that_starts_at_the_end_is_live_at_once() {
        assert!(!Cursor::new(7, 7).is_behind());
        assert!(Cursor::new(6, 7).is_behind());
    }

    #[test]
    fn a_batch_in_which_the_client_left_off_is_cut() {
        let mut cursor = Cursor::new(5, 5);
        assert_eq!(cursor.take(4, 9, false), Some(2));
        assert_eq!(cursor.take(4, 9, false), None);
        assert_eq!(cursor.take(10, 10, false), Some(0));
    }

    /// What can happen to a subscription, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The committer commits so many messages as a batch and sends it.
        Commit(u8),
        /// The subscription is polled once.
        Poll,
        /// The feed drops its oldest entries beyond so many.
        Drop(u8),
        /// The feed passes over its first entry and does not tell. Nothing does so today; nothing relies on it either.
        PassOver,
        /// The first batches expire, up to so many.
        Expire(u8),
        /// The queue moves, or the connection breaks: the client subscribes anew behind what it has seen last.
        Resubscribe,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (1u8..5).prop_map(Event::Commit),
            6 => Just(Event::Poll),
            1 => (0u8..3).prop_map(Event::Drop),
            1 => Just(Event::PassOver),
            1 => (1u8..3).prop_map(Event::Expire),
            1 => Just(Event::Resubscribe),
        ];
        prop::collection::vec(event, 1..120)
    }

    /// A queue whose database and feed are vectors, and a subscription that goes the way of `Subscription::next`.
    struct Model {
        batches: Vec<(i64, i64)>,
        expired: usize,
        feed: Vec<(i64, i64)>,
        has_lagged: bool,
        cursor: Cursor,
        page: Vec<(i64, i64)>,
        page_len: usize,
        seen: Vec<i64>,
    }

    impl Model {
        fn committed(&self) -> i64 {
            self.batches.last().map_or(0, |batch| batch.1)
        }

        fn commit(&mut self, count: u8) {
            let first = self.committed() + 1;
            let batch = (first, first + i64::from(count) - 1);
            self.batches.push(batch);
            self.feed.push(batch);
        }

        /// Returns whether there was anything to do.
        fn poll(&mut self) -> bool {
            let (batch, from_database) = if let Some(batch) = self.page.pop() {
                (batch, true)
            } else if self.cursor.is_behind() {
                let unread = self.batches[self.expired..]
                    .iter()
                    .filter(|batch| batch.1 > self.cursor.sent);
                let found: Vec<_> = unread.copied().collect();
                let is_last = found.len() <= self.page_len;
                self.page = found.into_iter().take(self.page_len).rev().collect();
                if is_last && self.page.is_empty() {
                    self.cursor.reached_end(self.cursor.stored);
                }
                return true;
            } else if std::mem::take(&mut self.has_lagged) {
                self.cursor.lagged(self.committed());
                return true;
            } else if self.feed.is_empty() {
                return false;
            } else {
                (self.feed.remove(0), false)
            };
            if let Some(skip) = self.cursor.take(batch.0, batch.1, from_database) {
                self.seen.extend((batch.0..=batch.1).skip(skip));
            }
            true
        }
    }

    proptest! {
        #[test]
        fn each_sequence_comes_once_and_in_order_and_only_the_expired_are_missing(
            before in 0u8..20, after in 0i64..25, page_len in 1usize..4, events in events(),
        ) {
            let mut model = Model {
                batches: Vec::new(), expired: 0, feed: Vec::new(), has_lagged: false,
                cursor: Cursor::new(0, 0), page: Vec::new(), page_len, seen: Vec::new(),
            };
            for _ in 0..before {
                model.commit(2);
            }
            model.feed.clear();
            model.cursor = Cursor::new(after, model.committed());
            for event in events {
                match event {
                    Event::Commit(count) => model.commit(count),
                    Event::Poll => { model.poll(); }
                    Event::Drop(kept) => {
                        let dropped = model.feed.len().saturating_sub(usize::from(kept));
                        model.feed.drain(..dropped);
                        model.has_lagged |= dropped > 0;
                    }
                    Event::PassOver if model.feed.is_empty() => {}
                    Event::PassOver => { model.feed.remove(0); }
                    Event::Resubscribe => {
                        let last = model.seen.last().copied().unwrap_or(after);
                        model.feed.clear();
                        model.page.clear();
                        model.has_lagged = false;
                        model.cursor = Cursor::new(last, model.committed());
                    }
                    Event::Expire(count) => {
                        model.expired = (model.expired + usize::from(count)).min(model.batches.len());
                    }
                }
            }
            // A hole shows with the next batch.
            model.commit(1);
            while model.poll() {}
            let expired_to = model.expired.checked_sub(1).map_or(0, |last| model.batches[last].1);
            prop_assert!(model.seen.is_sorted_by(|a, b| a < b), "{:?}", model.seen);
            let missing = (after + 1..=model.committed()).filter(|seq| !model.seen.contains(seq));
            for seq in missing {
                prop_assert!(seq <= expired_to, "{seq} is missing, expired to {expired_to}");
            }
            prop_assert!(model.seen.iter().all(|seq| *seq > after));
        }
    }
}
