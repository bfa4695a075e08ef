//! `rmom-cluster`: a whole cluster for as long as a command runs, with faults on request.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use testkit::{Cluster, Control};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Starts a private PostgreSQL server, MoMs and managers, runs a command against them, ends everything, and exits with
/// the command's status.
///
/// The command finds RMOM_MANAGER (the managers' URLs, separated by commas), RMOM_DATABASE_URL and RMOM_CONTROL in its
/// environment. RMOM_CONTROL is the URL of a server that causes faults: GET /moms and /managers list what there is;
/// POST /mom/INDEX/kill, likewise freeze, thaw, terminate, start, restart; the same under /manager/INDEX/; and
/// POST /postgres/stop, crash, start, restart.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = false)]
struct Arguments {
    /// How many MoMs.
    #[arg(long, default_value_t = 2)]
    moms: usize,

    /// How many managers.
    #[arg(long, default_value_t = 1)]
    managers: usize,

    /// A key of every MoM's configuration, as KEY=VALUE; VALUE is YAML. May be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    mom_setting: Vec<(String, String)>,

    /// A key of every manager's Rocket.toml, as KEY=VALUE; VALUE is TOML. May be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    manager_setting: Vec<(String, String)>,

    /// Keep data and logs in this directory and use them again; otherwise everything is removed at the end.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<std::path::PathBuf>,

    /// The command and its arguments; must come last. Without it, the cluster runs until SIGINT or SIGTERM.
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    exec: Option<Vec<String>>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("it has no `=`; write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rmom-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::new()?;
    let mut builder = Cluster::builder()
        .moms(arguments.moms)
        .managers(arguments.managers);
    for (key, value) in &arguments.mom_setting {
        let value: serde_yaml::Value = serde_yaml::from_str(value)
            .with_context(|| format!("the value of --mom-setting {key}"))?;
        builder = builder.mom_setting(key, value);
    }
    for (key, value) in &arguments.manager_setting {
        builder = builder.manager_setting(key, value);
    }
    if let Some(directory) = &arguments.data_dir {
        builder = builder.data_dir(directory);
    }
    let cluster = tokio::select! {
        cluster = builder.start() => Arc::new(cluster?),
        number = stop.asked() => return Ok(by_signal(number)),
    };
    let control = Control::start(Arc::clone(&cluster)).await?;
    let managers: Vec<String> = cluster.managers().map(testkit::Manager::url).collect();
    let variables = [
        ("RMOM_MANAGER", managers.join(",")),
        ("RMOM_CONTROL", control.url()),
        ("RMOM_DATABASE_URL", cluster.database_url()),
    ];

    let code = if let Some(command) = &arguments.exec {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", command[0]))?;
        ExitCode::from(code_of(until_it_ends(&mut child, &mut stop).await?))
    } else {
        for (name, value) in &variables {
            println!("{name}={value}");
        }
        println!(
            "Ready; logs are in {}. Ctrl-C ends everything.",
            cluster.folder().display()
        );
        stop.asked().await;
        ExitCode::SUCCESS
    };
    drop(control);
    cluster.stop().await?;
    Ok(code)
}

/// Passes SIGTERM on to the command. A terminal's Ctrl-C reaches it anyway, and it decides what that means.
async fn until_it_ends(child: &mut Child, stop: &mut Stop) -> anyhow::Result<ExitStatus> {
    loop {
        let number = tokio::select! {
            status = child.wait() => return status.context("cannot wait for the command"),
            number = stop.asked() => number,
        };
        if number == SignalKind::terminate().as_raw_value()
            && let Some(pid) = child
                .id()
                .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            // It may have ended by now, which the next turn sees.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// As a shell tells it: the exit code, or 128 and the number of the signal that ended it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn by_signal(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + number).unwrap_or(1))
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

    /// The number of the signal that asks for the end.
    async fn asked(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}
