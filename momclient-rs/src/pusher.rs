//! [`Pusher`]: pushes to one queue, wherever it is hosted.
//!
//! A push goes from here as one gRPC call to the MoM that hosts the queue, and its answer comes when PostgreSQL has
//! committed the message. When that MoM fails or the queue moves, all pushes of a pusher wait for one look-up at the
//! manager and go on at the new place. Each bears its number in the [`session`](crate::session), so that the MoM knows
//! it again.

use std::future::IntoFuture;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protos::codes;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::client::MoMClient;
use crate::error::{Error, Failure, Reason};
use crate::link::{Address, MoM};
use crate::manager::invalid_setting;
use crate::session::{Session, Ticket};

/// A push without an answer for this long asks the manager whether its queue has moved, and if not, keeps waiting and
/// asks again after the shorter time. This is how pushes leave a frozen MoM, which breaks no connection. All pushes of a
/// pusher ask together.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(250));

/// A push without an answer for this long is tried again over a new connection: the present one may be cut off.
const ATTEMPT: Duration = Duration::from_secs(3);

/// For how long a push with an id of the caller's own is tried. MoMs know it again for two minutes, unless they are
/// configured otherwise.
const LONGEST_WITH_ID: Duration = Duration::from_mins(1);

/// How many MoMs in a row may say that a queue is at the next one, before a manager is asked.
const MOST_HOPS: usize = 3;

/// Pushes at one queue. Cheap to clone, and meant to be used by many tasks at once: their pushes share the pusher's
/// connections and are committed together by the MoM.
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
/// [`Pusher::push_with_id`].
#[derive(Clone, Debug)]
pub struct Pusher {
    shared: Arc<Shared>,
}

/// What a committed message is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// Unique for ever.
    pub id: Uuid,
    /// Place in the queue.
    pub seq: i64,
    /// Whether the message had been committed before: by an earlier push with the same id, or by an attempt of this
    /// push whose answer was lost.
    pub duplicate: bool,
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

#[derive(Debug)]
struct Shared {
    options: PusherBuilder,
    session: Arc<Session>,
    route: watch::Sender<Arc<Route>>,
    /// Held by the one push that looks the queue up for all.
    look_up: Semaphore,
    in_flight: Semaphore,
}

/// The outcome of the latest look-up. Its generation tells a push whether somebody has looked since it failed.
#[derive(Debug)]
struct Route {
    generation: u64,
    link: Result<Arc<Link>, Error>,
    /// The last address known, which serves while no manager answers.
    address: Option<Address>,
}

#[derive(Debug)]
struct Link {
    address: Address,
    connections: Vec<MoM>,
    /// At which term the MoM knows each identity of the session.
    terms: Vec<(Uuid, i64)>,
    /// The sequence that the queue is known to have reached. Not the pusher's, since a queue that is deleted and made
    /// anew begins with 1 again.
    reached: AtomicI64,
    turn: AtomicUsize,
}

/// What a push is known by.
enum Name {
    /// Its number.
    Ticket(Ticket),
    /// The id that the caller brought.
    Id(Uuid),
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

    /// How many HTTP/2 connections pushes are spread over, 1 to 64. One is enough until a core is busy with it.
    /// Default: 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How many pushes may wait for their answers at a time, 1 to 65,536; further ones wait for their turn. Default:
    /// 1,024.
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
        let none_yet = Error::Unavailable(Reason::new(
            "mom_unreachable",
            "the queue has not been looked up yet",
        ));
        let route = Route {
            generation: 0,
            link: Err(none_yet),
            address: None,
        };
        let shared = Shared {
            in_flight: Semaphore::new(self.in_flight),
            look_up: Semaphore::new(1),
            route: watch::Sender::new(Arc::new(route)),
            session: Session::new(),
            options: self,
        };
        let mut backoff = Backoff::default();
        loop {
            let seen = shared.current();
            let route = timeout_at(deadline, shared.renew(seen.generation, true, None))
                .await
                .unwrap_or(seen);
            match &route.link {
                Ok(_) => {
                    return Ok(Pusher {
                        shared: Arc::new(shared),
                    });
                }
                Err(error) if error.is_transient() && backoff.pause(Some(deadline)).await => {}
                Err(error) => return Err(error.clone()),
            }
        }
    }
}

