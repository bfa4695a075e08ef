//! The one committer of a MoM: makes pushes durable, in batches, and only then lets them be seen and acknowledged.
//!
//! Messages come from the inboxes of the [`queues`](crate::queue). While one statement is in flight more of them
//! gather, and the next statement takes them all: a lone push commits at once, a crowd commits together, and nothing
//! ever lingers. What was committed goes back to its queue's feed, and the pushes are acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage::chaos::{self, Mutant, Point};
use storage::{Appended, Appender, MAX_BATCH_MESSAGES, NewBatch, Packed};
use telemetry::traces;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::error::Error;
use crate::hosting::Hosting;
use crate::push::{Pushed, Receipt};
use crate::queue::Queue;
use crate::shared::Shared;

/// The most bytes of one batch, unless a single message is larger.
const BATCH_BYTES: usize = 1 << 20;

/// The most bytes of one statement, over all queues, exceeded by one batch at the most.
const STATEMENT_BYTES: usize = 8 << 20;

/// The most queues of one statement.
const STATEMENT_QUEUES: usize = 1024;

/// How long pushes wait for a database that went away while it committed them, before they are told that their outcome
/// is not known.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between tries to reach a database that is away: from the first to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long a queue whose row somebody holds is left alone before it is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// See the [module](self).
#[derive(Debug)]
pub struct Committer {
    appender: Appender,
    hosting: Arc<Hosting>,
    shared: Arc<Shared>,
    ttl: Duration,
    database_is_up: Arc<AtomicBool>,
    /// Buffers of earlier rounds, to be used again.
    spare: Vec<Taken>,
    /// Queues whose rows somebody holds, and when each is to be tried again. What they have to commit is in their
    /// inboxes again.
    postponed: VecDeque<(Instant, Arc<Queue>)>,
}

/// What waited in one queue, and the same packed.
#[derive(Debug, Default)]
struct Taken {
    pushes: Vec<Pushed>,
    messages: Packed,
}

/// What is committed together: of each queue, what waited.
type Round = Vec<(Arc<Queue>, Taken)>;

impl Committer {
    /// A committer whose messages are retained for `ttl`.
    pub fn new(
        appender: Appender,
        hosting: Arc<Hosting>,
        shared: Arc<Shared>,
        ttl: Duration,
    ) -> Self {
        Self {
            appender,
            hosting,
            shared,
            ttl,
            database_is_up: Arc::new(AtomicBool::new(true)),
            spare: Vec::new(),
            postponed: VecDeque::new(),
        }
    }

    /// False while the database is away, so that pushes can be refused before they are accepted.
    pub fn database_is_up(&self) -> Arc<AtomicBool> {
        self.database_is_up.clone()
    }

