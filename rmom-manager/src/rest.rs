//! The REST surface.
//!
//! Every answer that is not a success is `application/problem+json` with a stable `code`, see [`Problem`]. Every
//! handler receives the [`Caller`]: the one place where it could be established who asks.

mod caller;
mod catchers;
mod channels;
mod console;
mod details;
mod docs;
mod events;
mod health;
mod live;
mod messages;
mod metrics;
mod moms;
mod openapi;
mod overview;
mod paging;
mod params;
mod problem;
mod queues;
mod requests;

use std::sync::Arc;

use rocket::{Build, Rocket, Route, State};

use crate::Manager;
use crate::error::Error;
use crate::settings::Settings;

pub use caller::Caller;
pub use problem::Problem;

/// The surface, not yet listening.
pub fn build(settings: &Settings, manager: Arc<Manager>) -> Rocket<Build> {
    rocket::custom(&settings.rocket)
        .manage(manager)
        .manage(live::Seats::default())
        .mount("/", requests::observed(routes()))
        .mount("/", console::routes())
        .attach(console::shield())
        .attach(console::policy())
        .attach(requests::Requests)
        .register("/", catchers::catchers())
}

/// All of it.
fn routes() -> Vec<Route> {
    [
        health::routes(),
        queues::routes(),
        details::routes(),
        messages::routes(),
        channels::routes(),
        moms::routes(),
        overview::routes(),
        events::routes(),
        live::routes(),
        docs::routes(),
        metrics::routes(),
    ]
    .concat()
}

/// What a handler returns.
type Answer<T> = Result<T, Error>;

/// What a handler works with.
type Shared = State<Arc<Manager>>;

#[cfg(test)]
mod tests;
