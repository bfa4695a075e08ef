//! Queues over REST.

use protos::names;
use rocket::http::{Header, Status};
use rocket::response::Responder;
use rocket::serde::json::Json;
use rocket::{Route, delete, get, post, routes};
use serde::Serialize;
use utoipa::ToSchema;

use super::details::QueueDetails;
use super::paging::{Paged, flag, limit};
use super::params::Label;
use super::{Answer, Caller, Shared};
use crate::allocation::PlacedQueue;
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![create, list, show, remove, topics, topics_singular]
}

/// A queue and where to push to it.
#[derive(Serialize, ToSchema)]
pub(super) struct Queue {
    label: String,
    host: String,
    port: u16,
}

impl From<PlacedQueue> for Queue {
    fn from(queue: PlacedQueue) -> Self {
        Self {
            label: queue.label,
            host: queue.mom.host,
            port: queue.mom.port,
        }
    }
}

/// A queue in a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Listed {
    /// Its label.
    Label(String),
    /// All that is known of it.
    Details(Box<QueueDetails>),
}

impl Listed {
    fn label(&self) -> &str {
        match self {
            Self::Label(label) => label,
            Self::Details(details) => &details.label,
        }
    }
}

/// 201 with the path of what was created.
#[derive(Responder)]
#[response(status = 201)]
pub(super) struct Created<T> {
    body: Json<T>,
    location: Header<'static>,
}

impl<T> Created<T> {
    pub(super) fn new(location: String, body: T) -> Self {
        Self {
            body: Json(body),
            location: Header::new("Location", location),
        }
    }
}

/// Creates a queue, at the MoM that has the fewest.
#[utoipa::path(
    post,
    path = "/queues/{label}",
    operation_id = "createQueue",
    tag = "queues",
    params(Label),
    responses((status = 201, description = "it is created", body = Queue, headers(("Location" = String, description = "its path")))),
    extensions(("x-codes" = json!(["invalid_label", "queue_exists", "no_mom_up", "database_unavailable"])))
)]
#[post("/queues/<label>")]
pub(super) async fn create(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Created<Queue>> {
    let queue = manager.create_queue(&label?.0).await?;
    Ok(Created::new(
        format!("/queues/{}", queue.label),
        queue.into(),
    ))
}

/// The queues, sorted by label.
///
/// Without any parameter the labels of all. With `details` what is known of each, as `QueueDetails`.
#[utoipa::path(
    get,
    path = "/queues",
    operation_id = "listQueues",
    tag = "queues",
    params(
        ("details" = Option<bool>, Query, description = "Tell all that is known of each."),
        ("after" = Option<String>, Query, pattern = "^[a-zA-Z0-9._:-]{1,255}$",
            description = "Only labels after this one."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "How many at the most; 100 where it is left out, but another parameter is there.")
    ),
    responses((
        status = 200,
        description = "labels, or queues",
        body = Vec<Listed>,
        headers(("Link" = String, description = "where to go on, if there are more: `rel=\"next\"`"))
    )),
    extensions(("x-codes" = json!(["invalid_label", "invalid_argument", "database_unavailable"])))
)]
#[get("/queues?<details>&<after>&<limit>")]
pub(super) async fn list(
    _caller: Caller,
    manager: &Shared,
    details: Option<&str>,
    after: Option<&str>,
    limit: Option<&str>,
) -> Answer<Paged<Listed>> {
    let database = &manager.database;
    let store = database.store();
    let is_all = details.or(after).or(limit).is_none();
    let details = flag("details", details)?;
    let after = after.map(names::label).transpose()?;
    let limit = self::limit(limit)?;
    if is_all {
        let labels = database.answer(store.queue_labels()).await?;
        return Ok(Paged::all(labels.into_iter().map(Listed::Label).collect()));
    }
    let queues: Vec<Listed> = if details {
        let depths = store.depths(after.as_deref(), limit + 1);
        let depths = database.answer(depths).await?;
        let look = manager.watching.known();
        let figures = look.as_deref().and_then(|look| look.figures());
        depths
            .iter()
            .map(|depth| Listed::Details(Box::new(QueueDetails::new(depth, figures))))
            .collect()
    } else {
        let labels = store.queue_labels_after(after.as_deref().unwrap_or(""), limit + 1);
        let labels = database.answer(labels).await?;
        labels.into_iter().map(Listed::Label).collect()
    };
    Ok(Paged::part(queues, limit, |last| {
        let label = last.label();
        format!("/queues?details={details}&after={label}&limit={limit}")
    }))
}

/// Where to push to a queue.
#[utoipa::path(
    get,
    path = "/queues/{label}",
    operation_id = "showQueue",
    tag = "queues",
    params(Label),
    responses((status = 200, description = "the queue", body = Queue)),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "no_mom_up", "database_unavailable"])))
)]
#[get("/queues/<label>")]
pub(super) async fn show(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Queue>> {
    Ok(Json(manager.place(&label?.0).await?.into()))
}

/// Deletes a queue with its channels and messages.
#[utoipa::path(
    delete,
    path = "/queues/{label}",
    operation_id = "deleteQueue",
    tag = "queues",
    params(Label),
    responses((status = 204, description = "it is deleted")),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "database_unavailable"])))
)]
#[delete("/queues/<label>")]
pub(super) async fn remove(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Status> {
    manager.delete_queue(&label?.0).await?;
    Ok(Status::NoContent)
}

/// The distinct topics of a queue's channels, sorted.
#[utoipa::path(
    get,
    path = "/queues/{label}/topics",
    operation_id = "listTopics",
    tag = "queues",
    params(Label),
    responses((status = 200, description = "topics", body = Vec<String>)),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "database_unavailable"])))
)]
#[get("/queues/<label>/topics")]
pub(super) async fn topics(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Vec<String>>> {
    Ok(Json(manager.topics(&label?.0).await?))
}

/// As `GET /queues/{label}/topics`: the spelling that clients have always used.
#[utoipa::path(
    get,
    path = "/queue/{label}/topics",
    operation_id = "listTopicsAsEver",
    tag = "queues",
    params(Label),
    responses((status = 200, description = "topics", body = Vec<String>)),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "database_unavailable"])))
)]
#[get("/queue/<label>/topics")]
pub(super) async fn topics_singular(
    caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Vec<String>>> {
    topics(caller, manager, label).await
}
