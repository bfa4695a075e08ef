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
mod plot;
mod progress;
mod receive;
mod report;
mod retention;
mod scale;
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
        Command::Lone(_) | Command::Compare(_) | Command::Scale(_) | Command::Retention(_) => {
            Builder::new_current_thread()
        }
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build().context("cannot start threads")
}

/// Runs one subcommand and prints what it found. False: something is not as it should be.
async fn run(options: &Options) -> Result<bool> {
    let json = options.json;
    match &options.command {
        Command::Compare(shape) => or_interrupted(compare::compare(shape, json)).await,
        Command::Scale(shape) => or_interrupted(scale::scale(shape, json)).await,
        Command::Retention(shape) => or_interrupted(retention::retention(shape, json)).await,
        _ => {
            let report = Box::pin(report(options)).await?;
            report.print(json);
            Ok(report.is_sound())
        }
    }
}

/// Runs a subcommand that reports, and takes away what it made, however it ends.
async fn report(options: &Options) -> Result<Report> {
    let system = System::open(options).await?;
    let outcome = or_interrupted(measure(&system, options)).await;
    system.close().await;
    outcome
}

/// Whatever is dropped half way ends its servers in good order.
async fn or_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
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
        Command::Compare(_) | Command::Scale(_) | Command::Retention(_) => {
            unreachable!("these print tables of their own")
        }
    }
}
