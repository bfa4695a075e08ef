//! The subcommand `catch-up`: subscribers that come late and read everything from the start.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::load::{Lanes, Load};
use crate::options::{Options, Shape};
use crate::progress::Progress;
use crate::receive::Receivers;
use crate::report::Report;
use crate::system::System;

/// Pushes everything, then subscribes.
pub(crate) async fn catch_up(system: &System, shape: &Shape, options: &Options) -> Result<Report> {
    let queues = system.create_queues(shape.queues.get()).await?;
    let load = Arc::new(Load::new(shape));
    let total = shape.messages * (1 + shape.subscribers.get() as u64);
    let progress = Progress::show(&load.counters, total, options.json);
    let pushed = Lanes::open(system, &queues, shape)
        .await?
        .run(&load)
        .await?;
    let started = Instant::now();
    let receivers = Receivers::open(system, &queues, shape, load.counters.clone()).await?;
    let (verdict, last_at) = receivers.finish(&pushed.acks).await?;
    drop(progress);
    Ok(Report::of_push("catch-up", shape, &pushed).with_deliveries(
        shape.subscribers.get(),
        &verdict,
        last_at - started,
    ))
}
