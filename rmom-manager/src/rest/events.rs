//! What was decided, over REST.

use chrono::{DateTime, Utc};
use rocket::{Route, get, routes};
use serde::Serialize;
use storage::EventRange;
use utoipa::ToSchema;

use super::paging::{Paged, limit, number};
use super::{Answer, Caller, Shared};
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![list]
}

/// Something that was decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// Rises with time, near enough: of what was decided at the same instant the later id may be seen first.
    #[schema(minimum = 1)]
    pub(super) id: i64,
    at: DateTime<Utc>,
    /// What happened.
    kind: String,
    /// What it happened to: the label of a queue, the address of a MoM, the id of a manager.
    subject: String,
    /// The same for people.
    text: String,
}

impl From<storage::Event> for Event {
    fn from(event: storage::Event) -> Self {
        Self {
            id: event.id,
            at: event.at,
            kind: event.kind,
            subject: event.subject,
            text: event.text,
        }
    }
}

/// What was decided, by whom or about what.
///
/// The newest first; with `after` the oldest first, from there on. The newest ten thousand are kept.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listEvents",
    tag = "system",
    params(
        ("after" = Option<i64>, Query, minimum = 0, maximum = 9_007_199_254_740_991_i64,
            description = "Only events of a higher id."),
        ("before" = Option<i64>, Query, minimum = 0, maximum = 9_007_199_254_740_991_i64,
            description = "Only events of a lower id. Not together with `after`, which wins."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "How many at the most; 100 where it is left out.")
    ),
    responses((
        status = 200,
        description = "events",
        body = Vec<Event>,
        headers(("Link" = String, description = "where to go on, if there are more: `rel=\"next\"`"))
    )),
    extensions(("x-codes" = json!(["invalid_argument", "database_unavailable"])))
)]
#[get("/events?<after>&<before>&<limit>")]
pub(super) async fn list(
    _caller: Caller,
    manager: &Shared,
    after: Option<&str>,
    before: Option<&str>,
    limit: Option<&str>,
) -> Answer<Paged<Event>> {
    let limit = self::limit(limit)?;
    let range = match (number("after", after)?, number("before", before)?) {
        (Some(after), _) => EventRange::After(after),
        (None, Some(before)) => EventRange::Before(before),
        (None, None) => EventRange::Newest,
    };
    let database = &manager.database;
    let events = database.answer(database.store().events(range, limit + 1));
    let events: Vec<Event> = events
        .await
        .map_err(Error::from)?
        .into_iter()
        .map(Event::from)
        .collect();
    Ok(Paged::part(events, limit, |last| match range {
        EventRange::After(_) => format!("/events?after={}&limit={limit}", last.id),
        _ => format!("/events?before={}&limit={limit}", last.id),
    }))
}
