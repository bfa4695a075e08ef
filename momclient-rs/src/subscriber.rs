//! [`Subscriber`]: the messages of one channel, across failures and moves.
//!
//! Messages come from the MoM that hosts the channel's queue, in batches, on one gRPC stream over a connection of its
//! own. A batch stays as it came until its messages are handed out. The MoM sends no more than there is room for, and is
//! told of new room as messages are handed out ([`Credits`]). When the stream ends for whatever reason, the channel is
//! looked up again at the manager and the next stream starts after the last sequence that was handed out, or after the
//! one at which the first stream started, which the MoM told with it.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::Stream;
use protos::{BatchSubscription, MessageBatch, SubscriptionRequest, codes};
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::batch::{Batch, Message};
use crate::client::MoMClient;
use crate::error::{Error, Failure, Reason};
use crate::link::Address;
use crate::manager::invalid_setting;

/// What a MoM may send before it is taken: messages, and bytes of their contents.
const BUFFER: Volume = Volume {
    messages: 65_536,
    bytes: 8 << 20,
};

/// The messages of a channel in the order of their sequence, each once: a [`Stream`], and [`Subscriber::next`].
///
/// It goes on by itself after a broken connection, a restart of the MoM or a move of the queue, for as long as it
/// takes. It ends after an error, of which there are few: [`Error::ChannelNotFound`] when the manager too says that
/// the channel is gone, and what no further attempt would mend.
///
/// Messages are received no faster than they are taken: a slow subscriber holds up nobody, and holds no more than its
/// [buffer](SubscriberBuilder::buffer). A MoM that is frozen or cut off, not dead, is noticed after 10 s without a sign of life.
pub struct Subscriber {
    source: Source,
    state: State,
    /// What has been received and is not handed out. The stream is asked when it is empty.
    batch: Batch,
    last: i64,
    backoff: Backoff,
}

/// Where a [`Subscriber`] starts in what its queue retains. It is looked up once, when the first stream is opened; after
/// whatever failure the subscriber goes on where it was, also if it has received nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest message that the queue retains.
    #[default]
    Earliest,
    /// With what is committed after the subscription has begun, which it has when the builder's future is done.
    Latest,
    /// After a sequence: give the last one that was dealt with. One that is not reached yet is waited for.
    After(i64),
    /// With the first message that was committed at this time or later, by the clock of the database. A time that has
    /// not come yet means the same as [`Start::Latest`].
    Since(SystemTime),
}

/// How a [`Subscriber`] comes about; await it to have the channel looked up and the stream opened.
#[derive(Clone, Debug)]
#[must_use = "a subscriber comes about when its builder is awaited"]
pub struct SubscriberBuilder {
    client: MoMClient,
    channel: Uuid,
    start: Start,
    deadline: Duration,
    buffer: Volume,
}

/// Messages, and bytes of their contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Volume {
    messages: u32,
    bytes: u64,
}

/// What opening a stream needs.
#[derive(Clone)]
struct Source {
    client: MoMClient,
    channel: Uuid,
    /// The last address known, which serves while no manager answers.
    address: Option<Address>,
    /// Where the channel is now, as the MoM said that had it before.
    moved_to: Option<Address>,
    buffer: Volume,
}

struct Opened {
    live: Box<Live>,
    /// The sequence after which it starts, as the MoM says.
    after: i64,
    address: Address,
    backoff: Backoff,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send>>),
    Live(Box<Live>),
    Ended,
}

/// A stream that is open.
struct Live {
    batches: Streaming<MessageBatch>,
    credits: Arc<Credits>,
}

/// The room for messages, on the way to the MoM. What it is not told yet waits here and is told as one.
#[derive(Debug)]
struct Credits {
    /// All there is.
    buffer: Volume,
    inner: Mutex<Unspoken>,
}

#[derive(Debug, Default)]
struct Unspoken {
    /// Room that has become free.
    freed: Volume,
    /// The stream of requests, if it waits for half of the buffer.
    requests: Option<Waker>,
}

/// The requests of a stream: what to subscribe to, then room as it becomes free.
struct Requests {
    opening: Option<BatchSubscription>,
    credits: Arc<Credits>,
}

