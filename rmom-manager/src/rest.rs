//! The REST surface.
//!
//! Every answer that is not a success is `application/problem+json` with a stable `code`, see [`Problem`]. Every
//! handler receives the [`Caller`]: the one place where it could be established who asks.

mod caller;
mod catchers;
mod channels;
mod params;
mod problem;
mod queues;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rocket::serde::json::Json;
use rocket::{Build, Rocket, State, get, routes};
use serde::Serialize;
use uuid::Uuid;

use crate::Manager;
use crate::error::Error;
use crate::settings::Settings;

pub use caller::Caller;
pub use problem::Problem;

/// The surface, not yet listening.
pub fn build(settings: &Settings, manager: Arc<Manager>) -> Rocket<Build> {
    rocket::custom(&settings.rocket)
        .manage(manager)
        .mount("/", routes![status, moms])
        .mount("/", queues::routes())
        .mount("/", channels::routes())
        .register("/", catchers::catchers())
}

/// What a handler returns.
type Answer<T> = Result<T, Error>;

/// What a handler works with.
type Shared = State<Arc<Manager>>;

/// Whether the manager listens. It needs no database for this: clients of queues that exist can do without both.
#[get("/status")]
fn status(_caller: Caller) -> &'static str {
    "Ok"
}

#[derive(Serialize)]
struct Mom {
    id: Uuid,
    host: String,
    port: u16,
    is_up: bool,
    since: DateTime<Utc>,
    queues: i64,
}

/// The MoMs, in the order of their registration.
#[get("/moms")]
async fn moms(_caller: Caller, manager: &Shared) -> Answer<Json<Vec<Mom>>> {
    let database = &manager.database;
    let moms = database.answer(database.store().moms()).await?;
    let moms = moms.into_iter().map(|mom| Mom {
        id: mom.id,
        host: mom.address.host,
        port: mom.address.port,
        is_up: mom.is_up,
        since: mom.since,
        queues: mom.queues,
    });
    Ok(Json(moms.collect()))
}

#[cfg(test)]
mod tests;