    /// Commits until `stop`, and then what is left in the inboxes. To be run in a task of its own: nothing that a
    /// client does may cancel a commit.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let due = self.postponed.front().map(|(due, _)| *due);
            let mut ready = tokio::select! {
                biased;
                ready = self.shared.ready(STATEMENT_QUEUES) => ready,
                () = stop.cancelled() => break,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Vec::new(),
            };
            self.add_due(&mut ready);
            let round = self.gather(ready);
            self.commit(round, &stop).await;
        }
        for (_, queue) in self.postponed {
            queue.refuse_waiting(&Error::Stopping);
        }
        self.appender.close().await;
    }

    /// Adds the postponed queues that are due; what waits in one that has been postponed for too long is refused.
    fn add_due(&mut self, ready: &mut Vec<Arc<Queue>>) {
        let now = Instant::now();
        while let Some((_, queue)) = self.postponed.pop_front_if(|(due, _)| *due <= now) {
            if queue.is_locked_for(PATIENCE) {
                queue.refuse_waiting(&Error::DatabaseUnavailable);
            }
            ready.push(queue);
        }
    }

    fn gather(&mut self, ready: Vec<Arc<Queue>>) -> Round {
        let mut round = Round::with_capacity(ready.len());
        let mut bytes = 0;
        let mut ready = ready.into_iter();
        for queue in ready.by_ref() {
            let mut taken = self.spare.pop().unwrap_or_default();
            queue.take_waiting(&mut taken.pushes, MAX_BATCH_MESSAGES, BATCH_BYTES);
            if taken.pushes.is_empty() {
                // The queue was lost after it became ready, or what waited was refused.
                self.spare.push(taken);
            } else {
                taken.pack();
                bytes += taken.messages.size();
                round.push((queue, taken));
            }
            if bytes >= STATEMENT_BYTES {
                break;
            }
        }
        self.shared.give_back(ready);
        round
    }

    /// Commits a round and tells everybody concerned. Returns when the outcome of each batch is definite, which may take
    /// as long as the database is away; nothing else is committed meanwhile, or sequences could be given twice.
    async fn commit(&mut self, mut round: Round, stop: &CancellationToken) {
        if round.is_empty() {
            return;
        }
        chaos::reach(Point::BeforeStatement);
        if chaos::is(Mutant::AcknowledgeBeforeCommit) {
            for (queue, taken) in &mut round {
                acknowledge(&mut taken.pushes, queue.feed.committed() + 1);
            }
        }
        let began = Instant::now();
        let fates = {
            let span = round_span(&round);
            self.append(&mut round, stop).instrument(span).await
        };
        self.shared.meters.commit.note_time(began.elapsed());
        if fates.is_ok() {
            chaos::reach(Point::AfterCommit);
        }
        for (index, (queue, mut taken)) in round.into_iter().enumerate() {
            match &fates {
                Ok(fates) if fates[index] == Appended::Committed => {
                    let first_seq = queue.feed.committed() + 1;
                    let repeats = queue.remember_committed(&taken.messages);
                    let (count, bytes) = (taken.messages.len(), taken.messages.contents.len());
                    queue.counters.pushed(count, bytes);
                    self.shared.meters.batch.note(count as f64);
                    let pushed_at = taken.pushes.first().and_then(|pushed| pushed.since);
                    queue.feed.publish(&mut taken.messages, pushed_at);
                    chaos::reach(Point::BeforeAcknowledgement);
                    acknowledge(&mut taken.pushes, first_seq);
                    for (seq, mut answer) in repeats {
                        let duplicate = true;
                        answer.give(Ok(Receipt { seq, duplicate }));
                    }
                }
                Ok(fates) if fates[index] == Appended::Locked => {
                    tracing::debug!(queue = queue.label, "somebody holds the queue's row");
                    queue.put_back(&mut taken.pushes);
                    self.spare.push(taken.emptied());
                    let due = Instant::now() + LOCKED_PAUSE;
                    self.postponed.push_back((due, queue));
                    continue;
                }
                Ok(_) => {
                    self.shared.meters.fenced.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        queue = queue.label,
                        epoch = queue.epoch,
                        "fenced: another MoM owns the queue now"
                    );
                    self.hosting.is_fenced(&queue);
                    let refused = taken.pushes.drain(..).map(|pushed| pushed.answer);
                    self.hosting.lose(&queue, None, refused.collect());
                }
                Err(error) => queue.refuse_taken(&mut taken.pushes, error),
            }
            queue.end_turn();
            self.spare.push(taken.emptied());
        }
    }

    /// What became of each batch, or why none was committed.
    async fn append(
        &mut self,
        round: &mut Round,
        stop: &CancellationToken,
    ) -> Result<Vec<Appended>, Error> {
        let mut since: Option<Instant> = None;
        let mut pause = RETRY.0;
        loop {
            let batches: Vec<NewBatch<'_>> = round.iter().map(new_batch).collect();
            let problem = match self
                .appender
                .append(round[0].0.mom_id, self.ttl, &batches)
                .await
            {
                // After a try whose outcome is not known only a definite answer counts.
                Ok(fates) if since.is_some() && fates.contains(&Appended::Locked) => {
                    "somebody holds a queue's row".to_owned()
                }
                Ok(fates) => {
                    if let Some(since) = since {
                        tracing::info!(after = ?since.elapsed(), "the database is back");
                    }
                    self.database_is_up.store(true, Ordering::Relaxed);
                    return Ok(fates);
                }
                Err(
                    error @ (storage::Error::Refused(_)
                    | storage::Error::AlreadyExists
                    | storage::Error::NotFound),
                ) if since.is_none() => {
                    tracing::error!(%error, "the database refused a batch");
                    return Err(Error::DatabaseRefused);
                }
                Err(error) => error.to_string(),
            };
            self.database_is_up.store(false, Ordering::Relaxed);
            let since = *since.get_or_insert_with(|| {
                tracing::warn!(
                    problem,
                    "the database is away; what was being committed is tried again until it answers"
                );
                Instant::now()
            });
            if since.elapsed() > PATIENCE || stop.is_cancelled() {
                self.give_up_waiting(round);
            }
            if stop.is_cancelled() {
                return Err(Error::OutcomeUnknown);
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Answers those who have waited long enough. The messages of the round stay, since their outcome has to be found
    /// out; what waits behind them was not tried, so that is refused for good.
    fn give_up_waiting(&mut self, round: &mut Round) {
        for (queue, taken) in round {
            queue.refuse_waiting(&Error::DatabaseUnavailable);
            let pushes = taken.pushes.iter_mut().map(|pushed| &mut pushed.answer);
            let mut repeats = queue.take_followers();
            for answer in pushes.chain(&mut repeats) {
                answer.give(Err(Error::OutcomeUnknown));
            }
        }
        let ready = self.shared.take_ready(usize::MAX);
        for queue in ready
            .iter()
            .chain(self.postponed.iter().map(|(_, queue)| queue))
        {
            queue.refuse_waiting(&Error::DatabaseUnavailable);
        }
        for queue in ready {
            queue.end_turn();
        }
    }
}

impl Taken {
    fn pack(&mut self) {
        let messages = self.pushes.iter().map(Pushed::count).sum();
        let bytes = self.pushes.iter().map(Pushed::size).sum();
        self.messages.reserve(messages, bytes);
        for pushed in &self.pushes {
            pushed.add_to(&mut self.messages);
        }
    }

    /// The buffers, to be used again.
    fn emptied(mut self) -> Self {
        self.pushes.clear();
        self.messages.clear();
        self
    }
}

/// For traces. Where there are none, it costs a comparison.
fn round_span(round: &Round) -> Span {
    let span = tracing::trace_span!(
        target: traces::TARGET, "commit",
        queues = round.len(), messages = Empty, bytes = Empty
    );
    if !span.is_disabled() {
        let messages: usize = round.iter().map(|(_, taken)| taken.messages.len()).sum();
        let sizes = round.iter().map(|(_, taken)| taken.messages.contents.len());
        span.record("messages", messages);
        span.record("bytes", sizes.sum::<usize>());
    }
    span
}

fn new_batch((queue, taken): &(Arc<Queue>, Taken)) -> NewBatch<'_> {
    NewBatch {
        queue_id: queue.id,
        epoch: queue.epoch,
        first_seq: queue.feed.committed() + 1,
        messages: &taken.messages,
    }
}

/// Tells those who wait the sequences of their messages, of which `first_seq` is the first.
fn acknowledge(pushes: &mut [Pushed], first_seq: i64) {
    let duplicate = false;
    let mut seq = first_seq;
    for pushed in pushes {
        pushed.answer.give(Ok(Receipt { seq, duplicate }));
        seq += pushed.count() as i64;
    }
}
