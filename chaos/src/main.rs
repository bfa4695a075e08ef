//! The command `rmom-chaos`; see the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use chaos::checker::check;
use chaos::history::read;
use chaos::mutants::hunt;
use chaos::report::{Report, explain};
use chaos::run::{Options, run};
use chaos::schedule::Kind;
use clap::{Args, Parser, Subcommand};
use storage::chaos::Mutant;

/// Breaks a rusty-mom system in every way that it claims to survive, and checks what is left.
///
/// The binaries must be built with the feature `chaos`; RMOM_BIN_DIR names their directory. `make chaos` does both.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Breaks a cluster for a while and judges what the clients have seen; exits with 1 if anything is wrong
    Run(Run),
    /// Prints what a run would do
    Schedule(Run),
    /// Judges the history of an earlier run again
    Check {
        /// The file
        history: PathBuf,
    },
    /// Switches each known defect on and shows that it is found; exits with 1 if one is not
    Mutants {
        /// For how long one defect is looked for at the most
        #[arg(long, default_value_t = 180, value_name = "SECONDS")]
        secs: u64,
        /// What faults and load are made of; random if left out
        #[arg(long)]
        seed: Option<u64>,
        /// Only this defect
        #[arg(long, value_parser = mutant)]
        only: Option<Mutant>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// How long faults are caused
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    secs: u64,
    /// What faults and load are made of; random if left out
    #[arg(long)]
    seed: Option<u64>,
    /// How many MoMs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=20))]
    moms: u8,
    /// How many managers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    managers: u8,
    /// How many queues
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=100))]
    queues: u8,
    /// Only these kinds of faults, separated by commas; an unknown one lists them
    #[arg(long, value_delimiter = ',', value_parser = kind, value_name = "KINDS")]
    only: Vec<Kind>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(wish) => break_and_judge(&wish).await,
        Command::Schedule(wish) => {
            for step in wish.options().steps() {
                println!("{step}");
            }
            Ok(true)
        }
        Command::Check { history } => judge(&history),
        Command::Mutants { secs, seed, only } => {
            let mutants = only.map_or(Mutant::ALL.to_vec(), |only| vec![only]);
            let limit = Duration::from_secs(secs);
            hunt_all(&mutants, seed.unwrap_or_else(random_seed), limit).await
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rmom-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Run {
    fn options(&self) -> Options {
        let mut options = Options::everything(
            Duration::from_secs(self.secs),
            self.seed.unwrap_or_else(random_seed),
            self.moms.into(),
            self.managers.into(),
            self.queues.into(),
        );
        if !self.only.is_empty() {
            options.plan.only(&self.only);
            options.demanding = false;
        }
        options
    }

    /// The command that does the same.
    fn again(&self, seed: u64) -> String {
        let Self {
            secs,
            moms,
            managers,
            queues,
            ..
        } = self;
        let program = std::env::args().next().unwrap_or_default();
        let binaries = std::env::var("RMOM_BIN_DIR")
            .map(|directory| format!("RMOM_BIN_DIR={directory} "))
            .unwrap_or_default();
        let mut again = format!(
            "{binaries}{program} run --secs {secs} --seed {seed} --moms {moms} --managers {managers} --queues {queues}"
        );
        if !self.only.is_empty() {
            let names: Vec<_> = self.only.iter().map(ToString::to_string).collect();
            again = format!("{again} --only {}", names.join(","));
        }
        again
    }
}

async fn break_and_judge(wish: &Run) -> Result<bool> {
    let options = wish.options();
    let again = wish.again(options.seed);
    eprintln!("{again}");
    let outcome = run(&options).await?;
    let report = Report::new(&options, &outcome);
    report.print(wish.json);
    if report.has_passed() {
        return Ok(true);
    }
    outcome.keep();
    explain(&outcome.verdict);
    eprintln!("the same again: {again}");
    eprintln!("history: {}", outcome.history().display());
    Ok(false)
}

fn judge(history: &Path) -> Result<bool> {
    let verdict = read(history)
        .and_then(check)
        .with_context(|| format!("cannot judge {}", history.display()))?;
    explain(&verdict);
    println!(
        "{} acknowledged, {} stored, {} delivered to {} subscriptions",
        verdict.acknowledged, verdict.stored, verdict.delivered, verdict.subscriptions
    );
    Ok(verdict.is_clean())
}

async fn hunt_all(mutants: &[Mutant], seed: u64, limit: Duration) -> Result<bool> {
    eprintln!("seed {seed}");
    let mut all_found = true;
    for mutant in mutants {
        let fate = hunt(*mutant, seed, limit).await?;
        all_found &= fate.is_found();
        println!("{fate}");
    }
    Ok(all_found)
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    found.ok_or_else(|| {
        let names = Mutant::ALL.map(Mutant::name);
        format!("there is no such defect; there are {}", names.join(", "))
    })
}

fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name);
        format!("there is no such fault; there are {}", names.join(", "))
    })
}

fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_micros() as u64 % 1_000_000)
}
