//! `rmom-bench`: measures a rusty-mom system from where its users stand, at the client library.
//!
//! Every subcommand creates queues of its own, deletes them at the end, and exits with 1 if anything that was
//! acknowledged was not delivered, if a push failed, or if what was to be tried did not come about. Without `--addr` it starts a private cluster of the binaries
//! beside it.

mod catch_up;
mod compare;
mod cpu;
mod failover;
mod flow;
mod kill;
mod load;
mod lone;
mod memory;
mod options;
mod overload;
mod peers;
mod progress;
mod receive;
mod report;
mod slow;
mod svg;
mod system;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::options::{Command, Options};
use crate::report::Report;
use crate::system::System;

fn main() -> ExitCode {
    let options = Options::parse();
    match runtime(&options.command).and_then(|runtime| runtime.block_on(run(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rmom-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// A client that does one thing at a time has no use for threads that wake each other.
fn runtime(command: &Command) -> Result<Runtime> {
    let mut builder = match command {
        Command::Lone(_) | Command::Compare(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build().context("cannot start threads")
}

/// Runs one subcommand and prints what it found. False: something is not as it should be.
async fn run(options: &Options) -> Result<bool> {
    let comparing = async {
        match &options.command {
            Command::Compare(shape) => compare::compare(shape, options.json).await.map(Some),
            _ => Ok(None),
        }
    };
    let compared = tokio::select! {
        compared = comparing => compared?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    if let Some(sound) = compared {
        return Ok(sound);
    }
    let report = run_and_report(options).await?;
    report.print(options.json);
    Ok(report.is_sound())
}

/// Runs a subcommand that reports, and takes away what it made, however it ends.
async fn run_and_report(options: &Options) -> Result<Report> {
    let system = System::open(options).await?;
    let outcome = tokio::select! {
        outcome = measure(&system, options) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    system.close().await;
    outcome
}

async fn measure(system: &System, options: &Options) -> Result<Report> {
    match &options.command {
        Command::Push(shape) => load::push(system, shape, options).await,
        Command::Subscribe(shape) => receive::subscribe(system, shape, options).await,
        Command::CatchUp(shape) => catch_up::catch_up(system, shape, options).await,
        Command::Lone(shape) => lone::lone(system, shape).await,
        Command::Kill(shape) => kill::kill(system, shape, options).await,
        Command::Failover(shape) => failover::failover(system, shape, options).await,
        Command::Overload(shape) => overload::overload(system, shape, options).await,
        Command::Slow(shape) => slow::slow(system, shape, options).await,
        Command::Compare(_) => bail!("it does not report"),
    }
}
