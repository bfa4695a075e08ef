//! The messages of a queue over REST: to look at them without consuming any, to push one, to delete all.

use std::collections::BTreeMap;
use std::convert::Infallible;

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, SecondsFormat, Utc};
use protos::{NO_TOPIC, headers, names};
use rocket::data::{Data, ToByteUnit};
use rocket::http::{ContentType, Header, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Responder, Route, delete, get, post, routes};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::paging::{MAX_NUMBER, in_range, number};
use super::params::{Label, Seq};
use super::{Answer, Caller, Shared};
use crate::error::Error;
use crate::messages::Retained;

/// How many messages a look shows where a client does not say, and at the most.
const LIMIT: (i64, i64) = (20, 100);

pub(super) fn routes() -> Vec<Route> {
    routes![peek, show, push, purge]
}

/// Some of the messages that a queue retains.
#[derive(Serialize, ToSchema)]
pub(super) struct Peek {
    /// In the order of their sequences.
    messages: Vec<Message>,
    /// Go on with `after` being this; null where there was nothing more.
    next_after: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct Message {
    /// Its place in the queue.
    #[schema(minimum = 1)]
    seq: i64,
    id: Uuid,
    /// `__none__` where it has none.
    topic: String,
    /// When it was committed.
    at: DateTime<Utc>,
    /// Bytes of its content.
    size: usize,
    /// In base64.
    #[schema(content_encoding = "base64")]
    content: String,
    /// What it carries beside its content, such as a `traceparent`.
    headers: BTreeMap<String, String>,
}

impl From<Retained> for Message {
    fn from(message: Retained) -> Self {
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            headers: headers.collect(),
            seq: message.seq,
            id: message.id,
            topic: message.topic.unwrap_or_else(|| NO_TOPIC.to_owned()),
            at: message.at,
            size: message.content.len(),
            content: BASE64_STANDARD.encode(message.content),
        }
    }
}

/// A message as it was pushed.
#[derive(Responder)]
pub(super) struct Content {
    body: Vec<u8>,
    kind: ContentType,
    disposition: Header<'static>,
    id: Header<'static>,
    topic: Header<'static>,
    at: Header<'static>,
}

/// The headers of a request that say of which trace it is part, for the message that it pushes.
pub(super) struct TraceContext(Vec<protos::Header>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for TraceContext {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Infallible> {
        let mut adopted = Vec::new();
        for name in headers::TRACE_CONTEXT {
            if let Some(value) = request.headers().get_one(name) {
                headers::adopt(&mut adopted, name, value);
            }
        }
        Outcome::Success(Self(adopted))
    }
}

/// Where a message was committed.
#[derive(Serialize, ToSchema)]
pub(super) struct Pushed {
    id: Uuid,
    /// Its place in the queue.
    #[schema(minimum = 1)]
    seq: i64,
}

/// How much was deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    #[schema(minimum = 0)]
    messages: i64,
}

/// The topic in a query, in lower case; `None` where it is left out.
fn topic(given: Option<&str>) -> Result<Option<String>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    let topic = names::topic(given)?;
    Ok(Some(topic.unwrap_or_else(|| NO_TOPIC.to_owned())))
}

/// Messages that a queue retains, without consuming any.
///
/// At most 4 MiB of contents at once. With a topic that is rare, an answer may have few messages, or none, although there
/// are more: go on as long as `next_after` is not null.
#[utoipa::path(
    get,
    path = "/queues/{label}/messages",
    operation_id = "peekMessages",
    tag = "messages",
    params(
        Label,
        ("after" = Option<i64>, Query, minimum = 0, maximum = 9_007_199_254_740_991_i64,
            description = "The sequence after which to begin; the oldest message where it is left out."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100,
            description = "How many messages at the most; 20 where it is left out."),
        ("topic" = Option<String>, Query, pattern = "^[a-zA-Z0-9._:-]{1,255}$",
            description = "Only messages of this topic; `__none__`: those without one.")
    ),
    responses((status = 200, description = "messages", body = Peek)),
    extensions(("x-codes" = json!([
        "invalid_label", "invalid_topic", "invalid_argument", "queue_not_found", "database_unavailable"
    ])))
)]
#[get("/queues/<label>/messages?<after>&<limit>&<topic>")]
pub(super) async fn peek(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
    after: Option<&str>,
    limit: Option<&str>,
    topic: Option<&str>,
) -> Answer<Json<Peek>> {
    let label = label?.0;
    let after = number("after", after)?.unwrap_or(0);
    let limit = limit.map_or(Ok(LIMIT.0), str::parse);
    let limit = in_range(limit, 1..=LIMIT.1, "limit", "a number from 1 to 100")?;
    let topic = self::topic(topic)?;
    let found = manager
        .peek(&label, after, limit as usize, topic.as_deref())
        .await?;
    Ok(Json(Peek {
        messages: found.messages.into_iter().map(Message::from).collect(),
        next_after: found.next_after,
    }))
}

