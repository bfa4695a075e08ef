//! Channels over REST.

use protos::NO_TOPIC;
use rocket::http::Status;
use rocket::request::FromParam;
use rocket::serde::json::Json;
use rocket::{Route, delete, get, put, routes};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::paging::{Paged, limit};
use super::params::{ChannelId, Label, Topic};
use super::queues::Created;
use super::{Answer, Caller, Shared};
use crate::allocation::PlacedChannel;
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![create, list, show, remove]
}

/// A channel and where to subscribe to it.
#[derive(Serialize, ToSchema)]
pub(super) struct Channel {
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

/// Creates a channel on a queue: a new one at each call.
#[utoipa::path(
    put,
    path = "/queues/{label}/channels/{topic}",
    operation_id = "createChannel",
    tag = "channels",
    params(Label, Topic),
    responses((status = 201, description = "it is created", body = Channel, headers(("Location" = String, description = "its path")))),
    extensions(("x-codes" = json!(["invalid_label", "invalid_topic", "queue_not_found", "no_mom_up", "database_unavailable"])))
)]
#[put("/queues/<label>/channels/<topic>")]
pub(super) async fn create(
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

/// The ids of the channels, sorted.
///
/// Without any parameter all of them.
#[utoipa::path(
    get,
    path = "/channels",
    operation_id = "listChannels",
    tag = "channels",
    params(
        ("after" = Option<Uuid>, Query, description = "Only ids after this one."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "How many at the most; 100 where it is left out, but `after` is there.")
    ),
    responses((
        status = 200,
        description = "ids",
        body = Vec<Uuid>,
        headers(("Link" = String, description = "where to go on, if there are more: `rel=\"next\"`"))
    )),
    extensions(("x-codes" = json!(["invalid_channel_id", "invalid_argument", "database_unavailable"])))
)]
#[get("/channels?<after>&<limit>")]
pub(super) async fn list(
    _caller: Caller,
    manager: &Shared,
    after: Option<&str>,
    limit: Option<&str>,
) -> Answer<Paged<Uuid>> {
    let database = &manager.database;
    let store = database.store();
    let is_all = after.or(limit).is_none();
    let after = after.map(ChannelId::from_param).transpose()?;
    let limit = self::limit(limit)?;
    if is_all {
        return Ok(Paged::all(database.answer(store.channel_ids()).await?));
    }
    let after = after.map_or(Uuid::nil(), |after| after.0);
    let ids = database
        .answer(store.channel_ids_after(after, limit + 1))
        .await?;
    Ok(Paged::part(ids, limit, |last| {
        format!("/channels?after={last}&limit={limit}")
    }))
}

/// Where to subscribe to a channel.
#[utoipa::path(
    get,
    path = "/channels/{id}",
    operation_id = "showChannel",
    tag = "channels",
    params(ChannelId),
    responses((status = 200, description = "the channel", body = Channel)),
    extensions(("x-codes" = json!(["invalid_channel_id", "channel_not_found", "no_mom_up", "database_unavailable"])))
)]
#[get("/channels/<id>")]
pub(super) async fn show(
    _caller: Caller,
    manager: &Shared,
    id: Result<ChannelId, Error>,
) -> Answer<Json<Channel>> {
    Ok(Json(manager.channel(id?.0).await?.into()))
}

/// Deletes a channel; its subscriptions end.
#[utoipa::path(
    delete,
    path = "/channels/{id}",
    operation_id = "deleteChannel",
    tag = "channels",
    params(ChannelId),
    responses((status = 204, description = "it is deleted")),
    extensions(("x-codes" = json!(["invalid_channel_id", "channel_not_found", "database_unavailable"])))
)]
#[delete("/channels/<id>")]
pub(super) async fn remove(
    _caller: Caller,
    manager: &Shared,
    id: Result<ChannelId, Error>,
) -> Answer<Status> {
    manager.delete_channel(id?.0).await?;
    Ok(Status::NoContent)
}
