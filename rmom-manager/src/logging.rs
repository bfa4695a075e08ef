//! The log: one line for each event on standard error, filtered by `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts it. `RUST_LOG` is `info` where it is not set. Rocket and the notices of the database's server are silent
/// unless it names them: the surface has errors of its own, and what Rocket says about each request is nothing to keep.
pub(crate) fn start() {
    let wish = std::env::var("RUST_LOG").unwrap_or_default();
    let wish = if wish.trim().is_empty() {
        "info"
    } else {
        wish.as_str()
    };
    let parsed = EnvFilter::try_new(wish);
    let fault = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    let wanted: Vec<&'static str> = ["rocket", "sqlx"]
        .into_iter()
        .filter(|library| wish.contains(library))
        .collect();
    let filter = filter.and(filter_fn(move |event| {
        let target = event.target();
        // What Rocket's macros say in our modules has a target that ends like this.
        let is_rocket = target.starts_with("rocket") || target.ends_with("::_");
        // Notices of the server, such as that a table is there already, and what the pool says of single connections: an
        // outage is said once, by us.
        let is_notice =
            target.starts_with("sqlx::postgres::notice") || target.starts_with("sqlx_core::pool");
        (!is_rocket || wanted.contains(&"rocket")) && (!is_notice || wanted.contains(&"sqlx"))
    }));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    if let Some(fault) = fault {
        tracing::warn!(
            "RUST_LOG is {wish:?}, which is not a filter ({fault}); it counts as \"info\""
        );
    }
}
