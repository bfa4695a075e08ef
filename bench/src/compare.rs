//! The subcommand `compare`: the same workloads at rusty-mom and at every peer that can be started here.
//!
//! All servers run from the beginning to the end; before each measurement, whatever the last one left behind is synced,
//! and all of them have to have become quiet. In each round, each workload goes through all contenders, who begin in
//! turn, so that what the machine does otherwise hits all alike.

mod bars;
pub(crate) mod table;
pub(crate) mod workload;

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::compare::table::{Comparison, Entrant, Figure, Row, median};
use crate::compare::workload::{CAPACITY, Extent, Measured, WORKLOADS, Workload};
use crate::cpu::Snapshot;
use crate::flow::cost_of_generating;
use crate::options::CompareShape;
use crate::peers::{self, About, Contender, Missing, Visitor};
use crate::progress::stage;

/// A contender that was not through with a workload by then never will be.
const LONGEST: Duration = Duration::from_mins(10);
/// What all servers together may use of a core when somebody is to be measured, and how long to wait for that.
const QUIET: f64 = 0.04;
const QUIET_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(250);

/// A contender, whatever it is.
trait Runner {
    fn about(&self) -> &About;
    fn processes(&self) -> Vec<(&'static str, u32)>;
    fn run<'a>(
        &'a self,
        workload: Workload,
        extent: &'a Extent,
        capacity: Option<f64>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Measured>>> + 'a>>;
}

impl<C: Contender> Runner for C {
    fn about(&self) -> &About {
        Contender::about(self)
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        Contender::processes(self)
    }

    fn run<'a>(
        &'a self,
        workload: Workload,
        extent: &'a Extent,
        capacity: Option<f64>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Measured>>> + 'a>> {
        Box::pin(workload.run(self, extent, capacity))
    }
}

/// Who takes part.
#[derive(Default)]
struct Field {
    runners: Vec<Box<dyn Runner>>,
    missing: Vec<Missing>,
}

impl Visitor for Field {
    fn add(&mut self, contender: impl Contender + 'static) {
        self.runners.push(Box::new(contender));
    }

    fn miss(&mut self, missing: Missing) {
        self.missing.push(missing);
    }
}

/// What was measured so far: the rounds of each workload at each contender.
type Results = HashMap<(usize, usize), Vec<Measured>>;

