//! [`Pusher`]: pushes to one queue, wherever it is hosted.
//!
//! A push enters one of the pusher's lanes and waits for its outcome there. Each lane has a connection, a stream of
//! pushes over it and a task of its own: [`ledger`](crate::ledger) is what waits and what becomes of it,
//! [`lane`](crate::lane) sends it, [`driver`](crate::driver) keeps it connected, and [`route`](crate::route) looks the
//! queue up for all lanes.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use protos::headers::Headers;
use protos::{MAX_PUSH_BYTES, MAX_PUSH_MESSAGES, codes, ends, names};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::MoMClient;
use crate::driver::Driver;
use crate::error::{Error, Reason};
use crate::lane::Lane;
use crate::ledger::{Kind, Ledger, Push};
use crate::manager::invalid_setting;
use crate::receipts::{Receipt, Receipts};
use crate::route::Router;

/// For how long a push with an id of the caller's own is tried. MoMs know it again for two minutes, unless they are
/// configured otherwise.
const LONGEST_WITH_ID: Duration = Duration::from_mins(1);

/// Pushes at one queue. Cheap to clone, and meant to be used by many tasks at once: their pushes share the pusher's
/// connections and are committed together by the MoM. It has to be used while the runtime runs that it was made in.
///
/// # Order
///
/// Over one connection, which is the default, messages have their places in the queue in the order in which their
/// pushes began, whatever fails meanwhile; one that is refused for good leaves its place to the next. Over several
/// connections that is so for each of them, and pushes take them in turn.
///
/// # Outcomes
///
/// `Ok` means that the message is committed, once. [`Error::OutcomeUnknown`] means that it may be; any other error
/// means that it is not and will not be.
///
/// Until its deadline (10 s by default), a push is tried again after everything that may pass: a connection breaks, the
/// queue moves, the MoM restarts, there is no room. However often it is tried, it makes **one message at the most**: it
/// is numbered, and MoMs know it again. Only a push whose deadline comes before its answer, or whose future is dropped,
/// has an unknown outcome; to try such a one again safely, even from another process, give its message an id with
/// [`PushOptions::id`].
#[derive(Clone, Debug)]
pub struct Pusher {
    shared: Arc<Shared>,
}

/// Options of a [`Pusher`]; await it to have the queue looked up and the MoM connected.
#[derive(Clone, Debug)]
#[must_use = "a pusher comes about when its builder is awaited"]
pub struct PusherBuilder {
    client: MoMClient,
    queue: String,
    connections: usize,
    in_flight: usize,
    deadline: Duration,
}

/// What goes with a message beside its content: for [`Pusher::push_with`] and [`Pusher::push_many_with`].
#[derive(Clone, Debug, Default)]
#[must_use = "options are for a push"]
pub struct PushOptions<'a> {
    topic: Option<&'a str>,
    id: Option<Uuid>,
    headers: Vec<(&'a str, &'a str)>,
}

#[derive(Debug)]
struct Shared {
    queue: String,
    lanes: Vec<Arc<Lane>>,
    /// Which lane is next.
    turn: AtomicUsize,
    deadline: Duration,
    /// One for each lane. They end with this.
    _drivers: JoinSet<()>,
}

impl PusherBuilder {
    pub(crate) fn new(client: MoMClient, queue: &str) -> Self {
        let deadline = client.deadline();
        Self {
            client,
            queue: queue.to_owned(),
            connections: 1,
            in_flight: 1024,
            deadline,
        }
    }

    /// How many HTTP/2 connections pushes are spread over, 1 to 64, and no more than may be [in
    /// flight](Self::in_flight). One is enough until a core is busy with it, and keeps [the order](Pusher#order). All
    /// pushers of a client share them. Default: 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How many messages may wait for their answers at a time, 1 to 65,536; further ones wait for their turn. Each
    /// connection has an equal share. More messages than that in one [`push_many`](Pusher::push_many) wait until
    /// nothing else is under way on their connection. Default: 1,024.
    pub fn in_flight(mut self, in_flight: usize) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// How long a push is tried, waiting for its turn included. Default: the client's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn open(self) -> Result<Pusher, Error> {
        if !(1..=64).contains(&self.connections) {
            return Err(invalid_setting(format!(
                "connections is {}; legal is 1 to 64",
                self.connections
            )));
        }
        if !(1..=65_536).contains(&self.in_flight) {
            return Err(invalid_setting(format!(
                "in_flight is {}; legal is 1 to 65536",
                self.in_flight
            )));
        }
        let deadline = Instant::now() + self.deadline;
        let router = Arc::new(Router::new(self.client, self.queue.clone()));
        // Each lane has its share, and none has nothing.
        let count = self.connections.min(self.in_flight);
        let lanes: Vec<_> = (0..count)
            .map(|index| {
                let share = self.in_flight / count + usize::from(index < self.in_flight % count);
                let disorder = self.deadline.saturating_sub(LONGEST_WITH_ID);
                Lane::new(Ledger::new(share, disorder))
            })
            .collect();
        let drivers = try_join_all(lanes.iter().enumerate().map(|(place, lane)| {
            let mut driver = Driver::new(lane.clone(), router.clone(), place);
            async move {
                let link = driver.connect_until(deadline).await?;
                Ok::<_, Error>((driver, link))
            }
        }))
        .await?;
        let drivers = drivers
            .into_iter()
            .map(|(driver, link)| driver.run(link))
            .collect();
        Ok(Pusher {
            shared: Arc::new(Shared {
                queue: self.queue,
                lanes,
                turn: AtomicUsize::new(0),
                deadline: self.deadline,
                _drivers: drivers,
            }),
        })
    }
}

