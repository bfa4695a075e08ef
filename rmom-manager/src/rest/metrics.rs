//! What Prometheus reads.

use rocket::http::ContentType;
use rocket::{Route, get, routes};

use super::{Caller, Shared};

pub(super) fn routes() -> Vec<Route> {
    routes![show]
}

/// Everything that is counted, as Prometheus reads it.
///
/// While the database is away, what is in it is left out.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "showMetrics",
    tag = "system",
    responses((status = 200, description = "the metrics", body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
pub(super) async fn show(_caller: Caller, manager: &Shared) -> (ContentType, String) {
    let version = ("version", "0.0.4");
    let content_type =
        ContentType::new("text", "plain").with_params([version, ("charset", "utf-8")]);
    (content_type, crate::metrics::render(manager).await)
}
