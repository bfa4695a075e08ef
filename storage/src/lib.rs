//! Everything of rusty-mom that speaks SQL.
//!
//! PostgreSQL is the one source of truth: which MoMs there are, which of them owns which queue at which epoch, which
//! channels exist, and every retained message. This crate is the only one that knows its tables. Each public function
//! is one unit of work, one statement or one transaction, and its docs say what it locks.
//!
//! - [`moms`](Store::register_moms), [`queues`](Store::create_queue) and [`channels`](Store::create_channel) are
//!   methods of [`Store`], which holds a bounded pool of connections.
//! - A manager decides only under a [`Lease`], see [`Store::lead`].
//! - [`Appender`] writes messages over a connection of its own, see [`Appender::append`].
//! - [`Store::find_messages`] finds those that were pushed before.
//! - [`Store::read_page`] reads messages back, [`Store::sweep_expired`] deletes those whose time is over.
//!
//! All time that decides something is the clock of the database.

pub mod chaos;

mod append;
mod channels;
mod error;
mod instances;
mod known;
mod lease;
mod moms;
mod packed;
mod queues;
mod read;
mod requests;
mod stalled;
mod start;
mod store;
mod sweep;

pub use append::{Appended, Appender, NewBatch};
pub use channels::Channel;
pub use error::{Error, Result};
pub use instances::{Claimed, Registration};
pub use known::KeyedMessage;
pub use lease::{Decision, Leadership, Lease};
pub use moms::{Mom, MomAddress};
pub use packed::{Packed, Run};
pub use queues::{Ownership, Queue, Takeover};
pub use read::{Page, StoredBatch};
pub use requests::Rebalance;
pub use store::{Connect, Store};
pub use sweep::Swept;

/// The most messages that one batch may hold. Readers rely on it to bound what they fetch.
pub const MAX_BATCH_MESSAGES: usize = 1024;
