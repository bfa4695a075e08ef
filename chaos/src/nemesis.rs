//! Carries a schedule out, and mends everything again.
//!
//! Faults overlap, so each process has a lock that whoever breaks it holds until it is mended: a fault whose victim is
//! broken already is skipped. One MoM is always left alone, so that there is a way on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use protos::RebuildQueueRequest;
use testkit::{Cluster, Error, Process, Proxy};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::fault::{Fault, Trouble};
use crate::history::{Event, History};
use crate::schedule::Step;
use crate::workload::{connect, label};

/// How long the nemesis itself waits for an answer before it goes on without.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a process that is restarted in turn may take before the next one is.
const READY: Duration = Duration::from_secs(15);
/// How often it looks for processes that have ended by themselves.
const WATCH: Duration = Duration::from_millis(500);

/// What a manager logs before the epoch of its lease.
pub(crate) const LEADING: &str = "leading since lease epoch ";

type Lock = Arc<tokio::sync::Mutex<()>>;

/// See the [module](self).
#[derive(Debug)]
pub struct Nemesis {
    cluster: Arc<Cluster>,
    history: History,
    moms: Vec<Lock>,
    managers: Vec<Lock>,
    database: Lock,
    clocks: Option<Arc<Clocks>>,
    /// MoMs that may be broken at a time.
    breakable: Arc<Semaphore>,
    tally: Mutex<Tally>,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often each fault was caused and mended.
    pub survived: BTreeMap<String, u32>,
    /// Faults whose victim was broken already.
    pub skipped: u32,
    /// Faults that could not be caused or mended as they were meant; the history says why.
    pub failed: u32,
    /// Processes that ended and that nobody had ended.
    pub ended: u32,
}

/// The clocks of the processes.
#[derive(Debug)]
pub struct Clocks {
    /// That of all MoMs.
    pub moms: Clock,
    /// That of all managers.
    pub managers: Clock,
}

/// A MoM that is broken, as long as this lives.
struct Victim {
    index: usize,
    _lock: OwnedMutexGuard<()>,
    _permit: OwnedSemaphorePermit,
}

impl Nemesis {
    /// The nemesis of a cluster that was built with `proxy_moms` and `proxy_databases`.
    pub fn new(cluster: Arc<Cluster>, clocks: Option<Arc<Clocks>>, history: History) -> Arc<Self> {
        let moms = cluster.moms().len();
        let managers = cluster.managers().len();
        Arc::new(Self {
            moms: (0..moms).map(|_| Lock::default()).collect(),
            managers: (0..managers).map(|_| Lock::default()).collect(),
            database: Lock::default(),
            clocks,
            breakable: Arc::new(Semaphore::new(moms.saturating_sub(1).max(1))),
            tally: Mutex::default(),
            cluster,
            history,
        })
    }

    /// Carries the steps out, each at its time. Returns when `duration` is over and the last one mended.
    pub async fn run(self: &Arc<Self>, steps: &[Step], duration: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let watching = CancellationToken::new();
        let mut watch = JoinSet::new();
        watch.spawn(self.clone().watch(watching.clone()));
        let mut striking = JoinSet::new();
        for step in steps {
            sleep_until(began + step.at).await;
            striking.spawn(self.clone().strike(*step));
        }
        sleep_until(began + duration).await;
        while let Some(struck) = striking.join_next().await {
            struck.expect("a fault does not panic");
        }
        watching.cancel();
        while let Some(ended) = watch.join_next().await {
            ended.expect("watching does not panic");
        }
        self.heal().await
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        self.locked().clone()
    }

    async fn strike(self: Arc<Self>, step: Step) {
        let begin = format!("{step}");
        self.history.record(Event::Fault { what: begin }).await;
        let outcome = self.cause(step).await;
        let what = match outcome {
            Ok(true) => {
                let mut tally = self.locked();
                *tally.survived.entry(step.fault.class()).or_default() += 1;
                format!("mended: {}", step.fault)
            }
            Ok(false) => {
                self.locked().skipped += 1;
                format!("skipped: {}", step.fault)
            }
            Err(error) => {
                self.locked().failed += 1;
                format!("failed: {}: {error}", step.fault)
            }
        };
        self.history.record(Event::Fault { what }).await;
    }

