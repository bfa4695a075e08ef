//! What clients push, one message a call or many in a stream: validated here, and given to the [`queue`](crate::queue).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, Stream};
use protos::headers::Headers;
use protos::{
    MAX_PUSH_BYTES, MAX_PUSH_MESSAGES, OpenPusherRequest, OpenPusherResponse, Push, PushAnswer,
    PushBatch, PushOkResponse, Received, ReceivedBatch, ends, names,
};
use storage::chaos::{self, Mutant};
use storage::{Run, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::dedup::{Attempt, Origin, message_id};
use crate::error::Error;
use crate::hosting::Hosting;
use crate::push::{Answer, Outbox, Pushed};
use crate::queue::{OpenStream, Queue};

/// The most calls and streams that may push at once, over all connections. One costs some kilobytes of HTTP/2 state
/// beside its messages.
const MOST: usize = 100_000;

/// See the [module](self).
#[derive(Debug)]
pub struct Pushes {
    /// What this MoM hosts.
    hosting: Arc<Hosting>,
    /// Where repeats are looked for that only the database knows.
    store: Store,
    /// False while the database is away.
    database_is_up: Arc<AtomicBool>,
    /// The most bytes that a message may have.
    max_message_bytes: usize,
    /// One permit for each call or stream that may still come.
    room: Arc<Semaphore>,
    /// Cancelled when the MoM begins to stop.
    stopping: CancellationToken,
}

impl Pushes {
    /// Takes messages of at most `max_message_bytes` bytes until `stopping`.
    pub fn new(
        hosting: Arc<Hosting>,
        store: Store,
        database_is_up: Arc<AtomicBool>,
        max_message_bytes: usize,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            hosting,
            store,
            database_is_up,
            max_message_bytes,
            room: Arc::new(Semaphore::new(MOST)),
            stopping,
        })
    }

    /// Refuses while nothing can be accepted.
    pub fn check_open(&self) -> Result<(), Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        if !self.database_is_up.load(Ordering::Relaxed) {
            return Err(Error::DatabaseUnavailable);
        }
        Ok(())
    }

    fn check_room(&self) -> Result<OwnedSemaphorePermit, Error> {
        let room = self.room.clone().try_acquire_owned();
        room.map_err(|_| Error::Overloaded("as many pushes are under way as this MoM allows"))
    }

    fn check_size(&self, len: usize) -> Result<(), Error> {
        let max = self.max_message_bytes;
        if len > max {
            return Err(Error::MessageTooLarge { len, max });
        }
        Ok(())
    }

    /// Makes a pusher known to the owner of its queue.
    pub async fn open(&self, request: OpenPusherRequest) -> Result<OpenPusherResponse, Error> {
        let (queue, opened) = self.open_at(request).await?;
        let (term, seq) = (opened.term, queue.feed.committed());
        Ok(OpenPusherResponse { term, seq })
    }

    async fn open_at(&self, request: OpenPusherRequest) -> Result<(Arc<Queue>, Opened), Error> {
        let label = names::label(request.queue_label)?;
        let pusher = pusher_id(&request.pusher, "pusher")?;
        self.check_open()?;
        let queue = self.hosting.queue(&label).await?;
        let term = queue.open_pusher(pusher, request.settled)?;
        Ok((queue, Opened { pusher, term }))
    }

    /// Pushes one message and waits until it is committed.
    pub async fn push(&self, push: Push) -> Result<PushOkResponse, Error> {
        let label = names::label(push.queue_label)?;
        let topic = names::topic(push.topic)?;
        let headers = Headers::received(push.headers)?;
        self.check_size(push.content.len())?;
        let claim = Claim::of(push.origin, &push.id)?;
        let _room = self.check_room()?;
        self.check_open()?;
        let queue = self.hosting.queue(&label).await?;
        let run = Run {
            id: claim.id(),
            count: 1,
            topic: topic.map(Arc::from),
            is_keyed: matches!(claim, Claim::Key(_)),
            headers: headers.map(Arc::new),
        };
        let origin = match claim {
            Claim::None(_) => Origin::Anonymous,
            Claim::Pusher(attempt, _) => Origin::Pusher(attempt),
            Claim::Key(_) => Origin::Key(queue.key_hash(run.topic.as_deref(), &push.content)),
        };
        let after = match claim {
            Claim::Pusher(_, after) => after,
            Claim::None(_) | Claim::Key(_) => 0,
        };
        let id = run.id;
        let (call, outcome) = oneshot::channel();
        let pushed = Pushed::single(run, push.content, origin, Answer::Call(call));
        self.give(&queue, pushed, after).await;
        // Without an answer the committer has gone, with the message or without.
        let receipt = outcome.await.unwrap_or(Err(Error::OutcomeUnknown))?;
        Ok(PushOkResponse {
            id: id.to_string(),
            seq: receipt.seq,
            duplicate: receipt.duplicate,
        })
    }

    /// Gives messages to their queue, after a look into the database where only that knows whether they are repeats.
    async fn give(&self, queue: &Arc<Queue>, pushed: Pushed, after: i64) {
        let Some(mut pushed) = queue.push(pushed, false) else {
            return;
        };
        let looked_up = if pushed.run.is_keyed {
            queue.look_up_keys(&self.store).await
        } else {
            queue.look_up(&self.store, &pushed, after).await
        };
        if let Err(error) = looked_up {
            pushed.answer.give(Err(error.into()));
        } else if let Some(mut unknown) = queue.push(pushed, true) {
            // Another pusher's look-up cannot undo this one's.
            unknown.answer.give(Err(Error::OutcomeUnknown));
        }
    }

    /// Serves a stream of pushes, of which `incoming` is to bring the opening first.
    pub async fn stream(
        self: &Arc<Self>,
        mut incoming: Streaming<ReceivedBatch>,
    ) -> Result<impl Stream<Item = Result<PushAnswer, Status>> + use<>, Status> {
        let room = self.check_room()?;
        let opening = incoming.message().await?.and_then(|first| first.0.open);
        let opening = opening.ok_or(Error::Malformed {
            field: "open",
            fault: "is missing in the first message of the stream",
        })?;
        let (queue, opened) = self.open_at(opening).await?;
        let stream = PushStream {
            open: queue.stream(),
            pushes: self.clone(),
            queue,
            opened,
            incoming,
            is_reading: true,
            outbox: Arc::default(),
            is_answered: false,
            _room: room,
        };
        Ok(stream::unfold(Some(stream), async |stream| {
            let mut stream = stream?;
            match stream.next().await {
                Ok(None) => None,
                Ok(Some(answer)) => Some((Ok(answer), Some(stream))),
                Err(status) => Some((Err(status), None)),
            }
        }))
    }
}

