//! One run: a cluster, its clients, a schedule of faults, and the judgement.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use momclient::MoMClient;
use storage::chaos::Mutant;
use testkit::{Cluster, Disk, Folder, ensure_built, try_wait_until};
use tokio::time::{Instant, interval, timeout};

use crate::checker::{Verdict, check};
use crate::clock::Clock;
use crate::history::{Event, History, read};
use crate::nemesis::{Clocks, LEADING, Nemesis, Tally};
use crate::schedule::{EVERYTHING, Kind, Plan, Step, schedule};
use crate::tables;
use crate::workload::{Phase, Pusher, Shape, Workload};

/// How much of a queue is kept in memory: little, so that bursts go over the heads of subscriptions.
const BUFFER: u64 = 64;
/// Retained for longer than any run: what expires could not be told from what is lost.
const TTL_SECONDS: u64 = 30 * 86_400;
/// From when everything is mended until each pusher must have been acknowledged something.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// From the end of the load until each pusher must know what became of its last push.
const ENDED_WITHIN: Duration = Duration::from_mins(1);
/// From then until each subscriber must have received everything.
const DELIVERED_WITHIN: Duration = Duration::from_mins(1);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long faults are caused.
    pub duration: Duration,
    /// What faults and load are made of.
    pub seed: u64,
    /// What is broken.
    pub plan: Plan,
    /// Who pushes and subscribes.
    pub shape: Shape,
    /// Whether a run that the system hardly noticed has failed.
    pub demanding: bool,
    /// A defect to be switched on.
    pub mutant: Option<Mutant>,
    /// Whether to say how it goes.
    pub talks: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// What was done to the system.
    pub tally: Tally,
    /// What the processes said about it.
    pub traces: Traces,
    /// Where history and logs are, as long as this lives or [`Outcome::keep`] was called.
    pub folder: PathBuf,
    cluster: Arc<Cluster>,
    /// Dropped after the processes that go by them, whose files they remove.
    _clocks: Option<Arc<Clocks>>,
}

/// What the logs tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traces {
    /// Appends that were fenced.
    pub fenced: u64,
    /// Commits that were tried again since the database went away.
    pub retried: u64,
    /// Subscriptions that fell behind the feed.
    pub lagged: u64,
    /// Repeated pushes that were recognised.
    pub recognised: u64,
    /// Managers that began to lead.
    pub leaders: u64,
}

impl Options {
    /// Everything that this machine allows; says what it does not.
    pub fn everything(
        duration: Duration,
        seed: u64,
        moms: usize,
        managers: usize,
        queues: usize,
    ) -> Self {
        let mut deck = EVERYTHING.to_vec();
        if Clock::library().is_some() {
            deck.extend([Kind::Clock, Kind::Clock]);
        } else {
            eprintln!("clocks do not jump: libfaketime is not installed");
        }
        let disk = Disk::is_possible();
        if let Err(why) = &disk {
            eprintln!("the disk does not get full: {why}");
        }
        Self {
            duration,
            seed,
            plan: Plan {
                moms,
                managers,
                queues,
                deck,
                overlaps: true,
                standby: true,
                disk: disk.is_ok(),
            },
            shape: Shape::full(queues),
            demanding: true,
            mutant: None,
            talks: true,
        }
    }

    /// What is going to happen.
    pub fn steps(&self) -> Vec<Step> {
        schedule(self.seed, self.duration, &self.plan)
    }
}

impl Outcome {
    /// Keeps history and logs.
    pub fn keep(&self) {
        self.cluster.keep();
    }

    /// The file of the history.
    pub fn history(&self) -> PathBuf {
        self.folder.join("history.jsonl")
    }
}

/// Runs everything from the start of the cluster to the judgement.
pub async fn run(options: &Options) -> Result<Outcome> {
    // Dropped last: the processes read their clocks from here.
    let clock_folder = Folder::temporary()?;
    let (cluster, clocks) = start(options, &clock_folder).await?;
    let folder = cluster.folder().to_path_buf();
    let (history, writer) = History::create(&folder.join("history.jsonl"))?;
    tables::watch(&cluster).await?;

    let urls = (0..options.plan.managers).map(|index| cluster.manager_url(index));
    let client = MoMClient::new(urls)?;
    let mut workload = Workload::start(
        client,
        history.clone(),
        &options.shape,
        options.seed,
        options.duration,
    )
    .await
    .context("queues and channels cannot be created")?;
    let nemesis = Nemesis::new(cluster.clone(), clocks.clone(), history.clone());
    let steps = options.steps();
    let work = async {
        nemesis.run(&steps, options.duration).await?;
        settle(&mut workload, &history, &cluster).await
    };
    tokio::select! {
        worked = work => worked?,
        () = talk(options, &history, &nemesis) => {}
    }
    drop(workload);

    let traces = trace(&cluster, &history).await?;
    tables::tell(&cluster, &history, options.shape.queues)
        .await
        .context("the tables cannot be read")?;
    let tally = nemesis.tally();
    drop((history, nemesis));
    let path = writer.finish().context("the history cannot be written")?;
    let verdict = check(read(&path)?)?;
    Ok(Outcome {
        verdict,
        tally,
        traces,
        folder,
        cluster,
        _clocks: clocks,
    })
}

