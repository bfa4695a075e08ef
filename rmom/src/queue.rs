//! A hosted queue: an inbox of pushes that wait to be committed, and who it belongs to.
//!
//! Messages come from [`pushes`](crate::pushes) into the inbox; the [`committer`](crate::committer) takes them from
//! there, and hands the committed batch to the [`feed`](crate::feed).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use storage::{Ownership, Packed, Run, Store};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::batch::Batch;
use crate::budget::Share;
use crate::dedup::{Dedup, Verdict};
use crate::error::Error;
use crate::feed::Feed;
use crate::push::{Answer, Pushed, Receipt};
use crate::shared::{ALL_KEYS, Shared};
use crate::statistics::{Counters, Subscribers};

/// The most bytes that may wait in one inbox.
const INBOX_BYTES: usize = 32 << 20;

/// The least window of a stream of pushes, in messages and in bytes, however many streams there are.
const LEAST_WINDOW: (usize, usize) = (64, 64 << 10);

/// A queue that this MoM hosts at one epoch. Hosting it again at a later epoch makes another value.
#[derive(Debug)]
pub struct Queue {
    /// Its row.
    pub id: Uuid,
    /// Its name.
    pub label: String,
    /// The epoch at which this MoM owns it, proven at each commit.
    pub epoch: i64,
    /// The MoM's own row.
    pub mom_id: Uuid,
    inbox: Mutex<Inbox>,
    searches: Searches,
    /// Streams of pushes that are open.
    streams: AtomicUsize,
    /// What was committed.
    pub feed: Feed,
    /// What was done. Another value of the same queue goes on with it.
    pub counters: Arc<Counters>,
    /// Who subscribes.
    pub subscribers: Subscribers,
    /// Cancelled once this MoM does not host the queue any more.
    lost: CancellationToken,
    /// Who owns it since.
    new_owner: OnceLock<String>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Inbox {
    /// What waits to be committed, in the order of its arrival.
    waiting: Vec<Pushed>,
    messages: usize,
    bytes: usize,
    dedup: Dedup,
    /// Since when the queue's row has been held by somebody, so that what waits could not be committed.
    locked_since: Option<Instant>,
    turn: Turn,
    is_closed: bool,
}

/// Where a queue stands with the committer: in one place at a time, or a round could hold two batches of it that begin
/// with the same sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing waits.
    Idle,
    /// It is in the list of ready ones.
    Ready,
    /// A batch of it is being committed. What comes meanwhile makes it ready when that is over.
    Taken,
    /// The committer turns to it later by itself.
    Postponed,
}