impl SubscriberBuilder {
    pub(crate) fn new(client: MoMClient, channel: Uuid, start: Start) -> Self {
        let deadline = client.deadline();
        Self {
            client,
            channel,
            start,
            deadline,
            buffer: BUFFER,
        }
    }

    /// Where to start. Default: with the oldest message that the queue retains.
    ///
    /// ```no_run
    /// # async fn example(client: momclient::MoMClient, id: momclient::Uuid) -> Result<(), momclient::Error> {
    /// use std::time::{Duration, SystemTime};
    /// use momclient::Start;
    ///
    /// let live = client.subscribe(&id).start(Start::Latest).await?;
    /// println!("everything beyond {} will come", live.last_seq());
    ///
    /// let minute_ago = SystemTime::now() - Duration::from_secs(60);
    /// let recent = client.subscribe(&id).start(Start::Since(minute_ago)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How many messages, and how many bytes of contents, may be received before they are taken; the bytes may be
    /// exceeded by one message. More is asked for whenever half of it has been taken, so a small buffer makes a fast
    /// subscriber wait for the network. Default: 65,536 messages and 8 MiB.
    pub fn buffer(mut self, messages: u32, bytes: u64) -> Self {
        self.buffer = Volume { messages, bytes };
        self
    }

    /// How long it may take until the first stream is open. Later ones take as long as they need. Default: the
    /// client's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn open(self) -> Result<Subscriber, Error> {
        let request = self.start.request(self.channel)?;
        let Volume { messages, bytes } = self.buffer;
        if messages == 0 || bytes == 0 {
            return Err(invalid_setting(format!(
                "buffer is {messages} messages and {bytes} bytes; legal is 1 and more of each"
            )));
        }
        let source = Source {
            client: self.client,
            channel: self.channel,
            address: None,
            moved_to: None,
            buffer: self.buffer,
        };
        let deadline = Instant::now() + self.deadline;
        let opened = source
            .clone()
            .open(request, Backoff::default(), Some(deadline))
            .await?;
        Ok(Subscriber {
            source: Source {
                address: Some(opened.address),
                ..source
            },
            state: State::Live(opened.live),
            batch: Batch::default(),
            last: opened.after,
            backoff: opened.backoff,
        })
    }
}