impl IntoFuture for PusherBuilder {
    type Output = Result<Pusher, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl<'a> PushOptions<'a> {
    /// Nothing beside the content.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(topic: Option<&'a str>) -> Self {
        Self {
            topic,
            ..Self::default()
        }
    }

    /// With a topic.
    pub fn topic(mut self, topic: &'a str) -> Self {
        self.topic = Some(topic);
        self
    }

    /// With an id of the caller's own, so that the push can be repeated later, by another pusher or after a restart of the
    /// program. Pushed again within the MoMs' `duplicate_window_secs` (two minutes by default), it makes no second
    /// message: the receipt is that of the first, with `duplicate` set. With another content or topic it is an
    /// [`Error::InvalidArgument`] with the code `id_conflict`; headers may be others, and those of the first stay.
    ///
    /// An id costs the MoM memory for the whole window, so a plain push is the cheaper one. It is tried for a minute at
    /// the most, well within the window.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// With one more header. A message may have 16, with 4,096 bytes of names and values together. A name has 1 to 64 of
    /// the characters a-z, 0-9, '.', '_' and '-' (upper case is folded), each once; a value at most 1,024 bytes and no
    /// control characters. Anything else is an [`Error::InvalidArgument`] of the push.
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With more headers, as of a map into which a tracing library has put what it wants to find at the receiver.
    pub fn headers<N, V>(mut self, headers: impl IntoIterator<Item = (&'a N, &'a V)>) -> Self
    where
        N: AsRef<str> + ?Sized + 'a,
        V: AsRef<str> + ?Sized + 'a,
    {
        let headers = headers.into_iter();
        self.headers
            .extend(headers.map(|(name, value)| (name.as_ref(), value.as_ref())));
        self
    }

    fn checked_headers(&self) -> Result<Option<Box<Headers>>, Error> {
        let headers = Headers::new(self.headers.iter().copied());
        let headers = headers.map_err(|error| invalid(error.to_string()))?;
        Ok(headers.map(Box::new))
    }
}

impl Pusher {
    /// Pushes one message and waits until it is committed.
    ///
    /// Content is at most 1 MiB unless the MoM is configured otherwise. Channels with a topic see only what is pushed
    /// with that topic.
    pub async fn push(
        &self,
        content: impl Into<Bytes>,
        topic: Option<&str>,
    ) -> Result<Receipt, Error> {
        self.push_with(content, &PushOptions::of(topic)).await
    }

    /// As [`push`](Self::push), with an [id](PushOptions::id) of the caller's own.
    pub async fn push_with_id(
        &self,
        id: Uuid,
        content: impl Into<Bytes>,
        topic: Option<&str>,
    ) -> Result<Receipt, Error> {
        let options = PushOptions::of(topic).id(id);
        self.push_with(content, &options).await
    }