    /// Returns whether it was done, or skipped.
    async fn cause(&self, step: Step) -> Result<bool, Error> {
        match step.fault {
            Fault::KillMom(queue)
            | Fault::FreezeMom(queue)
            | Fault::Failpoint { queue, .. }
            | Fault::ClientLine(queue, _)
            | Fault::MomDatabaseLine(queue, _) => match self.owner_of(queue).await {
                Some(victim) => self.break_owner(&victim, queue, step).await,
                None => Ok(false),
            },
            Fault::Move { queue, further } => match self.find_owner(queue).await {
                Some(owner) => Ok(self.give(queue, (owner + further) % self.moms.len()).await),
                None => Ok(false),
            },
            Fault::HoldQueue(queue) => {
                let (label, seconds) = (label(queue), step.lasts.as_secs_f32());
                let hold = format!(
                    "begin; select from queue where label = '{label}' for update; select pg_sleep({seconds})"
                );
                // It ends with the server, should that be struck meanwhile.
                let _ = self.cluster.psql(&hold).await;
                Ok(true)
            }
            Fault::KillManager(index)
            | Fault::FreezeManager(index)
            | Fault::ManagerDatabaseLine(index, _) => {
                let index = self.find_leader().unwrap_or(index);
                match self.managers[index].clone().try_lock_owned() {
                    Ok(_lock) => self.break_manager(index, step).await,
                    Err(_) => Ok(false),
                }
            }
            Fault::KillManagers | Fault::FreezeManagers => self.break_managers(step).await,
            Fault::Postgres(_) | Fault::FailOver | Fault::FullDisk => {
                let _lock = self.database.lock().await;
                self.break_database(step).await
            }
            Fault::RollMoms => self.roll_moms().await,
            Fault::RollManagers => self.roll_managers().await,
            Fault::MomClocks(seconds) => {
                let clock = self.clocks.as_ref().map(|clocks| &clocks.moms);
                jump(clock, seconds, step.lasts).await
            }
            Fault::ManagerClocks(seconds) => {
                let clock = self.clocks.as_ref().map(|clocks| &clocks.managers);
                jump(clock, seconds, step.lasts).await
            }
        }
    }

    async fn break_owner(&self, victim: &Victim, queue: usize, step: Step) -> Result<bool, Error> {
        let mom = self.cluster.mom(victim.index);
        match step.fault {
            Fault::Failpoint { point, count, .. } => {
                let wish = format!("{}@{count}", point.name());
                return self.die_at(victim.index, queue, &wish, step.lasts).await;
            }
            Fault::FreezeMom(_) => freeze(mom, step.lasts).await?,
            Fault::ClientLine(_, trouble) => {
                let line = self.cluster.mom_proxy(victim.index);
                disturb(line, trouble, step.lasts).await?;
            }
            Fault::MomDatabaseLine(_, trouble) => {
                let line = self.cluster.mom_database_proxy(victim.index);
                disturb(line, trouble, step.lasts).await?;
            }
            _ => kill(mom, step.lasts).await?,
        }
        Ok(true)
    }

    async fn break_manager(&self, index: usize, step: Step) -> Result<bool, Error> {
        let manager = self.cluster.manager(index);
        match step.fault {
            Fault::FreezeManager(_) => freeze(manager, step.lasts).await?,
            Fault::ManagerDatabaseLine(_, trouble) => {
                let line = self.cluster.manager_database_proxy(index);
                disturb(line, trouble, step.lasts).await?;
            }
            _ => kill(manager, step.lasts).await?,
        }
        Ok(true)
    }

    async fn break_managers(&self, step: Step) -> Result<bool, Error> {
        let mut locks = Vec::new();
        for lock in &self.managers {
            locks.push(lock.lock().await);
        }
        let managers = || self.cluster.managers();
        if step.fault == Fault::KillManagers {
            try_join_all(managers().map(|manager| kill(manager, step.lasts))).await?;
        } else {
            try_join_all(managers().map(|manager| freeze(manager, step.lasts))).await?;
        }
        Ok(true)
    }

    async fn break_database(&self, step: Step) -> Result<bool, Error> {
        let postgres = self.cluster.postgres();
        match step.fault {
            Fault::FailOver => self.cluster.fail_over().await?,
            Fault::Postgres(how) => {
                postgres.stop(how).await?;
                sleep(step.lasts).await;
                postgres.start().await?;
            }
            _ => {
                let Some(disk) = postgres.disk() else {
                    return Ok(false);
                };
                disk.fill()?;
                sleep(step.lasts).await;
                disk.free()?;
                // It ends if there is no room for its log while it recovers.
                if !postgres.process().is_running() {
                    postgres.start().await?;
                }
            }
        }
        Ok(true)
    }

    /// Starts a MoM with a failpoint armed, gives it the queue back should it have been moved meanwhile, and starts it
    /// again when it has died.
    async fn die_at(
        &self,
        index: usize,
        queue: usize,
        wish: &str,
        lasts: Duration,
    ) -> Result<bool, Error> {
        let mom = self.cluster.mom(index);
        mom.kill().await;
        mom.set_env_once("RMOM_FAILPOINT", wish);
        mom.spawn()?;
        let _ = timeout(READY, mom.ready()).await;
        self.give(queue, index).await;
        let died = mom.ended(lasts).await.is_ok();
        // One that was never reached must not be left armed.
        mom.kill().await;
        mom.spawn()?;
        Ok(died)
    }

    async fn roll_moms(&self) -> Result<bool, Error> {
        for (index, mom) in self.cluster.moms().enumerate() {
            let _permit = self.breakable.acquire().await;
            let _lock = self.moms[index].lock().await;
            mom.terminate().await?;
            mom.spawn()?;
            let _ = timeout(READY, mom.ready()).await;
        }
        Ok(true)
    }

