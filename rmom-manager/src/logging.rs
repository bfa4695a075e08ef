//! The log: one line for each event on standard error, filtered by `RUST_LOG`, in the form that `RMOM_LOG_FORMAT` names.

use telemetry::logs::{self, Format};
use telemetry::traces::Traces;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts it. `RUST_LOG` is `info` where it is not set. Rocket and the notices of the database's server are silent
/// unless it names them: the surface has errors of its own, and what Rocket says about each request is nothing to keep.
///
/// Traces are sent until what is returned is dropped.
#[must_use]
pub(crate) fn start() -> Option<Traces> {
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
    let not_noise = filter_fn(move |event| {
        let target = event.target();
        // What Rocket's macros say in our modules has a target that ends like this.
        let is_rocket = target.starts_with("rocket") || target.ends_with("::_");
        // Notices of the server, such as that a table is there already, and what the pool says of single connections: an
        // outage is said once, by us.
        let is_notice =
            target.starts_with("sqlx::postgres::notice") || target.starts_with("sqlx_core::pool");
        (!is_rocket || wanted.contains(&"rocket")) && (!is_notice || wanted.contains(&"sqlx"))
    });
    let form = std::env::var(logs::VARIABLE).unwrap_or_default();
    let form = match form.trim() {
        "" => Ok(Format::default()),
        form => form.parse::<Format>(),
    };
    let traces = Traces::from_env("rmom-manager");
    let sent = traces.as_ref().ok().and_then(Option::as_ref);
    // Filters of the whole registry, not of one layer: a layer's own filter remembers the last question that the `log`
    // crate asked on the same thread, which sqlx does with each statement, and loses the next event by its answer
    // (tokio-rs/tracing issue 2519).
    tracing_subscriber::registry()
        .with(filter)
        .with(not_noise)
        .with(sent.map(Traces::layer))
        .with(form.clone().unwrap_or_default().lines())
        .init();
    if let Err(fault) = form {
        tracing::warn!("{}: {fault}; it counts as \"text\"", logs::VARIABLE);
    }
    if let Some(fault) = fault {
        tracing::warn!(
            "RUST_LOG is {wish:?}, which is not a filter ({fault}); it counts as \"info\""
        );
    }
    if let Err(fault) = &traces {
        tracing::warn!("{fault}");
    }
    traces.ok().flatten()
}
