//! The whole system at one look, over REST.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rocket::serde::json::Json;
use rocket::{Route, State, get, routes};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Answer, Caller, Shared};
use crate::Manager;
use crate::error::Error;
use crate::figures::{self, Figures, MomFigures};

pub(super) fn routes() -> Vec<Route> {
    routes![show]
}

/// The system at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    at: DateTime<Utc>,
    /// That of this manager.
    version: &'static str,
    manager: ManagerState,
    totals: Totals,
    rates: Rates,
    /// In the order of their registration.
    moms: Vec<MomState>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ManagerState {
    /// Whether this manager decides, or another one does.
    leads: bool,
    /// The term of the managers' lease.
    #[schema(minimum = 0)]
    lease_epoch: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Totals {
    queues: usize,
    #[schema(minimum = 0)]
    channels: i64,
    moms: usize,
    moms_up: usize,
    /// Retained now.
    #[schema(minimum = 0)]
    messages: i64,
    /// Of their contents; of long queues taken from the size of their newest messages.
    #[schema(minimum = 0)]
    bytes: i64,
    /// Null where no MoM tells.
    subscriptions: Option<u64>,
}

/// Messages a second over the last seconds; null where they are not known.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(super) struct Rates {
    /// Committed.
    pushed: Option<f64>,
    /// Handed to subscriptions, each one counted.
    delivered: Option<f64>,
    /// Of these, read from the database instead of as they were committed.
    caught_up: Option<f64>,
}

/// A MoM and what it does.
#[derive(Debug, Serialize, ToSchema)]
struct MomState {
    id: Uuid,
    host: String,
    port: u16,
    is_up: bool,
    /// When it began to be up, or down.
    since: DateTime<Utc>,
    draining: bool,
    #[schema(minimum = 0)]
    queues: i64,
    /// When this manager heard from it for the last time.
    heartbeat_at: Option<DateTime<Utc>>,
    /// The memory that it has in use. Null, as the rest, where it does not tell.
    resident_bytes: Option<u64>,
    connections: Option<u32>,
    uptime_secs: Option<u64>,
    rates: Rates,
}

impl From<Option<figures::Rates>> for Rates {
    fn from(rates: Option<figures::Rates>) -> Self {
        let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
        Self {
            pushed: rates.map(|rates| rounded(rates.pushed)),
            delivered: rates.map(|rates| rounded(rates.delivered)),
            caught_up: rates.map(|rates| rounded(rates.caught_up)),
        }
    }
}

impl Overview {
    pub(super) fn new(manager: &Manager, figures: &Figures) -> Self {
        let mut total = None;
        for rates in figures.of_moms.values().filter_map(|mom| mom.rates) {
            *total.get_or_insert_default() += rates;
        }
        let subscriptions = figures.of_queues.values();
        let subscriptions = subscriptions
            .map(|queue| u64::from(queue.subscriptions))
            .sum();
        Self {
            at: figures.at,
            version: env!("CARGO_PKG_VERSION"),
            manager: ManagerState {
                leads: manager.leading.lease().is_some(),
                lease_epoch: figures.totals.lease_epoch,
            },
            totals: Totals {
                queues: figures.queues.len(),
                channels: figures.totals.channels,
                moms: figures.moms.len(),
                moms_up: figures.moms.iter().filter(|mom| mom.is_up).count(),
                messages: figures.queues.iter().map(|queue| queue.messages).sum(),
                bytes: figures.queues.iter().map(|queue| queue.bytes).sum(),
                subscriptions: (!figures.of_moms.is_empty()).then_some(subscriptions),
            },
            rates: total.into(),
            moms: figures
                .moms
                .iter()
                .map(|mom| MomState::new(manager, mom, figures.of_moms.get(&mom.address)))
                .collect(),
        }
    }
}

impl MomState {
    fn new(manager: &Manager, mom: &storage::Mom, figures: Option<&MomFigures>) -> Self {
        Self {
            id: mom.id,
            host: mom.address.host.clone(),
            port: mom.address.port,
            is_up: mom.is_up,
            since: mom.since,
            draining: mom.draining,
            queues: mom.queues,
            heartbeat_at: manager.moms.heard_at(&mom.address),
            resident_bytes: figures.map(|figures| figures.resident_bytes),
            connections: figures.map(|figures| figures.connections),
            uptime_secs: figures
                .map(|figures| figures.uptime)
                .as_ref()
                .map(Duration::as_secs),
            rates: figures.and_then(|figures| figures.rates).into(),
        }
    }
}

/// The system at one look.
///
/// At most a few seconds old. Rates need two looks: they come about a second after somebody has begun to ask.
#[utoipa::path(
    get,
    path = "/overview",
    operation_id = "showOverview",
    tag = "system",
    responses((status = 200, description = "the system", body = Overview)),
    extensions(("x-codes" = json!(["database_unavailable"])))
)]
#[get("/overview")]
pub(super) async fn show(_caller: Caller, manager: &Shared) -> Answer<Json<Overview>> {
    let manager: &State<_> = manager;
    let look = manager.watching.figures().await?;
    let figures = look.figures().ok_or(Error::NoFigures { is_outage: true })?;
    Ok(Json(Overview::new(manager, figures)))
}