/// A pusher as this MoM knows it.
#[derive(Clone, Copy, Debug)]
struct Opened {
    pusher: Uuid,
    term: i64,
}

/// The pushes of one pusher to one queue. Polled for the next answer, it takes what comes in and returns what became
/// of what came before: a client that does not read its answers is not read from either.
struct PushStream {
    pushes: Arc<Pushes>,
    queue: Arc<Queue>,
    open: OpenStream,
    opened: Opened,
    incoming: Streaming<ReceivedBatch>,
    is_reading: bool,
    outbox: Arc<Outbox>,
    /// Whether the opening was.
    is_answered: bool,
    _room: OwnedSemaphorePermit,
}

impl PushStream {
    async fn next(&mut self) -> Result<Option<PushAnswer>, Status> {
        if !std::mem::replace(&mut self.is_answered, true) {
            let seq = self.queue.feed.committed();
            return Ok(Some(self.answer(Vec::new(), seq)));
        }
        loop {
            tokio::select! {
                biased;
                outcomes = self.outbox.outcomes(!self.is_reading) => {
                    return match outcomes {
                        Ok(outcomes) if outcomes.is_empty() => Ok(None),
                        Ok(outcomes) => Ok(Some(self.answer(outcomes, 0))),
                        Err(error) => Err(self.ended(error).await),
                    };
                }
                () = self.queue.lost().cancelled(), if self.is_reading => {
                    self.is_reading = false;
                    self.outbox.end(self.queue.not_owner());
                }
                () = self.pushes.stopping.cancelled(), if self.is_reading => {
                    self.is_reading = false;
                    self.outbox.end(Error::Stopping);
                }
                batch = self.incoming.message(), if self.is_reading => match batch? {
                    Some(Received(batch)) => self.take(batch).await?,
                    None => self.is_reading = false,
                },
            }
        }
    }

