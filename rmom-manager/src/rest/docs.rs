//! The description of the surface, and a page to try it.

use rocket::http::{ContentType, Header};
use rocket::{Responder, Route, get, routes};

use super::Caller;
use super::openapi::DESCRIPTION;

/// Everything that the page needs is in it.
const PAGE: &str = include_str!("docs.html");

/// The page may ask this manager, and nobody else anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) fn routes() -> Vec<Route> {
    routes![description, page]
}

/// A page, and what it may do.
#[derive(Responder)]
pub(super) struct Page {
    body: &'static str,
    content_type: ContentType,
    policy: Header<'static>,
}

/// This description, as OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "describe",
    tag = "system",
    responses((status = 200, description = "the description", content_type = "application/json"))
)]
#[get("/openapi.json")]
pub(super) fn description(_caller: Caller) -> (ContentType, &'static str) {
    (ContentType::JSON, &DESCRIPTION)
}

/// A page to read this description and to try what it describes.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "showDocs",
    tag = "system",
    responses((status = 200, description = "the page", body = String, content_type = "text/html"))
)]
#[get("/docs")]
pub(super) fn page(_caller: Caller) -> Page {
    Page {
        body: PAGE,
        content_type: ContentType::HTML,
        policy: Header::new("Content-Security-Policy", POLICY),
    }
}
