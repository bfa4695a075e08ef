//! Each request by itself: its id, which the answer carries and each line of the log that is written for it, and how it
//! ended, which is counted.

use std::sync::Arc;
use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Header;
use rocket::route::{Handler, Outcome};
use rocket::{Data, Request, Response, Route};
use telemetry::traces;
use tracing::{Instrument, debug, info_span};
use uuid::Uuid;

use crate::Manager;

/// The header that carries the id, in a request that brings one and in each answer.
const HEADER: &str = "X-Request-Id";

/// The longest id that a request may bring.
const MAX_ID: usize = 64;

/// What is known of a request from its beginning.
struct Begun {
    id: String,
    at: Instant,
}

impl Begun {
    fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| {
            let brought = request.headers().get_one(HEADER);
            let brought = brought.filter(|id| is_legal(id)).map(str::to_owned);
            Self {
                id: brought.unwrap_or_else(|| Uuid::now_v7().to_string()),
                at: Instant::now(),
            }
        })
    }
}

/// What could be mistaken for something else in a log is not taken over.
fn is_legal(id: &str) -> bool {
    let is_legal = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_legal)
}

/// Gives each request its id, and counts each answer.
pub(super) struct Requests;

#[rocket::async_trait]
impl Fairing for Requests {
    fn info(&self) -> Info {
        Info {
            name: "requests",
            kind: Kind::Request | Kind::Response,
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        Begun::of(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let begun = Begun::of(request);
        response.set_header(Header::new(HEADER, begun.id.clone()));
        let route = request.route().map(|route| route.uri.path());
        let (method, status) = (request.method().as_str(), response.status().code);
        let took = begun.at.elapsed();
        debug!(
            request_id = begun.id,
            method,
            path = request.uri().path().as_str(),
            status,
            millis = took.as_millis() as u64,
            "answered"
        );
        if let Some(manager) = request.rocket().state::<Arc<Manager>>() {
            manager
                .metrics
                .answered(method, route.unwrap_or("(none)"), status, took);
        }
    }
}

/// The same routes, with what they log told apart by request.
pub(super) fn observed(routes: Vec<Route>) -> Vec<Route> {
    let observe = |mut route: Route| {
        route.handler = Box::new(Observed(route.handler));
        route
    };
    routes.into_iter().map(observe).collect()
}

#[derive(Clone)]
struct Observed(Box<dyn Handler>);

#[rocket::async_trait]
impl Handler for Observed {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let span = info_span!(
            "request",
            request_id = Begun::of(request).id,
            method = request.method().as_str(),
            path = request.uri().path().as_str()
        );
        if let Some(traceparent) = request.headers().get_one("traceparent") {
            traces::continue_from(&span, traceparent);
        }
        self.0.handle(request, data).instrument(span).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_forge_a_line_is_not_taken_over() {
        assert!(is_legal("0b6.A-_"));
        for id in ["", "a b", "a\nb", "\u{e9}", &"x".repeat(65)] {
            assert!(!is_legal(id), "{id:?}");
        }
    }
}