    fn answer(&self, outcomes: Vec<protos::Outcome>, seq: i64) -> PushAnswer {
        let (messages, bytes) = self.open.window();
        PushAnswer {
            outcomes,
            window_messages: messages as u32,
            window_bytes: bytes as u64,
            seq,
        }
    }

    /// Who owns the queue now is known a moment after it is lost.
    async fn ended(&self, error: Error) -> Status {
        if matches!(error, Error::NotOwner { .. }) {
            self.queue.lost().cancelled().await;
            return self.queue.not_owner().into();
        }
        error.into()
    }

    /// Takes a batch. Errs if it makes no sense as a whole, which ends the stream.
    async fn take(&mut self, mut batch: PushBatch) -> Result<(), Error> {
        check_shape(&mut batch)?;
        self.outbox.resume(batch.number, batch.settled);
        let shared = (&batch.ends, &batch.contents);
        let (mut number, mut from) = (batch.number, 0);
        for run in batch.runs {
            number += run.gap;
            let to = from + run.count as usize;
            let common = Common::of(run.count, run.topic, &run.id, run.headers);
            let Common {
                topic,
                key,
                headers,
            } = match common {
                Ok(common) => common,
                Err(error) => {
                    self.refuse(number, run.count, error);
                    (number, from) = (number.wrapping_add(run.count), to);
                    continue;
                }
            };
            // Each piece is of messages that are not too large, or of one that is.
            while from < to {
                let end = self.reach(&batch.ends, from, to, run.together);
                let refused = if run.together { to } else { from + 1 };
                let count = (*end.as_ref().unwrap_or(&refused) - from) as u32;
                let answer = self.outbox.expect(number, count);
                let attempt = Attempt {
                    pusher: self.opened.pusher,
                    number,
                    settled: batch.settled,
                    term: self.opened.term,
                    is_repeat: batch.after_seq.is_some(),
                };
                let new = Run {
                    id: key.unwrap_or_else(|| message_id(attempt.pusher, number)),
                    count,
                    topic: topic.clone(),
                    is_keyed: key.is_some(),
                    headers: headers.clone(),
                };
                let mut pushed = Pushed::slice(new, from, shared, Origin::Pusher(attempt), answer);
                if chaos::is(Mutant::RetryWithoutId) {
                    pushed.origin = Origin::Anonymous;
                } else if key.is_some() {
                    let hash = self.queue.key_hash(topic.as_deref(), pushed.contents());
                    pushed.origin = Origin::Key(hash);
                }
                // After the last number there is, none follows.
                number = number.wrapping_add(count);
                from += count as usize;
                match end.and_then(|_| self.pushes.check_open()) {
                    Ok(()) => {
                        let after = batch.after_seq.unwrap_or(0).max(0);
                        self.pushes.give(&self.queue, pushed, after).await;
                    }
                    Err(error) => pushed.answer.give(Err(error)),
                }
            }
        }
        Ok(())
    }

    /// Up to where the messages from the index `from` on are not too large: an error if the first one is.
    fn reach(&self, all: &[u8], from: usize, to: usize, together: bool) -> Result<usize, Error> {
        let size = |index: usize| ends::range(all, index).len();
        let max = self.pushes.max_message_bytes;
        // Seldom more than a look at the whole is needed.
        if ends::range(all, to - 1).end - ends::range(all, from).start <= max {
            return Ok(to);
        }
        let fits = (from..to).take_while(|index| size(*index) <= max).count();
        if fits == 0 || (together && from + fits < to) {
            self.pushes.check_size(size(from + fits))?;
        }
        Ok(from + fits)
    }

    fn refuse(&self, number: u32, count: u32, error: Error) {
        self.outbox.expect(number, count).give(Err(error));
    }
}

