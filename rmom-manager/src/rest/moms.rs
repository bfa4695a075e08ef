//! MoMs over REST, and what operators do about them.

use chrono::{DateTime, Utc};
use rocket::http::Status;
use rocket::serde::json::{self, Json, Value};
use rocket::{Route, delete, get, post, routes};
use serde::Serialize;
use storage::MomAddress;
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
#[derive(Serialize)]
struct Mom {
    id: Uuid,
    host: String,
    port: u16,
    is_up: bool,
    since: DateTime<Utc>,
    draining: bool,
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

/// A request that was accepted and is met in a moment.
#[derive(Serialize)]
struct Accepted {
    id: Uuid,
    kind: &'static str,
    asked_at: DateTime<Utc>,
}

#[post("/moms", data = "<body>")]
async fn add(
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
#[get("/moms")]
async fn list(_caller: Caller, manager: &Shared) -> Answer<Json<Vec<Mom>>> {
    let database = &manager.database;
    let moms = database.answer(database.store().moms()).await?;
    Ok(Json(moms.into_iter().map(Mom::from).collect()))
}

#[get("/moms/<id>")]
async fn show(_caller: Caller, manager: &Shared, id: Result<MomId, Error>) -> Answer<Json<Mom>> {
    Ok(Json(manager.mom(id?.0).await?.into()))
}

#[delete("/moms/<id>")]
async fn remove(_caller: Caller, manager: &Shared, id: Result<MomId, Error>) -> Answer<Status> {
    manager.remove_mom(id?.0).await?;
    Ok(Status::NoContent)
}

#[post("/moms/<id>/drain")]
async fn drain(_caller: Caller, manager: &Shared, id: Result<MomId, Error>) -> Answer<Json<Mom>> {
    Ok(Json(manager.drain(id?.0, true).await?.into()))
}

#[post("/moms/<id>/undrain")]
async fn undrain(_caller: Caller, manager: &Shared, id: Result<MomId, Error>) -> Answer<Json<Mom>> {
    Ok(Json(manager.drain(id?.0, false).await?.into()))
}

#[post("/rebalance")]
async fn rebalance(_caller: Caller, manager: &Shared) -> Answer<(Status, Json<Accepted>)> {
    let request = manager.rebalance().await?;
    let accepted = Accepted {
        id: request.id,
        kind: "rebalance",
        asked_at: request.asked_at,
    };
    Ok((Status::Accepted, Json(accepted)))
}
