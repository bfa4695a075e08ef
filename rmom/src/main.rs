//! `rmom PATH.yaml` runs a MoM server, `rmom health PATH.yaml` asks the one that runs with these settings.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use protos::HeartbeatRequest;
use protos::message_stream_client::MessageStreamClient;
use rmom::config::Config;
use rustix::process::{Resource, getrlimit, setrlimit};
use telemetry::logs::Format;
use telemetry::traces::Traces;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Endpoint;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const USAGE: &str = "usage: rmom PATH.yaml          run a MoM with the settings in PATH.yaml
       rmom health PATH.yaml   exit with 0 if that MoM is alive

Each key of the file can be given as an environment variable too: database.port is RMOM_DATABASE_PORT.
RUST_LOG sets how much is logged; the default is info.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["-V" | "--version"] => {
            println!("rmom {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["health", file] => health(Path::new(file)),
        [file] if !file.starts_with('-') => serve(Path::new(file)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rmom: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the log, and traces if they are wanted. `RUST_LOG` is `info` where it is not set.
fn log(format: Format) -> anyhow::Result<Option<Traces>> {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    if !std::env::var("RUST_LOG").is_ok_and(|wish| wish.contains("sqlx")) {
        // Each failed connection is an error to the pool, and an outage is told once, by whoever meets it.
        filter = filter.add_directive("sqlx_core::pool=off".parse()?);
    }
    let traces = Traces::from_env("rmom")?;
    if traces.is_some() {
        filter = filter.add_directive(Traces::DIRECTIVE.parse()?);
    }
    tracing_subscriber::registry()
        .with(filter)
        .with(traces.as_ref().map(Traces::layer))
        .with(format.lines())
        .init();
    Ok(traces)
}

fn serve(file: &Path) -> anyhow::Result<()> {
    let (config, unknown) = Config::load(file)?;
    let _traces = log(config.log_format)?;
    allow_open_files();
    let mut runtime = match config.worker_threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(config.worker_threads)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    if !unknown.is_empty() {
        tracing::warn!(file = %file.display(), "these keys mean nothing and are ignored: {}", unknown.join(", "));
    }
    runtime.block_on(listen(file, config))
}

/// Each connection is an open file, and systems allow few of them unless they are asked.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn listen(file: &Path, config: Config) -> anyhow::Result<()> {
    let socket = rmom::server::bind(&config)
        .await
        .with_context(|| format!("the configuration {}", file.display()))?;
    tracing::info!(
        external = %config.external_address(),
        database = ?config.database,
        "rmom {}", env!("CARGO_PKG_VERSION")
    );
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    rmom::server::run(config, socket, stop).await
}

#[tokio::main(flavor = "current_thread")]
async fn health(file: &Path) -> anyhow::Result<()> {
    let (config, _) = Config::load(file)?;
    let host = match config.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "[::1]",
        host => host,
    };
    let address = format!("http://{host}:{}", config.port);
    let channel = Endpoint::from_shared(address.clone())?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(2))
        .connect()
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    MessageStreamClient::new(channel)
        .get_heartbeat(HeartbeatRequest::default())
        .await?;
    Ok(())
}
