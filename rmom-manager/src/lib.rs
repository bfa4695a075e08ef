//! The manager of rusty-mom.
//!
//! It offers the administration of queues and channels over REST ([`rest`]), places new queues on MoMs
//! ([`allocation`]), and runs the control loop ([`control`]) that finds out which MoMs are up and moves the queues of
//! those that are not. People look at the system through it ([`figures`], [`messages`]). It holds no state of its own: what it decides it writes to the database, where every other
//! manager and every MoM reads it. Of several managers all answer requests and one leads ([`leading`]): it alone runs
//! the control loop. None is on the way of messages.

pub mod allocation;
pub mod control;
pub mod database;
pub mod error;
pub mod figures;
pub mod health;
pub mod leading;
pub mod messages;
pub mod metrics;
pub mod moms;
pub mod operations;
pub mod rest;
pub mod server;
pub mod settings;
pub mod sweep;

mod link;
mod start;

use std::sync::Arc;

use tokio::sync::Notify;

use database::Database;
use moms::Moms;
use settings::Settings;

pub use start::migrate;

/// What the REST surface and the control loop share.
#[derive(Debug)]
pub struct Manager {
    /// The one source of truth.
    pub database: Database,
    /// The connections to MoMs.
    pub moms: Moms,
    /// Wakes the control loop before its time. It carries no information: the loop looks for itself.
    pub hint: Arc<Notify>,
    /// Whether this manager decides, or another one does.
    pub leading: leading::Leading,
    /// What the whole system does at the moment, for people who look at it.
    pub watching: figures::Watching,
    /// What is counted.
    pub metrics: metrics::Metrics,
    placing: allocation::Placing,
}

impl Manager {
    /// Connects to nothing yet.
    pub fn new(settings: &Settings) -> Self {
        let hint = Arc::new(Notify::new());
        Self {
            database: Database::open(&settings.database),
            moms: Moms::new(settings.probe, Arc::clone(&hint)),
            hint,
            leading: leading::Leading::new(settings.lease),
            watching: figures::Watching::default(),
            metrics: metrics::Metrics::default(),
            placing: allocation::Placing::default(),
        }
    }
}
