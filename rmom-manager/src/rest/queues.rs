//! Queues over REST.

use rocket::http::{Header, Status};
use rocket::response::Responder;
use rocket::serde::json::Json;
use rocket::{Route, delete, get, post, routes};
use serde::Serialize;

use super::params::Label;
use super::{Answer, Caller, Shared};
use crate::allocation::PlacedQueue;
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![create, list, show, remove, topics, topics_singular]
}

/// A queue and where to push to it.
#[derive(Serialize)]
struct Queue {
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

#[post("/queues/<label>")]
async fn create(
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

#[get("/queues")]
async fn list(_caller: Caller, manager: &Shared) -> Answer<Json<Vec<String>>> {
    let database = &manager.database;
    Ok(Json(
        database.answer(database.store().queue_labels()).await?,
    ))
}

#[get("/queues/<label>")]
async fn show(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Queue>> {
    Ok(Json(manager.place(&label?.0).await?.into()))
}

#[delete("/queues/<label>")]
async fn remove(_caller: Caller, manager: &Shared, label: Result<Label, Error>) -> Answer<Status> {
    manager.delete_queue(&label?.0).await?;
    Ok(Status::NoContent)
}

#[get("/queues/<label>/topics")]
async fn topics(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Vec<String>>> {
    Ok(Json(manager.topics(&label?.0).await?))
}

/// The spelling that clients have always used.
#[get("/queue/<label>/topics")]
async fn topics_singular(
    caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Vec<String>>> {
    topics(caller, manager, label).await
}