/// The content of one message, as it was pushed.
#[utoipa::path(
    get,
    path = "/queues/{label}/messages/{seq}",
    operation_id = "showMessage",
    tag = "messages",
    params(Label, Seq),
    responses((
        status = 200,
        description = "the content",
        content_type = "application/octet-stream",
        headers(
            ("Content-Disposition" = String),
            ("Rmom-Message-Id" = Uuid),
            ("Rmom-Topic" = String, description = "`__none__` where it has none"),
            ("Rmom-Committed-At" = String)
        )
    )),
    extensions(("x-codes" = json!([
        "invalid_label", "invalid_argument", "queue_not_found", "message_not_found", "database_unavailable"
    ])))
)]
#[get("/queues/<label>/messages/<seq>")]
pub(super) async fn show(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
    seq: Result<Seq, Error>,
) -> Answer<Content> {
    let (label, seq) = (label?.0, seq?.0);
    let message = manager.message(&label, seq).await?;
    let topic = message.topic.unwrap_or_else(|| NO_TOPIC.to_owned());
    let at = message.at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    // A label has no character that would have to be quoted, but for a colon, which some systems do not like in a name.
    let name = label.replace(':', "_");
    let disposition = format!("attachment; filename=\"{name}-{seq}.bin\"");
    Ok(Content {
        body: message.content,
        kind: ContentType::Binary,
        disposition: Header::new("Content-Disposition", disposition),
        id: Header::new("Rmom-Message-Id", message.id.to_string()),
        topic: Header::new("Rmom-Topic", topic),
        at: Header::new("Rmom-Committed-At", at),
    })
}

/// Pushes one message: the body is its content.
///
/// For trying things out: what pushes much uses a client library, which speaks to the MoM itself. The request's
/// `traceparent` and `tracestate` become headers of the message.
#[utoipa::path(
    post,
    path = "/queues/{label}/messages",
    operation_id = "pushMessage",
    tag = "messages",
    params(
        Label,
        ("topic" = Option<String>, Query, pattern = "^[a-zA-Z0-9._:-]{1,255}$",
            description = "The topic of the message; none where it is left out."),
        ("traceparent" = Option<String>, Header, description = "A header of the message, if there is one."),
        ("tracestate" = Option<String>, Header, description = "A header of the message, if there is one.")
    ),
    request_body(
        content = Vec<u8>, content_type = "application/octet-stream",
        description = "The content, at most 1 MiB, of whatever type."
    ),
    responses((status = 201, description = "it is committed", body = Pushed)),
    extensions(("x-codes" = json!([
        "invalid_label", "invalid_topic", "message_too_large", "queue_not_found", "overloaded", "no_mom_up",
        "outcome_unknown", "database_unavailable"
    ])))
)]
#[post("/queues/<label>/messages?<topic>", data = "<content>")]
pub(super) async fn push(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
    topic: Option<&str>,
    trace: TraceContext,
    content: Data<'_>,
) -> Answer<(Status, Json<Pushed>)> {
    let label = label?.0;
    let topic = self::topic(topic)?;
    let content = content.open(1.mebibytes()).into_bytes().await;
    let content = content.map_err(|error| Error::MalformedBody(error.to_string()))?;
    if !content.is_complete() {
        return Err(Error::BodyTooLarge);
    }
    let pushed = manager
        .push(&label, topic.as_deref(), trace.0, content.into_inner())
        .await?;
    let pushed = Pushed {
        id: pushed.id,
        seq: pushed.seq,
    };
    Ok((Status::Created, Json(pushed)))
}

/// Deletes what the queue retains.
///
/// What is committed meanwhile stays, and sequences go on. A subscription that is in the midst of reading may have been
/// handed some of it.
#[utoipa::path(
    delete,
    path = "/queues/{label}/messages",
    operation_id = "purgeQueue",
    tag = "messages",
    params(Label),
    responses((status = 200, description = "they are deleted", body = Purged)),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "database_unavailable"])))
)]
#[delete("/queues/<label>/messages")]
pub(super) async fn purge(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<Purged>> {
    let messages = manager.purge(&label?.0).await?;
    Ok(Json(Purged { messages }))
}

// A sequence is a number of JSON.
const _: () = assert!(MAX_NUMBER == 9_007_199_254_740_991);
