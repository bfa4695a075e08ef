//! Channels over REST.

use protos::NO_TOPIC;
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{Route, delete, get, put, routes};
use serde::Serialize;
use uuid::Uuid;

use super::params::{ChannelId, Label, Topic};
use super::queues::Created;
use super::{Answer, Caller, Shared};
use crate::allocation::PlacedChannel;
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![create, list, show, remove]
}

/// A channel and where to subscribe to it.
#[derive(Serialize)]
struct Channel {
    id: Uuid,
    host: String,
    port: u16,
    topic: String,
}

impl From<PlacedChannel> for Channel {
    fn from(channel: PlacedChannel) -> Self {
        Self {
            id: channel.id,
            host: channel.mom.host,
            port: channel.mom.port,
            topic: channel.topic.unwrap_or_else(|| NO_TOPIC.to_owned()),
        }
    }
}

#[put("/queues/<label>/channels/<topic>")]
async fn create(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
    topic: Result<Topic, Error>,
) -> Answer<Created<Channel>> {
    let channel = manager
        .create_channel(&label?.0, topic?.0.as_deref())
        .await?;
    Ok(Created::new(
        format!("/channels/{}", channel.id),
        channel.into(),
    ))
}

#[get("/channels")]
async fn list(_caller: Caller, manager: &Shared) -> Answer<Json<Vec<Uuid>>> {
    let database = &manager.database;
    Ok(Json(database.answer(database.store().channel_ids()).await?))
}

#[get("/channels/<id>")]
async fn show(
    _caller: Caller,
    manager: &Shared,
    id: Result<ChannelId, Error>,
) -> Answer<Json<Channel>> {
    Ok(Json(manager.channel(id?.0).await?.into()))
}

#[delete("/channels/<id>")]
async fn remove(_caller: Caller, manager: &Shared, id: Result<ChannelId, Error>) -> Answer<Status> {
    manager.delete_channel(id?.0).await?;
    Ok(Status::NoContent)
}