    async fn roll_managers(&self) -> Result<bool, Error> {
        for (index, manager) in self.cluster.managers().enumerate() {
            let _lock = self.managers[index].lock().await;
            manager.terminate().await?;
            manager.spawn()?;
            let _ = timeout(READY, manager.ready()).await;
        }
        Ok(true)
    }

    /// Has a MoM take a queue over, whoever owns it.
    async fn give(&self, queue: usize, mom: usize) -> bool {
        let mom = self.cluster.mom(mom);
        let take = async {
            let mut stub = connect(mom.host(), mom.port()).await.ok()?;
            let request = RebuildQueueRequest {
                queue_label: label(queue),
                ..Default::default()
            };
            stub.rebuild_queue(request).await.ok()
        };
        matches!(timeout(ANSWER, take).await, Ok(Some(_)))
    }

    /// The MoM that owns a queue, to be broken; any other while nobody can be asked. `None` if it is broken already, or
    /// too many others are.
    async fn owner_of(&self, queue: usize) -> Option<Victim> {
        let owner = self.find_owner(queue).await;
        let index = owner.unwrap_or(queue % self.moms.len());
        let permit = self.breakable.clone().try_acquire_owned().ok()?;
        let lock = self.moms[index].clone().try_lock_owned().ok()?;
        Some(Victim {
            index,
            _lock: lock,
            _permit: permit,
        })
    }

    async fn find_owner(&self, queue: usize) -> Option<usize> {
        let sql = format!(
            "select m.host, m.port from queue q join mom m on m.id = q.mom_id where q.label = '{}'",
            label(queue)
        );
        let owner = timeout(ANSWER, self.cluster.psql(&sql)).await.ok()?.ok()?;
        let (host, port) = owner.split_once('|')?;
        let port: u16 = port.parse().ok()?;
        let mut moms = self.cluster.moms();
        moms.position(|mom| mom.host() == host && mom.port() == port)
    }

    /// The manager that began to lead last, as the managers' logs say.
    fn find_leader(&self) -> Option<usize> {
        let epochs = self.cluster.managers().map(|manager| {
            let log = manager.log();
            let (_, since) = log.rsplit_once(LEADING)?;
            since.split_whitespace().next()?.parse::<u64>().ok()
        });
        let leaders = epochs.enumerate().filter(|(_, epoch)| epoch.is_some());
        leaders
            .max_by_key(|(_, epoch)| *epoch)
            .map(|(index, _)| index)
    }

    /// Starts what has ended although nobody has ended it.
    async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(WATCH);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            for (process, lock) in self.processes() {
                let Ok(_lock) = lock.try_lock() else { continue };
                if !process.is_running() {
                    self.locked().ended += 1;
                    let what = format!(
                        "{} ended by itself: {:?}",
                        process.name(),
                        process.exit_status()
                    );
                    self.history.record(Event::Fault { what }).await;
                    // It is tried again at the next look.
                    let _ = process.spawn();
                }
            }
        }
    }

    /// Mends everything, whatever was broken.
    async fn heal(&self) -> Result<(), Error> {
        let postgres = self.cluster.postgres();
        if let Some(disk) = postgres.disk() {
            disk.free()?;
        }
        if !postgres.process().is_running() {
            postgres.start().await?;
        }
        for index in 0..self.moms.len() {
            self.cluster.mom_proxy(index).restore().await?;
            self.cluster.mom_database_proxy(index).restore().await?;
        }
        for index in 0..self.managers.len() {
            self.cluster.manager_database_proxy(index).restore().await?;
        }
        if let Some(clocks) = &self.clocks {
            clocks.moms.jump(0)?;
            clocks.managers.jump(0)?;
        }
        for (process, _) in self.processes() {
            if process.is_running() {
                process.thaw().await?;
            } else {
                process.spawn()?;
            }
        }
        self.history.record(Event::Healed).await;
        Ok(())
    }

    fn processes(&self) -> impl Iterator<Item = (&Process, &Lock)> {
        let moms = self.cluster.moms().map(|mom| &**mom).zip(&self.moms);
        let managers = self.cluster.managers().map(|manager| &**manager);
        moms.chain(managers.zip(&self.managers))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn kill(process: &Process, lasts: Duration) -> Result<(), Error> {
    process.kill().await;
    sleep(lasts).await;
    process.spawn()
}

async fn freeze(process: &Process, lasts: Duration) -> Result<(), Error> {
    process.freeze().await?;
    sleep(lasts).await;
    process.thaw().await
}

async fn jump(clock: Option<&Clock>, seconds: i32, lasts: Duration) -> Result<bool, Error> {
    let Some(clock) = clock else {
        return Ok(false);
    };
    clock.jump(seconds)?;
    sleep(lasts).await;
    clock.jump(0)?;
    Ok(true)
}

async fn disturb(line: &Proxy, trouble: Trouble, lasts: Duration) -> Result<(), Error> {
    match trouble {
        Trouble::Cut => line.cut().await,
        Trouble::Blackhole(direction) => line.blackhole(direction),
        Trouble::Delay(delay) => line.delay(delay),
        Trouble::Slice(most) => line.slice(most),
    }
    sleep(lasts).await;
    line.restore().await
}
