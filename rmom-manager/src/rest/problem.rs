//! Errors as `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::io::Cursor;

use protos::codes;
use rocket::http::{Header, Status};
use rocket::response::{Responder, Response, Result};
use rocket::{Request, serde};
use serde::json::serde_json;
use tracing::error;

use crate::error::Error;

/// The type of every answer that is not a success.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// Seconds after which a client may try again what is not possible now.
const RETRY_AFTER: &str = "1";

/// What a client is told when something is refused.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Problem {
    /// `about:blank`: the problem is what the status says, and `code` tells it more exactly.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// For programs: one of [`codes`], the same as in a MoM's `rmom-code`.
    code: &'static str,
    /// For people.
    detail: Cow<'static, str>,
    /// The methods that the path has, for a 405.
    #[serde(skip)]
    allow: Option<String>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: Status, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.reason_lossy(),
            status: status.code,
            code,
            detail: detail.into(),
            allow: None,
        }
    }

    /// Names the methods that the path has.
    #[must_use]
    pub(super) fn allow(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }
}

/// The one place where what went wrong becomes HTTP.
impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let (status, code) = match error {
            Error::InvalidName(name) if name.field() == "topic" => {
                (Status::BadRequest, codes::INVALID_TOPIC)
            }
            Error::InvalidName(_) => (Status::BadRequest, codes::INVALID_LABEL),
            Error::InvalidChannelId(_) => (Status::BadRequest, codes::INVALID_CHANNEL_ID),
            Error::QueueNotFound(_) => (Status::NotFound, codes::QUEUE_NOT_FOUND),
            Error::ChannelNotFound(_) => (Status::NotFound, codes::CHANNEL_NOT_FOUND),
            Error::MomNotFound(_) => (Status::NotFound, codes::MOM_NOT_FOUND),
            Error::MomExists(_) => (Status::Conflict, codes::MOM_EXISTS),
            Error::MomNotEmpty(_) => (Status::Conflict, codes::MOM_NOT_EMPTY),
            Error::InvalidArgument { .. } => (Status::BadRequest, codes::INVALID_ARGUMENT),
            Error::MalformedBody(_) => (Status::BadRequest, codes::MALFORMED_REQUEST),
            Error::BodyTooLarge => (Status::PayloadTooLarge, codes::BODY_TOO_LARGE),
            Error::MessageNotFound(..) => (Status::NotFound, codes::MESSAGE_NOT_FOUND),
            Error::MessageTooLarge(_) => (Status::BadRequest, codes::MESSAGE_TOO_LARGE),
            Error::Overloaded(_) | Error::TooManyListeners(_) => {
                (Status::TooManyRequests, codes::OVERLOADED)
            }
            Error::OutcomeUnknown(..) => (Status::ServiceUnavailable, codes::OUTCOME_UNKNOWN),
            Error::SchemaOutdated => (Status::ServiceUnavailable, codes::SCHEMA_OUTDATED),
            Error::QueueExists(_) => (Status::Conflict, codes::QUEUE_EXISTS),
            Error::NoMomUp | Error::NoOwner(_) => (Status::ServiceUnavailable, codes::NO_MOM_UP),
            Error::Database(cause) if cause.is_outage() => {
                (Status::ServiceUnavailable, codes::DATABASE_UNAVAILABLE)
            }
            Error::NoFigures { is_outage: true } => {
                (Status::ServiceUnavailable, codes::DATABASE_UNAVAILABLE)
            }
            Error::NoFigures { is_outage: false } | Error::Refused | Error::Database(_) => {
                (Status::InternalServerError, codes::INTERNAL)
            }
        };
        Self::new(status, code, error.to_string())
    }
}

/// The status that goes with a code.
pub(super) fn status_of(code: &str) -> u16 {
    match code {
        codes::QUEUE_NOT_FOUND
        | codes::CHANNEL_NOT_FOUND
        | codes::MOM_NOT_FOUND
        | codes::MESSAGE_NOT_FOUND
        | codes::ROUTE_NOT_FOUND => 404,
        codes::CROSS_ORIGIN => 403,
        codes::METHOD_NOT_ALLOWED => 405,
        codes::QUEUE_EXISTS | codes::MOM_EXISTS | codes::MOM_NOT_EMPTY => 409,
        codes::BODY_TOO_LARGE => 413,
        codes::OVERLOADED => 429,
        codes::INTERNAL => 500,
        codes::NO_MOM_UP
        | codes::DATABASE_UNAVAILABLE
        | codes::SCHEMA_OUTDATED
        | codes::OUTCOME_UNKNOWN => 503,
        _ => 400,
    }
}

impl<'r> Responder<'r, 'static> for Error {
    fn respond_to(self, request: &'r Request<'_>) -> Result<'static> {
        if let Self::Database(cause) = &self
            && !cause.is_outage()
        {
            error!("{} {}: {cause}", request.method(), request.uri());
        }
        Problem::from(&self).respond_to(request)
    }
}

impl<'r> Responder<'r, 'static> for Problem {
    fn respond_to(self, _: &'r Request<'_>) -> Result<'static> {
        let body = serde_json::to_string(&self).expect("text and numbers are always JSON");
        let mut response = Response::build();
        response
            .status(Status::new(self.status))
            .raw_header("Content-Type", CONTENT_TYPE)
            .sized_body(body.len(), Cursor::new(body));
        let is_for_now = [
            Status::ServiceUnavailable.code,
            Status::TooManyRequests.code,
        ];
        if is_for_now.contains(&self.status) {
            response.header(Header::new("Retry-After", RETRY_AFTER));
        }
        if let Some(methods) = self.allow {
            response.header(Header::new("Allow", methods));
        }
        response.ok()
    }
}