    /// As [`push`](Self::push), with all that may go with a message: its topic, an id of the caller's own, headers.
    ///
    /// ```no_run
    /// # async fn example(pusher: momclient::Pusher, traceparent: &str) -> Result<(), momclient::Error> {
    /// use momclient::PushOptions;
    ///
    /// let options = PushOptions::new().topic("sports").header("traceparent", traceparent);
    /// let receipt = pusher.push_with("2:1", &options).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push_with(
        &self,
        content: impl Into<Bytes>,
        options: &PushOptions<'_>,
    ) -> Result<Receipt, Error> {
        let (kind, patience) = match options.id {
            Some(id) => (Kind::Keyed(id), self.shared.deadline.min(LONGEST_WITH_ID)),
            None => (Kind::Plain, self.shared.deadline),
        };
        let push = Push {
            contents: content.into(),
            topic: checked(options.topic)?,
            headers: options.checked_headers()?,
            kind,
        };
        self.lane().push(push, patience).await
    }

    /// Pushes several messages as one: all of them are committed or none, with consecutive sequences and nothing in
    /// between. They cost little more than one message does.
    ///
    /// They are 1 to 1,024, and together at most 1 MiB unless it is a single one; anything else is an
    /// [`Error::InvalidArgument`].
    ///
    /// ```no_run
    /// # async fn example(pusher: momclient::Pusher) -> Result<(), momclient::Error> {
    /// let receipts = pusher.push_many(["1:0", "1:1", "2:1"], Some("sports")).await?;
    /// assert_eq!(receipts.len(), 3);
    /// for receipt in receipts.iter() {
    ///     println!("committed as {} at {}", receipt.id, receipt.seq);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push_many<C: AsRef<[u8]>>(
        &self,
        contents: impl IntoIterator<Item = C>,
        topic: Option<&str>,
    ) -> Result<Receipts, Error> {
        self.push_many_with(contents, &PushOptions::of(topic)).await
    }

    /// As [`push_many`](Self::push_many), with the same headers for each of the messages. An id is for a single message
    /// alone, so options with one are an [`Error::InvalidArgument`].
    pub async fn push_many_with<C: AsRef<[u8]>>(
        &self,
        contents: impl IntoIterator<Item = C>,
        options: &PushOptions<'_>,
    ) -> Result<Receipts, Error> {
        if options.id.is_some() {
            let detail =
                "id is given for messages that are pushed as one; legal is one with push_with";
            return Err(invalid(detail));
        }
        let topic = checked(options.topic)?;
        let headers = options.checked_headers()?;
        let (contents, ends) = joined(contents)?;
        let count = ends::count(&ends);
        let kind = if count == 1 {
            Kind::Plain
        } else {
            Kind::Together(ends)
        };
        let push = Push {
            contents,
            topic,
            headers,
            kind,
        };
        let first = self.lane().push(push, self.shared.deadline).await?;
        Ok(Receipts::new(first, count))
    }

    /// The label of the queue, as it was given.
    pub fn queue(&self) -> &str {
        &self.shared.queue
    }

    fn lane(&self) -> &Lane {
        let Shared { lanes, turn, .. } = &*self.shared;
        match &lanes[..] {
            [lane] => lane,
            lanes => &lanes[turn.fetch_add(1, Ordering::Relaxed) % lanes.len()],
        }
    }
}

/// Refuses a topic that would be more than a fault of its own message: no topic, or beyond all measure. What else may
/// be wrong with one the MoM says.
fn checked(topic: Option<&str>) -> Result<Option<&str>, Error> {
    if let Some(given) = topic
        && (given.is_empty() || given.len() > names::MAX_NAME_LEN)
        && let Err(error) = names::topic(given)
    {
        let reason = Reason::new(codes::INVALID_TOPIC, error.to_string());
        return Err(Error::InvalidArgument(reason));
    }
    Ok(topic)
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::InvalidArgument(Reason::new(codes::INVALID_ARGUMENT, detail))
}

/// Contents one after another, and where each ends.
fn joined<C: AsRef<[u8]>>(
    contents: impl IntoIterator<Item = C>,
) -> Result<(Bytes, Box<[u8]>), Error> {
    let (mut joined, mut ends) = (Vec::new(), Vec::new());
    for content in contents {
        joined.extend_from_slice(content.as_ref());
        if u32::try_from(joined.len()).is_err() {
            let detail = format!("contents has {} bytes in one message", joined.len());
            return Err(invalid(detail));
        }
        ends::push(&mut ends, joined.len());
        let count = ends::count(&ends);
        if count > MAX_PUSH_MESSAGES {
            let detail = format!(
                "contents has more than {count} messages; legal is 1 to {MAX_PUSH_MESSAGES}"
            );
            return Err(invalid(detail));
        }
        if count > 1 && joined.len() > MAX_PUSH_BYTES {
            let detail = format!(
                "contents has {} bytes in the first {count} messages; legal is {MAX_PUSH_BYTES} bytes in all, unless \
                 it is a single message",
                joined.len()
            );
            return Err(invalid(detail));
        }
    }
    if ends.is_empty() {
        let detail = format!("contents has 0 messages; legal is 1 to {MAX_PUSH_MESSAGES}");
        return Err(invalid(detail));
    }
    Ok((joined.into(), ends.into()))
}
