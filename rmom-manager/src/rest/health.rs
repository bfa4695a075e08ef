//! Whether the manager serves, for those who start and stop it.

use rocket::{Route, get, routes};

use super::{Answer, Caller, Shared};
use crate::error::Error;

pub(super) fn routes() -> Vec<Route> {
    routes![status, livez, readyz]
}

/// Whether the manager listens.
///
/// It needs no database for this: clients of queues that exist can do without both.
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "showStatus",
    tag = "system",
    responses((status = 200, description = "it does", body = String, content_type = "text/plain"))
)]
#[get("/status")]
pub(super) fn status(_caller: Caller) -> &'static str {
    "Ok"
}

/// Whether the manager listens, as `GET /status` tells.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "isLive",
    tag = "system",
    responses((status = 200, description = "it does", body = String, content_type = "text/plain"))
)]
#[get("/livez")]
pub(super) fn livez(_caller: Caller) -> &'static str {
    "Ok"
}

/// Whether the manager can do its work: the database answers, and its schema is up to date.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "system",
    responses((status = 200, description = "it can", body = String, content_type = "text/plain")),
    extensions(("x-codes" = json!(["schema_outdated", "database_unavailable"])))
)]
#[get("/readyz")]
pub(super) async fn readyz(_caller: Caller, manager: &Shared) -> Answer<&'static str> {
    let database = &manager.database;
    if database
        .answer(database.store().schema_is_current())
        .await?
    {
        Ok("Ok")
    } else {
        Err(Error::SchemaOutdated)
    }
}
