//! `rmom-demo`: the whole system with its example application on this machine, to look at and to break.

mod demo;
mod news;
mod options;
mod panel;
mod steps;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use demo::Demo;
use options::Options;
use steps::Steps;

#[tokio::main]
async fn main() -> ExitCode {
    let steps = Steps::new();
    match run(&Options::parse(), &steps).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            steps.clear();
            eprintln!("\nrmom-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options, steps: &Steps) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    options.check_ports()?;
    options::check_python()?;

    let mut demo = Demo::default();
    let outcome = tokio::select! {
        outcome = show(&mut demo, options, steps) => outcome,
        () = stop.asked() => Ok(()),
    };
    steps.clear();
    // A second signal is for those who do not want to wait; what still runs is killed then.
    let ended = tokio::select! {
        ended = demo.stop(steps) => ended,
        () = stop.asked() => Ok(()),
    };
    // What went wrong first explains what went wrong afterwards.
    outcome.and(ended)
}

/// Starts everything, says where to look, and goes on until something ends that should not.
async fn show(demo: &mut Demo, options: &Options, steps: &Steps) -> anyhow::Result<()> {
    demo.start(options, steps).await?;
    panel::print(demo, options, steps.painter()).await?;
    watch::watch(demo, steps).await
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
