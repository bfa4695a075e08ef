//! A MoM server: takes pushes over gRPC, commits them to PostgreSQL and broadcasts them to the subscribers of each
//! channel.
//!
//! The way of a message is [`pushes`] (validated) → [`queue`] (waits in the inbox) → [`committer`] (made durable) →
//! [`feed`] (given to the subscriptions) → [`subscription`] (sent). [`push`] is what goes this way and who waits for
//! it, [`batch`] what committed messages look like in memory, [`topics`] which of them a channel sees; [`dedup`]
//! knows repeated pushes again, [`hosting`] knows which queues are here, [`shared`] has what they share,
//! [`statistics`], [`marks`] and [`metrics`] tell what was done, [`service`] is the gRPC surface, [`watched`] what else
//! is answered, [`server`] begins and ends it all.

pub mod batch;
pub mod budget;
pub mod committer;
pub mod config;
pub mod connections;
pub mod dedup;
pub mod error;
pub mod feed;
pub mod hosting;
pub mod marks;
pub mod metrics;
pub mod push;
pub mod pushes;
pub mod queue;
pub mod server;
pub mod service;
pub mod shared;
pub mod statistics;
pub mod subscription;
pub mod topics;
pub mod watched;