impl Start {
    fn request(self, channel: Uuid) -> Result<SubscriptionRequest, Error> {
        let mut request = SubscriptionRequest {
            channel_id: channel.to_string(),
            ..Default::default()
        };
        match self {
            Self::Earliest => request.after_seq = Some(0),
            Self::Latest => request.latest = true,
            Self::After(seq) if seq < 0 => {
                return Err(invalid(format!(
                    "the sequence to start after is {seq}; legal is 0 and more"
                )));
            }
            Self::After(seq) => request.after_seq = Some(seq),
            Self::Since(time) => {
                let since = time.duration_since(UNIX_EPOCH).map_err(|_| {
                    invalid("the time to start at is before 1970; use Start::Earliest")
                })?;
                // Whatever is too far ahead for the number is told to be so by the MoM.
                let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
                request.since_micros = Some(micros);
            }
        }
        Ok(request)
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::InvalidArgument(Reason::new(codes::INVALID_ARGUMENT, detail))
}

impl IntoFuture for SubscriberBuilder {
    type Output = Result<Subscriber, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl Subscriber {
    /// The next message; `None` once it has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// All further messages that have been received, at least one; `None` once it has ended. Dropping the future loses
    /// nothing, and it may be mixed with [`next`](Self::next).
    pub async fn next_batch(&mut self) -> Option<Result<Batch, Error>> {
        match poll_fn(|cx| self.poll_batch(cx)).await? {
            Ok(()) => {}
            Err(error) => return Some(Err(error)),
        }
        let batch = std::mem::take(&mut self.batch);
        self.last = batch.last_seq();
        self.free(&batch);
        Some(Ok(batch))
    }

    /// The id of the channel.
    pub fn channel(&self) -> Uuid {
        self.source.channel
    }

    /// The sequence of the last message that was handed out; before the first, the one after which the subscription
    /// started.
    pub fn last_seq(&self) -> i64 {
        self.last
    }

    fn reopen(&mut self) {
        let backoff = std::mem::take(&mut self.backoff);
        let source = Source {
            moved_to: self.source.moved_to.take(),
            ..self.source.clone()
        };
        // Never the starting point again: what was committed meanwhile may lie before where that is now.
        let request = SubscriptionRequest {
            channel_id: self.source.channel.to_string(),
            after_seq: Some(self.last),
            ..Default::default()
        };
        self.state = State::Opening(Box::pin(source.open(request, backoff, None)));
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<(), Error>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }

    /// Tells the MoM that there is room for as much as this batch once had. It is handed out to its end.
    fn free(&mut self, batch: &Batch) {
        if let State::Live(live) = &self.state {
            let (messages, bytes) = batch.received();
            live.credits.free(Volume { messages, bytes });
        }
    }

    /// Waits until there is a batch with something in it.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        while self.batch.is_empty() {
            match &mut self.state {
                State::Live(live) => match ready!(Pin::new(&mut live.batches).poll_next(cx)) {
                    Some(Ok(received)) => {
                        let mut batch = match Batch::new(received) {
                            Ok(batch) => batch,
                            Err(error) => return self.end(error),
                        };
                        // What a MoM sends again after a move has been handed out before.
                        batch.skip_to(self.last);
                        if batch.is_empty() {
                            self.free(&batch);
                            continue;
                        }
                        self.backoff.reset();
                        self.batch = batch;
                    }
                    Some(Err(status)) => {
                        match Failure::from(status) {
                            Failure::Final(error) => return self.end(error),
                            Failure::Moved(_, owner) => self.source.moved_to = Some(owner),
                            _ => {}
                        }
                        self.reopen();
                    }
                    None => self.reopen(),
                },
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => {
                        self.source.address = Some(opened.address);
                        self.backoff = opened.backoff;
                        self.state = State::Live(opened.live);
                    }
                    Err(error) => return self.end(error),
                },
                State::Ended => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(())))
    }
}

