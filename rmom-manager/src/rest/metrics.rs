//! What Prometheus reads.

use rocket::http::ContentType;
use rocket::{Route, get, routes};

use super::{Caller, Shared};

pub(super) fn routes() -> Vec<Route> {
    routes![metrics]
}

/// Everything that is counted, as text. While the database is away, what is in it is left out.
#[get("/metrics")]
async fn metrics(_caller: Caller, manager: &Shared) -> (ContentType, String) {
    let version = ("version", "0.0.4");
    let content_type =
        ContentType::new("text", "plain").with_params([version, ("charset", "utf-8")]);
    (content_type, crate::metrics::render(manager).await)
}
