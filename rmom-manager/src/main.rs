//! `rmom-manager`: see `--help`.

mod logging;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rmom_manager::database::Database;
use rmom_manager::settings::Settings;
use rmom_manager::{health, migrate, server};
use tracing::{error, info, warn};

/// The manager of rusty-mom: administers queues and channels over REST and keeps queues on MoMs that are up.
///
/// It reads Rocket.toml in the working directory (ROCKET_CONFIG names another file), in the profile that ROCKET_PROFILE
/// names. Variables win: ROCKET_PORT=8085 is port. RUST_LOG filters the log.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Apply the schema to the database and exit
    Migrate,
    /// Ask the manager on the configured address and port whether it serves; exits with 1 if it does not
    Health,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _traces = logging::start();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = Settings::load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("rocket-worker")
        .worker_threads(settings.workers)
        .max_blocking_threads(settings.max_blocking)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        match arguments.command {
            None => {
                announce(&settings);
                server::run(&settings).await?;
            }
            Some(Command::Migrate) => migrate(&Database::open(&settings.database)).await?,
            Some(Command::Health) => health::check(&settings).await?,
        }
        Ok(())
    })
}

fn announce(settings: &Settings) {
    let moms: Vec<String> = settings.moms.iter().map(ToString::to_string).collect();
    info!(
        "rmom-manager {} on {}:{}, profile {}, database {}, MoMs [{}]",
        env!("CARGO_PKG_VERSION"),
        settings.address,
        settings.port,
        settings.profile,
        settings.database.target(),
        moms.join(", ")
    );
    for warning in &settings.warnings {
        warn!("{warning}");
    }
}
