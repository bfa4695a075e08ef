//! A MoM server: takes pushes over gRPC, commits them to PostgreSQL and broadcasts them to the subscribers of each
//! channel.
//!
//! The way of a message is [`pushes`] (validated) → [`queue`] (waits in the inbox) → [`committer`] (made durable) →
//! [`queue`] (given to the feed) → [`subscription`] (sent). [`dedup`] knows repeated pushes again, [`hosting`] knows which queues are here, [`batch`] how
//! committed messages look in memory, [`server`] begins and ends it all.

pub mod batch;
pub mod budget;
pub mod committer;
pub mod config;
pub mod connections;
pub mod dedup;
pub mod error;
pub mod hosting;
pub mod push;
pub mod pushes;
pub mod queue;
pub mod server;
pub mod service;
pub mod subscription;
