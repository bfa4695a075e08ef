//! [`Subscriber`]: the messages of one channel, across failures and moves.
//!
//! Messages come from the MoM that hosts the channel's queue, on one gRPC stream over a connection of its own. When
//! the stream ends for whatever reason, the channel is looked up again at the manager and the next stream starts after
//! the last sequence that was handed out.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::client::MoMClient;
use crate::error::{Error, Failure, Reason};
use crate::link::Address;

/// A message as it was committed.
///
/// `content` is a view into the buffer that it was received in, which may hold its neighbours too: whoever keeps a
/// small message for long keeps that whole buffer, some tens of kilobytes. `Bytes::copy_from_slice(&message.content)`
/// lets go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Unique for ever.
    pub id: Uuid,
    /// Place in the queue. Give the last one that was dealt with to [`MoMClient::subscribe_after`] to go on there.
    pub seq: i64,
    /// The topic that the message was pushed with.
    pub topic: Option<String>,
    /// What was pushed.
    pub content: Bytes,
}

/// The messages of a channel in the order of their sequence, each once: a [`Stream`], and [`Subscriber::next`].
///
/// It goes on by itself after a broken connection, a restart of the MoM or a move of the queue, for as long as it
/// takes. It ends after an error, of which there are few: [`Error::ChannelNotFound`] when the manager too says that
/// the channel is gone, and what no further attempt would mend.
///
/// Messages are received no faster than they are taken: a slow subscriber holds up nobody, and holds a few megabytes
/// at most. A MoM that is frozen or cut off, not dead, is noticed after 10 s without a sign of life.
pub struct Subscriber {
    source: Source,
    state: State,
    last: i64,
    backoff: Backoff,
}

/// Where a [`Subscriber`] starts; await it to have the channel looked up and the stream opened.
#[derive(Clone, Debug)]
#[must_use = "a subscriber comes about when its builder is awaited"]
pub struct SubscriberBuilder {
    client: MoMClient,
    channel: Uuid,
    after: i64,
    deadline: Duration,
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
}

struct Opened {
    stream: Box<Streaming<protos::Message>>,
    address: Address,
    backoff: Backoff,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send>>),
    Live(Box<Streaming<protos::Message>>),
    Ended,
}

impl SubscriberBuilder {
    pub(crate) fn new(client: MoMClient, channel: Uuid, after: i64) -> Self {
        let deadline = client.deadline();
        Self {
            client,
            channel,
            after,
            deadline,
        }
    }

    /// How long it may take until the first stream is open. Later ones take as long as they need. Default: the
    /// client's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn open(self) -> Result<Subscriber, Error> {
        if self.after < 0 {
            let detail = format!(
                "the sequence to start after is {}; legal is 0 and more",
                self.after
            );
            return Err(Error::InvalidArgument(Reason::new(
                "invalid_argument",
                detail,
            )));
        }
        let source = Source {
            client: self.client,
            channel: self.channel,
            address: None,
            moved_to: None,
        };
        let deadline = Instant::now() + self.deadline;
        let opened = source
            .clone()
            .open(self.after, Backoff::default(), Some(deadline))
            .await?;
        Ok(Subscriber {
            source: Source {
                address: Some(opened.address),
                ..source
            },
            state: State::Live(opened.stream),
            last: self.after,
            backoff: opened.backoff,
        })
    }
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

    /// The id of the channel.
    pub fn channel(&self) -> Uuid {
        self.source.channel
    }

    /// The sequence of the last message that was handed out, or what was asked to start after.
    pub fn last_seq(&self) -> i64 {
        self.last
    }

    fn reopen(&mut self) {
        let backoff = std::mem::take(&mut self.backoff);
        let source = Source {
            moved_to: self.source.moved_to.take(),
            ..self.source.clone()
        };
        self.state = State::Opening(Box::pin(source.open(self.last, backoff, None)));
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<Message, Error>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Subscriber {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Live(stream) => match ready!(Pin::new(stream).poll_next(cx)) {
                    Some(Ok(received)) => {
                        // What a MoM sends again after a move has been handed out before.
                        if received.seq <= this.last && received.seq > 0 {
                            continue;
                        }
                        this.last = received.seq;
                        this.backoff.reset();
                        return match message(received) {
                            Ok(message) => Poll::Ready(Some(Ok(message))),
                            Err(error) => this.end(error),
                        };
                    }
                    Some(Err(status)) => {
                        match Failure::from(status) {
                            Failure::Final(error) => return this.end(error),
                            Failure::Moved(_, owner) => this.source.moved_to = Some(owner),
                            _ => {}
                        }
                        this.reopen();
                    }
                    None => this.reopen(),
                },
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => {
                        this.source.address = Some(opened.address);
                        this.backoff = opened.backoff;
                        this.state = State::Live(opened.stream);
                    }
                    Err(error) => return this.end(error),
                },
                State::Ended => return Poll::Ready(None),
            }
        }
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
    /// Looks the channel up and opens a stream after a sequence, again and again until it is open, the deadline has
    /// come, or there is no use.
    async fn open(
        mut self,
        after: i64,
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
            match self.stream(&address, after).await {
                Ok(stream) => {
                    return Ok(Opened {
                        stream: Box::new(stream),
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

    async fn stream(
        &self,
        address: &Address,
        after: i64,
    ) -> Result<Streaming<protos::Message>, Failure> {
        let limit = self.client.connect_timeout();
        let mut mom = address.connect(limit).await.map_err(Failure::Elsewhere)?;
        let request = protos::SubscriptionRequest {
            channel_id: self.channel.to_string(),
            after_seq: Some(after),
        };
        let Ok(answer) = timeout(self.client.deadline(), mom.subscribe_to_channel(request)).await
        else {
            let detail = format!("the MoM at {address} did not answer a subscription");
            return Err(Failure::Elsewhere(Reason::new("mom_unreachable", detail)));
        };
        Ok(answer?.into_inner())
    }
}

fn message(received: protos::Message) -> Result<Message, Error> {
    let protos::Message {
        id,
        content,
        topic,
        seq,
    } = received;
    match Uuid::try_parse(&id) {
        Ok(id) if seq > 0 => {
            let topic = (topic != protos::NO_TOPIC && !topic.is_empty()).then_some(topic);
            Ok(Message {
                id,
                seq,
                topic,
                content,
            })
        }
        _ => {
            let detail = format!(
                "a message came with id {id:?} and sequence {seq}; expected a UUID and 1 or more"
            );
            Err(Error::Unexpected(Reason::new("unexpected_answer", detail)))
        }
    }
}
