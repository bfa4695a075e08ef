//! The subcommand `kill`: the MoM that hosts the queue dies in the middle of the load.
//!
//! Pushers and subscribers are those of any other run; nobody tells them. What is measured is the silence that the
//! pushers see, and whether a subscriber misses anything that was acknowledged before or after.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::interval;

use crate::load::{Lanes, Load, Pushed};
use crate::options::{Options, Shape};
use crate::progress::Progress;
use crate::receive::Receivers;
use crate::report::{Kill, Report};
use crate::system::System;

/// Kills when half of the messages are acknowledged.
pub(crate) async fn kill(system: &System, shape: &Shape, options: &Options) -> Result<Report> {
    ensure!(
        shape.queues.get() == 1,
        "kill measures one queue; leave --queues out"
    );
    let queues = system.create_queues(1).await?;
    let load = Arc::new(Load::new(shape));
    let lanes = Lanes::open(system, &queues, shape).await?;
    let receivers = Receivers::open(system, &queues, shape, load.counters.clone()).await?;
    let total = shape.messages * (1 + shape.subscribers.get() as u64);
    let progress = Progress::show(&load.counters, total, options.json);
    let started = Instant::now();
    let half = async {
        let mut look = interval(Duration::from_millis(1));
        while load.counters.acked() < shape.messages / 2 {
            look.tick().await;
        }
        load.killed_at
            .set(Instant::now())
            .expect("nobody else sets it");
        system.kill_host_of(&queues[0]).await
    };
    let mut pushing = pin!(lanes.run(&load));
    tokio::select! {
        killed = half => killed.context("killing the MoM that hosts the queue")?,
        _ = &mut pushing => bail!("the pushes were over before the kill; push more --messages"),
    }
    let pushed = pushing.await?;
    let (verdict, last_at) = receivers.finish(&pushed.acks).await?;
    drop(progress);
    let killed_at = *load.killed_at.get().expect("it was set before the kill");
    Ok(Report::of_push("kill", shape, &pushed)
        .with_deliveries(shape.subscribers.get(), &verdict, last_at - started)
        .with_kill(longest_silence(killed_at, &pushed)?))
}

/// Acknowledgements that were on their way still come after the kill, so the first one afterwards proves nothing. The
/// one that ended the longest silence does.
fn longest_silence(killed_at: Instant, pushed: &Pushed) -> Result<Kill> {
    let before = std::iter::once(&killed_at).chain(&pushed.after_kill);
    let (silence, end) = before
        .zip(&pushed.after_kill)
        .map(|(before, after)| (*after - *before, *after))
        .max()
        .context("no push was acknowledged after the kill; push more --messages")?;
    Ok(Kill {
        kill_to_ack_ms: (end - killed_at).as_millis() as u64,
        silence_ms: silence.as_millis() as u64,
    })
}