impl IntoFuture for PusherBuilder {
    type Output = Result<Pusher, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
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
        let topic = topic.unwrap_or(protos::NO_TOPIC);
        self.shared.push(content.into(), topic, None).await
    }

    /// As [`push`](Self::push), with an id of the caller's own, so that the push can be repeated later, by another
    /// pusher or after a restart of the program. Pushed again within the MoMs' `duplicate_window_secs` (two minutes by
    /// default), it makes no second message: the receipt is that of the first, with `duplicate` set. With another
    /// content or topic it is an [`Error::InvalidArgument`] with the code `id_conflict`.
    ///
    /// An id costs the MoM memory for the whole window, so a plain push is the cheaper one. It is tried for a minute at
    /// the most, well within the window.
    pub async fn push_with_id(
        &self,
        id: Uuid,
        content: impl Into<Bytes>,
        topic: Option<&str>,
    ) -> Result<Receipt, Error> {
        let topic = topic.unwrap_or(protos::NO_TOPIC);
        self.shared.push(content.into(), topic, Some(id)).await
    }

    /// The label of the queue, as it was given.
    pub fn queue(&self) -> &str {
        &self.shared.options.queue
    }
}

impl Shared {
    async fn push(&self, content: Bytes, topic: &str, id: Option<Uuid>) -> Result<Receipt, Error> {
        let patience = match id {
            None => self.options.deadline,
            Some(_) => self.options.deadline.min(LONGEST_WITH_ID),
        };
        let deadline = Instant::now() + patience;
        let Ok(turn) = timeout_at(deadline, self.in_flight.acquire()).await else {
            let detail = format!(
                "{} pushes were in flight until the deadline",
                self.options.in_flight
            );
            return Err(Error::Overloaded(Reason::new("in_flight_limit", detail)));
        };
        let _turn = turn.expect("the semaphore is never closed");
        let name = if let Some(id) = id {
            Name::Id(id)
        } else if let Ok(ticket) = timeout_at(deadline, self.session.begin()).await {
            Name::Ticket(ticket)
        } else {
            let detail = "the oldest push under way had no answer until the deadline";
            return Err(Error::Overloaded(Reason::new("in_flight_limit", detail)));
        };
        self.push_until(deadline, content, topic, &name).await
    }

    /// One attempt after another, until one has a definite outcome or there is no time left.
    async fn push_until(
        &self,
        deadline: Instant,
        content: Bytes,
        topic: &str,
        name: &Name,
    ) -> Result<Receipt, Error> {
        let mut backoff = Backoff::default();
        let mut looked_up = false;
        let mut unknown: Option<Reason> = None;
        // How far the queue was before the first of the attempts that may have been accepted.
        let mut after = i64::MAX;
        let mut moved_to: Option<Address> = None;
        let mut route = self.current();
        if route.link.is_err() {
            // The outcome of an old look-up says nothing about now.
            looked_up = true;
            let renewed = timeout_at(deadline, self.renew(route.generation, true, None)).await;
            route = renewed.map_err(|_| {
                let detail = "the queue was not looked up until the deadline";
                Error::ManagerUnreachable(Reason::new("manager_unreachable", detail))
            })?;
        }
        loop {
            let failure = match &route.link {
                Ok(link) => {
                    after = after.min(link.reached.load(Ordering::Relaxed));
                    let after_seq = unknown.is_some().then_some(after);
                    match self.request(link, &content, topic, name, after_seq) {
                        Ok(push) => match self.attempt(&route, link, push, deadline).await {
                            Ok(receipt) => return Ok(receipt),
                            Err(failure) => failure,
                        },
                        Err(failure) => failure,
                    }
                }
                Err(error) => Failure::of_look_up(error),
            };
            let last = match failure {
                Failure::Final(error) => return Err(conclude(error, unknown)),
                Failure::Full(reason) => {
                    if backoff.pause(Some(deadline)).await {
                        route = self.current();
                        continue;
                    }
                    return Err(conclude(Error::Overloaded(reason), unknown));
                }
                Failure::Elsewhere(reason) => Error::Unavailable(reason),
                Failure::Moved(reason, owner) => {
                    moved_to = Some(owner);
                    Error::Unavailable(reason)
                }
                Failure::Unknown(reason) => {
                    unknown = Some(reason.clone());
                    Error::OutcomeUnknown(reason)
                }
            };
            // The first look-up follows at once, since the queue has probably moved; each later one after a pause.
            if looked_up && !backoff.pause(Some(deadline)).await {
                return Err(conclude(last, unknown));
            }
            looked_up = true;
            let renewed = self.renew(self.last_with(&route), true, moved_to.take());
            match timeout_at(deadline, renewed).await {
                Ok(renewed) => route = renewed,
                Err(_) => return Err(conclude(last, unknown)),
            }
        }
    }