/// Repeated pushes that have to be looked for in the database. Those that come while one search is under way are looked
/// for together by the next: after a failover there may be thousands.
#[derive(Debug, Default)]
struct Searches {
    wanted: Mutex<Vec<Search>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Search {
    ids: Vec<Uuid>,
    after: i64,
    done: oneshot::Sender<()>,
}

impl Queue {
    /// A queue whose next message gets the sequence `next_seq`.
    pub fn new(
        ownership: Ownership,
        mom_id: Uuid,
        next_seq: i64,
        counters: Arc<Counters>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: ownership.queue_id,
            label: ownership.label,
            epoch: ownership.epoch,
            mom_id,
            inbox: Mutex::new(Inbox {
                waiting: Vec::new(),
                messages: 0,
                bytes: 0,
                dedup: Dedup::new(ownership.epoch, shared.key_window, shared.keys.clone()),
                locked_since: None,
                turn: Turn::Idle,
                is_closed: false,
            }),
            searches: Searches::default(),
            streams: AtomicUsize::new(0),
            feed: Feed::new(
                next_seq,
                shared.buffer_messages,
                shared.recent_bytes.clone(),
            ),
            counters,
            subscribers: Subscribers::default(),
            lost: CancellationToken::new(),
            new_owner: OnceLock::new(),
            shared,
        })
    }

    /// Puts messages into the inbox, or refuses them before anything is accepted; whoever waits for the answer is told.
    /// Returns those of which only the database knows whether they were pushed before: [`look_up`](Self::look_up), and
    /// push again. With `is_new`, they were looked for and what was found was remembered.
    #[must_use = "what is returned was not pushed"]
    pub fn push(self: &Arc<Self>, pushed: Pushed, is_new: bool) -> Option<Pushed> {
        let now = Instant::now();
        let mut inbox = lock(&self.inbox);
        let mut rest = Some(pushed);
        let mut unknown = None;
        while let Some(mut pushed) = rest.take() {
            let verdict = match self.admit(&mut inbox, &pushed, is_new, now) {
                Ok(verdict) => verdict,
                Err(error) => {
                    if matches!(error, Error::Overloaded(_)) {
                        let overloaded = &self.shared.meters.overloaded;
                        overloaded.fetch_add(pushed.count() as u64, Ordering::Relaxed);
                    }
                    pushed.answer.give(Err(error));
                    break;
                }
            };
            let count = match verdict {
                Verdict::New(count) | Verdict::Committed(count, _) => count,
                Verdict::Waiting => 1,
                Verdict::LookUp => {
                    unknown = Some(pushed);
                    break;
                }
            };
            if count < pushed.run.count {
                rest = Some(pushed.split_off(count));
            }
            match verdict {
                Verdict::New(_) => {
                    pushed.since = Some(now);
                    self.put(&mut inbox, pushed);
                }
                Verdict::Committed(_, seq) => {
                    self.log_repeat(&pushed);
                    let duplicate = true;
                    pushed.answer.give(Ok(Receipt { seq, duplicate }));
                }
                Verdict::Waiting | Verdict::LookUp => {
                    self.log_repeat(&pushed);
                    inbox.dedup.follow(pushed.run.id, pushed.answer);
                }
            }
        }
        let is_ready = inbox.turn == Turn::Idle && !inbox.waiting.is_empty();
        if is_ready {
            inbox.turn = Turn::Ready;
        }
        drop(inbox);
        if is_ready {
            self.shared.add_ready(self.clone());
        }
        unknown
    }

    fn admit(
        &self,
        inbox: &mut Inbox,
        pushed: &Pushed,
        is_new: bool,
        now: Instant,
    ) -> Result<Verdict, Error> {
        if inbox.is_closed {
            return Err(self.not_owner());
        }
        if pushed.answer.is_behind_refused() {
            return Err(Error::Overloaded(
                "a push before this one was refused, and the order is kept",
            ));
        }
        let size = pushed.size();
        let has_room = inbox.messages < self.shared.buffer_messages
            && inbox.bytes < INBOX_BYTES
            && self.shared.inbox_bytes.has_room(size);
        let Run { id, count, .. } = pushed.run;
        inbox
            .dedup
            .admit(id, count, pushed.origin, is_new, has_room, now)
    }

    /// How many messages wait, and for how long the oldest has.
    pub fn waiting(&self) -> (usize, Duration) {
        let inbox = lock(&self.inbox);
        let oldest = inbox.waiting.first().and_then(|pushed| pushed.since);
        let waited = oldest.map(|since| since.elapsed());
        (inbox.messages, waited.unwrap_or_default())
    }

    /// Room for a large page of a subscription, while there is any.
    pub fn room_for_page(&self, bytes: usize) -> Option<Share> {
        self.shared.page_bytes.share(bytes)
    }

    /// Counts messages of a batch that a subscription was handed.
    pub fn delivered(&self, batch: &Batch, messages: usize, bytes: usize, from_database: bool) {
        self.counters.delivered(messages, bytes, from_database);
        if let Some(time) = batch.time_to_delivery() {
            self.shared.meters.delivery.note_time(time);
        }
    }

    fn put(&self, inbox: &mut Inbox, pushed: Pushed) {
        let size = pushed.size();
        self.shared.inbox_bytes.take(size);
        inbox.bytes += size;
        inbox.messages += pushed.count();
        inbox.waiting.push(pushed);
    }

    fn log_repeat(&self, pushed: &Pushed) {
        let Run { id, count, .. } = &pushed.run;
        tracing::debug!(queue = self.label, %id, count, "a repeated push was recognised");
    }

    /// Makes a pusher known; see [`Dedup::open`].
    pub fn open_pusher(&self, pusher: Uuid, settled: u32) -> Result<i64, Error> {
        let mut inbox = lock(&self.inbox);
        if inbox.is_closed {
            return Err(self.not_owner());
        }
        inbox.dedup.open(pusher, settled, Instant::now())
    }

    /// The hash of what a brought id stands for.
    pub fn key_hash(&self, topic: Option<&str>, content: &[u8]) -> u64 {
        lock(&self.inbox).dedup.hash(topic, content)
    }

    /// Looks for repeated pushes in the database, behind the sequence `after`, and remembers those that are there.
    pub async fn look_up(&self, store: &Store, pushed: &Pushed, after: i64) -> storage::Result<()> {
        loop {
            let (done, found) = oneshot::channel();
            let ids = pushed.ids().collect();
            lock(&self.searches.wanted).push(Search { ids, after, done });
            // Whoever has the turn looks for all who wait. If its own call was cancelled meanwhile, they try again.
            let turn = self.searches.turn.lock().await;
            let wanted = std::mem::take(&mut *lock(&self.searches.wanted));
            if let Some(after) = wanted.iter().map(|search| search.after).min() {
                let ids: Vec<Uuid> = wanted
                    .iter()
                    .flat_map(|search| search.ids.iter().copied())
                    .collect();
                let messages = store.find_messages(self.id, after, &ids).await?;
                let mut inbox = lock(&self.inbox);
                for (id, seq) in messages {
                    inbox.dedup.found(id, seq);
                }
            }
            drop(turn);
            for search in wanted {
                // Whoever has given up waiting needs no answer.
                let _ = search.done.send(());
            }
            if found.await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Reads the ids that pushers brought to former owners within the window.
    pub async fn look_up_keys(&self, store: &Store) -> storage::Result<()> {
        let mut keys = Vec::new();
        let window = self.shared.key_window;
        store
            .keyed_messages(self.id, window, ALL_KEYS as i64, |message| {
                let hash = self.key_hash(message.topic.as_deref(), &message.content);
                keys.push((message.id, message.seq, hash, message.age));
            })
            .await?;
        lock(&self.inbox).dedup.found_keys(keys, Instant::now());
        Ok(())
    }

    /// Moves what waits into `taken`, which must be empty: at most `max_messages` and `max_bytes`, unless the first push
    /// alone has more. Unless there was nothing, [`end_turn`](Self::end_turn) or [`put_back`](Self::put_back) has to
    /// follow.
    pub fn take_waiting(&self, taken: &mut Vec<Pushed>, max_messages: usize, max_bytes: usize) {
        let mut inbox = lock(&self.inbox);
        if inbox.waiting.is_empty() {
            inbox.turn = Turn::Idle;
            return;
        }
        inbox.turn = Turn::Taken;
        if inbox.messages <= max_messages && inbox.bytes <= max_bytes {
            // The usual case costs an exchange of buffers, which thereby are reused.
            std::mem::swap(&mut inbox.waiting, taken);
            self.forget_waiting(&mut inbox);
            return;
        }
        let (mut messages, mut bytes) = (0, 0);
        let fits = inbox.waiting.iter().take_while(|pushed| {
            let is_first = messages == 0;
            messages += pushed.count();
            bytes += pushed.size();
            is_first || (messages <= max_messages && bytes <= max_bytes)
        });
        let count = fits.count();
        taken.extend(inbox.waiting.drain(..count));
        let (messages, bytes) = size_of_all(taken);
        inbox.messages -= messages;
        inbox.bytes -= bytes;
        self.shared.inbox_bytes.give(bytes);
    }

    /// What waited is elsewhere now.
    fn forget_waiting(&self, inbox: &mut Inbox) {
        self.shared.inbox_bytes.give(inbox.bytes);
        inbox.bytes = 0;
        inbox.messages = 0;
    }

    /// What was taken has its outcome: if more waits, the queue is ready again.
    pub fn end_turn(self: &Arc<Self>) {
        let mut inbox = lock(&self.inbox);
        let is_ready = !inbox.waiting.is_empty();
        inbox.turn = if is_ready { Turn::Ready } else { Turn::Idle };
        drop(inbox);
        if is_ready {
            self.shared.add_ready(self.clone());
        }
    }

    /// Refuses what waits, of which nothing was tried; the queue's turn stays what it is. Nothing comes in between, so
    /// that no later push of a stream is accepted before an earlier one was refused.
    pub fn refuse_waiting(&self, error: &Error) {
        let mut inbox = lock(&self.inbox);
        let mut waiting = std::mem::take(&mut inbox.waiting);
        self.forget_waiting(&mut inbox);
        refuse(&mut inbox, &mut waiting, error);
    }

    /// Refuses what was taken and definitely not committed.
    pub fn refuse_taken(&self, taken: &mut Vec<Pushed>, error: &Error) {
        refuse(&mut lock(&self.inbox), taken, error);
    }

    /// Puts back what was taken, which could not be committed since somebody holds the queue's row. The caller turns to
    /// the queue again by itself.
    pub fn put_back(&self, taken: &mut Vec<Pushed>) {
        let mut inbox = lock(&self.inbox);
        if inbox.is_closed {
            drop(inbox);
            for mut pushed in taken.drain(..) {
                pushed.answer.give(Err(self.not_owner()));
            }
            return;
        }
        let (messages, bytes) = size_of_all(taken);
        self.shared.inbox_bytes.take(bytes);
        inbox.bytes += bytes;
        inbox.messages += messages;
        inbox.locked_since.get_or_insert_with(Instant::now);
        inbox.turn = Turn::Postponed;
        std::mem::swap(&mut inbox.waiting, taken);
        inbox.waiting.append(taken);
    }

    /// Whether somebody has held the queue's row for so long that nobody need wait any more. Asked anew, it begins anew.
    pub fn is_locked_for(&self, patience: Duration) -> bool {
        let mut inbox = lock(&self.inbox);
        inbox
            .locked_since
            .take_if(|since| since.elapsed() > patience)
            .is_some()
    }

    /// Remembers messages as committed. Returns further attempts at them that wait, with the sequence of each.
    pub fn remember_committed(&self, messages: &Packed) -> Vec<(i64, Answer)> {
        let first_seq = self.feed.committed() + 1;
        let mut inbox = lock(&self.inbox);
        inbox.locked_since = None;
        inbox
            .dedup
            .committed(&messages.runs, first_seq, Instant::now())
    }

    /// Further attempts at messages that wait, which do not want to wait any more.
    pub fn take_followers(&self) -> Vec<Answer> {
        lock(&self.inbox).dedup.take_followers()
    }

    /// Refuses what still comes, for good, and returns those who wait.
    pub fn close(&self) -> Vec<Answer> {
        let mut inbox = lock(&self.inbox);
        inbox.is_closed = true;
        self.forget_waiting(&mut inbox);
        let waiting = std::mem::take(&mut inbox.waiting);
        let mut answers: Vec<Answer> = waiting.into_iter().map(|pushed| pushed.answer).collect();
        answers.extend(inbox.dedup.take_followers());
        answers
    }

    /// Ends the hosting: tells those who wait, and ends the subscriptions. `owner` is where they find the queue now, if
    /// that is known.
    pub fn lose(&self, owner: Option<String>, waiting: Vec<Answer>) {
        if let Some(owner) = owner {
            // It is lost once.
            let _ = self.new_owner.set(owner);
        }
        for mut answer in waiting {
            answer.give(Err(self.not_owner()));
        }
        self.lost.cancel();
    }

    /// Counts a stream of pushes in, until what is returned is dropped.
    pub fn stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// Cancelled once this MoM does not host the queue any more.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// What those hear who still take this MoM for the owner.
    pub fn not_owner(&self) -> Error {
        Error::NotOwner {
            label: self.label.clone(),
            owner: self.new_owner.get().cloned(),
        }
    }
}

/// A stream of pushes that is open.
#[derive(Debug)]
pub struct OpenStream(Arc<Queue>);

impl OpenStream {
    /// How many messages, and bytes of contents, the stream may have without an answer, so that all streams of the queue
    /// together find room in the inbox beside what comes in single calls.
    pub fn window(&self) -> (usize, usize) {
        let streams = self.0.streams.load(Ordering::Relaxed).max(1);
        let share = |all: usize| all / 2 / streams;
        (
            share(self.0.shared.buffer_messages).max(LEAST_WINDOW.0),
            share(INBOX_BYTES).max(LEAST_WINDOW.1),
        )
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.inbox_bytes.give(lock(&self.inbox).bytes);
    }
}

/// How many messages, and bytes of their contents and headers.
fn size_of_all(pushes: &[Pushed]) -> (usize, usize) {
    pushes.iter().fold((0, 0), |(messages, bytes), pushed| {
        (messages + pushed.count(), bytes + pushed.size())
    })
}

/// Forgets what was pushed and tells those who wait for it.
fn refuse(inbox: &mut Inbox, pushes: &mut Vec<Pushed>, error: &Error) {
    for mut pushed in pushes.drain(..) {
        let repeats = inbox.dedup.refused(&pushed.run);
        pushed.answer.give(Err(error.clone()));
        for mut repeat in repeats {
            repeat.give(Err(error.clone()));
        }
    }
}

/// A panic while one of these short sections held the lock leaves nothing half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