/// Refuses what cannot be told apart into messages, and completes what may be left out.
fn check_shape(batch: &mut PushBatch) -> Result<(), Error> {
    let malformed = |field, fault| Err(Error::Malformed { field, fault });
    let count: u64 = batch.runs.iter().map(|run| u64::from(run.count)).sum();
    let numbers: u64 = batch.runs.iter().map(|run| u64::from(run.gap)).sum::<u64>() + count;
    if batch.runs.iter().any(|run| run.count == 0) {
        return malformed("runs.count", "is 0; legal is 1 or more");
    }
    if batch.number == 0 || u64::from(batch.number) + numbers > 1 << 32 {
        return malformed(
            "number",
            "is 0, or leads beyond 4294967295; legal is 1 or more",
        );
    }
    if count > MAX_PUSH_MESSAGES as u64 {
        return malformed("runs", "have more than 1024 messages together");
    }
    if count > 1 && batch.contents.len() > MAX_PUSH_BYTES {
        return malformed(
            "contents",
            "has more than 1 MiB in a batch of several messages",
        );
    }
    if count == 1 && batch.ends.is_empty() {
        let mut ends = Vec::with_capacity(ends::SIZE);
        ends::push(&mut ends, batch.contents.len());
        batch.ends = ends.into();
    }
    if ends::count(&batch.ends) as u64 != count {
        return malformed("ends", "has not 4 bytes for each message of the runs");
    }
    if !ends::fit(&batch.ends, batch.contents.len()) {
        return malformed("ends", "does not rise to the length of contents");
    }
    Ok(())
}

/// What the messages of a run have in common.
struct Common {
    topic: Option<Arc<str>>,
    key: Option<Uuid>,
    headers: Option<Arc<Headers>>,
}

impl Common {
    fn of(
        count: u32,
        topic: String,
        id: &[u8],
        headers: Vec<protos::Header>,
    ) -> Result<Self, Error> {
        Ok(Self {
            topic: self::topic(topic)?,
            key: key(id, count)?,
            headers: Headers::received(headers)?.map(Arc::new),
        })
    }
}

fn topic(given: String) -> Result<Option<Arc<str>>, Error> {
    if given.is_empty() {
        return Ok(None);
    }
    Ok(names::topic(given)?.map(Arc::from))
}

/// The id that the pusher brings.
fn key(given: &[u8], count: u32) -> Result<Option<Uuid>, Error> {
    let malformed = |fault| Error::Malformed {
        field: "runs.id",
        fault,
    };
    if given.is_empty() {
        return Ok(None);
    }
    if count > 1 {
        return Err(malformed("is given for more than one message"));
    }
    let id = Uuid::from_slice(given).map_err(|_| malformed("is not a UUID in 16 bytes"))?;
    Ok(Some(id))
}

/// What a single push says of its identity.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// Nothing: the message gets this id.
    None(Uuid),
    /// A pusher's attempt, and behind which sequence the message of an earlier one would be.
    Pusher(Attempt, i64),
    /// The message's id.
    Key(Uuid),
}

impl Claim {
    fn of(origin: Option<protos::Origin>, id: &str) -> Result<Self, Error> {
        let malformed = |field, fault| Err(Error::Malformed { field, fault });
        let Some(origin) = origin.filter(|_| !chaos::is(Mutant::RetryWithoutId)) else {
            return match id {
                "" => Ok(Self::None(Uuid::now_v7())),
                id => match Uuid::try_parse(id) {
                    Ok(id) => Ok(Self::Key(id)),
                    Err(_) => malformed("id", "is not a UUID"),
                },
            };
        };
        if !id.is_empty() {
            return malformed(
                "id",
                "is given together with origin; legal is one of the two",
            );
        }
        let pusher = pusher_id(&origin.pusher, "origin.pusher")?;
        if origin.number == 0 {
            return malformed("origin.number", "is 0; legal is 1 or more");
        }
        let attempt = Attempt {
            pusher,
            number: origin.number,
            settled: origin.settled,
            term: origin.term,
            is_repeat: origin.after_seq.is_some(),
        };
        Ok(Self::Pusher(attempt, origin.after_seq.unwrap_or(0).max(0)))
    }

    fn id(self) -> Uuid {
        match self {
            Self::None(id) | Self::Key(id) => id,
            Self::Pusher(attempt, _) => message_id(attempt.pusher, attempt.number),
        }
    }
}

fn pusher_id(bytes: &[u8], field: &'static str) -> Result<Uuid, Error> {
    let pusher = Uuid::from_slice(bytes)
        .ok()
        .filter(|id| id.as_u128() as u32 == 0);
    pusher.filter(|id| !id.is_nil()).ok_or(Error::Malformed {
        field,
        fault: "is not a UUID in 16 bytes of which the last 4, and only they, are zero",
    })
}
