//! The REST surface.
//!
//! Every answer that is not a success is `application/problem+json` with a stable `code`, see [`Problem`]. Every
//! handler receives the [`Caller`]: the one place where it could be established who asks.

mod caller;
mod catchers;
mod channels;
mod metrics;
mod moms;
mod params;
mod problem;
mod queues;
mod requests;

use std::sync::Arc;

use rocket::{Build, Rocket, Route, State, get, routes};

use crate::Manager;
use crate::error::Error;
use crate::settings::Settings;

pub use caller::Caller;
pub use problem::Problem;

/// The surface, not yet listening.
pub fn build(settings: &Settings, manager: Arc<Manager>) -> Rocket<Build> {
    rocket::custom(&settings.rocket)
        .manage(manager)
        .mount("/", requests::observed(routes()))
        .attach(requests::Requests)
        .register("/", catchers::catchers())
}

/// All of it.
fn routes() -> Vec<Route> {
    [
        routes![status],
        queues::routes(),
        channels::routes(),
        moms::routes(),
        metrics::routes(),
    ]
    .concat()
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

#[cfg(test)]
mod tests;