/// Runs everything and prints it. Whether every contender got through what it was put to.
pub(crate) async fn compare(shape: &CompareShape, json: bool) -> Result<bool> {
    let progress = stage(json);
    progress.set_message("starting the servers");
    let mut field = Field::default();
    let wanted = |key: &str| shape.only.is_empty() || shape.only.iter().any(|only| only == key);
    peers::open(wanted, &mut field).await?;
    if field.runners.is_empty() {
        bail!(
            "nobody takes part; the names for --only are {}",
            peers::KEYS.join(", ")
        );
    }
    let workloads: Vec<_> = WORKLOADS
        .into_iter()
        .filter(|workload| {
            let title = workload.title();
            shape.workloads.is_empty() || shape.workloads.iter().any(|part| title.contains(part))
        })
        .collect();
    if workloads.is_empty() {
        let titles: Vec<_> = WORKLOADS.iter().map(|workload| workload.title()).collect();
        bail!("--workloads matches none of: {}", titles.join("; "));
    }
    let comparison = field.measure(shape, &workloads, &progress).await?;
    progress.finish_and_clear();

    if json {
        println!("{}", serde_json::to_string(&comparison)?);
    } else {
        print!("{}", comparison.tables(false));
    }
    for (file, content) in [
        (&shape.svg, bars::draw(&comparison)),
        (&shape.markdown, comparison.tables(true)),
    ] {
        if let Some(file) = file {
            fs::write(file, content).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(comparison.failures.is_empty())
}

impl Field {
    async fn measure(
        &self,
        shape: &CompareShape,
        workloads: &[Workload],
        progress: &ProgressBar,
    ) -> Result<Comparison> {
        let extent = shape.extent();
        let rounds = shape.rounds();
        progress.set_message("waiting until all servers are quiet");
        self.settle().await?;
        let idle = self.idle_cpu().await;
        let generator_ns = cost_of_generating().await?;
        let mut results = Results::new();
        let (mut remarks, mut failures) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for (at, workload) in workloads.iter().enumerate() {
                for turn in 0..self.runners.len() {
                    let who = (round + turn) % self.runners.len();
                    let runner = &self.runners[who];
                    let name = runner.about().name;
                    let title = workload.title();
                    progress.set_message(format!("round {}/{rounds}: {title}: {name}", round + 1));
                    self.settle().await?;
                    let capacity = Self::capacity(&results, workloads, who);
                    let run = runner.run(*workload, &extent, capacity);
                    let outcome = timeout(LONGEST, run)
                        .await
                        .unwrap_or_else(|_| bail!("not through within {LONGEST:?}"));
                    match outcome {
                        Ok(Some(measured)) => {
                            if let Some(remark) = &measured.remark {
                                remarks.push(format!(
                                    "{name}, {title}, round {}: {remark}",
                                    round + 1
                                ));
                            }
                            results.entry((who, at)).or_default().push(measured);
                        }
                        Ok(None) => {}
                        Err(error) => {
                            failures
                                .push(format!("{name}, {title}, round {}: {error:#}", round + 1));
                        }
                    }
                }
            }
        }
        let entrants = self.runners.iter().zip(idle);
        Ok(Comparison {
            machine: machine(),
            rounds,
            seconds: extent.time.as_secs_f64(),
            generator_ns,
            contenders: entrants
                .map(|(runner, idle_cpu_percent)| Entrant {
                    about: runner.about().clone(),
                    idle_cpu_percent,
                })
                .collect(),
            missing: self.missing.clone(),
            rows: self.rows(workloads, &results),
            remarks,
            failures,
        })
    }

    /// What the contender was found to take so far, in messages a second.
    fn capacity(results: &Results, workloads: &[Workload], who: usize) -> Option<f64> {
        CAPACITY.iter().find_map(|capacity| {
            let at = workloads.iter().position(|workload| workload == capacity)?;
            let rounds = results.get(&(who, at))?.iter();
            median(&rounds.map(|found| found.values[0]).collect::<Vec<_>>())
        })
    }

    fn rows(&self, workloads: &[Workload], results: &Results) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, workload) in workloads.iter().enumerate() {
            for (index, (quantile, unit)) in workload.rows().into_iter().enumerate() {
                let figure = |who| Figure::of(results.get(&(who, at))?, index);
                rows.push(Row {
                    workload: workload.title(),
                    quantile,
                    unit,
                    figures: (0..self.runners.len()).map(figure).collect(),
                });
            }
        }
        rows
    }

    /// Waits until nothing is left to be written and no server is at work.
    async fn settle(&self) -> Result<()> {
        Command::new("sync")
            .status()
            .await
            .context("running sync")?;
        let end = Instant::now() + QUIET_WITHIN;
        let mut before = Snapshot::take();
        while Instant::now() < end {
            sleep(LOOK).await;
            let now = Snapshot::take();
            let pids = self.runners.iter().flat_map(|runner| runner.processes());
            // Some share a server; counted twice, it is all the sooner not quiet.
            let used: f64 = pids
                .map(|(_, pid)| now.of_tree(pid) - before.of_tree(pid))
                .sum();
            if used / LOOK.as_secs_f64() < QUIET {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// What each uses that has nothing to do, in percent of a core.
    async fn idle_cpu(&self) -> Vec<f64> {
        let time = LOOK * 8;
        let before = Snapshot::take();
        sleep(time).await;
        let now = Snapshot::take();
        let of = |runner: &dyn Runner| -> f64 {
            let used = runner.processes().into_iter();
            used.map(|(_, pid)| now.of_tree(pid) - before.of_tree(pid))
                .sum()
        };
        let runners = self.runners.iter();
        runners
            .map(|runner| 100.0 * of(runner.as_ref()) / time.as_secs_f64())
            .collect()
    }
}

impl CompareShape {
    fn rounds(&self) -> usize {
        self.rounds
            .map_or(if self.quick { 1 } else { 5 }, std::num::NonZeroUsize::get)
    }

    fn extent(&self) -> Extent {
        let secs = self.secs.unwrap_or(if self.quick { 0.5 } else { 3.0 });
        let backlog = if self.quick { 50_000 } else { 1_000_000 };
        let backlog = self.backlog.unwrap_or_else(|| {
            NonZeroU64::new(backlog).expect("numbers that are written down are not zero")
        });
        Extent {
            time: Duration::from_secs_f64(secs.clamp(0.1, 600.0)),
            backlog,
        }
    }
}

/// What all this ran on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{cores} cores of {model}")
}
