//! What the system does, told as it happens: server-sent events.

use std::collections::HashSet;
use std::sync::Arc;

use rocket::request::{FromRequest, Outcome};
use rocket::response::stream::{Event as Sent, EventStream};
use rocket::{Request, Route, Shutdown, get, routes};
use storage::EventRange;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::details::{QueueDetails, QueueInFull};
use super::events::Event;
use super::overview::Overview;
use super::{Answer, Caller, Problem, Shared};
use crate::Manager;
use crate::error::Error;
use crate::figures::{Listener, Look};

/// Listeners at once.
const MAX_LISTENERS: usize = 64;
/// Queues that a listener is told of.
const QUEUES: usize = 200;
/// Events that one is told of that has been away.
const MISSED: i64 = 1000;

pub(super) fn routes() -> Vec<Route> {
    routes![listen]
}

/// Who may still listen.
#[derive(Debug)]
pub(super) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LISTENERS)))
    }
}

impl Seats {
    fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        let seat = Arc::clone(&self.0).try_acquire_owned();
        seat.map_err(|_| Error::TooManyListeners(MAX_LISTENERS))
    }
}

/// The id of the last event that the listener has had before its connection broke, as browsers send it.
pub(super) struct LastEvent(Option<i64>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for LastEvent {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let id = request.headers().get_one("Last-Event-ID");
        Outcome::Success(Self(id.and_then(|id| id.parse().ok())))
    }
}

/// What the system does, as it happens.
///
/// Server-sent events, once a second each: `overview` as `GET /overview`; `queues`, a list as `GET /queues?details=true`
/// of at most 200 queues, the busiest first; `queue`, if one is named, as `GET /queues/{label}/details`. And `event`, an
/// object as in `GET /events`, whenever something is decided. Where nothing can be found out, `problem` says why. It ends
/// when the manager stops, or the listener is too slow: connect again.
#[utoipa::path(
    get,
    path = "/live",
    operation_id = "listen",
    tag = "system",
    params((
        "queue" = Option<String>, Query, pattern = "^[a-zA-Z0-9._:-]{1,255}$",
        description = "The label of a queue to be told of in full."
    )),
    responses((status = 200, description = "events, without an end", body = String, content_type = "text/event-stream")),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "overloaded", "database_unavailable"])))
)]
#[get("/live?<queue>")]
pub(super) async fn listen(
    _caller: Caller,
    manager: &Shared,
    seats: &rocket::State<Seats>,
    queue: Option<&str>,
    last: LastEvent,
    shutdown: Shutdown,
) -> Answer<EventStream![]> {
    let queue = queue.map(protos::names::label).transpose()?;
    let seat = seats.take()?;
    let manager = Arc::clone(manager);
    if let Some(label) = &queue {
        manager.queue(label).await?;
    }
    let mut listener = manager.watching.listen();
    let (mut last, mut shutdown) = (last, shutdown);
    Ok(EventStream! {
        let _seat = seat;
        let mut had = HashSet::new();
        loop {
            let next = tokio::select! {
                () = &mut shutdown => break,
                next = next(&mut listener) => next,
            };
            match next {
                Some(Next::Look(look)) => {
                    // Not before: from the first look on all events come by themselves.
                    for event in missed(&manager, &mut last).await {
                        had.insert(event.id);
                        yield told(&event);
                    }
                    for sent in look_told(&manager, &look) {
                        yield sent;
                    }
                    if let Some(label) = &queue
                        && let Ok(queue) = QueueInFull::find(&manager, label).await
                    {
                        yield Sent::json(&queue).event("queue");
                    }
                }
                Some(Next::Event(event)) => if !had.contains(&event.id) {
                    yield told(&event);
                }
                None => break,
            }
        }
    })
}

enum Next {
    Look(Arc<Look>),
    Event(Event),
}

/// `None` if the listener has been too slow, so that events are missing.
async fn next(listener: &mut Listener) -> Option<Next> {
    loop {
        tokio::select! {
            changed = listener.looks.changed() => {
                changed.ok()?;
                if let Some(look) = listener.looks.borrow_and_update().clone() {
                    return Some(Next::Look(look));
                }
            }
            event = listener.events.recv() => match event {
                Ok(event) => return Some(Next::Event(Event::from((*event).clone()))),
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            }
        }
    }
}

/// What was decided since the listener was here, once.
async fn missed(manager: &Manager, last: &mut LastEvent) -> Vec<Event> {
    let Some(id) = last.0 else {
        return Vec::new();
    };
    let database = &manager.database;
    let events = database.store().events(EventRange::After(id), MISSED);
    let Ok(events) = database.answer(events).await else {
        return Vec::new();
    };
    last.0 = None;
    events.into_iter().map(Event::from).collect()
}

fn told(event: &Event) -> Sent {
    let id = event.id.to_string();
    Sent::json(event).event("event").id(id)
}

fn look_told(manager: &Manager, look: &Look) -> Vec<Sent> {
    match &look.found {
        Ok(figures) => vec![
            Sent::json(&Overview::new(manager, figures)).event("overview"),
            Sent::json(&QueueDetails::busiest(figures, QUEUES)).event("queues"),
        ],
        Err(failed) => {
            let problem = Problem::from(&Error::from(*failed));
            vec![Sent::json(&problem).event("problem")]
        }
    }
}