/// The directory of programs that can be made to die and to be wrong; an error for any others, under which a run would
/// only seem to try something.
async fn binaries() -> Result<PathBuf> {
    let directory = ensure_built().await?;
    let rmom = std::fs::read(directory.join("rmom"))?;
    let switch = b"RMOM_FAILPOINT";
    ensure!(
        rmom.windows(switch.len()).any(|bytes| bytes == switch),
        "the programs in {} are built without the feature `chaos`; use `make chaos`",
        directory.display()
    );
    Ok(directory)
}

async fn start(options: &Options, folder: &Folder) -> Result<(Arc<Cluster>, Option<Arc<Clocks>>)> {
    let plan = &options.plan;
    let mut builder = Cluster::builder()
        .binaries(binaries().await?)
        .moms(plan.moms)
        .managers(plan.managers)
        .proxy_moms()
        .proxy_databases()
        .message_ttl(TTL_SECONDS)
        .mom_setting("queue_buffer_size", BUFFER)
        .mom_env("RUST_LOG", "info,rmom=debug");
    for (name, value) in tables::SETTINGS {
        builder = builder.postgres_setting(name, value);
    }
    if let Some(mutant) = options.mutant {
        builder = builder
            .mom_env("RMOM_MUTANT", mutant.name())
            .manager_env("RMOM_MUTANT", mutant.name());
    }
    if plan.standby {
        builder = builder.standby();
    }
    if plan.disk {
        // What the load writes fits well; what is left is taken in a moment when the disk is filled.
        let load = 8 * options.duration.as_secs() as u32;
        builder = builder.small_disk(512 + load);
    }
    let mut clocks = None;
    if plan.deck.contains(&Kind::Clock)
        && let Some(library) = Clock::library()
    {
        let (moms, mom_variables) = Clock::new(&library, folder.path().join("moms"))?;
        let (managers, manager_variables) = Clock::new(&library, folder.path().join("managers"))?;
        for (key, value) in &mom_variables {
            builder = builder.mom_env(key, value);
        }
        for (key, value) in &manager_variables {
            builder = builder.manager_env(key, value);
        }
        clocks = Some(Arc::new(Clocks { moms, managers }));
    }
    Ok((Arc::new(builder.start().await?), clocks))
}

/// Everything is mended: now everybody has to come to an end.
async fn settle(workload: &mut Workload, history: &History, cluster: &Cluster) -> Result<()> {
    let before: Vec<u64> = workload.pushers.iter().map(Pusher::acks).collect();
    let acknowledged = try_wait_until("acknowledgements", ACKNOWLEDGED_WITHIN, async || {
        let pushers = workload.pushers.iter().zip(&before);
        let silent = pushers.filter(|(pusher, before)| pusher.acks() == **before);
        none(silent.map(|(pusher, _)| pusher.name.clone()))
    });
    record_if_stuck(history, acknowledged.await).await;

    workload.enter(Phase::Draining);
    if timeout(ENDED_WITHIN, workload.pushers_ended())
        .await
        .is_err()
    {
        let what = format!("pushers have not ended within {ENDED_WITHIN:?}");
        history.record(Event::Stuck { what }).await;
    }

    let ends = tables::ends(cluster, &workload.subscribers).await?;
    let delivered = try_wait_until("deliveries", DELIVERED_WITHIN, async || {
        let subscribers = workload.subscribers.iter().zip(&ends);
        let behind = subscribers.filter(|(subscriber, end)| subscriber.seq() < **end);
        none(behind.map(|(subscriber, end)| {
            format!("{} is at {} of {end}", subscriber.name, subscriber.seq())
        }))
    });
    record_if_stuck(history, delivered.await).await;
    workload.enter(Phase::Over);
    workload.subscribers_ended().await;
    Ok(())
}

fn none(names: impl Iterator<Item = String>) -> Result<(), String> {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        Ok(())
    } else {
        Err(names.join(", "))
    }
}

async fn record_if_stuck(history: &History, waited: Result<(), testkit::Error>) {
    if let Err(error) = waited {
        let what = error.to_string();
        history.record(Event::Stuck { what }).await;
    }
}

/// Says how it goes, for ever.
async fn talk(options: &Options, history: &History, nemesis: &Nemesis) {
    let began = Instant::now();
    let mut ticks = interval(PROGRESS);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if options.talks {
            let tally = nemesis.tally();
            let faults: u32 = tally.survived.values().sum();
            let elapsed = began.elapsed().as_secs();
            eprintln!("{elapsed:4} s  {}  faults {faults}", history.seen());
        }
    }
}

/// Reads the logs, which may be large, line by line.
async fn trace(cluster: &Cluster, history: &History) -> Result<Traces> {
    let mut traces = Traces::default();
    let moms = cluster.moms().map(|mom| &**mom);
    for process in moms.chain(cluster.managers().map(|manager| &**manager)) {
        let log = BufReader::new(File::open(process.log_path())?);
        for line in log.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let counters = [
                ("fenced: another MoM owns the queue now", &mut traces.fenced),
                (
                    "the database is away; what was being committed",
                    &mut traces.retried,
                ),
                ("lagged: reading from the database", &mut traces.lagged),
                ("a repeated push was recognised", &mut traces.recognised),
                (LEADING, &mut traces.leaders),
            ];
            for (words, counter) in counters {
                *counter += u64::from(line.contains(words));
            }
            if line.contains("panicked at") {
                let what = format!("{}: {line}", process.name());
                history.record(Event::Panicked { what }).await;
            }
        }
    }
    Ok(traces)
}