    /// What is sent. With `after_seq`, an earlier attempt may have been accepted behind that sequence.
    fn request(
        &self,
        link: &Link,
        content: &Bytes,
        topic: &str,
        name: &Name,
        after_seq: Option<i64>,
    ) -> Result<protos::Push, Failure> {
        let (origin, id) = match name {
            Name::Id(id) => (None, id.to_string()),
            Name::Ticket(ticket) => {
                let term = link
                    .terms
                    .iter()
                    .find(|(pusher, _)| *pusher == ticket.pusher);
                let Some((_, term)) = term else {
                    let detail = "the pusher has a new identity, which the MoM does not know yet";
                    let reason = Reason::new(codes::PUSHER_NOT_OPEN, detail);
                    return Err(Failure::Elsewhere(reason));
                };
                let origin = protos::Origin {
                    pusher: Bytes::copy_from_slice(ticket.pusher.as_bytes()),
                    number: ticket.number,
                    settled: ticket.settled(),
                    term: *term,
                    after_seq,
                };
                (Some(origin), String::new())
            }
        };
        Ok(protos::Push {
            content: content.clone(),
            topic: topic.to_owned(),
            queue_label: self.options.queue.clone(),
            origin,
            id,
        })
    }

    /// One call to the MoM, given up after a while or when the manager says that the queue is elsewhere now.
    async fn attempt(
        &self,
        route: &Route,
        link: &Link,
        push: protos::Push,
        deadline: Instant,
    ) -> Result<Receipt, Failure> {
        let mut mom = link.next();
        let mut call = pin!(mom.push_to_queue(push));
        let mut generation = route.generation;
        let give_up = deadline.min(Instant::now() + ATTEMPT);
        let mut patience = PATIENCE.0;
        loop {
            let wake = give_up.min(Instant::now() + patience);
            patience = PATIENCE.1;
            if let Ok(answer) = timeout_at(wake, &mut call).await {
                let receipt = receipt(answer?.get_ref())?;
                link.reached.fetch_max(receipt.seq, Ordering::Relaxed);
                return Ok(receipt);
            }
            if wake == give_up {
                let detail = format!("the MoM at {} did not answer in time", link.address);
                return Err(Failure::Unknown(Reason::new("outcome_unknown", detail)));
            }
            let Ok(renewed) = timeout_at(deadline, self.renew(generation, false, None)).await
            else {
                continue;
            };
            generation = renewed.generation;
            if let Ok(now) = &renewed.link
                && now.address != link.address
            {
                let detail = format!(
                    "the MoM at {} did not answer, and the queue has moved",
                    link.address
                );
                return Err(Failure::Unknown(Reason::new("outcome_unknown", detail)));
            }
        }
    }

    /// The generation of the latest route that is the given one: looking up again may have found the same link.
    fn last_with(&self, route: &Route) -> u64 {
        let current = self.current();
        match (&current.link, &route.link) {
            (Ok(now), Ok(then)) if Arc::ptr_eq(now, then) => current.generation,
            _ => route.generation,
        }
    }

    fn current(&self) -> Arc<Route> {
        self.route.borrow().clone()
    }

    /// The route after the generation that disappointed: looked up now, unless another push has done it meanwhile.
    ///
    /// The outcome counts for all, also when it is an error: a thousand failing pushes ask the manager once. It is not
    /// asked where the MoM has said who owns the queue now.
    async fn renew(&self, seen: u64, broken: bool, moved_to: Option<Address>) -> Arc<Route> {
        let _permit = self
            .look_up
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let current = self.current();
        if current.generation != seen {
            return current;
        }
        let (link, address) = self.look_up(&current, broken, moved_to).await;
        let route = Arc::new(Route {
            generation: seen + 1,
            link,
            address,
        });
        if let Err(error) = &route.link {
            tracing::debug!(queue = self.options.queue, %error, "the queue cannot be reached");
        }
        self.route.send_replace(route.clone());
        route
    }

