//! MoMs over REST, and what operators do about them.

use chrono::{DateTime, Utc};
use rocket::http::Status;
use rocket::serde::json::{self, Json, Value};
use rocket::{Route, delete, get, post, routes};
use serde::Serialize;
use storage::MomAddress;
use utoipa::ToSchema;
use uuid::Uuid;

use super::params::MomId;
use super::queues::Created;
use super::{Answer, Caller, Shared};
use crate::error::Error;
use crate::settings::is_host;

pub(super) fn routes() -> Vec<Route> {
    routes![add, list, show, remove, drain, undrain, rebalance]
}

/// A MoM and how it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Mom {
    id: Uuid,
    host: String,
    port: u16,
    is_up: bool,
    /// When it began to be up, or down.
    since: DateTime<Utc>,
    draining: bool,
    #[schema(minimum = 0)]
    queues: i64,
}

impl From<storage::Mom> for Mom {
    fn from(mom: storage::Mom) -> Self {
        Self {
            id: mom.id,
            host: mom.address.host,
            port: mom.address.port,
            is_up: mom.is_up,
            since: mom.since,
            draining: mom.draining,
            queues: mom.queues,
        }
    }
}

/// The address of a MoM, as the body that registers it has it.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it is only described; the body is read by hand, so that each fault is told"
)]
pub(super) struct MomAddressGiven {
    /// Its external_host.
    #[schema(
        pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$",
        max_length = 253
    )]
    host: String,
    /// Its external_port.
    #[schema(minimum = 1, maximum = 65535)]
    port: u16,
}

/// A request that was accepted and is met in a moment.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    id: Uuid,
    kind: &'static str,
    asked_at: DateTime<Utc>,
}

/// Registers a MoM, by its external address.
#[utoipa::path(
    post,
    path = "/moms",
    operation_id = "addMom",
    tag = "moms",
    request_body(content = MomAddressGiven),
    responses((status = 201, description = "it is registered", body = Mom, headers(("Location" = String, description = "its path")))),
    extensions(("x-codes" = json!(["malformed_request", "invalid_argument", "mom_exists", "database_unavailable"])))
)]
#[post("/moms", data = "<body>")]
pub(super) async fn add(
    _caller: Caller,
    manager: &Shared,
    body: Result<Json<Value>, json::Error<'_>>,
) -> Answer<Created<Mom>> {
    let mom = manager.add_mom(address(body)?).await?;
    Ok(Created::new(format!("/moms/{}", mom.id), mom.into()))
}

/// `{"host", "port"}`; what else is there means nothing.
fn address(body: Result<Json<Value>, json::Error<'_>>) -> Result<MomAddress, Error> {
    let body = match body {
        Ok(body) => body.into_inner(),
        Err(json::Error::Parse(_, error)) => return Err(Error::MalformedBody(error.to_string())),
        Err(json::Error::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::BodyTooLarge);
        }
        Err(json::Error::Io(error)) => return Err(Error::MalformedBody(error.to_string())),
    };
    let host = body.get("host").and_then(Value::as_str);
    let port = body.get("port").and_then(Value::as_u64);
    Ok(MomAddress {
        host: host
            .filter(|host| is_host(host))
            .ok_or(Error::InvalidArgument {
                field: "\"host\"",
                legal: "the host name or address that the MoM has as its external_host",
            })?
            .to_owned(),
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .ok_or(Error::InvalidArgument {
                field: "\"port\"",
                legal: "the MoM's external_port, a number from 1 to 65535",
            })?,
    })
}

/// The MoMs, in the order of their registration.
#[utoipa::path(
    get,
    path = "/moms",
    operation_id = "listMoms",
    tag = "moms",
    responses((status = 200, description = "MoMs", body = Vec<Mom>)),
    extensions(("x-codes" = json!(["database_unavailable"])))
)]
#[get("/moms")]
pub(super) async fn list(_caller: Caller, manager: &Shared) -> Answer<Json<Vec<Mom>>> {
    let database = &manager.database;
    let moms = database.answer(database.store().moms()).await?;
    Ok(Json(moms.into_iter().map(Mom::from).collect()))
}

/// A MoM.
#[utoipa::path(
    get,
    path = "/moms/{id}",
    operation_id = "showMom",
    tag = "moms",
    params(MomId),
    responses((status = 200, description = "the MoM", body = Mom)),
    extensions(("x-codes" = json!(["invalid_argument", "mom_not_found", "database_unavailable"])))
)]
#[get("/moms/<id>")]
pub(super) async fn show(
    _caller: Caller,
    manager: &Shared,
    id: Result<MomId, Error>,
) -> Answer<Json<Mom>> {
    Ok(Json(manager.mom(id?.0).await?.into()))
}

/// Forgets a MoM that owns no queues.
#[utoipa::path(
    delete,
    path = "/moms/{id}",
    operation_id = "removeMom",
    tag = "moms",
    params(MomId),
    responses((status = 204, description = "it is forgotten")),
    extensions(("x-codes" = json!(["invalid_argument", "mom_not_found", "mom_not_empty", "database_unavailable"])))
)]
#[delete("/moms/<id>")]
pub(super) async fn remove(
    _caller: Caller,
    manager: &Shared,
    id: Result<MomId, Error>,
) -> Answer<Status> {
    manager.remove_mom(id?.0).await?;
    Ok(Status::NoContent)
}

/// Moves the queues of a MoM to others, and gives it none.
#[utoipa::path(
    post,
    path = "/moms/{id}/drain",
    operation_id = "drainMom",
    tag = "moms",
    params(MomId),
    responses((status = 200, description = "the MoM; its queues move from now on", body = Mom)),
    extensions(("x-codes" = json!(["invalid_argument", "mom_not_found", "database_unavailable"])))
)]
#[post("/moms/<id>/drain")]
pub(super) async fn drain(
    _caller: Caller,
    manager: &Shared,
    id: Result<MomId, Error>,
) -> Answer<Json<Mom>> {
    Ok(Json(manager.drain(id?.0, true).await?.into()))
}

/// Gives a MoM queues again.
#[utoipa::path(
    post,
    path = "/moms/{id}/undrain",
    operation_id = "undrainMom",
    tag = "moms",
    params(MomId),
    responses((status = 200, description = "the MoM", body = Mom)),
    extensions(("x-codes" = json!(["invalid_argument", "mom_not_found", "database_unavailable"])))
)]
#[post("/moms/<id>/undrain")]
pub(super) async fn undrain(
    _caller: Caller,
    manager: &Shared,
    id: Result<MomId, Error>,
) -> Answer<Json<Mom>> {
    Ok(Json(manager.drain(id?.0, false).await?.into()))
}

/// Evens out the number of queues over the MoMs that are up and not draining.
#[utoipa::path(
    post,
    path = "/rebalance",
    operation_id = "rebalance",
    tag = "moms",
    responses((status = 202, description = "it is accepted, and done by the manager that leads", body = Accepted)),
    extensions(("x-codes" = json!(["database_unavailable"])))
)]
#[post("/rebalance")]
pub(super) async fn rebalance(
    _caller: Caller,
    manager: &Shared,
) -> Answer<(Status, Json<Accepted>)> {
    let request = manager.rebalance().await?;
    let accepted = Accepted {
        id: request.id,
        kind: "rebalance",
        asked_at: request.asked_at,
    };
    Ok((Status::Accepted, Json(accepted)))
}