impl Stream for Subscriber {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.poll_batch(cx)) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
        let message = self.batch.take().expect("it has something in it");
        self.last = message.seq;
        if self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.free(&batch);
        }
        Poll::Ready(Some(Ok(message)))
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Opening(_) => "opening",
            State::Live(_) => "live",
            State::Ended => "ended",
        };
        f.debug_struct("Subscriber")
            .field("channel", &self.source.channel)
            .field("last_seq", &self.last)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Looks the channel up and opens a stream, again and again until it is open, the deadline has come, or there is no
    /// use.
    async fn open(
        mut self,
        request: SubscriptionRequest,
        mut backoff: Backoff,
        deadline: Option<Instant>,
    ) -> Result<Opened, Error> {
        let mut last_address = self.address.clone();
        // The first attempt after a failure of the stream comes at once; `backoff` carries over from streams that
        // opened and broke without a message.
        let mut first = true;
        let mut failure = None;
        loop {
            if !std::mem::take(&mut first) && !backoff.pause(deadline).await {
                return Err(failure.expect("each attempt but the first follows a failure"));
            }
            let found = match self.moved_to.take() {
                Some(address) => Ok(address),
                None => self.client.address_of_channel(&self.channel).await,
            };
            let address = match (found, &last_address) {
                (Ok(address), _) => address,
                (Err(Error::ManagerUnreachable(_)), Some(address)) => address.clone(),
                (Err(error), _) if error.is_transient() => {
                    tracing::debug!(channel = %self.channel, %error, "the channel cannot be looked up");
                    failure = Some(error);
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            last_address = Some(address.clone());
            match self.stream(&address, request.clone()).await {
                Ok((live, after)) => {
                    return Ok(Opened {
                        live: Box::new(live),
                        after,
                        address,
                        backoff,
                    });
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Moved(reason, owner)) => {
                    self.moved_to = Some(owner);
                    failure = Some(Error::Unavailable(reason));
                }
                Err(Failure::Full(reason)) => failure = Some(Error::Overloaded(reason)),
                Err(Failure::Elsewhere(reason) | Failure::Unknown(reason)) => {
                    failure = Some(Error::Unavailable(reason));
                }
            }
            tracing::debug!(channel = %self.channel, %address, failure = ?failure, "no stream can be opened");
        }
    }

    /// A stream, and the sequence after which it starts.
    async fn stream(
        &self,
        address: &Address,
        request: SubscriptionRequest,
    ) -> Result<(Live, i64), Failure> {
        let limit = self.client.connect_timeout();
        let mut mom = address.connect(limit).await.map_err(Failure::Elsewhere)?;
        let credits = Arc::new(Credits::new(self.buffer));
        let asked = request.after_seq;
        let requests = Requests {
            opening: Some(BatchSubscription {
                subscribe: Some(request),
                messages: self.buffer.messages,
                bytes: self.buffer.bytes,
            }),
            credits: credits.clone(),
        };
        let call = mom.subscribe_to_batches(requests);
        let Ok(answer) = timeout(self.client.deadline(), call).await else {
            let detail = format!("the MoM at {address} did not answer a subscription");
            return Err(Failure::Elsewhere(Reason::new("mom_unreachable", detail)));
        };
        let answer = answer?;
        let told = answer.metadata().get(protos::START_METADATA);
        let told = told.and_then(|seq| seq.to_str().ok()?.parse().ok());
        let after = asked.or(told).ok_or_else(|| {
            let detail = format!(
                "the MoM at {address} does not say where the subscription starts; it is of an older version, which knows \
                 Start::Earliest and Start::After only"
            );
            Failure::Final(Error::Unexpected(Reason::new("unexpected_answer", detail)))
        })?;
        let batches = answer.into_inner();
        Ok((Live { batches, credits }, after))
    }
}

impl Credits {
    fn new(buffer: Volume) -> Self {
        Self {
            buffer,
            inner: Mutex::default(),
        }
    }

    /// There is room again that a batch took.
    fn free(&self, batch: Volume) {
        let mut inner = self.lock();
        inner.freed.messages = inner.freed.messages.saturating_add(batch.messages);
        inner.freed.bytes = inner.freed.bytes.saturating_add(batch.bytes);
        let requests = if self.is_worth_telling(inner.freed) {
            inner.requests.take()
        } else {
            None
        };
        drop(inner);
        if let Some(requests) = requests {
            requests.wake();
        }
    }

    fn is_worth_telling(&self, freed: Volume) -> bool {
        let Volume { messages, bytes } = self.buffer;
        freed.messages >= messages.div_ceil(2) || freed.bytes >= bytes.div_ceil(2)
    }

    fn lock(&self) -> MutexGuard<'_, Unspoken> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Requests {
    type Item = BatchSubscription;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<BatchSubscription>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        let mut inner = self.credits.lock();
        if self.credits.is_worth_telling(inner.freed) {
            let Volume { messages, bytes } = std::mem::take(&mut inner.freed);
            return Poll::Ready(Some(BatchSubscription {
                subscribe: None,
                messages,
                bytes,
            }));
        }
        inner.requests = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::StreamExt;

    use super::*;

    fn volume(messages: u32, bytes: u64) -> Volume {
        Volume { messages, bytes }
    }

    #[test]
    fn a_mom_is_told_of_room_when_half_of_the_buffer_is_free() {
        let credits = Arc::new(Credits::new(volume(10, 1000)));
        let mut requests = Requests {
            opening: Some(BatchSubscription::default()),
            credits: credits.clone(),
        };
        let mut next = || requests.next().now_or_never().map(Option::unwrap);
        assert!(next().is_some());
        assert_eq!(next(), None);
        let told = |messages, bytes| {
            Some(BatchSubscription {
                subscribe: None,
                messages,
                bytes,
            })
        };
        credits.free(volume(4, 100));
        assert_eq!(next(), None);
        credits.free(volume(1, 100));
        assert_eq!(next(), told(5, 200));
        assert_eq!(next(), None);
        // By bytes alone, and two batches as one.
        credits.free(volume(1, 400));
        credits.free(volume(2, 700));
        assert_eq!(next(), told(3, 1100));
        assert_eq!(next(), None);
    }
}