    async fn look_up(
        &self,
        current: &Route,
        broken: bool,
        moved_to: Option<Address>,
    ) -> (Result<Arc<Link>, Error>, Option<Address>) {
        let found = if let Some(address) = moved_to {
            Ok(address)
        } else {
            let client = &self.options.client;
            client.address_of_queue(&self.options.queue).await
        };
        let address = match (found, &current.address) {
            (Ok(address), _) => address,
            // The data path needs no manager: while none answers, the MoM known last is the best guess, and a MoM
            // that has lost the queue refuses.
            (Err(Error::ManagerUnreachable(_)), Some(address)) => address.clone(),
            (Err(error), _) => return (Err(error), current.address.clone()),
        };
        if let Ok(link) = &current.link
            && !broken
            && link.address == address
        {
            return (Ok(link.clone()), Some(address));
        }
        self.connect(address).await
    }

    /// Connects to a MoM and makes the pusher known there. Follows the word of one that is not the owner any more.
    async fn connect(&self, mut address: Address) -> (Result<Arc<Link>, Error>, Option<Address>) {
        let timeout = self.options.client.connect_timeout();
        let mut hops = 0;
        loop {
            let link = Link::connect(&address, self, timeout).await;
            let error = match link {
                Ok(link) => return (Ok(link), Some(address)),
                Err(Failure::Moved(_, owner)) if hops < MOST_HOPS => {
                    hops += 1;
                    address = owner;
                    continue;
                }
                Err(Failure::Final(error)) => error,
                Err(Failure::Full(reason)) => Error::Overloaded(reason),
                Err(
                    Failure::Moved(reason, _)
                    | Failure::Elsewhere(reason)
                    | Failure::Unknown(reason),
                ) => Error::Unavailable(reason),
            };
            return (Err(error), Some(address));
        }
    }
}

impl Link {
    async fn connect(
        address: &Address,
        pusher: &Shared,
        limit: Duration,
    ) -> Result<Arc<Self>, Failure> {
        let options = &pusher.options;
        let mut connections = Vec::with_capacity(options.connections);
        for _ in 0..options.connections {
            connections.push(address.connect(limit).await.map_err(Failure::Elsewhere)?);
        }
        let (mut terms, mut reached) = (Vec::new(), 0);
        for (identity, settled) in pusher.session.identities() {
            let request = protos::OpenPusherRequest {
                queue_label: options.queue.clone(),
                pusher: Bytes::copy_from_slice(identity.as_bytes()),
                settled,
            };
            let Ok(opened) = timeout(limit, connections[0].open_pusher(request)).await else {
                let detail = format!("the MoM at {address} did not answer");
                return Err(Failure::Elsewhere(Reason::new("mom_unreachable", detail)));
            };
            let opened = opened?.into_inner();
            reached = opened.seq;
            terms.push((identity, opened.term));
        }
        Ok(Arc::new(Self {
            address: address.clone(),
            connections,
            terms,
            reached: AtomicI64::new(reached),
            turn: AtomicUsize::new(0),
        }))
    }

    /// A handle of one of the connections, in turn.
    fn next(&self) -> MoM {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.connections[turn % self.connections.len()].clone()
    }
}

impl Failure {
    /// What a failed look-up means for a push, which nothing was sent for.
    fn of_look_up(error: &Error) -> Self {
        match error {
            Error::Unavailable(reason)
            | Error::ManagerUnreachable(reason)
            | Error::Overloaded(reason)
            | Error::OutcomeUnknown(reason) => Self::Elsewhere(reason.clone()),
            other => Self::Final(other.clone()),
        }
    }
}

/// The error of the whole push: one attempt whose outcome is not known makes that of the push unknown, whatever the
/// later ones were told.
fn conclude(last: Error, unknown: Option<Reason>) -> Error {
    match unknown {
        None => last,
        Some(earlier) => Error::OutcomeUnknown(Reason::new(
            earlier.code().to_owned(),
            format!("{}; a later attempt: {}", earlier.detail(), last.detail()),
        )),
    }
}

fn receipt(answer: &protos::PushOkResponse) -> Result<Receipt, Failure> {
    match Uuid::try_parse(&answer.id) {
        Ok(id) => Ok(Receipt {
            id,
            seq: answer.seq,
            duplicate: answer.duplicate,
        }),
        Err(error) => {
            let detail = format!(
                "the message was accepted under {:?}, which is no UUID: {error}",
                answer.id
            );
            Err(Failure::Final(Error::Unexpected(Reason::new(
                "unexpected_answer",
                detail,
            ))))
        }
    }
}
